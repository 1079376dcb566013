package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/uploads"
)

// ownError marks the failure of one of ferry's own statements, which is never
// a verdict.
type ownError struct{ err error }

func (e *ownError) Error() string { return e.err.Error() }
func (e *ownError) Unwrap() error { return e.err }

// attempt applies the open operations of txs in one database transaction:
// together, or one statement after the other (singly). It returns nil once
// that is committed, and an obstacle if it left nothing behind. An error means
// that the upload must be tried again later.
func (r *run) attempt(ctx context.Context, txs []*transaction, singly bool) (*obstacle, error) {
	var o *obstacle
	started := r.store.options.Now()
	err := r.repeatedly(ctx, func() (err error) {
		o, err = r.attemptOnce(ctx, txs, singly)
		return err
	})
	r.session.rollback(ctx)
	r.took = r.store.options.Now().Sub(started)
	if own, ok := errors.AsType[*ownError](err); ok {
		return nil, r.ownFault(own.err)
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && mayTimeOut(pgErr) {
		return &obstacle{apart: true, err: pgErr, last: len(open(txs)) - 1}, nil
	}
	if isOfTheBatch(err, len(txs) == 1) {
		return &obstacle{apart: true, last: len(open(txs)) - 1}, nil
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return o, nil
}

func (r *run) attemptOnce(ctx context.Context, txs []*transaction, singly bool) (*obstacle, error) {
	if err := r.recognise(ctx, txs); err != nil {
		return nil, &ownError{err}
	}
	ops := open(txs)
	if len(ops) == 0 {
		// Whoever decided them may not have waited for the disk.
		return nil, r.session.exchange(ctx, r.commit())
	}
	refusals := continued(txs)
	atMost := together
	if singly {
		atMost = 1
	}
	steps, planned := plan(r.catalog, payload(ops), atMost)
	for _, p := range planned {
		refusals = append(refusals, verdict{operation: ops[p.ref], refusal: p.refusal})
	}
	if len(refusals) > 0 {
		return &obstacle{refusals: firstPerTransaction(refusals)}, nil
	}

	prefix := []query{r.becomeCaller()}
	if r.upload.ExactlyOnce {
		prefix = append(r.recordDecisions(ops), r.becomeCaller())
	}
	if o, err := r.runSteps(ctx, prefix, steps, ops); err != nil || o != nil {
		return o, err
	}
	if lost := unexpected(steps, ops); len(lost) > 0 {
		return r.lookForRows(ctx, ops, lost, singly)
	}
	if o, err := r.finish(ctx, ops); err != nil || o != nil {
		return o, err
	}
	for _, o := range ops {
		o.decided = o.expected
	}
	r.gotFurther = true
	return nil, nil
}

// recognise begins the database transaction, locks the client's progress and
// marks the operations that were decided by an earlier delivery.
func (r *run) recognise(ctx context.Context, txs []*transaction) error {
	if !r.upload.ExactlyOnce {
		return r.session.exchange(ctx, r.begin()...)
	}
	ops := open(txs)
	known, err := r.lockedHistory(ctx, ops, r.continuations(txs))
	if err != nil {
		return err
	}
	for _, o := range ops {
		rec := known[operationKey{o.op.OpID, o.op.Fingerprint}]
		o.decided, o.recognised = rec.decision, rec.decision != undecided
		switch rec.decision {
		case applied:
			o.decided = duplicate
		case rejected:
			o.tx.belongsTo(rec.rejection)
		}
	}
	return nil
}

// recogniseAgain makes sure of what earlier deliveries decided. Where they did not
// wait for the disk or a standby, it may have been forgotten since it was read: a
// pooler does not tell. What is still there when this commits stays.
func (r *run) recogniseAgain(ctx context.Context, txs []*transaction) error {
	var known []*operation
	for _, tx := range txs {
		for i := range tx.operations {
			if o := &tx.operations[i]; o.recognised {
				o.decided, known = undecided, append(known, o)
			}
		}
	}
	if len(known) == 0 {
		return nil
	}
	err := r.recognise(ctx, openTransactions(txs))
	if err == nil {
		err = r.session.exchange(ctx, r.commit())
	}
	if err != nil {
		r.session.rollback(ctx)
		return r.ownFault(err)
	}
	if slices.ContainsFunc(known, func(o *operation) bool { return o.decided == undecided }) {
		return unavailable(errForgotten)
	}
	return nil
}

var errForgotten = errors.New("the database forgot what an earlier delivery had decided")

// belongsTo notes that an operation of tx is part of a rejection.
func (tx *transaction) belongsTo(rejection uuid) {
	if !slices.Contains(tx.rejections, rejection) {
		tx.rejections = append(tx.rejections, rejection)
	}
}

func payload(ops []*operation) []*uploads.Operation {
	list := make([]*uploads.Operation, len(ops))
	for i, o := range ops {
		list[i] = o.op
	}
	return list
}

// firstPerTransaction keeps one verdict for each client transaction.
func firstPerTransaction(verdicts []verdict) []verdict {
	seen := map[*transaction]bool{}
	return slices.DeleteFunc(verdicts, func(v verdict) bool {
		again := seen[v.operation.tx]
		seen[v.operation.tx] = true
		return again
	})
}

// careful is the query of a step that notes which rows it touched, or, of a
// PUT, which it could not.
func careful(s *step, ops []*operation) query {
	q := s.query((*shape).carefulSQL)
	q.row = atPosition(s, func(ref int) {
		ops[ref].touched = s.shape.kind != uploads.Put // a PUT returns the rows that it could not touch
	})
	return q
}

// atPosition reads a position in a step's arrays.
func atPosition(s *step, mark func(ref int)) func(values [][]byte) error {
	return func(values [][]byte) error {
		position, err := strconv.Atoi(string(values[0]))
		if err != nil || position < 1 || position > len(s.refs) {
			return fmt.Errorf("position %q of %d rows", values[0], len(s.refs))
		}
		mark(s.refs[position-1])
		return nil
	}
}

// runSteps sends prefix, ferry's own statements, and the steps in one round
// trip.
func (r *run) runSteps(ctx context.Context, prefix []query, steps []*step, ops []*operation) (*obstacle, error) {
	queries := prefix
	for _, s := range steps {
		for _, ref := range s.refs {
			ops[ref].touched = s.shape.kind == uploads.Put // until the answer says otherwise
		}
		queries = append(queries, careful(s, ops))
	}
	err := r.exchangeInTime(ctx, queries)
	failed, ok := errors.AsType[*queryError](err)
	if !ok {
		return nil, err
	}
	if failed.index < len(prefix) {
		return nil, &ownError{err}
	}
	s := steps[failed.index-len(prefix)]
	if changed, err := r.outOfDate(ctx, s.shape.table, err); changed || err != nil {
		return &obstacle{}, err
	}
	if len(s.refs) == 1 && s.metItsRow(err) {
		return r.meetRow(ops[s.refs[0]]), nil
	}
	return genuine(obstacleOf(err, s.refs[0], s.refs[len(s.refs)-1]))
}

// genuine marks an obstacle that would come back however the statement is
// written.
func genuine(o *obstacle, err error) (*obstacle, error) {
	if o != nil {
		o.genuine = true
	}
	return o, err
}

// obstacleOf sorts out an error of the app's statements: one that may go away
// by itself is an error of the attempt.
func obstacleOf(err error, first, last int) (*obstacle, error) {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || (isTransient(err) && !isTimeout(err)) {
		return nil, err
	}
	return &obstacle{apart: true, err: pgErr, first: first, last: last}, nil
}

// metItsRow is whether a PUT failed because its row exists, unseen.
func (s *step) metItsRow(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && s.shape.kind == uploads.Put && pgErr.Code == "23505" &&
		slices.Contains(s.shape.table.idIndexes, indexName{pgErr.SchemaName, pgErr.TableName, pgErr.ConstraintName})
}

// meetRow is the obstacle of an operation whose row is there and yet was not
// touched. The first time it is tried again: another client may have made the
// row just then.
func (r *run) meetRow(o *operation) *obstacle {
	if !o.puzzled {
		o.puzzled = true
		return &obstacle{}
	}
	return &obstacle{refusals: []verdict{{operation: o, refusal: hiddenRow()}}}
}

// unexpected returns the places in ops of those that touched a row against
// what was expected, or touched none.
func unexpected(steps []*step, ops []*operation) []lostRow {
	var lost []lostRow
	for _, s := range steps {
		suppresses := s.shape.table.suppresses(s.shape.kind)
		for _, ref := range s.refs {
			o := ops[ref]
			if o.touched || o.expected == ignored || o.suppressed {
				if o.touched && (o.expected == ignored || o.suppressed) {
					lost = append(lost, lostRow{ref: ref, step: s})
				}
				continue
			}
			// A PUT whose row is seen: only a trigger may keep it as it is.
			if s.shape.kind == uploads.Put && suppresses {
				continue
			}
			lost = append(lost, lostRow{ref: ref, step: s})
		}
	}
	return lost
}

func (r *run) finish(ctx context.Context, ops []*operation) (*obstacle, error) {
	err := r.session.exchange(ctx, r.commit())
	if err == nil {
		return nil, nil
	}
	o, err := genuine(obstacleOf(err, 0, len(ops)-1))
	if o != nil {
		o.atCommit = true
	}
	return o, err
}
