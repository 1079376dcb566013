package postgres

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// lanes is where small uploads come together. A lane carries one shared round trip at
// a time. While one is free an upload goes at once, by itself, and what comes in the
// next moment goes together.
type lanes struct {
	patience, slow, statement, trip time.Duration // the limits of these names

	mu      sync.Mutex
	free    int
	most    int // how many uploads may share a round trip now
	waiting []*ride
	apart   map[string]time.Time // users that share with nobody, until when
}

// connectionsPerLane says how many round trips are shared at a time: more would
// leave each with less to share.
const connectionsPerLane = 8

// Nobody waits longer for a lane than patience, and whoever goes by themselves
// gives theirs back after so long. After a round trip that took longer than slowTrip
// half as many as it had share the next.
const (
	patience   = 5 * time.Millisecond
	slowTrip   = 50 * time.Millisecond
	mostRiders = 8
)

// Who held up others shares with nobody for a while. maxApart bounds how many
// users are known for it.
const (
	apartFor = time.Minute
	maxApart = 10_000
)

func newLanes(connections int) *lanes {
	return &lanes{
		patience: patience, slow: slowTrip, statement: statementOfTrip, trip: tripTime,
		free: max(1, connections/connectionsPerLane), most: mostRiders, apart: map[string]time.Time{},
	}
}

// ride is one upload's part in a shared round trip.
type ride struct {
	run
	batch *batch
	// told hears false once the round trip is over that the upload was part of, and
	// true if the upload is to lead the next.
	told      chan bool
	committed bool
}

// enter takes a free lane, if there is one.
func (l *lanes) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take()
}

// take is enter where the lock is held.
func (l *lanes) take() bool {
	if l.free == 0 {
		return false
	}
	l.free--
	return true
}

// wait returns once x was part of a round trip, or leads one over the lane that it
// now has. It returns false if that takes too long, or if nothing is shared now.
func (l *lanes) wait(x *ride) (leads, ok bool) {
	if leads, ok = l.join(x); leads || !ok {
		return leads, ok
	}
	timer := time.NewTimer(l.patience)
	defer timer.Stop()
	select {
	case leads = <-x.told:
		return leads, true
	case <-timer.C:
	}
	if l.giveUp(x) {
		return false, false
	}
	return <-x.told, true // it has begun
}

func (l *lanes) join(x *ride) (leads, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.take() {
		return true, true
	}
	if ok = l.most > 1; ok {
		l.waiting = append(l.waiting, x)
	}
	return false, ok
}

func (l *lanes) giveUp(x *ride) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiting, x)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	return i >= 0
}

// board returns x and those that wait, as many as may share a round trip.
func (l *lanes) board(x *ride) []*ride {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(l.most-1, len(l.waiting))
	riders := append([]*ride{x}, l.waiting[:n]...)
	l.waiting = slices.Delete(l.waiting, 0, n)
	return riders
}

// hold keeps a lane for an upload that goes by itself, for a moment. The upload
// calls what it returns once it is over.
func (l *lanes) hold() func() {
	started := time.Now()
	leave := sync.OnceFunc(l.leave)
	timer := time.AfterFunc(l.patience, leave)
	return func() {
		timer.Stop()
		l.learn(1, time.Since(started))
		leave()
	}
}

// learn notes how long a round trip of so many took.
func (l *lanes) learn(riders int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case took <= l.slow:
		l.most = min(mostRiders, l.most+1)
	case riders > 1:
		l.most = min(l.most, riders/2)
	}
}

// leave gives a lane to the first that waits, who leads the next round trip.
func (l *lanes) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.free++
		return
	}
	l.waiting[0].told <- true
	l.waiting = slices.Delete(l.waiting, 0, 1)
}

func (l *lanes) isApart(user string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(l.apart[user])
}

// setApart has the users of riders share with nobody for a while.
func (l *lanes) setApart(riders ...*ride) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range riders {
		now := x.store.options.Now()
		if len(l.apart) >= maxApart {
			maps.DeleteFunc(l.apart, func(_ string, until time.Time) bool { return !now.Before(until) })
		}
		if len(l.apart) >= maxApart {
			clear(l.apart)
		}
		l.apart[x.caller.UserID] = now.Add(apartFor)
	}
}
