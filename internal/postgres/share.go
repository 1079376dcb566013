package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"ferry/internal/uploads"
)

// Small uploads of different clients share a round trip, and its wait for the
// disk, where many come at once (see lanes.go): each is a database transaction of
// its own, with the caller's role and settings, as it would be over a connection
// that others used before.
//
// Nothing depends on it. An upload that was not committed this way, because it or
// one before it failed or took long, is applied by itself, and what was committed
// unnoticed is recognised. So only uploads share whose operations are applied
// exactly once.

// What shares: few and short operations in few statements, so that none of it
// takes long.
const (
	fewOperations = 16
	fewBytes      = 64 << 10 // of JSON
	fewStatements = 4
)

// What one upload can cost another that shares with it. A statement may take
// statementOfTrip, and wait for a lock half of that. After tripTime the statement
// that runs is canceled, and after twice that all is over, also on a connection that
// went silent. Whoever failed, or made the round trip slow, shares with nobody for a
// while.
const (
	statementOfTrip = 100 * time.Millisecond
	tripTime        = 1 * time.Second
)

// share applies a small upload together with others, and returns its result. It
// returns nil if the upload is to be applied by itself: because nobody else is there,
// it is not one to share, or it did not work out, and then what was committed counts
// as a duplicate. leave must be called once the upload is applied.
func (r *run) share(ctx context.Context) (result *uploads.Result, leave func()) {
	l, nothing := r.store.lanes, func() {}
	if !r.mayShare() {
		return nil, nothing
	}
	if l.enter() {
		return nil, l.hold()
	}
	c := r.store.tables.get(r.started.Add(-catalogAge))
	if c == nil { // to wait for one takes too long
		return nil, nothing
	}
	x, refusals := r.ride(c)
	defer free(x.batch.steps)
	if len(refusals) > 0 || len(x.batch.steps) > fewStatements {
		return nil, nothing
	}
	switch leads, ok := l.wait(x); {
	case !ok:
		return nil, nothing
	case leads:
		riders := l.board(x)
		if len(riders) == 1 {
			return nil, l.hold()
		}
		r.store.lead(ctx, riders)
	}
	if !x.committed {
		return nil, nothing
	}
	return x.allApplied(), nothing
}

// ride plans the upload as a part of a round trip.
func (r *run) ride(c *catalog) (x *ride, refusals []planRefusal) {
	x = &ride{run: *r, batch: r.whole(), told: make(chan bool, 1)}
	x.catalog = c
	x.batch.steps, refusals = plan(c, x.batch.ops, x.batch.atMost)
	return x, refusals
}

// mayShare is whether the upload may share a round trip with others. Behind a pooler
// none does: what it commits before it waits for the disk must be asked for over the
// connection that committed it, which breaks if the server forgets.
func (r *run) mayShare() bool {
	up, s := r.upload, r.store
	if s.options.TransactionPool || up.Operations == 0 || up.Operations > fewOperations || !up.ExactlyOnce || up.OutOfOrder {
		return false
	}
	bytes := 0
	for i := range up.Transactions {
		for j := range up.Transactions[i].Operations {
			bytes += len(up.Transactions[i].Operations[j].Raw)
		}
	}
	return bytes <= fewBytes && r.left() >= 4*s.lanes.trip && s.paces.of(r.key()) == 0 &&
		!s.lanes.isApart(r.caller.UserID, r.started)
}

// lead makes a round trip for all riders, and tells those behind the first.
func (s *Store) lead(ctx context.Context, riders []*ride) {
	started := time.Now()
	defer func() {
		s.lanes.learn(len(riders), time.Since(started))
		s.lanes.leave()
		for _, other := range riders[1:] {
			other.told <- false
		}
	}()
	s.applyTogether(ctx, riders)
}

// applyTogether applies uploads in one round trip, each in a database transaction
// of its own, and notes which were committed, durably.
//
// None of their commits waits for the disk: one of ferry's own behind them does, for
// all (see makeDurable), whatever the app's triggers may set. The server runs nothing
// behind one that fails.
func (s *Store) applyTogether(ctx context.Context, riders []*ride) {
	ctx, cancel := context.WithTimeout(ctx, 2*s.lanes.trip)
	defer cancel()
	session, err := s.takeSession(ctx)
	if err != nil {
		return // each finds out by itself
	}
	defer session.release()
	defer session.end(ctx) // within this time
	last := riders[0].run
	last.shares, last.raises = true, false
	queries := make([]query, 0, 10*(len(riders)+1))
	for _, x := range riders {
		x.shares, x.relaxed = true, true
		queries = x.put(queries, x.batch, false)
	}
	durably := last.durably()
	started := time.Now()
	err = session.exchangeWithin(ctx, s.lanes.trip, append(queries, durably...))
	took := min(time.Since(started), s.lanes.trip) // and not what it took to cancel
	n, known := committed(riders, err)
	s.lanes.setApart(s.lanes.blame(riders, n, known, err, last.began, took)...)
	if n == 0 || err != nil && session.exchange(ctx, durably...) != nil {
		return
	}
	for _, x := range riders[:n] {
		x.committed = true
	}
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

// blame lists those who held up the others of a round trip, n of whom were committed.
// last is when ferry's own transaction began; 0 if it did not come to that.
func (l *lanes) blame(riders []*ride, n int, known bool, err error, last, took time.Duration) []*ride {
	overtime := took == l.trip
	switch {
	case !known && overtime:
		return riders
	case !known:
		return nil
	}
	blamed := slow(riders, last, took, l.slow)
	if err != nil && !overtime { // else whoever was canceled need not have taken the time
		blamed = append(blamed, culprit(riders, n, last)...)
	}
	return blamed
}

// slow lists the riders of users who took longer than limit by themselves, be it at
// COMMIT, which no timeout bounds. All answers arrive together, so it goes by the
// server's clock.
func slow(riders []*ride, last, took, limit time.Duration) []*ride {
	if took <= limit {
		return nil
	}
	end := cmp.Or(last, riders[0].began+took)
	spent := map[string]time.Duration{}
	for _, x := range slices.Backward(riders) {
		if x.began > 0 {
			spent[x.caller.UserID] += end - x.began
			end = x.began
		}
	}
	return slices.DeleteFunc(slices.Clone(riders), func(x *ride) bool { return spent[x.caller.UserID] <= limit })
}

// culprit is who made the transaction fail behind n that were committed: the rider
// itself once it has begun, else the one before it, by what it left behind. ferry's
// own, which began at last, waited for the row of the first.
func culprit(riders []*ride, n int, last time.Duration) []*ride {
	switch {
	case n == len(riders) && last > 0:
		return riders[:1]
	case n < len(riders) && riders[n].began > 0:
		return riders[n : n+1]
	}
	return riders[max(0, n-1):n]
}
