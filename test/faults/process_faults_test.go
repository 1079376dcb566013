//go:build linux

package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// processFaults end processes and move their clocks.
func (w *world) processFaults() []fault {
	return []fault{
		{name: "ferry killed", begin: w.killFerry, longest: 3 * time.Second},
		{name: "ferry asked to stop", begin: w.stopFerry, longest: 3 * time.Second},
		{name: "ferry paused", begin: w.pauseFerry},
		{name: "ferry's clock jumps", begin: w.moveClock},
	}
}

func (w *world) anyFerry(random *rand.Rand) *ferry { return w.ferries[random.IntN(len(w.ferries))] }

func (w *world) killFerry(_ context.Context, random *rand.Rand) (func(context.Context) error, error) {
	f := w.anyFerry(random)
	_, err := f.end(syscall.SIGKILL)
	return func(context.Context) error { return f.start() }, err
}

// stopFerry must end it as it ends: with all that it has begun answered.
func (w *world) stopFerry(_ context.Context, random *rand.Rand) (func(context.Context) error, error) {
	f := w.anyFerry(random)
	if !f.serves() {
		return func(context.Context) error { return f.start() }, nil
	}
	code, err := f.end(syscall.SIGTERM)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with code %d", f.name, code)
	}
	return func(context.Context) error { return f.start() }, err
}

// pauseFerry stops it in the middle of whatever it does, as a machine does that
// is moved or swaps: what it has sent is decided without it.
func (w *world) pauseFerry(_ context.Context, random *rand.Rand) (func(context.Context) error, error) {
	f := w.anyFerry(random)
	f.signal(syscall.SIGSTOP)
	return func(context.Context) error { f.signal(syscall.SIGCONT); return nil }, nil
}

func (w *world) moveClock(_ context.Context, random *rand.Rand) (func(context.Context) error, error) {
	f := w.anyFerry(random)
	far := []time.Duration{3 * time.Second, time.Minute, 2 * time.Hour, 26 * time.Hour}[random.IntN(4)]
	off := time.Duration(random.Int64N(int64(2*far))) - far
	return func(context.Context) error { return f.clock.set(0) }, f.clock.set(off)
}
