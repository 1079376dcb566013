package postgres

import (
	"context"
	"sync"
)

// clientKey names one device's upload queue.
type clientKey struct{ user, client string }

// clientQueue lets one upload of a client through at a time, before it takes a
// connection: retries that wait for the first delivery must not eat the pool.
type clientQueue struct {
	mu      sync.Mutex
	waiting map[clientKey]*turn
}

// turn is held by whoever has put a token into it.
type turn struct {
	token chan struct{}
	users int
}

// enter waits for key's turn, or for ctx. The caller calls leave when done.
func (q *clientQueue) enter(ctx context.Context, key clientKey) (leave func(), err error) {
	q.mu.Lock()
	if q.waiting == nil {
		q.waiting = map[clientKey]*turn{}
	}
	t := q.waiting[key]
	if t == nil {
		t = &turn{token: make(chan struct{}, 1)}
		q.waiting[key] = t
	}
	t.users++
	q.mu.Unlock()

	forget := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(q.waiting, key)
		}
	}
	select {
	case t.token <- struct{}{}:
		return func() { <-t.token; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}
