package postgres_test

import (
	"fmt"
	"testing"

	"ferry/internal/postgres"
)

// Huge uploads of whomever, which wait for a lock, leave connections to small ones
// of others; and they go through once the lock is gone.
func TestAttackHugeUploadsDoNotHoldUpSmallOnes(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `
		CREATE TABLE slow (id text PRIMARY KEY, n integer);
		ALTER TABLE slow ENABLE ROW LEVEL SECURITY;
		CREATE POLICY p ON slow TO authenticated USING (true);
		GRANT ALL ON slow TO authenticated`,
		func(o *postgres.Options) { o.URL += "&pool_max_conns=2" })
	release := b.hold(t, `LOCK TABLE slow IN ACCESS EXCLUSIVE MODE`)
	const huge, many = 4, 1001
	decided := make(chan outcome, huge)
	for i := range huge {
		go func() {
			entries := make([]string, many)
			for n := range entries {
				entries[n] = entryOf(n+1, n+1, "PUT", "slow", fmt.Sprint(i, "-", n), `{"n":1}`)
			}
			r, err := b.store.Apply(t.Context(), claimsOf(fmt.Sprint("u", i)), decodeEntries(t, "c", entries...))
			if err != nil {
				t.Errorf("a huge upload: %v", err)
				decided <- outcome{}
				return
			}
			decided <- outcomeOf(r)
		}()
	}
	b.db.UntilWaiting(t, 1)
	for i := range 10 {
		b.expect(t, outcome{Applied: 1}, "small", "c", putNote(i+1, fmt.Sprint(i), `{"n":1}`))
	}
	release()
	for range huge {
		if got := <-decided; got.Applied != many {
			t.Errorf("a huge upload: %+v", got)
		}
	}
}
