package postgres_test

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/postgres"
	"ferry/internal/postgres/postgrestest"
)

// Who waits for a lock holds up those who share with them for a moment only.
func TestALockHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "", func(o *postgres.Options) { o.URL += "&pool_max_conns=8" })
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(1, "locked", `{}`))
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `SELECT FROM notes WHERE id = 'locked' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	var waits, others sync.WaitGroup
	waits.Go(func() { b.expect(t, outcome{Applied: 1}, "u", "c", patchNote(2, "locked", `{"n":2}`)) })
	b.db.UntilWaiting(t, 1)
	started := time.Now()
	for i := range 20 {
		others.Go(func() {
			b.expect(t, outcome{Applied: 1}, fmt.Sprint("v", i), "c", putNote(1, fmt.Sprint(i), `{}`))
		})
	}
	others.Wait()
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("others waited for %v", took)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	waits.Wait()
}

// A line that goes silent costs all of a round trip the same short time, whatever
// time the one has that leads it.
func TestASilentLineHoldsUpARoundTripForAMomentOnly(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	var silent atomic.Bool
	url := postgrestest.Forward(t, b.db.URLAs("ferry_login", ""), func(client, server net.Conn) (up, down func()) {
		return pass(server, client, &silent), pass(client, server, &silent)
	})
	b.store = openAttacked(t, url+"&pool_max_conns=1")
	b.expect(t, outcome{Applied: 1}, "u", "warm", putNote(1, "warm", `{}`))
	silent.Store(true)
	b.store.GiveTrips(100*time.Millisecond, 200*time.Millisecond)
	started := time.Now()
	got := b.togetherInTime(t, []string{putNote(1, "a", `{}`)}, []string{putNote(1, "b", `{}`)})
	if diff := cmp.Diff([]bool{false, false}, got); diff != "" {
		t.Errorf("committed (-want +got):\n%s", diff)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	silent.Store(false)
	for user, row := range []string{"a", "b"} {
		b.expect(t, outcome{Applied: 1}, fmt.Sprint("u", user), "c", putNote(1, row, `{}`))
	}
}

// pass hands on what comes from one side to the other, unless the line is silent.
func pass(to, from net.Conn, silent *atomic.Bool) func() {
	return func() {
		defer to.Close()
		defer from.Close()
		for buffer := make([]byte, 1<<16); ; {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if silent.Load() {
				continue
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
}

// Who takes most of a round trip's time at COMMIT, where no statement is timed, is
// blamed, not the one whose statement runs when the time is over.
func TestWhoTakesTheTimeOfARoundTripGoesAlone(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `
		CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(new.n / 1000.0); RETURN new; END $$;
		CREATE CONSTRAINT TRIGGER nap_at_commit AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW WHEN (new.n > 2000) EXECUTE FUNCTION nap();
		CREATE TRIGGER nap BEFORE INSERT ON notes FOR EACH ROW WHEN (new.n BETWEEN 1 AND 2000) EXECUTE FUNCTION nap()`)
	b.store.GiveTrips(1500*time.Millisecond, 3*time.Second)
	for round, c := range []struct {
		slow string // of u0
		want []bool // who is committed
	}{
		{`{"n":2600}`, []bool{true, false, false}},
		{`{"n":2001}`, []bool{true, true, true}},
	} {
		round++
		naps := `{"n":700}`
		if c.want[1] {
			naps = `{}`
		}
		got := b.togetherInTime(t, []string{putNote(round, fmt.Sprint("a", round), c.slow)},
			[]string{putNote(round, fmt.Sprint("b", round), naps)}, []string{putNote(round, fmt.Sprint("c", round), `{}`)})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("committed (-want +got):\n%s", diff)
		}
		for user, want := range []bool{true, false, false} {
			if got := b.store.GoesAlone(fmt.Sprint("u", user)); got != want {
				t.Errorf("u%d goes alone: %v, want %v", user, got, want)
			}
		}
	}
}

// The transaction that waits for the disk writes the row of the first client, which
// another delivery of that client may hold: then that one goes alone, and all are
// recognised when they are applied by themselves.
func TestWhoseProgressIsHeldGoesAlone(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `
		CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN new; END $$;
		CREATE TRIGGER wait BEFORE INSERT ON notes FOR EACH ROW WHEN (new.n = 13) EXECUTE FUNCTION wait()`)
	b.store.GiveTrips(4*time.Second, 8*time.Second)
	holder, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(t.Context()) }()
	lock := func(sql string) {
		if _, err := holder.Exec(t.Context(), sql); err != nil {
			t.Error(err)
		}
	}
	lock(`SELECT pg_advisory_lock(7)`)
	var running sync.WaitGroup
	entries := [][]string{{putNote(1, "a", `{}`)}, {putNote(1, "b", `{"n":13}`)}, {putNote(1, "c", `{}`)}}
	running.Go(func() {
		if diff := cmp.Diff([]bool{false, false, false}, b.togetherInTime(t, entries...)); diff != "" {
			t.Errorf("committed (-want +got):\n%s", diff)
		}
	})
	b.db.UntilWaiting(t, 1)
	lock(`SELECT FROM ferry.progress WHERE user_id = 'u0' FOR UPDATE`)
	lock(`SELECT pg_advisory_unlock(7)`)
	running.Wait()
	lock(`ROLLBACK`)
	for user, alone := range []bool{true, false, false} {
		user := fmt.Sprint("u", user)
		if b.store.GoesAlone(user) != alone {
			t.Errorf("%s goes alone: %v", user, !alone)
		}
	}
	for user, e := range entries {
		b.expect(t, outcome{Duplicates: 1}, fmt.Sprint("u", user), "c", e...)
	}
}

// Behind a pooler what was committed before a failure cannot be made durable over
// the connection that committed it: it is applied again, and recognised.
func TestBehindAPoolerAFailureLeavesARoundTripUndecided(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "", func(o *postgres.Options) { o.TransactionPool = true })
	entries := [][]string{{putNote(1, "a", `{}`)}, {putNote(1, "bad", `{"n":-1}`)}, {putNote(1, "c", `{}`)}}
	if diff := cmp.Diff([]bool{false, false, false}, b.together(t, entries...)); diff != "" {
		t.Errorf("committed (-want +got):\n%s", diff)
	}
	for user, want := range []outcome{{Duplicates: 1}, {Codes: []string{"check_violation"}}, {Applied: 1}} {
		b.expect(t, want, fmt.Sprint("u", user), "c", entries[user]...)
	}
}

// Else each commit of the second path need not wait for the disk, because one does
// in the end; see TestUploadsWaitForTheDisk.
func TestBehindAPoolerEachCommitWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	for pooled, want := range map[bool]string{true: "on", false: "off"} {
		b := attackOn(t, `CREATE FUNCTION note_setting() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				new.body := current_setting('synchronous_commit');
				RETURN new;
			END $$;
			CREATE TRIGGER setting BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION note_setting()`,
			func(o *postgres.Options) { o.TransactionPool = pooled })
		b.expect(t, outcome{Applied: 1, Codes: []string{"check_violation"}}, "u", "c", putNote(1, "a", `{}`), putNote(2, "bad", `{"n":-1}`))
		if got := b.text(t, `SELECT body FROM notes`); got != want {
			t.Errorf("behind a pooler (%v) the second path runs with synchronous_commit = %s, want %s", pooled, got, want)
		}
	}
}
