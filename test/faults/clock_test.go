//go:build linux

package faults_test

import (
	"net/http"
	"testing"
	"time"
)

// TestTheClockMoves proves the tool: ferry's wall clock is what the test says,
// and moves while ferry runs.
func TestTheClockMoves(t *testing.T) {
	skipUnlessAsked(t)
	f := startFerry(t, build(t), "ferry", databaseURL(login, freeAddress(t))) // without a database it serves its health
	for _, off := range []time.Duration{0, 26 * time.Hour, -time.Minute} {
		if err := f.clock.set(off); err != nil {
			t.Fatal(err)
		}
		if got := f.date(t).Sub(time.Now().Add(off)).Abs(); got > 5*time.Second {
			t.Errorf("ferry's clock is %s from where it was set", got)
		}
	}
}

// date is what ferry takes for the time.
func (f *ferry) date(t *testing.T) time.Time {
	t.Helper()
	for {
		response, err := http.Get("http://" + f.address + "/healthz") //nolint:noctx,gosec // until the test's end
		if err != nil {
			pause(t.Context(), 20*time.Millisecond)
			continue
		}
		_ = response.Body.Close()
		date, err := http.ParseTime(response.Header.Get("Date"))
		if err != nil {
			t.Fatal(err)
		}
		return date
	}
}
