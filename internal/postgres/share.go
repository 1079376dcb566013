package postgres

import (
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
// lane than patience, or for an answer than tripTime; a statement may take
// statementOfTrip, and wait for a lock half of that. Who stood in the way of
// others goes alone for a while, with all uploads of that user. And after a round
// trip that took longer than it should, half as many share one.
const (
	patience        = 5 * time.Millisecond
	statementOfTrip = 100 * time.Millisecond
	tripTime        = 1 * time.Second
	tripShould      = 50 * time.Millisecond
	aloneFor        = time.Minute
	mostRiders      = 8
)

// connectionsPerLane says how many round trips are shared at a time: more would
// leave each with less to share.
const connectionsPerLane = 8

// maxAlone bounds the users that are known to go alone.
const maxAlone = 10_000

// lanes is where uploads come together.
type lanes struct {
	statement time.Duration // how long one may take

	mu      sync.Mutex
	free    int
	riders  int // how many uploads may share a round trip now
	waiting []*ride
	alone   map[string]time.Time // until when, of a user
}

func newLanes(connections int) *lanes {
	return &lanes{
		statement: statementOfTrip,
		free:      max(1, connections/connectionsPerLane), riders: mostRiders, alone: map[string]time.Time{},
	}
}

// ride is one upload's part in a shared round trip.
type ride struct {
	run   *run
	batch *batch
	// told is closed once an upload that waits was part of a round trip, or is to
	// begin one.
	told             chan struct{}
	leads, committed bool
	err              error // there was no connection
}

// share applies a small upload together with others. It returns false if that
// did not work out, in which case nothing was committed, or what was will be
// recognised. An error means that there was no connection to try it over.
func (r *run) share(ctx context.Context) (bool, error) {
	l, up := r.store.lanes, r.upload
	if !isSmall(up) || !up.ExactlyOnce || up.OutOfOrder || r.left() < 2*tripTime ||
		r.store.paces.of(r.key()) > 0 || l.isAlone(r.caller.UserID, r.started) {
		return false, nil
	}
	var err error
	if r.catalog, err = r.store.catalog(ctx, r.started.Add(-catalogAge)); err != nil {
		return false, r.ownFault(err)
	}
	b := &batch{ops: payloadOf(up), firstTx: up.FirstTxID(), alone: len(up.Transactions) == 1}
	steps, refusals := plan(r.catalog, b.ops, together)
	defer free(steps)
	if b.steps = steps; len(refusals) > 0 || len(steps) > fewStatements {
		return false, nil
	}
	x := &ride{run: r, batch: b}
	if !l.enter(x) {
		return false, nil
	}
	if x.leads {
		l.lead(ctx, x)
	}
	return x.committed, x.err
}

// isSmall is whether an upload has something, and not much, to apply.
func isSmall(up *uploads.Upload) bool {
	if up.Operations == 0 || up.Operations > fewOperations {
		return false
	}
	bytes := 0
	for i := range up.Transactions {
		for j := range up.Transactions[i].Operations {
			bytes += len(up.Transactions[i].Operations[j].Raw)
		}
	}
	return bytes <= fewBytes
}

// enter waits for a part in a round trip, and returns false if it takes too long.
func (l *lanes) enter(x *ride) bool {
	l.mu.Lock()
	if l.free > 0 {
		l.free--
		x.leads = true
		l.mu.Unlock()
		return true
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

// together returns x and those that wait, as many as may share a round trip.
func (l *lanes) together(x *ride) []*ride {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(l.riders-1, len(l.waiting))
	riders := append([]*ride{x}, l.waiting[:n]...)
	l.waiting = slices.Delete(l.waiting, 0, n)
	return riders
}

// leave ends a round trip of so many that took so long, and gives the lane to the
// first that waits, who leads the next.
func (l *lanes) leave(riders int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if took > tripShould {
		l.riders = max(1, riders/2)
	} else {
		l.riders = min(mostRiders, l.riders+1)
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
	riders, started := l.together(x), time.Now()
	defer func() {
		l.leave(len(riders), time.Since(started))
		for _, other := range riders[1:] {
			close(other.told)
		}
	}()
	x.run.store.applyTogether(ctx, riders)
}

// applyTogether applies uploads in one round trip, each in a database transaction
// of its own, and notes which were committed, durably.
//
// Where there are several, none of their commits waits for the disk: one of ferry's
// own behind them does, for all (see makeDurable), whatever the app's triggers may
// set. The server runs nothing behind one that fails.
func (s *Store) applyTogether(ctx context.Context, riders []*ride) {
	session, err := s.takeSession(ctx)
	if err != nil {
		for _, x := range riders {
			x.err = unavailable(err)
		}
		return
	}
	defer session.release()
	queries := make([]query, 0, 10*len(riders))
	for _, x := range riders {
		x.run.shares, x.run.relaxed = true, len(riders) > 1
		queries = x.run.put(queries, x.batch, true)
		x.run.wasReset = false // somebody else's code follows on this connection
	}
	if len(riders) > 1 {
		queries = append(queries, riders[0].run.durably()...)
	}
	err = session.exchangeWithin(ctx, tripTime, queries)
	applied := riders
	if err != nil {
		failed, answered := errors.AsType[*queryError](err)
		if !answered {
			return
		}
		n := slices.IndexFunc(riders, func(x *ride) bool { return failed.index < x.batch.end })
		if n >= 0 {
			s.lanes.goAlone(riders[n].run.caller.UserID, s.options.Now())
			applied = riders[:n]
		}
	}
	if err != nil && len(applied) > 0 {
		if err := session.exchange(ctx, applied[0].run.durably()...); err != nil {
			return
		}
	}
	for _, x := range applied {
		x.committed = true
	}
}

func (l *lanes) isAlone(user string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(l.alone[user])
}

// goAlone has a user share with nobody for a while.
func (l *lanes) goAlone(user string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.alone) >= maxAlone {
		clear(l.alone)
	}
	l.alone[user] = now.Add(aloneFor)
}
