package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/postgres/postgrestest"
	"ferry/internal/uploads"
)

// together applies uploads in one round trip: each is of a user of its own, u0,
// u1, and so on, over the client c.
func (b *attack) together(t *testing.T, entries ...[]string) []bool {
	t.Helper()
	b.store.GiveTrips(2*time.Second, 4*time.Second) // on a busy machine all take long
	return b.togetherInTime(t, entries...)
}

func (b *attack) togetherInTime(t *testing.T, entries ...[]string) []bool {
	t.Helper()
	callers, list := make([]uploads.Caller, len(entries)), make([]*uploads.Upload, len(entries))
	for i, e := range entries {
		callers[i], list[i] = claimsOf(fmt.Sprint("u", i)), decodeEntries(t, "c", e...)
	}
	committed, err := b.store.ApplyTogether(t.Context(), callers, list)
	if err != nil {
		t.Error(err)
	}
	return committed
}

// overOneConnection has the store use one connection, whose round trips are
// counted, and uses it.
func (b *attack) overOneConnection(t *testing.T) *postgrestest.Line {
	t.Helper()
	line := postgrestest.SlowLine(t, b.db.URLAs("ferry_login", ""), 0)
	b.store = openAttacked(t, line.URL+"&pool_max_conns=1")
	b.expect(t, outcome{Applied: 1}, "u", "warm", putNote(1, "warm", `{}`))
	return line
}

func TestUploadsOfSeveralUsersShareARoundTrip(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	line := b.overOneConnection(t)
	before := line.Trips()
	got := b.together(t, []string{putNote(1, "a", `{}`)}, []string{putNote(1, "b", `{}`), patchNote(2, "b", `{"n":2}`)}, []string{putNote(7, "c", `{}`)})
	if diff := cmp.Diff([]bool{true, true, true}, got); diff != "" {
		t.Errorf("committed (-want +got):\n%s", diff)
	}
	b.wasTouchedLast(t)
	if trips := line.Trips() - before; trips != 1 {
		t.Errorf("three uploads took %d round trips", trips)
	}
	const ownersSQL = `SELECT string_agg(concat_ws(' ', id, owner, n), ', ' ORDER BY id) FROM notes WHERE id <> 'warm'`
	if got := b.text(t, ownersSQL); got != "a u0, b u1 2, c u2" {
		t.Errorf("rows: %s", got)
	}
	b.expect(t, outcome{Duplicates: 2}, "u1", "c", putNote(1, "b", `{}`), patchNote(2, "b", `{"n":2}`))
}

// Whatever happens to one upload of a round trip, those before it are applied,
// durably, and those behind it as if it had not been there.
func TestAnUploadOfARoundTripFailsAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ddl    string
		entry  string // of u2, who is at fault
		before func(t *testing.T, b *attack)
		want   outcome
	}{
		"a constraint":       {entry: putNote(1, "bad", `{"n":-1}`), want: outcome{Codes: []string{"check_violation"}}},
		"another user's row": {entry: putNote(1, "a", `{"body":"mine now"}`), want: outcome{Codes: []string{"forbidden"}}},
		"at COMMIT": {
			ddl: `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE check_violation; END $$;
				CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
				WHEN (new.n = 13) EXECUTE FUNCTION refuse()`,
			entry: putNote(1, "bad", `{"n":13}`), want: outcome{Codes: []string{"check_violation"}},
		},
		"a redelivery": {
			entry:  putNote(1, "bad", `{}`),
			before: func(t *testing.T, b *attack) { b.expect(t, outcome{Applied: 1}, "u2", "c", putNote(1, "bad", `{}`)) },
			want:   outcome{Duplicates: 1},
		},
		"a row that is gone": {entry: patchNote(1, "nowhere", `{"n":1}`), want: outcome{Ignored: 1}},
		"a slow trigger": {
			ddl: `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(5); RETURN new; END $$;
				CREATE TRIGGER slow BEFORE INSERT ON notes FOR EACH ROW WHEN (new.n = 13) EXECUTE FUNCTION slow()`,
			entry: putNote(1, "bad", `{"n":13}`), want: outcome{Applied: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := attackOn(t, c.ddl)
			if c.before != nil {
				c.before(t, b)
			}
			entries := [][]string{{putNote(1, "a", `{}`)}, {putNote(1, "b", `{}`)}, {c.entry}, {putNote(1, "d", `{}`)}}
			got := b.together(t, entries...)
			if diff := cmp.Diff([]bool{true, true, false, false}, got); diff != "" {
				t.Errorf("committed (-want +got):\n%s", diff)
			}
			for user, want := range []bool{false, false, true, false} {
				if got := b.store.GoesAlone(fmt.Sprint("u", user)); got != want {
					t.Errorf("u%d goes alone: %v, want %v", user, got, want)
				}
			}
			for user, want := range []outcome{{Duplicates: 1}, {Duplicates: 1}, c.want, {Applied: 1}} {
				b.expect(t, want, fmt.Sprint("u", user), "c", entries[user]...)
			}
			if got := b.text(t, `SELECT string_agg(id || owner, ' ' ORDER BY id) FROM notes WHERE id <> 'bad'`); got != "au0 bu1 du3" {
				t.Errorf("rows: %s", got)
			}
		})
	}
}

// The commits of a round trip do not wait for the disk: one that touches the first
// of their clients does for all, in the same round trip if nothing fails.
func TestWhatARoundTripCommitsIsDurable(t *testing.T) {
	t.Parallel()
	for third, c := range map[string]struct {
		committed []bool
		trips     int
		waits     string // the setting with which each commits
	}{
		`{}`:       {[]bool{true, true, true}, 1, "off off off on"},
		`{"n":-1}`: {[]bool{true, true, false}, 2, "off off on"},
	} {
		b := attackOn(t, `CREATE TABLE waits (at bigserial, setting text);
			CREATE FUNCTION note_waiting() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
				INSERT INTO public.waits (setting) VALUES (current_setting('synchronous_commit'));
				RETURN NULL;
			END $$;
			CREATE TRIGGER note_waiting AFTER INSERT OR UPDATE ON ferry.progress FOR EACH ROW EXECUTE FUNCTION note_waiting()`)
		line := b.overOneConnection(t)
		b.db.Exec(t, `DELETE FROM waits`)
		before := line.Trips()
		got := b.together(t, []string{putNote(1, "a", `{}`)}, []string{putNote(1, "b", `{}`)}, []string{putNote(1, "c", third)})
		if diff := cmp.Diff(c.committed, got); diff != "" {
			t.Errorf("committed (-want +got):\n%s", diff)
		}
		if trips := int(line.Trips() - before); trips != c.trips {
			t.Errorf("it took %d round trips, want %d", trips, c.trips)
		}
		if got := b.text(t, `SELECT string_agg(setting, ' ' ORDER BY at) FROM waits`); got != c.waits {
			t.Errorf("the commits wait for the disk: %s, want %s", got, c.waits)
		}
		b.wasTouchedLast(t)
	}
}

// wasTouchedLast fails the test unless the transaction that waits for the disk came
// behind the others.
func (b *attack) wasTouchedLast(t *testing.T) {
	t.Helper()
	if got := b.text(t, `SELECT user_id FROM ferry.progress ORDER BY updated_at DESC LIMIT 1`); got != "u0" {
		t.Errorf("the transaction that came last is of %s", got)
	}
}

// What the app's code does to the session in one upload is not seen by the next
// of the round trip, as it is not by the next user of a connection.
func TestNothingOfASessionReachesTheNextUploadOfARoundTrip(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `
		CREATE TABLE seen (who text, what text);
		GRANT INSERT ON seen TO authenticated;
		CREATE FUNCTION look_around() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO seen SELECT new.id, concat_ws(' ', current_user, current_setting('app.user_id'), nullif(current_setting('app.tenant', true), ''),
				current_setting('request.jwt.claims')::json ->> 'sub', current_setting('TimeZone'), current_setting('DateStyle'),
				current_setting('synchronous_commit'), to_regclass('pg_temp.kept'),
				(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()));
			CREATE TEMP TABLE kept (who text);
			PERFORM pg_advisory_lock(42), set_config('app.user_id', 'u9', false), set_config('app.tenant', new.id, false),
				set_config('request.jwt.claims', '{"sub":"u9"}', false), set_config('TimeZone', 'Asia/Tokyo', false),
				set_config('DateStyle', 'German', false), set_config('statement_timeout', '0', false), set_config('role', 'authenticated', false);
			RETURN new;
		END $$;
		CREATE TRIGGER look AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION look_around()`)
	got := b.together(t, []string{putNote(1, "a", `{}`)}, []string{putNote(1, "b", `{}`)}, []string{putNote(1, "c", `{}`)})
	if diff := cmp.Diff([]bool{true, true, true}, got); diff != "" {
		t.Errorf("committed (-want +got):\n%s", diff)
	}
	for i, row := range []string{"a", "b", "c"} {
		user := fmt.Sprint("u", i)
		want := fmt.Sprintf("authenticated %s %s UTC ISO, YMD off 0", user, user)
		if got := b.text(t, `SELECT what FROM seen WHERE who = $1`, row); got != want {
			t.Errorf("%s found %q, want %q", user, got, want)
		}
	}
}

// Many clients at once, good ones, bad ones and redeliveries, each operation with
// a known end.
func TestManyClientsAtOnceAreDecidedEachByItself(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	b.store.GiveTrips(2*time.Second, 4*time.Second) // else, on a busy machine, some count as duplicates
	const clients, deliveries = 48, 30
	var group sync.WaitGroup
	for c := range clients {
		group.Go(func() {
			user, random := fmt.Sprint("user", c), rand.New(rand.NewPCG(uint64(c), 1))
			for d := range deliveries {
				id := fmt.Sprintf("%s-%d", user, d)
				entry, want := putNote(d+1, id, `{"n":1}`), outcome{Applied: 1}
				switch {
				case c%8 == 0 && random.IntN(4) == 0:
					entry, want = putNote(d+1, id, `{"n":-1}`), outcome{Codes: []string{"check_violation"}}
				case c%8 == 1 && d > 0 && random.IntN(4) == 0:
					entry, want = putNote(d+1, fmt.Sprintf("user%d-0", c+1), `{"body":"stolen"}`), outcome{Codes: []string{"forbidden"}}
					b.expect(t, outcome{Applied: 1}, fmt.Sprint("user", c+1), fmt.Sprint("other", d), putNote(1, fmt.Sprintf("user%d-0", c+1), `{"n":1}`))
				}
				b.expect(t, want, user, "c", entry)
				if random.IntN(5) == 0 {
					if len(want.Codes) == 0 {
						want = outcome{Duplicates: 1}
					}
					b.expect(t, want, user, "c", entry)
				}
			}
		})
	}
	group.Wait()
	if got := b.text(t, `SELECT count(*)::text FROM notes WHERE body = 'stolen' OR owner <> split_part(id, '-', 1) OR n <> 1`); got != "0" {
		t.Errorf("%s rows are not as their owners left them", got)
	}
	if got := b.text(t, `SELECT count(*)::text FROM ferry.progress WHERE client_id = 'c' AND operations <> 30`); got != "0" {
		t.Errorf("%s clients have not had each operation decided once", got)
	}
}
