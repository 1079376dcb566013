package httpapi

import (
	"context"
	"sync/atomic"
	"time"
)

// lazyDeadline ends with its parent or at a deadline, as the context does that
// context.WithDeadline returns, but sets its timer once somebody waits for that.
// A request that is answered from memory has nobody wait, and setting a timer
// and ending it would be a thirtieth of what a sync token takes.
type lazyDeadline struct {
	context.Context
	deadline time.Time
	waited   atomic.Pointer[timed] // nil until somebody waits
}

// timed is a context with a timer.
type timed struct {
	context.Context
	cancel context.CancelFunc
}

func newLazyDeadline(parent context.Context, deadline time.Time) *lazyDeadline {
	return &lazyDeadline{Context: parent, deadline: deadline}
}

// Deadline implements [context.Context]. The parent's is no sooner: net/http sets
// none.
func (l *lazyDeadline) Deadline() (time.Time, bool) { return l.deadline, true }

// Done implements [context.Context].
func (l *lazyDeadline) Done() <-chan struct{} {
	if l.waited.Load() == nil {
		ctx, cancel := context.WithDeadline(l.Context, l.deadline)
		if !l.waited.CompareAndSwap(nil, &timed{ctx, cancel}) {
			cancel()
		}
	}
	return l.waited.Load().Done()
}

// Err implements [context.Context].
func (l *lazyDeadline) Err() error {
	if t := l.waited.Load(); t != nil {
		return t.Err()
	}
	if err := l.Context.Err(); err != nil {
		return err
	}
	if !time.Now().Before(l.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements [context.Context]. Contexts made from this one ask it for the
// one with the timer, so as to end with it without a goroutine each.
func (l *lazyDeadline) Value(key any) any {
	if t := l.waited.Load(); t != nil {
		return t.Value(key)
	}
	return l.Context.Value(key)
}

// end ends the timer. The parent's end is what ends the context: net/http's ends
// with its request.
func (l *lazyDeadline) end() {
	if t := l.waited.Load(); t != nil {
		t.cancel()
	}
}
