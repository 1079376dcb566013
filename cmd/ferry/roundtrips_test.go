package main

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"ferry/internal/postgres/postgrestest"
)

// Tokens for session JWTs ask the database nothing, and those for sessions of
// accounts at most one thing, which is remembered for a moment. Beside that the
// denylist is looked at, whoever asks: more than twice a second, as a change of it
// must hold within one.
func TestTokensTakeHardlyAnyRoundTrips(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	line := postgrestest.SlowLine(t, u.db.URLAs(u.roles.login, ""), 0)
	_, api := startServing(t, append(serveEnvironment(line.URL, u.roles), "FERRY_ACCOUNTS=true"))
	u.add(annEmail)
	_, account := signIn(t, api, annEmail, annSays)

	const tokens = 200 // one user may have 300 a minute
	looks := func(took time.Duration) int64 { return int64(took/(400*time.Millisecond)) + 4 }
	for _, c := range []struct {
		name    string
		session func(n int) string
		trips   func(took time.Duration) int64 // at most, for all of them
	}{
		{"session JWTs of many users", func(n int) string { return sessionOf(t, fmt.Sprint("u", n)) }, looks},
		{"one session JWT", func(int) string { return sessionOf(t, "u") }, looks},
		{"one session of an account", func(int) string { return account }, func(took time.Duration) int64 { return 2 * looks(took) }},
	} {
		if code, body := ask(t, http.MethodGet, api+"/token", c.session(0), ""); code != 200 {
			t.Fatalf("%s: %d %s", c.name, code, body)
		}
		before, started := line.Trips(), time.Now()
		for n := range tokens {
			if code, body := ask(t, http.MethodGet, api+"/token", c.session(n), ""); code != 200 {
				t.Fatalf("%s: %d %s", c.name, code, body)
			}
		}
		took := time.Since(started)
		if trips := line.Trips() - before; trips > c.trips(took) {
			t.Errorf("%s: %d round trips for %d tokens in %s, want %d at most", c.name, trips, tokens, took, c.trips(took))
		}
	}
}
