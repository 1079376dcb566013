//go:build linux

package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// fault is something that goes wrong for a while. begin makes it go wrong and
// returns what makes it right again.
type fault struct {
	name  string
	begin func(ctx context.Context, random *rand.Rand) (end func(ctx context.Context) error, err error)
	// longest is how long it lasts at most; 0 is 6 s.
	longest time.Duration
}

// event is a fault at its time.
type event struct {
	fault
	at, lasts time.Duration
	seed      uint64
}

func (e event) String() string {
	return fmt.Sprintf("%6.2f s: %s for %.2f s", e.at.Seconds(), e.name, e.lasts.Seconds())
}

// plan draws a schedule. Every fault comes before one comes again; several are
// there at a time, each once.
func plan(random *rand.Rand, faults []fault, length time.Duration) []event {
	var events []event
	busy := map[string]time.Duration{} // until when each is there
	for at := time.Second; at < length; {
		for _, i := range random.Perm(len(faults)) {
			f := faults[i]
			longest := f.longest
			if longest == 0 {
				longest = 6 * time.Second
			}
			lasts := 200*time.Millisecond + time.Duration(random.Int64N(int64(longest)))
			e := event{fault: f, at: max(at, busy[f.name]), lasts: lasts, seed: random.Uint64()}
			if e.at >= length {
				continue
			}
			events = append(events, e)
			busy[f.name] = e.at + lasts
			at += 200*time.Millisecond + time.Duration(random.Int64N(int64(1500*time.Millisecond)))
		}
	}
	return events
}

// inject lets the events happen and returns once all is mended. The second of
// two events of one fault waits for the first.
func inject(ctx context.Context, t *testing.T, events []event) {
	t.Helper()
	started := time.Now()
	var wg sync.WaitGroup
	one := map[string]*sync.Mutex{}
	for _, e := range events {
		if one[e.name] == nil {
			one[e.name] = &sync.Mutex{}
		}
		wg.Go(func() {
			pause(ctx, time.Until(started.Add(e.at)))
			one[e.name].Lock()
			defer one[e.name].Unlock()
			if err := e.happen(ctx); err != nil {
				t.Errorf("%v: %v", e, err)
			}
		})
	}
	wg.Wait()
}

func (e event) happen(ctx context.Context) error {
	end, err := e.begin(ctx, rand.New(rand.NewPCG(e.seed, 0))) //nolint:gosec // reproducible on purpose
	if err != nil {
		return err
	}
	pause(ctx, e.lasts)
	return end(context.WithoutCancel(ctx))
}
