package postgres

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"ferry/internal/fault"
)

// clientKey names one device's upload queue; the client is empty where the
// upload does not say.
type clientKey struct{ user, client string }

// How much may wait for a connection. What does not fit is refused at once,
// so that whoever waits is answered soon: Postgres applies some ten thousands of
// rows a second. The last quarter is left to users who have less of it.
const (
	maxWaiting           = 1024
	maxWaitingOperations = 80_000
	shareOfUser          = 3.0 / 4
)

// largeUpload is how many operations make an upload a large one. These never
// hold all the connections while others wait.
const largeUpload = 1000

var errQueueFull = errors.New("as many uploads as may wait for a connection do so")

// queue says which upload is applied next. As many run as there are
// connections, and one at a time of each client: a retry waits for the first
// delivery, without a connection. The next one is the first to come of the
// users who have the fewest running.
type queue struct {
	mu         sync.Mutex
	free       int // connections without an upload
	freeLarge  int // how many of these may take a large one
	waiting    []*place
	operations int // of those that wait
	clients    map[clientKey]bool
	users      map[string]*userLoad
}

// userLoad is what one user has in the queue.
type userLoad struct{ running, waiting, operations int }

// place is one upload's, from its arrival to its end.
type place struct {
	key        clientKey
	user       *userLoad
	operations int
	running    bool
	goes       chan struct{} // closed once it runs
}

func (p *place) isLarge() bool { return p.operations > largeUpload }

func newQueue(connections int) *queue {
	return &queue{
		free: connections, freeLarge: max(1, connections/2),
		clients: map[clientKey]bool{}, users: map[string]*userLoad{},
	}
}

// enter waits until an upload of so many operations may take a connection, for
// waitTimeout at most. The caller calls leave when it is done.
func (q *queue) enter(ctx context.Context, key clientKey, operations int) (leave func(), err error) {
	p, err := q.join(key, operations)
	if err != nil {
		return nil, err
	}
	leave = func() { q.leave(p) }
	select {
	case <-p.goes: // nearly always: no timer is set for it
		return leave, nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	select {
	case <-p.goes:
		return leave, nil
	case <-ctx.Done():
	}
	if ahead := q.leave(p); ahead {
		return nil, fault.Retry(ctx.Err(), time.Second, "an earlier upload of this client is still running")
	}
	return nil, unavailable(ctx.Err())
}

// room returns a [fault.Error] if an upload of a user would be refused.
func (q *queue) room(user string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.roomFor(q.load(user), 1)
}

// load is what a user has in the queue.
func (q *queue) load(user string) *userLoad {
	if u := q.users[user]; u != nil {
		return u
	}
	return &userLoad{}
}

func (q *queue) roomFor(u *userLoad, operations int) error {
	full := func(waiting, more, most int, share float64) bool {
		return waiting > 0 && waiting+more > int(share*float64(most))
	}
	if full(len(q.waiting), 1, maxWaiting, 1) || full(q.operations, operations, maxWaitingOperations, 1) ||
		full(u.waiting, 1, maxWaiting, shareOfUser) || full(u.operations, operations, maxWaitingOperations, shareOfUser) {
		return fault.Retry(errQueueFull, 2*time.Second, "too many uploads wait for the database; it is safe to try again")
	}
	return nil
}

func (q *queue) join(key clientKey, operations int) (*place, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.load(key.user)
	if err := q.roomFor(u, operations); err != nil {
		return nil, err
	}
	q.users[key.user] = u
	p := &place{key: key, user: u, operations: operations, goes: make(chan struct{})}
	q.waiting = append(q.waiting, p)
	q.count(p, 1)
	q.start()
	return p, nil
}

// count adds p to those that wait, or takes it from them.
func (q *queue) count(p *place, sign int) {
	q.operations += sign * p.operations
	p.user.operations += sign * p.operations
	p.user.waiting += sign
}

// leave ends p. ahead is whether p waited for another upload of its client.
func (q *queue) leave(p *place) (ahead bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.running {
		q.use(p, -1)
		delete(q.clients, p.key)
		q.start()
	} else {
		ahead = q.clients[p.key]
		q.remove(slices.Index(q.waiting, p))
	}
	if p.user.running+p.user.waiting == 0 {
		delete(q.users, p.key.user)
	}
	return ahead
}

func (q *queue) remove(i int) {
	q.count(q.waiting[i], -1)
	q.waiting = slices.Delete(q.waiting, i, i+1)
}

// use takes a connection for p, or gives it back.
func (q *queue) use(p *place, sign int) {
	p.user.running += sign
	q.free -= sign
	if p.isLarge() {
		q.freeLarge -= sign
	}
}

// start lets as many run as can.
func (q *queue) start() {
	for q.free > 0 {
		i := q.next()
		if i < 0 {
			return
		}
		p := q.waiting[i]
		q.remove(i)
		p.running = true
		q.use(p, 1)
		if p.key.client != "" {
			q.clients[p.key] = true
		}
		close(p.goes)
	}
}

// next returns which of those that wait goes next, or -1.
func (q *queue) next() int {
	best := -1
	for i, p := range q.waiting {
		if q.clients[p.key] || (p.isLarge() && q.freeLarge == 0) {
			continue
		}
		if p.user.running == 0 {
			return i
		}
		if best < 0 || p.user.running < q.waiting[best].user.running {
			best = i
		}
	}
	return best
}
