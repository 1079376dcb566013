package postgres

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A server that swallows packets must not hold connections for long; whoever
// knows better says so in the connection string.
func TestConnectionsToAServerThatDoesNotAnswerAreGivenUp(t *testing.T) {
	t.Parallel()
	for url, want := range map[string][2]time.Duration{
		"postgres://ferry@db/app": {dialTimeout, pingTimeout},
		"postgres://ferry@db/app?connect_timeout=9&pool_ping_timeout=4s": {9 * time.Second, 4 * time.Second},
	} {
		pool, err := openPool(t.Context(), url, 1, false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		config := pool.Config()
		if diff := cmp.Diff(want, [2]time.Duration{config.ConnConfig.ConnectTimeout, config.PingTimeout}); diff != "" {
			t.Errorf("%s: to connect, and to answer (-want +got):\n%s", url, diff)
		}
	}
}
