package httpapi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestALazyDeadlineEndsAtItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		ctx := newLazyDeadline(t.Context(), started.Add(time.Second))
		if err := ctx.Err(); err != nil {
			t.Errorf("ended at once: %v", err)
		}
		child, cancel := context.WithCancel(context.WithValue(ctx, factsKey{}, 1))
		defer cancel()
		if child.Value(factsKey{}) != 1 {
			t.Error("a child lost its value")
		}
		<-child.Done() // synctest's clock goes on: all wait
		if took := time.Since(started); took != time.Second {
			t.Errorf("ended after %v", took)
		}
		for _, c := range []context.Context{ctx, child} {
			if !errors.Is(c.Err(), context.DeadlineExceeded) {
				t.Errorf("ended with %v", c.Err())
			}
		}
	})
}

func TestALazyDeadlineThatNobodyWaitedForHasPassed(t *testing.T) {
	t.Parallel()
	ctx := newLazyDeadline(t.Context(), time.Now())
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("after its time: %v", ctx.Err())
	}
	if ctx.waited.Load() != nil {
		t.Error("it set a timer")
	}
	<-ctx.Done()
}

func TestALazyDeadlineEndsWithItsParent(t *testing.T) {
	t.Parallel()
	for _, waits := range []bool{false, true} {
		parent, cancel := context.WithCancel(t.Context())
		ctx := newLazyDeadline(parent, time.Now().Add(time.Hour))
		if waits {
			ctx.Done()
		}
		cancel()
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.Canceled) {
			t.Errorf("ended with %v", ctx.Err())
		}
	}
}

// A context that the context package does not know costs a goroutine for each
// child, unless it leads to one that the package knows.
func TestChildrenOfALazyDeadlineNeedNoGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := newLazyDeadline(t.Context(), time.Now().Add(time.Hour))
		children := make([]context.Context, 10)
		for i := range children {
			var cancel context.CancelFunc
			children[i], cancel = context.WithCancel(ctx)
			defer cancel()
		}
		ctx.end()
		// The package ends such children before end returns; a goroutine would later.
		for i, child := range children {
			if child.Err() == nil {
				t.Errorf("child %d waits for a goroutine", i)
			}
		}
	})
}
