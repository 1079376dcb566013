package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/postgres"
)

// A statement that never ends is met alone in the end, however many stand around
// it, and its client is not blocked for ever.
func TestAttackAStatementThatNeverEndsIsRejectedInTheEnd(t *testing.T) {
	t.Parallel()
	for _, around := range []int{0, 3, 40} {
		t.Run(fmt.Sprintf("among %d", around), func(t *testing.T) {
			t.Parallel()
			b := attackOn(t, `CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS
				$$ BEGIN IF new.body = 'slow' THEN PERFORM pg_sleep(60); END IF; RETURN new; END $$;
				CREATE TRIGGER s BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION sleep()`)
			var ahead atomic.Int64 // the clock, in seconds
			store := openAttacked(t, b.db.URLAs("ferry_login", ""), func(o *postgres.Options) {
				o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load()) * time.Second) }
			})
			entries := []string{}
			for i := range around + 1 {
				text := "quick"
				if i == around/2 {
					text = "slow"
				}
				entries = append(entries, putNote(i+1, fmt.Sprint(i), `{"body":"`+text+`"}`))
			}
			for delivery := range 8 {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				r, err := store.Apply(ctx, claimsOf("u"), decodeEntries(t, "c", entries...))
				cancel()
				ahead.Add(60)
				if err != nil {
					continue
				}
				if len(r.Rejected) != 1 || r.Rejected[0].Code != "timeout" || r.Rejected[0].RowID != fmt.Sprint(around/2) {
					t.Errorf("%+v", outcomeOf(r))
				}
				b.balanced(t, r, around+1)
				if delivery < 4 {
					t.Errorf("rejected after %d deliveries, want 5 at least", delivery+1)
				}
				// It is stored, and whoever asks again is told of the same rejection.
				again, err := store.Apply(t.Context(), claimsOf("u"), decodeEntries(t, "c", entries...))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(r.Rejected, again.Rejected); diff != "" {
					t.Errorf("delivered again (-first +again):\n%s", diff)
				}
				if n := b.text(t, `SELECT count(*)::text FROM ferry.rejections`); n != "1" {
					t.Errorf("%s rejections are stored", n)
				}
				return
			}
			t.Errorf("eight deliveries over eight minutes end in 503: this client is blocked for ever")
		})
	}
}

// What holds up a transaction of an upload cannot hold it up for long:
// docs/timeouts.md, read where the app's own code runs.
func TestUploadsRunWithinTheLimitsOfTime(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE FUNCTION note_limits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			new.body := concat_ws(' ', current_setting('lock_timeout'), current_setting('statement_timeout'),
				current_setting('idle_in_transaction_session_timeout'));
			RETURN new;
		END $$;
		CREATE TRIGGER limits BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION note_limits()`)
	// Those that share a round trip must not hold up each other.
	if got := b.together(t, []string{putNote(1, "shared", `{"n":1}`)}); !got[0] {
		t.Fatal("an upload alone in its round trip is not committed")
	}
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(2, "long", `{"body":"`+strings.Repeat("x", 100_000)+`"}`))
	inOne, inMany := make([]string, 20), make([]string, 20)
	for i := range inOne {
		inOne[i] = entryOf(10+i, 10, "PUT", "notes", string(rune('a'+i)), `{"n":1}`)
		inMany[i] = putNote(50+i, string(rune('A'+i)), `{"n":1}`)
	}
	b.expect(t, outcome{Applied: 20}, "u", "c", inOne...)
	// Of several transactions together, half of the time is kept.
	b.expect(t, outcome{Applied: 20}, "u", "c", inMany...)
	want := map[string][3]time.Duration{
		"shared": {time.Second, 2 * time.Second, 10 * time.Second},
		"long":   {5 * time.Second, 20 * time.Second, 10 * time.Second},
		"a":      {5 * time.Second, 20 * time.Second, 10 * time.Second},
		"A":      {5 * time.Second, 10500 * time.Millisecond, 10 * time.Second},
	}
	for id, most := range want {
		fields := strings.Fields(b.text(t, `SELECT body FROM notes WHERE id = $1`, id))
		if len(fields) != len(most) {
			t.Fatalf("row %s: %v", id, fields)
		}
		for i, name := range []string{"lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"} {
			// Some of the time has passed before the limits are set, more on a busy machine.
			got, err := time.ParseDuration(strings.ReplaceAll(fields[i], "min", "m"))
			if err != nil || got > most[i] || got < most[i]/2 {
				t.Errorf("row %s: %s is %s, want %s", id, name, fields[i], most[i])
			}
		}
	}
}

// deliver sends the same entries again and again, each time with so long to
// decide them, until they are decided.
func (b *attack) deliver(t *testing.T, within time.Duration, deliveries int, entries ...string) outcome {
	t.Helper()
	for range deliveries {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		r, err := b.store.Apply(ctx, claimsOf("u"), decodeEntries(t, "c", entries...))
		cancel()
		if err == nil {
			b.balanced(t, r, len(entries))
			return outcomeOf(r)
		}
		t.Logf("rows: %s; %v", b.text(t, `SELECT count(*)::text FROM notes`), err)
	}
	t.Fatalf("%d deliveries end in 503: this client is blocked for ever", deliveries)
	return outcome{}
}

// slowNotes makes each row of notes take so long; the row named late is refused
// in the end.
func slowNotes(t *testing.T, each time.Duration) *attack {
	t.Helper()
	return attackOn(t, fmt.Sprintf(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			PERFORM pg_sleep(%f);
			IF new.id = 'late' THEN RAISE EXCEPTION 'too late'; END IF;
			RETURN new;
		END $$;
		CREATE TRIGGER slow BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION slow()`, each.Seconds()))
}

// Each delivery of operations that are slow, and good, gets further.
func TestAttackManySlowTransactionsAreDecidedInTheEnd(t *testing.T) {
	t.Parallel()
	b := slowNotes(t, 50*time.Millisecond)
	var entries []string
	for i := range 100 { // 5 s, within 2 s each
		entries = append(entries, putNote(i+1, fmt.Sprint(i), `{"n":1}`))
	}
	got := b.deliver(t, 2*time.Second, 10, entries...)
	if got.Codes != nil || got.Applied+got.Duplicates != 100 {
		t.Errorf("%+v", got)
	}
	if got := b.deliver(t, 2*time.Second, 1, putNote(101, "last", `{"n":1}`)); got.Applied != 1 {
		t.Errorf("afterwards: %+v", got)
	}
}

// No statement of these takes too long, and no delivery must begin with what took
// all the time of the one before.
func TestAttackManyStatementsAreDecidedInTheEnd(t *testing.T) {
	t.Parallel()
	t.Run("good ones", func(t *testing.T) {
		t.Parallel()
		b := slowNotes(t, 40*time.Millisecond)
		entries := make([]string, 60) // 2.4 s
		for i := range entries {
			entries[i] = putNote(i+1, fmt.Sprint(i), []string{`{"n":1}`, `{"n":1,"body":"another shape"}`}[i%2])
		}
		if got := b.deliver(t, time.Second, 12, entries...); got.Codes != nil || got.Applied+got.Duplicates != len(entries) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("to find the bad one", func(t *testing.T) {
		t.Parallel()
		b := attackOn(t, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.016); RETURN NULL; END $$;
			CREATE TRIGGER slow AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION slow()`)
		entries := make([]string, 44) // 0.7 s, behind what refuses one
		for i := range entries {
			entries[i] = putNote(i+1, fmt.Sprint(i), `{"n":1}`)
		}
		entries[41] = putNote(42, "bad", `{"n":-1}`)
		got := b.deliver(t, time.Second, 12, entries...)
		if diff := cmp.Diff([]string{"check_violation"}, got.Codes); diff != "" || got.Applied+got.Duplicates != len(entries)-1 {
			t.Errorf("%+v\n%s", got, diff)
		}
	})
}

func TestAttackATransactionOfManyStatementsIsRejectedInTheEnd(t *testing.T) {
	t.Parallel()
	b := slowNotes(t, 40*time.Millisecond)
	entries := make([]string, 60) // 2.4 s
	for i := range entries {
		entries[i] = entryOf(i+1, 1, "PUT", "notes", fmt.Sprint(i), []string{`{"n":1}`, `{"n":1,"body":"another shape"}`}[i%2])
	}
	for delivery := range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := b.store.Apply(ctx, claimsOf("u"), decodeEntries(t, "c", entries...))
		cancel()
		if got := b.text(t, `SELECT coalesce(max(attempts), 0)::text FROM ferry.timeouts`); err == nil || got != fmt.Sprint(delivery+1) {
			t.Errorf("delivery %d: %s attempts are counted, %v", delivery, got, err)
		}
	}
	b.db.Exec(t, `UPDATE ferry.timeouts SET first_at = first_at - interval '2 minutes'`)
	if diff := cmp.Diff(outcome{Codes: []string{"timeout"}}, b.deliver(t, time.Second, 12, entries...)); diff != "" {
		t.Error(diff)
	}
}

// What was counted stays so until the verdict is stored: a database that has no
// time for that does not make the client begin anew.
func TestAttackAVerdictThatCannotBeStoredIsStoredByTheNextDelivery(t *testing.T) {
	t.Parallel()
	b := slowNotes(t, time.Minute)
	entry := putNote(1, "a", `{"n":1}`)
	deliver := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := b.store.Apply(ctx, claimsOf("u"), decodeEntries(t, "c", entry))
		return err
	}
	if err := deliver(); err == nil {
		t.Fatal("a minute passed within two seconds")
	}
	b.db.Exec(t, `UPDATE ferry.timeouts SET attempts = 10, first_at = first_at - interval '2 minutes'`)
	release := b.hold(t, `LOCK TABLE ferry.rejections IN SHARE MODE`)
	if err := deliver(); err == nil {
		t.Fatal("a rejection was stored in a table that is locked")
	}
	release()
	if got := b.text(t, `SELECT attempts::text FROM ferry.timeouts`); got != "11" {
		t.Errorf("%s attempts are counted", got)
	}
	if diff := cmp.Diff(outcome{Codes: []string{"timeout"}}, b.deliver(t, 2*time.Second, 12, entry)); diff != "" {
		t.Error(diff)
	}
	if got := b.text(t, `SELECT count(*)::text FROM ferry.timeouts`); got != "0" {
		t.Errorf("%s are still counted", got)
	}
}

// A refusal that comes late leaves no time to try everything once more.
func TestAttackALateRefusalIsAVerdict(t *testing.T) {
	t.Parallel()
	refused := outcome{Codes: []string{"raise_exception"}}
	t.Run("of one operation", func(t *testing.T) {
		t.Parallel()
		b := slowNotes(t, time.Second)
		if diff := cmp.Diff(refused, b.deliver(t, 2*time.Second, 1, putNote(1, "late", `{"n":1}`))); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("of many operations", func(t *testing.T) {
		t.Parallel()
		b := slowNotes(t, 20*time.Millisecond)
		var entries []string
		for i := range 50 {
			entries = append(entries, entryOf(i+1, 1, "PUT", "notes", fmt.Sprint(i), `{"n":1}`))
		}
		entries = append(entries, entryOf(51, 1, "PUT", "notes", "late", `{"n":1}`))
		if diff := cmp.Diff(refused, b.deliver(t, 2*time.Second, 1, entries...)); diff != "" {
			t.Error(diff)
		}
	})
}

// Whatever is too much at once is tried in parts. Not parallel: it takes all the
// locks of a server that other tests share.
func TestAttackMoreLocksThanTheServerHasAreTakenInParts(t *testing.T) {
	b := attackOn(t, `CREATE FUNCTION lock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			PERFORM pg_advisory_xact_lock(n) FROM generate_series(new.n * 100, new.n * 100 + 99) AS n;
			RETURN new;
		END $$;
		CREATE TRIGGER lock BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION lock()`)
	var entries []string
	for i := range 400 {
		entries = append(entries, putNote(i+1, fmt.Sprint(i), fmt.Sprintf(`{"n":%d}`, i)))
	}
	if got := b.deliver(t, 20*time.Second, 1, entries...); got.Applied != 400 {
		t.Errorf("%+v", got)
	}
}

// All of class 40 asks for a repetition, and counts as an attempt.
func TestAttackATransactionThatAlwaysRollsBackIsRejectedInTheEnd(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"40000", "40001", "40003", "40P01"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			b := attackOn(t, `CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
					RAISE EXCEPTION 'again' USING ERRCODE = '`+state+`'; END $$;
				CREATE TRIGGER again BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION again()`)
			var ahead atomic.Int64 // the clock, in seconds
			b.store = openAttacked(t, b.db.URLAs("ferry_login", ""), func(o *postgres.Options) {
				o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Add(5)) * time.Second) }
			})
			got := b.deliver(t, time.Hour, 12, putNote(1, "a", `{"n":1}`))
			if diff := cmp.Diff(outcome{Codes: []string{"timeout"}}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A success in between ends the count, also where no op id tells one delivery
// from the next.
func TestAttackAttemptsCountAsLongAsNoneSucceeds(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `INSERT INTO notes (id, owner) VALUES ('a', 'u')`)
	var ahead atomic.Int64 // the clock, in seconds
	b.store = openAttacked(t, b.db.URLAs("ferry_login", ""), func(o *postgres.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load()) * time.Second) }
	})
	deliver := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		r, err := b.store.Apply(ctx, claimsOf("u"), decodeEntries(t, "c", `{"op":"PATCH","type":"notes","id":"a","data":{"n":1}}`))
		if err == nil && len(r.Rejected) > 0 {
			t.Fatalf("rejected: %+v", r.Rejected)
		}
		ahead.Add(60)
		return err
	}
	for range 2 {
		release := b.hold(t, `SELECT FROM notes FOR UPDATE`)
		for range 3 {
			if err := deliver(); err == nil {
				t.Fatal("a locked row was changed")
			}
		}
		release()
		if err := deliver(); err != nil {
			t.Fatal(err)
		}
	}
}
