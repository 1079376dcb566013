package postgres_test

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"ferry/internal/postgres"
	"ferry/internal/postgres/postgrestest"
)

// A redelivery may find what was committed and has not reached the disk yet: its own
// commit, of having locked the client's row, waits for both.
func TestWhatIsRecognisedHasReachedTheDisk(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pace    int
		entries []string
		want    outcome
	}{
		"all":              {0, []string{putNote(1, "a", `{}`)}, outcome{Duplicates: 1}},
		"at a pace":        {1, []string{putNote(1, "a", `{}`)}, outcome{Duplicates: 1}},
		"beside a refusal": {0, []string{putNote(1, "a", `{}`), putNote(2, "b", `{"n":-1}`)}, outcome{Duplicates: 1, Codes: []string{"check_violation"}}},
	} {
		b := attackOn(t, "", func(o *postgres.Options) { o.TransactionPool = true })
		b.expect(t, outcome{Applied: 1}, "u", "c", putNote(1, "a", `{}`))
		b.store.SetPace("u", "c", c.pace)
		b.expect(t, c.want, "u", "c", c.entries...)
		// The lock is that of the transaction that came last.
		if got := b.text(t, `SELECT pg_xact_status(xmax::text::xid8) FROM ferry.progress`); got != "committed" {
			t.Errorf("%s: the transaction that recognised it is %s", name, got)
		}
	}
}

// Where that commit fails, nothing of it is acknowledged.
func TestWhatIsRecognisedWithoutACommitIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	var cut atomic.Bool
	url := postgrestest.Forward(t, b.db.URLAs("ferry_login", ""), func(client, server net.Conn) (up, down func()) {
		up = pass(server, client, func(data []byte) (on, end bool) {
			return true, cut.Load() && bytes.Contains(data, []byte("COMMIT")) && !bytes.Contains(data, []byte("BEGIN"))
		})
		return up, pass(client, server, always)
	})
	b.store = openAttacked(t, url+"&pool_max_conns=2", func(o *postgres.Options) { o.TransactionPool = true })
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(1, "a", `{}`))
	cut.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	result, err := b.store.Apply(ctx, claimsOf("u"), decodeEntries(t, "c", putNote(1, "a", `{}`)))
	if err == nil || result != nil && result.Outcomes[0].Decided {
		t.Errorf("without a commit: %+v, %v", result, err)
	}
	cut.Store(false)
	b.expect(t, outcome{Duplicates: 1}, "u", "c", putNote(1, "a", `{}`))
}
