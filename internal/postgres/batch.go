package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/uploads"
)

// batch is operations that are applied in one database transaction.
type batch struct {
	ops     []*uploads.Operation
	open    []*operation // the same, on the second path
	firstTx int64        // the tx_id of the first
	atMost  int          // operations in one statement
	alone   bool         // whether they are a single client transaction

	steps []*step
	// Where its statements stand in an exchange: the first of steps, and what comes
	// behind the last.
	firstStep, end int
}

// applyInTurn applies batches in one round trip, each in a database transaction of
// its own: the server runs nothing behind one that fails. It returns how many are
// committed, and what stood in the way of the next.
func (r *run) applyInTurn(ctx context.Context, batches ...*batch) (done int, o *obstacle, err error) {
	started, before := r.store.options.Now(), r.wasReset
	wasReset := func() bool { return r.session.isOurs() && (before || done > 0) }
	defer func() { r.took = r.store.options.Now().Sub(started) }()
	known := len(batches)
	for i, b := range batches {
		var refusals []planRefusal
		b.steps, refusals = plan(r.catalog, b.ops, b.atMost)
		defer free(b.steps)
		if len(refusals) > 0 {
			known, o = i, &obstacle{planned: refusals}
			break
		}
	}
	failed := -1 // the statement
	err = r.repeatedly(ctx, func() error {
		if failed = -1; done == known {
			return nil
		}
		r.wasReset = wasReset()
		queries := make([]query, 0, 16) // most uploads have fewer
		for i := done; i < known; i++ {
			queries = r.put(queries, batches[i], known-done == 1)
		}
		err := r.exchangeInTime(ctx, queries)
		if answered, ok := errors.AsType[*queryError](err); ok {
			failed = answered.index
		}
		for done < known && (err == nil || batches[done].end <= failed) {
			done++
		}
		return err
	})
	r.wasReset = wasReset()
	switch {
	case err == nil:
		return done, o, nil
	case failed < 0:
		return done, nil, unavailable(err)
	}
	o, err = r.obstacleIn(ctx, batches[done], failed, err)
	return done, o, err
}

// put appends the statements of a batch. sole is whether they are all that the
// exchange has: else they share its time.
func (r *run) put(queries []query, b *batch, sole bool) []query {
	r.alone = b.alone && sole
	queries = append(queries, r.begin()...)
	r.wasReset = true // before what follows
	if r.upload.ExactlyOnce {
		queries = append(queries, r.advance(b.ops, b.firstTx)...)
	}
	queries = append(queries, r.becomeCaller())
	b.firstStep = len(queries)
	r.alone = b.alone
	queries = append(r.append(queries, b.steps), r.commit())
	b.end = len(queries)
	return queries
}

// obstacleIn sorts out the error of a batch's statement.
func (r *run) obstacleIn(ctx context.Context, b *batch, failed int, err error) (*obstacle, error) {
	r.alone = b.alone
	switch {
	case failed < b.firstStep && hasSQLState(err, divisionByZero):
		return &obstacle{maybeSeen: true}, nil
	case failed < b.firstStep:
		return nil, r.ownFault(err)
	}
	first, last := 0, len(b.ops)-1
	var form *obstacle
	met := false
	i := failed - b.firstStep
	if r.late = i == len(b.steps); !r.late {
		s := b.steps[i]
		switch changed, err := r.outOfDate(ctx, s.shape.table, err); {
		case err != nil:
			return nil, r.ownFault(err)
		case changed:
			return &obstacle{}, nil
		}
		first, last = s.refs[0], s.refs[len(s.refs)-1]
		form = r.formOf(s, err)
		met = first == last && s.metItsRow(err)
	}
	if form != nil && !r.hurried() {
		return form, nil
	}
	o, transient := obstacleOf(err, first, last)
	switch {
	case transient != nil && isOfTheBatch(err, r.alone): // apart from others it may go through
		return &obstacle{apart: true, last: len(b.ops) - 1}, nil
	case transient != nil:
		return nil, unavailable(err)
	}
	o.genuine, o.met = form == nil, met
	return o, nil
}

// append appends the statements of steps.
func (r *run) append(queries []query, steps []*step) []query {
	for _, s := range steps {
		queries = append(queries, s.query(func(like *shape) string { return like.fastSQL(r.upserts(like)) }))
	}
	return queries
}

// formOf returns an obstacle if a step failed for the form of its statement and
// not for what it does: its own way of saying that it did not touch every row,
// or what INSERT … ON CONFLICT makes of rights and of NOT NULL columns, which
// matters once a client transaction is alone.
func (r *run) formOf(s *step, err error) *obstacle {
	switch {
	case r.alone && r.upserts(s.shape) && hasSQLState(err, upsertRefused...):
		return &obstacle{}
	case hasSQLState(err, divisionByZero):
		return &obstacle{lostRows: true}
	case r.alone && len(s.refs) == 1 && s.metItsRow(err):
		return &obstacle{hidden: s.refs}
	}
	return nil
}

// repeatedly calls once again what failed for a reason that a repetition may
// well cure, such as a deadlock. Nothing is left behind between two calls.
func (r *run) repeatedly(ctx context.Context, once func() error) error {
	const attempts = 4
	for attempt := 1; ; attempt++ {
		err := once()
		if err == nil {
			return nil
		}
		r.session.rollback(ctx)
		if attempt == attempts || !isWorthRepeating(err) {
			return err
		}
		pause := time.Duration(attempt) * time.Duration(10+rand.IntN(20)) * time.Millisecond //nolint:gosec // jitter is no secret
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// isOfTheBatch is whether fewer client transactions together may go through
// where these did not: what they lock, or all their locks and rows, are too many
// at once. Alone, only a deadlock is counted.
func isOfTheBatch(err error, alone bool) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(pgErr.Code, "40") || strings.HasPrefix(pgErr.Code, "53") && !alone)
}
