package postgres_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"ferry/internal/postgres"
)

// What ferry keeps of a user or a client must not make their uploads slow, or
// they would be answered 503 for ever. Not parallel, and the best of a few: these
// tests compare times.

// manyRejectionsSQL stores open rejections of a user.
const manyRejectionsSQL = `
INSERT INTO ferry.rejections (user_id, client_id, tx_id, first_op_id, last_op_id, delivery, claims, operations,
    code, message, table_name, row_id, op_index, puts, created_at)
SELECT '%s', 'old', 1, i, i, sha256(i::text::bytea), '{}', convert_to('[' || repeat('x', 300) || ']', 'UTF8'),
    'check_violation', 'no', 'notes', i::text, 0, ARRAY[substr(sha256(i::text::bytea), 1, 16)], now() + i * interval '1 ms'
FROM generate_series(1, 10000) AS i`

func TestUploadsOfAUserWithManyRejections(t *testing.T) {
	b := attackOn(t, "")
	b.db.Exec(t, `ALTER TABLE ferry.rejections DISABLE TRIGGER measure_open;`+fmt.Sprintf(manyRejectionsSQL, "burdened")+
		`; ALTER TABLE ferry.rejections ENABLE TRIGGER measure_open`)
	next := 10001
	missing := func(string) []string {
		entries := make([]string, 200)
		for i := range entries {
			entries[i] = patchNote(next, fmt.Sprint("none", next), `{"n":1}`)
			next++
		}
		return entries
	}
	refused := func(user string) []string {
		entries := make([]string, 50)
		for i := range entries { // a client that gives all its transactions one number
			entries[i] = entryOf(next, 2, "PUT", "notes", fmt.Sprint(user, next), `{"n":-1}`)
			next++
		}
		return entries
	}
	for name, entries := range map[string]func(user string) []string{"missing rows": missing, "refused rows": refused} {
		b.notSlower(t, name, 5, func(user string) { b.apply(t, user, "c", entries(user)...) })
	}
}

// notSlower fails if do takes so many times longer for the burdened user.
func (b *attack) notSlower(t *testing.T, name string, times float64, do func(user string)) {
	t.Helper()
	timed := func(user string) float64 {
		started := time.Now()
		do(user)
		return time.Since(started).Seconds()
	}
	best := 1000.0
	for try := 0; try < 6 && (try < 2 || best > times); try++ {
		free, burdened := timed("free"), timed("burdened")
		t.Logf("%s: %.1f ms, of the burdened user %.1f ms", name, free*1e3, burdened*1e3)
		best = min(best, burdened/free)
	}
	if best > times {
		t.Errorf("%s: the burdened user waits %.1f times as long", name, best)
	}
}

func TestARedeliveryBehindALongHistory(t *testing.T) {
	b := attackOn(t, "")
	b.db.Exec(t, `
		INSERT INTO ferry.progress (user_id, client_id, last_op_id, operations) VALUES ('burdened', 'c', 1000000, 1000000);
		INSERT INTO ferry.history (user_id, client_id, seq, first_op_id, last_op_id, entries)
		SELECT 'burdened', 'c', i * 45, i * 45 - 44, i * 45, repeat('x', 45 * 17)::bytea FROM generate_series(1, 22000) AS i`)
	next := 1000001
	b.notSlower(t, "a redelivery", 5, func(user string) {
		entries := make([]string, 2000)
		for i := range entries {
			entries[i] = putNote(next, fmt.Sprint(user, next), `{"n":1}`)
			next++
		}
		b.expect(t, outcome{Applied: len(entries)}, user, "c", entries...)
		b.expect(t, outcome{Duplicates: len(entries)}, user, "c", entries...)
	})
}

// A client's row of ferry.progress is written by each upload, so it must stay
// small however the op ids follow each other, and no decision may be lost by it.
func TestTheRowOfProgressStaysSmall(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	for _, c := range []struct{ step, most int }{
		{step: 1, most: 768 + 16*17}, // looked at by each sixteenth upload
		{step: 5, most: 768 + 16*17},
		{step: 16, most: 2*768 + 17}, // by none: the second path does it
	} {
		client, largest := fmt.Sprint("c", c.step), 0
		var entries []string
		for i := range 300 {
			entries = append(entries, putNote(1+i*c.step, fmt.Sprint(client, i), `{"n":1}`))
			b.expect(t, outcome{Applied: 1}, "u", client, entries[i])
			size, err := strconv.Atoi(b.text(t, `SELECT octet_length(recent)::text FROM ferry.progress WHERE client_id = '`+client+`'`))
			if err != nil {
				t.Fatal(err)
			}
			largest = max(largest, size)
		}
		if largest > c.most || largest < 768/2 {
			t.Errorf("op ids in steps of %d: the row held up to %d bytes of decisions, want at most %d", c.step, largest, c.most)
		}
		b.expect(t, outcome{Duplicates: len(entries)}, "u", client, entries...)
	}
}

// Of a client that uses op ids anew the whole history may have to be read, and no
// more than that.
func TestOpIDsThatAreFarApartAreFoundInALongHistory(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	var entries, ends []string
	for i := 1; i <= 2000; i++ {
		entries = append(entries, putNote(10*i, fmt.Sprint(i), `{"n":1}`))
	}
	for part := range 40 { // each is a row of the history
		b.expect(t, outcome{Applied: 50}, "u", "c", entries[50*part:50*part+50]...)
	}
	ends = append(ends, entries[0], putNote(15, "new", `{"n":1}`), entries[49], entries[50], entries[1000], entries[1999], putNote(20001, "newer", `{"n":1}`))
	b.expect(t, outcome{Applied: 2, Duplicates: 5}, "u", "c", ends...)
	b.expect(t, outcome{Duplicates: 2000}, "u", "c", entries...)
}

// The measure of a user's open rejections follows whatever becomes of them.
func TestTheMeasureOfOpenRejections(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	measured := func(what string) {
		t.Helper()
		const wrongSQL = `SELECT coalesce(string_agg(concat_ws(' ', user_id, bytes, held), ', '), '') FROM (
			SELECT user_id, coalesce(o.bytes, 0) AS bytes, coalesce(r.held, 0) AS held
			FROM ferry.open_rejections o
			FULL JOIN (SELECT user_id, sum(octet_length(operations)) AS held FROM ferry.rejections
				WHERE state = 'open' GROUP BY user_id) AS r USING (user_id)) AS measured WHERE bytes <> held`
		if wrong := b.text(t, wrongSQL); wrong != "" {
			t.Errorf("%s: %s", what, wrong)
		}
	}
	first := b.apply(t, "u", "c", putNote(1, "a", `{"n":-1}`), putNote(2, "b", `{"n":-2}`), putNote(3, "c", `{"n":-3}`))
	b.apply(t, "v", "c", putNote(1, "a", `{"n":-1}`))
	measured("refused")
	if got := b.text(t, `SELECT count(*)::text FROM ferry.open_rejections WHERE bytes > 0`); got != "2" {
		t.Fatalf("%s users are measured", got)
	}
	b.apply(t, "u", "c", putNote(1, "a", `{"n":-1}`), putNote(2, "b", `{"n":-2}`), putNote(3, "c", `{"n":-3}`))
	measured("redelivered")
	b.db.Exec(t, `ALTER TABLE notes DROP CONSTRAINT notes_n_check`)
	rejections := &postgres.Rejections{Store: b.store}
	if err := rejections.Replay(t.Context(), first.Rejected[0].ID, false, func(*postgres.Replayed) {}); err != nil {
		t.Fatal(err)
	}
	measured("replayed")
	if _, err := rejections.Discard(t.Context(), first.Rejected[1].ID); err != nil {
		t.Fatal(err)
	}
	measured("discarded")
	b.db.Exec(t, `UPDATE ferry.rejections SET settled_at = 'epoch' WHERE state <> 'open'`)
	if n, err := rejections.Prune(t.Context(), time.Now()); err != nil || n != 2 {
		t.Fatalf("%d pruned, %v", n, err)
	}
	measured("pruned")
	b.db.Exec(t, `DELETE FROM ferry.rejections`)
	measured("deleted by hand")
}

func TestALongStoryIsReplayedInOrder(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	const waiting = 100
	first := b.apply(t, "u", "c", putNote(1, "a", `{"n":-1}`)).Rejected[0].ID
	var entries []string
	for i := range waiting {
		entries = append(entries, patchNote(2+i, "a", fmt.Sprintf(`{"body":"%d"}`, i)))
	}
	b.apply(t, "u", "c", entries...)
	b.db.Exec(t, `ALTER TABLE notes DROP CONSTRAINT notes_n_check`)
	var replayed []string
	err := (&postgres.Rejections{Store: b.store}).Replay(t.Context(), first, false, func(r *postgres.Replayed) {
		replayed = append(replayed, string(r.State))
	})
	if err != nil || len(replayed) != waiting+1 {
		t.Errorf("%d replayed, %v", len(replayed), err)
	}
	if got := b.text(t, `SELECT body FROM notes`); got != fmt.Sprint(waiting-1) {
		t.Errorf("body %s", got)
	}
}
