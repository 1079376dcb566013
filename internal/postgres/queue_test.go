package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"ferry/internal/fault"
)

// enterNow joins the queue, and says whether the upload runs at once.
func enterNow(t *testing.T, q *queue, user, client string, operations int) *place {
	t.Helper()
	p, err := q.join(clientKey{user, client}, operations)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) mustRun(t *testing.T, want bool, when string) {
	t.Helper()
	if p.running != want {
		t.Errorf("%s: %s's upload runs: %t", when, p.key.user, p.running)
	}
}

func TestQueueGivesAConnectionToTheFirstToCome(t *testing.T) {
	q := newQueue(1)
	first := enterNow(t, q, "ann", "1", 1)
	second := enterNow(t, q, "bob", "1", 1)
	third := enterNow(t, q, "cy", "1", 1)
	first.mustRun(t, true, "on arrival")
	second.mustRun(t, false, "while another has the connection")
	q.leave(first)
	second.mustRun(t, true, "once the connection is free")
	third.mustRun(t, false, "behind another")
	q.leave(second)
	third.mustRun(t, true, "at last")
}

func TestQueueRunsOneUploadOfAClientAtATime(t *testing.T) {
	q := newQueue(4)
	first := enterNow(t, q, "ann", "phone", 1)
	retry := enterNow(t, q, "ann", "phone", 1)
	other := enterNow(t, q, "ann", "laptop", 1)
	nameless := []*place{enterNow(t, q, "ann", "", 1), enterNow(t, q, "ann", "", 1)}
	retry.mustRun(t, false, "while the first delivery runs")
	other.mustRun(t, true, "from another device")
	for _, p := range nameless {
		p.mustRun(t, true, "without a client id")
	}
	q.leave(first)
	retry.mustRun(t, true, "once the first delivery is done")
}

func TestQueuePrefersWhoHasTheFewestRunning(t *testing.T) {
	q := newQueue(2)
	first, second := enterNow(t, q, "ann", "1", 1), enterNow(t, q, "ann", "2", 1)
	third := enterNow(t, q, "ann", "3", 1)
	bob := enterNow(t, q, "bob", "1", 1)
	q.leave(first)
	bob.mustRun(t, true, "before ann's third")
	q.leave(second)
	third.mustRun(t, true, "when nobody else waits")
}

func TestLargeUploadsLeaveConnectionsToSmallOnes(t *testing.T) {
	q := newQueue(4)
	var large []*place
	for i := range 4 {
		large = append(large, enterNow(t, q, fmt.Sprint("user", i), "", largeUpload+1))
	}
	for i, p := range large {
		p.mustRun(t, i < 2, fmt.Sprintf("as the %d. large one", i+1))
	}
	small := enterNow(t, q, "ann", "", largeUpload)
	small.mustRun(t, true, "behind large ones that wait")
	q.leave(large[0])
	large[2].mustRun(t, true, "once a large one is done")
}

// Whoever waits is answered soon, because not many may wait; and no user can
// take all of the room.
func TestFullQueueRefusesAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		operations, fits int // uploads of one user, besides the one that runs
	}{
		"many small uploads": {1, maxWaiting * 3 / 4},
		"many operations":    {largeUpload, maxWaitingOperations / largeUpload * 3 / 4},
		"one without end":    {10 * maxWaitingOperations, 1},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(1)
			enterNow(t, q, "ann", "running", c.operations)
			for range c.fits {
				if err := q.room("ann"); err != nil {
					t.Fatal(err)
				}
				enterNow(t, q, "ann", "", c.operations)
			}
			_, err := q.enter(t.Context(), clientKey{"ann", ""}, c.operations)
			f, ok := errors.AsType[*fault.Error](err)
			if !ok || f.Code != fault.Unavailable || f.RetryAfter <= 0 {
				t.Errorf("one too many of a user: %v", err)
			}
			if c.operations > maxWaitingOperations {
				return
			}
			enterNow(t, q, "bob", "", c.operations)
		})
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	q := newQueue(1)
	running := enterNow(t, q, "ann", "phone", 1)
	for _, client := range []string{"phone", "laptop"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := q.enter(ctx, clientKey{"ann", client}, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", client, err)
		}
	}
	q.leave(running)
	q.isEmpty(t, 1)
}

type failer interface {
	Errorf(format string, args ...any)
	Helper()
}

func (q *queue) isEmpty(t failer, connections int) {
	t.Helper()
	if q.free != connections || q.freeLarge != max(1, connections/2) || q.operations != 0 ||
		len(q.waiting)+len(q.clients)+len(q.users) != 0 {
		t.Errorf("an empty queue holds %+v", q)
	}
}

// Whatever comes and goes in any order: no more run than may, nothing waits that
// could run, and nothing is left behind.
func TestQueueRules(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		connections := rapid.IntRange(1, 6).Draw(t, "connections")
		q := newQueue(connections)
		var inside []*place
		drop := func(i int) {
			q.leave(inside[i])
			inside = append(inside[:i], inside[i+1:]...)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(inside) > 0 && rapid.Bool().Draw(t, "leaves") {
				drop(rapid.IntRange(0, len(inside)-1).Draw(t, "who"))
			} else {
				key := clientKey{rapid.SampledFrom([]string{"ann", "bob", "cy"}).Draw(t, "user"), rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "client")}
				p, err := q.join(key, rapid.SampledFrom([]int{1, largeUpload, largeUpload + 1}).Draw(t, "operations"))
				if err != nil {
					continue
				}
				inside = append(inside, p)
			}
			checkQueue(t, q, inside, connections)
		}
		for len(inside) > 0 {
			drop(0)
		}
		q.isEmpty(t, connections)
	})
}

func checkQueue(t *rapid.T, q *queue, inside []*place, connections int) {
	running, large, clients := 0, 0, map[clientKey]int{}
	for _, p := range inside {
		if !p.running {
			continue
		}
		running++
		if p.isLarge() {
			large++
		}
		if p.key.client != "" {
			clients[p.key]++
		}
	}
	mostLarge := max(1, connections/2)
	if running > connections || large > mostLarge {
		t.Fatalf("%d run, %d of them large, on %d connections", running, large, connections)
	}
	for key, n := range clients {
		if n > 1 {
			t.Fatalf("%d uploads of %v run", n, key)
		}
	}
	for _, p := range inside {
		mayRun := running < connections && clients[p.key] == 0 && (!p.isLarge() || large < mostLarge)
		if !p.running && mayRun {
			t.Fatalf("an upload of %v with %d operations waits, and a connection is free", p.key, p.operations)
		}
	}
}
