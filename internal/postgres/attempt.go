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
	err := r.repeatedly(ctx, func() (err error) {
		o, err = r.attemptOnce(ctx, txs, singly)
		return err
	})
	r.session.rollback(ctx)
	if own, ok := errors.AsType[*ownError](err); ok {
		return nil, r.ownFault(own.err)
	}
	if err != nil {
		return nil, unavailable(err)
	}
	if o != nil && o.lostRows && err == nil {
		o.refusals, err = r.lookForRows(ctx, txs)
	}
	return o, err
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
	steps, planned := plan(r.catalog, payload(ops), singly)
	for _, p := range planned {
		refusals = append(refusals, verdict{operation: ops[p.ref], refusal: p.refusal})
	}
	if len(refusals) > 0 {
		return &obstacle{refusals: firstPerTransaction(refusals)}, nil
	}

	prefix := []query{r.becomeCaller()}
	if r.upload.ExactlyOnce {
		prefix = []query{r.recordDecisions(ops, -1), r.becomeCaller()}
	}
	for _, o := range ops {
		o.touched = false
	}
	var o *obstacle
	var err error
	if singly {
		o, err = r.runSingly(ctx, prefix, steps, ops)
	} else {
		o, err = r.runTogether(ctx, prefix, steps, ops)
	}
	if err != nil || o != nil {
		return o, err
	}
	if lost := unexpected(steps, ops); len(lost) > 0 {
		return lostRows(ops, lost), nil
	}
	if o, err := r.finish(ctx, ops); err != nil || o != nil {
		return o, err
	}
	for _, o := range ops {
		o.decided = o.expected
	}
	return nil, nil
}

// recognise begins the database transaction, locks the client's progress and
// marks the operations that were decided by an earlier delivery.
func (r *run) recognise(ctx context.Context, txs []*transaction) error {
	if !r.upload.ExactlyOnce {
		return r.session.exchange(ctx, r.begin()...)
	}
	ops := open(txs)
	known, err := r.lockedHistory(ctx, ops[0].op.OpID, ops[len(ops)-1].op.OpID, r.continuations(txs))
	if err != nil {
		return err
	}
	for _, o := range ops {
		rec, ok := known[operationKey{o.op.OpID, o.op.Fingerprint}]
		if !ok {
			continue
		}
		o.decided = rec.decision
		switch rec.decision {
		case applied:
			o.decided = duplicate
		case rejected:
			o.tx.belongsTo(rec.rejection)
		}
	}
	return nil
}

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

// careful is the query of a step that notes which rows it touched.
func careful(s *step, ops []*operation) query {
	return query{sql: s.carefulSQL(), params: s.params(), row: touch(s, ops)}
}

// touch reads positions in a step's arrays.
func touch(s *step, ops []*operation) func(values [][]byte) error {
	if s.kind == uploads.Put {
		return nil
	}
	return func(values [][]byte) error {
		position, err := strconv.Atoi(string(values[0]))
		if err != nil || position < 1 || position > len(s.refs) {
			return fmt.Errorf("position %q of %d rows", values[0], len(s.refs))
		}
		ops[s.refs[position-1]].touched = true
		return nil
	}
}

func (r *run) runTogether(ctx context.Context, prefix []query, steps []*step, ops []*operation) (*obstacle, error) {
	queries := prefix
	for _, s := range steps {
		queries = append(queries, careful(s, ops))
	}
	err := r.session.exchange(ctx, queries...)
	if failed, ok := errors.AsType[*queryError](err); ok {
		if failed.index < len(prefix) {
			return nil, &ownError{err}
		}
		s := steps[failed.index-len(prefix)]
		return obstacleOf(err, s.refs[0], s.refs[len(s.refs)-1])
	}
	return nil, err
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

func (r *run) runSingly(ctx context.Context, prefix []query, steps []*step, ops []*operation) (*obstacle, error) {
	if err := r.session.exchange(ctx, prefix...); err != nil {
		return nil, &ownError{err}
	}
	for _, s := range steps {
		ref := s.refs[0]
		var err error
		if s.kind == uploads.Put {
			err = r.putOne(ctx, s, ops[ref])
		} else {
			err = r.changeOne(ctx, s, ops, ops[ref])
		}
		if errors.Is(err, errHidden) {
			return &obstacle{refusals: []verdict{{operation: ops[ref], refusal: hiddenRow()}}}, nil
		}
		if errors.Is(err, errPuzzled) {
			ops[ref].puzzled = true
			return &obstacle{}, nil
		}
		if err != nil {
			return obstacleOf(err, ref, ref)
		}
	}
	return nil, nil
}

var (
	errHidden  = errors.New("the row exists, and the caller may not change it")
	errPuzzled = errors.New("the row was there and yet not touched")
)

// putOne is a PUT of one row where the caller's rights, a trigger or another
// client may be in the way: update the row, else insert it.
func (r *run) putOne(ctx context.Context, s *step, o *operation) error {
	t, params := s.shape.table, s.params()
	found := false
	position := func([][]byte) error { found = true; return nil }
	mayUpdate := s.shape.mayUpdate()
	if mayUpdate && len(s.shape.columns) > 0 {
		err := r.session.exchange(ctx, query{sql: s.shape.updateSQL(), params: params, row: position})
		if err != nil || found {
			return err
		}
	}
	if t.id.canSelect {
		err := r.session.exchange(ctx, query{sql: s.shape.visibleSQL(), params: params, row: position})
		switch {
		case err != nil:
			return err
		case found && mayUpdate && (len(s.shape.columns) == 0 || t.updateTrigger):
			return nil // nothing to change, or a trigger saw to it
		case found:
			return o.hiddenOrPuzzled()
		}
	}
	err := r.session.exchange(ctx, query{sql: s.shape.insertSQL(), params: params})
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok &&
		pgErr.Code == "23505" && slices.Contains(t.idIndexes, pgErr.ConstraintName) {
		return o.hiddenOrPuzzled()
	}
	return err
}

// hiddenOrPuzzled is errPuzzled the first time: another client may have made
// the row just now, and a fresh look will tell.
func (o *operation) hiddenOrPuzzled() error {
	if o.puzzled {
		return errHidden
	}
	return errPuzzled
}

// changeOne is a PATCH or DELETE of one row. Why a row of the same client
// transaction was not touched can only be seen here and now.
func (r *run) changeOne(ctx context.Context, s *step, ops []*operation, o *operation) error {
	err := r.session.exchange(ctx, careful(s, ops))
	if err != nil || o.touched || o.suppressed || !madeBefore(ops, o) {
		return err
	}
	visible := false
	ids := shape{table: s.shape.table}
	err = r.session.exchange(ctx, query{
		sql: ids.visibleSQL(), params: s.params()[:1],
		row: func([][]byte) error { visible = true; return nil },
	})
	o.suppressed = visible && s.shape.table.suppresses(s.kind)
	if err == nil && !o.suppressed {
		return errHidden
	}
	return err
}

// unexpected returns the places in ops of the PATCHes and DELETEs that touched
// a row against what was expected, or touched none.
func unexpected(steps []*step, ops []*operation) []int {
	var lost []int
	for _, s := range steps {
		if s.kind == uploads.Put {
			continue
		}
		for _, ref := range s.refs {
			o := ops[ref]
			if o.touched != (o.expected == applied && !o.suppressed) {
				lost = append(lost, ref)
			}
		}
	}
	return lost
}

// lostRows is the obstacle of operations that did not find their rows. What
// became of a row that was made before, in the same database transaction, is
// not to be seen after it: such an operation is tried behind that.
func lostRows(ops []*operation, lost []int) *obstacle {
	for _, ref := range lost {
		if !ops[ref].touched && madeBefore(ops, ops[ref]) {
			return &obstacle{apart: true, first: ref, last: ref}
		}
	}
	return &obstacle{lostRows: true}
}

func (r *run) finish(ctx context.Context, ops []*operation) (*obstacle, error) {
	err := r.session.exchange(ctx, r.commit())
	if err == nil {
		return nil, nil
	}
	o, err := obstacleOf(err, 0, len(ops)-1)
	if o != nil {
		o.atCommit = true
	}
	return o, err
}
