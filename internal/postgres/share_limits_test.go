package postgres_test

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/postgres"
	"ferry/internal/postgres/postgrestest"
)

// What waits for a lane shares the next round trip, and gives the lane back, also an
// upload that finds itself alone then.
func TestUploadsThatWaitShareARoundTrip(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	line := postgrestest.SlowLine(t, b.db.URLAs("ferry_login", ""), 0)
	b.store = openAttacked(t, line.URL+"&pool_max_conns=8")
	b.store.GiveTrips(2*time.Second, 4*time.Second)
	b.expect(t, outcome{Applied: 1}, "u", "warm", putNote(1, "warm", `{}`))
	for _, uploads := range []int{5, 1, 5} {
		leave, ok := b.store.OccupyLane(time.Minute)
		if !ok {
			t.Fatal("the lane of earlier uploads is not free")
		}
		var running sync.WaitGroup
		for i := range uploads {
			running.Go(func() {
				id := fmt.Sprint(line.Trips(), "-", i)
				b.expect(t, outcome{Applied: 1}, id, "c", putNote(1, id, `{}`))
			})
		}
		for deadline := time.Now().Add(10 * time.Second); b.store.WaitForLanes() < uploads; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatal("uploads do not wait for the lane")
			}
		}
		before := line.Trips()
		leave()
		running.Wait()
		if trips := line.Trips() - before; trips != 1 {
			t.Errorf("%d uploads took %d round trips", uploads, trips)
		}
	}
}

// Nobody who shares waits for the catalog, and then once more by themselves.
func TestWhoWaitsForTheCatalogDoesNotShare(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	leave, _ := b.store.OccupyLane(0)
	defer leave()
	b.hold(t, `LOCK TABLE ferry.tables IN ACCESS EXCLUSIVE MODE`)
	started := time.Now()
	if got, err := b.try(t, "u", "c", putNote(1, "a", `{}`)); err == nil {
		t.Errorf("without a catalog: %+v", got)
	}
	if took := time.Since(started); took > 15*time.Second {
		t.Errorf("the answer took %v, as long as two loads", took)
	}
}

// An upload that goes by itself has all its time, and is not done twice.
func TestASlowUploadByItselfIsDoneOnce(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE SEQUENCE times; GRANT ALL ON times TO authenticated;
		CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('times'), pg_sleep(0.2); RETURN new; END $$;
		CREATE TRIGGER slow BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION slow()`)
	for i := range 3 {
		b.expect(t, outcome{Applied: 1}, fmt.Sprint("u", i), "c", putNote(1, fmt.Sprint(i), `{}`))
	}
	if got := b.text(t, `SELECT last_value::text FROM times`); got != "3" {
		t.Errorf("three uploads were done %s times", got)
	}
}

// Who waits for a lock holds up those who share with them for a moment only.
func TestALockHoldsUpARoundTripForAMomentOnly(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	b.expect(t, outcome{Applied: 1}, "u0", "c", putNote(1, "locked", `{}`))
	b.hold(t, `SELECT FROM notes WHERE id = 'locked' FOR UPDATE`)
	b.store.GiveTrips(time.Second, time.Minute)
	started := time.Now()
	got := b.togetherInTime(t, []string{patchNote(2, "locked", `{"n":2}`)}, []string{putNote(1, "b", `{}`)})
	if diff := cmp.Diff([]bool{false, false}, got); diff != "" {
		t.Errorf("committed (-want +got):\n%s", diff)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("others waited for %v", took)
	}
	if !b.store.GoesAlone("u0") || b.store.GoesAlone("u1") {
		t.Error("the wrong user goes alone")
	}
	b.expect(t, outcome{Applied: 1}, "u1", "c", putNote(1, "b", `{}`))
}

// A line that goes silent costs all of a round trip the same short time, whatever
// time the one has that leads it.
func TestASilentLineHoldsUpARoundTripForAMomentOnly(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	var silent atomic.Bool
	url := postgrestest.Forward(t, b.db.URLAs("ferry_login", ""), func(client, server net.Conn) (up, down func()) {
		unlessSilent := func([]byte) (on, end bool) { return !silent.Load(), false }
		return pass(server, client, unlessSilent), pass(client, server, unlessSilent)
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
	if !b.store.GoesAlone("u0") || !b.store.GoesAlone("u1") {
		t.Error("nobody knows who took the time, and yet not all go alone")
	}
	silent.Store(false)
	for user, row := range []string{"a", "b"} {
		b.expect(t, outcome{Applied: 1}, fmt.Sprint("u", user), "c", putNote(1, row, `{}`))
	}
}

// pass hands on what comes from one side to the other, where allow says so; end ends
// the connection.
func pass(to, from net.Conn, allow func(data []byte) (on, end bool)) func() {
	return func() {
		defer to.Close()
		defer from.Close()
		for buffer := make([]byte, 1<<16); ; {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			on, end := allow(buffer[:n])
			if end {
				return
			}
			if !on {
				continue
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
}

func always([]byte) (on, end bool) { return true, false }

// An error is all that comes back before the line goes silent.
func TestALineThatGoesSilentAfterAnErrorHoldsUpNobody(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	var armed, silent atomic.Bool
	url := postgrestest.Forward(t, b.db.URLAs("ferry_login", ""), func(client, server net.Conn) (up, down func()) {
		return pass(server, client, always), pass(client, server, func(answers []byte) (on, end bool) {
			on = !silent.Load()
			// ReadyForQuery, in a transaction that failed.
			if armed.Load() && bytes.HasSuffix(answers, []byte("Z\x00\x00\x00\x05E")) {
				silent.Store(true)
			}
			return on, false
		})
	})
	b.store = openAttacked(t, url+"&pool_max_conns=1")
	b.expect(t, outcome{Applied: 1}, "u", "warm", putNote(1, "warm", `{}`))
	b.store.GiveTrips(100*time.Millisecond, 200*time.Millisecond)
	armed.Store(true)
	started := time.Now()
	b.togetherInTime(t, []string{putNote(1, "a", `{"n":-1}`)}, []string{putNote(1, "b", `{}`)})
	if took := time.Since(started); took > 1500*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	if !silent.Load() {
		t.Error("no error came back, so that the line did not go silent")
	}
}

// Who takes most of a round trip's time at COMMIT, where no statement is timed, is
// blamed, not the one whose statement runs when the time is over.
func TestWhoTakesTheTimeOfARoundTripGoesAlone(t *testing.T) {
	t.Parallel()
	for slow, want := range map[string][]bool{`{"n":4500}`: {true, false, false}, `{"n":2001}`: {true, true, true}} {
		t.Run(slow, func(t *testing.T) {
			t.Parallel()
			b := attackOn(t, `
				CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(new.n / 1000.0); RETURN new; END $$;
				CREATE CONSTRAINT TRIGGER nap_at_commit AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
				FOR EACH ROW WHEN (new.n > 2000) EXECUTE FUNCTION nap();
				CREATE TRIGGER nap BEFORE INSERT ON notes FOR EACH ROW WHEN (new.n BETWEEN 1 AND 2000) EXECUTE FUNCTION nap()`)
			b.store.GiveTrips(2*time.Second, 6*time.Second)
			nap := `{"n":1900}`
			if want[1] {
				nap = `{}`
			}
			got := b.togetherInTime(t, []string{putNote(1, "a", slow)}, []string{putNote(1, "b", nap)}, []string{putNote(1, "c", `{}`)})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("committed (-want +got):\n%s", diff)
			}
			for user, want := range []bool{true, false, false} {
				if got := b.store.GoesAlone(fmt.Sprint("u", user)); got != want {
					t.Errorf("u%d goes alone: %v, want %v", user, got, want)
				}
			}
		})
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
	goOn := b.hold(t, `SELECT pg_advisory_xact_lock(7)`)
	var running sync.WaitGroup
	entries := [][]string{{putNote(1, "a", `{}`)}, {putNote(1, "b", `{"n":13}`)}, {putNote(1, "c", `{}`)}}
	running.Go(func() {
		if diff := cmp.Diff([]bool{false, false, false}, b.togetherInTime(t, entries...)); diff != "" {
			t.Errorf("committed (-want +got):\n%s", diff)
		}
	})
	b.db.UntilWaiting(t, 1)
	release := b.hold(t, `SELECT FROM ferry.progress WHERE user_id = 'u0' FOR UPDATE`)
	goOn()
	running.Wait()
	release()
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

// Over a connection of its own the second path lets its commits not wait for the
// disk, because one does in the end.
func TestBehindAPoolerEachCommitWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	for pooled, want := range map[bool]string{true: "on", false: "off"} {
		b := attackOn(t, noteSettingSQL, func(o *postgres.Options) { o.TransactionPool = pooled })
		b.expect(t, outcome{Applied: 1, Codes: []string{"check_violation"}}, "u", "c", putNote(1, "a", `{}`), putNote(2, "bad", `{"n":-1}`))
		if got := b.text(t, `SELECT body FROM notes`); got != want {
			t.Errorf("behind a pooler (%v) the second path runs with synchronous_commit = %s, want %s", pooled, got, want)
		}
	}
}
