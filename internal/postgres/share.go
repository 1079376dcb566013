package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"ferry/internal/uploads"
)

// Small uploads of different clients share a round trip, and its wait for the
// disk, where many come at once: each is a database transaction of its own, with
// the caller's role and settings, as it would be over a connection that others
// used before. A round trip is begun at once while a lane is free; what comes
// meanwhile goes together with the next.
//
// Nothing depends on it. An upload that was not committed this way, because it or
// one before it failed or took long, is applied by itself as if nothing had been
// tried. So only uploads share whose operations are applied exactly once.

// What shares: few and short operations in few statements, so that none of it
// takes long.
const (
	fewOperations = 16
	fewBytes      = 64 << 10 // of JSON
	fewStatements = 4
)

// What one upload can cost another that shares with it. Nobody waits longer for a
// lane than patience. A statement may take statementOfTrip, and wait for a lock
// half of that; after tripTime the statement that runs is canceled, and after twice
// that all of it is over, also on a connection that went silent. Whoever failed, or
// took longer than a statement may, shares with nobody for a while. And after a
// slow round trip half as many as it had share the next.
const (
	patience        = 5 * time.Millisecond
	statementOfTrip = 100 * time.Millisecond
	tripTime        = 1 * time.Second
	slowTrip        = 50 * time.Millisecond
	apartFor        = time.Minute
	mostRiders      = 8
)

// connectionsPerLane says how many round trips are shared at a time: more would
// leave each with less to share.
const connectionsPerLane = 8

// maxApart bounds the users that are known to share with nobody.
const maxApart = 10_000

// lanes is where uploads come together.
type lanes struct {
	statement, trip time.Duration // how long they may take

	mu      sync.Mutex
	free    int
	most    int // how many uploads may share a round trip now
	waiting []*ride
	apart   map[string]time.Time // users that share with nobody, until when
}

func newLanes(connections int) *lanes {
	return &lanes{
		statement: statementOfTrip, trip: tripTime,
		free: max(1, connections/connectionsPerLane), most: mostRiders, apart: map[string]time.Time{},
	}
}

// ride is one upload's part in a shared round trip.
type ride struct {
	run
	batch *batch
	// told is closed once an upload that waits was part of a round trip, or is to
	// begin one.
	told             chan struct{}
	leads, committed bool
}

// share applies a small upload together with others, and returns its result. It
// returns nil if that did not work out: then nothing was committed, or what was is
// recognised when the upload is applied by itself, and counts as a duplicate.
func (r *run) share(ctx context.Context) *uploads.Result {
	l, up := r.store.lanes, r.upload
	if up.Operations == 0 || up.Operations > fewOperations || !up.ExactlyOnce || up.OutOfOrder || r.left() < 4*l.trip ||
		r.store.paces.of(r.key()) > 0 || l.isApart(r.caller.UserID, r.started) {
		return nil
	}
	x := &ride{run: *r, batch: r.whole()}
	if !areShort(x.batch.ops) {
		return nil
	}
	var err error
	if x.catalog, err = r.store.catalog(ctx, r.started.Add(-catalogAge)); err != nil {
		return nil
	}
	steps, refusals := plan(x.catalog, x.batch.ops, x.batch.atMost)
	defer free(steps)
	if x.batch.steps = steps; len(refusals) > 0 || len(steps) > fewStatements || !l.enter(x) {
		return nil
	}
	if x.leads {
		l.lead(ctx, x)
	}
	if !x.committed {
		return nil
	}
	return x.allApplied()
}

func areShort(ops []*uploads.Operation) bool {
	bytes := 0
	for _, op := range ops {
		bytes += len(op.Raw)
	}
	return bytes <= fewBytes
}

// enter waits for a part in a round trip, and returns false if it takes too long or
// if none is shared now.
func (l *lanes) enter(x *ride) bool {
	l.mu.Lock()
	if l.free > 0 {
		l.free--
		x.leads = true
		l.mu.Unlock()
		return true
	}
	if l.most == 1 {
		l.mu.Unlock()
		return false
	}
	x.told = make(chan struct{})
	l.waiting = append(l.waiting, x)
	l.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-x.told:
		return true
	case <-timer.C:
	}
	l.mu.Lock()
	i := slices.Index(l.waiting, x)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	l.mu.Unlock()
	if i < 0 { // the round trip has begun
		<-x.told
	}
	return i < 0
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

// leave ends a round trip of so many that took so long, and gives the lane to the
// first that waits, who leads the next.
func (l *lanes) leave(riders int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if took > slowTrip {
		l.most = max(1, riders/2)
	} else {
		l.most = min(mostRiders, l.most+1)
	}
	if len(l.waiting) == 0 {
		l.free++
		return
	}
	next := l.waiting[0]
	l.waiting = slices.Delete(l.waiting, 0, 1)
	next.leads = true
	close(next.told)
}

// lead makes a round trip for x and those that wait.
func (l *lanes) lead(ctx context.Context, x *ride) {
	riders := l.board(x)
	var took time.Duration
	defer func() {
		l.leave(len(riders), took)
		for _, other := range riders[1:] {
			close(other.told)
		}
	}()
	took = x.store.applyTogether(ctx, riders)
}

// applyTogether applies uploads in one round trip, each in a database transaction
// of its own, and notes which were committed, durably. It returns how long it took
// once there was a connection.
//
// Where there are several, none of their commits waits for the disk: one of ferry's
// own behind them does, for all (see makeDurable), whatever the app's triggers may
// set. The server runs nothing behind one that fails.
func (s *Store) applyTogether(ctx context.Context, riders []*ride) (took time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, 2*s.lanes.trip)
	defer cancel()
	session, err := s.takeSession(ctx)
	if err != nil {
		return 0 // each finds out for itself
	}
	defer session.release()
	queries := make([]query, 0, 10*len(riders))
	for _, x := range riders {
		x.shares, x.relaxed = true, len(riders) > 1
		queries = x.put(queries, x.batch, true)
		x.wasReset = false // somebody else's code follows on this connection
	}
	last := riders[0].run
	last.raises = false
	if len(riders) > 1 {
		queries = append(queries, last.durably()...)
	}
	started := time.Now()
	err = session.exchangeWithin(ctx, s.lanes.trip, queries)
	took = time.Since(started)
	n, known := committed(riders, err)
	if !known {
		return took
	}
	if len(riders) > 1 {
		s.lanes.blameSlow(riders, cmp.Or(last.began, riders[0].began+took))
	}
	if err != nil {
		// Who runs when the time is over need not have taken it. Behind the last upload,
		// the row of the first is written.
		if took < s.lanes.trip {
			s.lanes.setApart(riders[n%len(riders)].caller.UserID, s.options.Now())
		}
		// Behind a pooler another connection would answer, also after a crash.
		if n == 0 || !session.isOurs() || session.exchange(ctx, last.durably()...) != nil {
			return took
		}
	}
	for _, x := range riders[:n] {
		x.committed = true
	}
	return took
}

// committed is how many uploads were committed in an exchange, if anybody knows.
func committed(riders []*ride, err error) (n int, known bool) {
	if err == nil {
		return len(riders), true
	}
	failed, answered := errors.AsType[*queryError](err)
	for n < len(riders) && answered && riders[n].batch.end <= failed.index {
		n++
	}
	return n, answered
}

// blameSlow has those share with nobody for a while who took longer than a statement
// may, be it at COMMIT, which no timeout bounds. end is when the server was done, by
// its clock.
func (l *lanes) blameSlow(riders []*ride, end time.Duration) {
	for _, x := range slices.Backward(riders) {
		if x.began == 0 { // it did not come to that
			continue
		}
		if end-x.began > l.statement {
			l.setApart(x.caller.UserID, x.store.options.Now())
		}
		end = x.began
	}
}

func (l *lanes) isApart(user string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(l.apart[user])
}

// setApart has a user share with nobody for a while.
func (l *lanes) setApart(user string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.apart) >= maxApart {
		clear(l.apart)
	}
	l.apart[user] = now.Add(apartFor)
}
