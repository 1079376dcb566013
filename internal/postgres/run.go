package postgres

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/fault"
	"ferry/internal/uploads"
)

// run is the application of one upload over one connection.
//
// The first path sends everything in one round trip and is right for nearly
// every upload. Whatever stands in its way (an operation that may have been
// seen, a row that is not there, an error of the database) leaves nothing
// behind, and the second path in settle.go finds out which client transactions
// it concerns.
type run struct {
	store   *Store
	session *session
	caller  uploads.Caller
	upload  *uploads.Upload
	catalog *catalog
	started time.Time
	limit   time.Duration // how long the upload may take
	// noUpserts is whether an INSERT … ON CONFLICT was refused for its form.
	noUpserts bool
	// wasReset is whether a transaction with resetSQL was committed on this
	// connection: a rollback would have undone it, and a pooler may hand the next
	// exchange another connection.
	wasReset bool
	// relaxed is whether commits need not wait for the disk: makeDurable does
	// before the answer.
	relaxed bool
	// splits is whether this is the second path, searches whether it is best to
	// expect that an operation will be refused.
	splits, searches bool
	// late is whether what stood in the way last was raised at COMMIT.
	late bool
	// alone is whether a single client transaction is tried, granted how long
	// each statement of it may take, and took how long it all took.
	alone         bool
	granted, took time.Duration
	// pace is how many client transactions are tried together; 0 for all.
	// tooSlow is the least number that took too long.
	pace, tooSlow int
	// gotFurther is whether anything was decided.
	gotFurther bool
	// raises is whether each database transaction raises the client's write
	// checkpoint. The last one that was raised is checkpoint.
	raises     bool
	checkpoint int64
	// openBytes is what the user's open rejections hold; nil until it is asked.
	openBytes *int
}

func (r *run) apply(ctx context.Context) (*uploads.Result, error) {
	if r.upload.Operations == 0 {
		if err := r.recordNothing(ctx); err != nil {
			return nil, err
		}
		return r.emptyResult(), nil
	}
	var err error
	if r.catalog, err = r.store.catalog(ctx, r.started.Add(-catalogAge)); err != nil {
		return nil, r.ownFault(err)
	}
	ops := payloadOf(r.upload)
	r.pace = r.store.paces.of(r.key())
	if r.upload.OutOfOrder || r.pace > 0 {
		return r.applyInParts(ctx, nil)
	}
	_, o, err := r.applyInTurn(ctx, &batch{
		ops: ops, firstTx: r.upload.FirstTxID(), atMost: together, alone: len(r.upload.Transactions) == 1,
	})
	if err != nil {
		r.notePace(ctx, err)
		return nil, err
	}
	if o == nil {
		result := r.emptyResult()
		result.Applied = r.upload.Operations
		return result, nil
	}
	return r.applyInParts(ctx, o)
}

func payloadOf(up *uploads.Upload) []*uploads.Operation {
	ops := make([]*uploads.Operation, 0, up.Operations)
	for i := range up.Transactions {
		for j := range up.Transactions[i].Operations {
			ops = append(ops, &up.Transactions[i].Operations[j])
		}
	}
	return ops
}

// applyInParts is the second path. met is what stood in the first one's way.
func (r *run) applyInParts(ctx context.Context, met *obstacle) (*uploads.Result, error) {
	r.relaxed, r.splits = r.upload.ExactlyOnce, true
	txs := r.transactions()
	var settled error
	if r.pace > 0 {
		settled = r.settleAtPace(ctx, txs, r.pace)
	} else {
		settled = r.settle(ctx, txs, met)
	}
	if settled == nil && len(open(txs)) > 0 {
		settled = unavailable(errors.New("operations were left undecided, which is a bug"))
	}
	r.notePace(ctx, settled)
	if err := r.makeDurable(ctx); err != nil {
		return nil, cmp.Or(settled, err)
	}
	if settled != nil {
		return &uploads.Result{Outcomes: outcomes(txs, nil)}, settled
	}
	return r.result(ctx, txs)
}

// batch is operations that are applied in one database transaction.
type batch struct {
	ops     []*uploads.Operation
	open    []*operation // the same, on the second path
	firstTx int64        // the tx_id of the first
	atMost  int          // operations in one statement
	alone   bool         // whether they are a single client transaction

	steps []*step
	// Where its statements stand in an exchange: that on the client's progress (or
	// -1), the first of steps, and what comes behind the last.
	progress, firstStep, end int
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
		var queries []query
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
	b.progress = -1
	r.alone = b.alone && sole
	queries = append(queries, r.begin()...)
	r.wasReset = true // before what follows
	if r.upload.ExactlyOnce {
		b.progress = len(queries)
		queries = append(queries, r.advance(b.ops, b.firstTx))
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
	case failed == b.progress && hasSQLState(err, possiblySeen):
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
		queries = append(queries, query{sql: s.fastSQL(r.upserts(s)), params: s.params()})
	}
	return queries
}

// formOf returns an obstacle if a step failed for the form of its statement and
// not for what it does: its own way of saying that it did not touch every row,
// or what INSERT … ON CONFLICT makes of rights and of NOT NULL columns, which
// matters once a client transaction is alone.
func (r *run) formOf(s *step, err error) *obstacle {
	switch {
	case r.alone && r.upserts(s) && hasSQLState(err, upsertRefused...):
		return &obstacle{}
	case hasSQLState(err, "22012"):
		return &obstacle{lostRows: true}
	case r.alone && len(s.refs) == 1 && s.metItsRow(err):
		return &obstacle{hidden: s.refs}
	}
	return nil
}

// hurried is whether so much of the time is gone that nothing large may be
// tried twice: something must be committed before the client comes again.
func (r *run) hurried() bool {
	spent := r.store.options.Now().Sub(r.started)
	return spent > r.limit/3
}

// makeDurable waits until everything that this run has committed is on disk.
// The commits of the second path do not wait one by one: what follows them in
// the write-ahead log cannot reach the disk before them.
//
// Source: PostgreSQL documentation, "Asynchronous Commit".
func (r *run) makeDurable(ctx context.Context) error {
	if !r.relaxed {
		return nil
	}
	r.relaxed = false
	queries := append(r.begin(), query{sql: touchProgressSQL, params: r.client()}, r.commit())
	if err := r.session.exchange(ctx, queries...); err != nil {
		r.session.rollback(ctx)
		return r.ownFault(err)
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

// isTimeout is whether a statement gave up waiting. Other client transactions
// of the upload may still go through.
func isTimeout(err error) bool { return hasSQLState(err, "55P03", "57014") }

// renewCatalog makes the catalog one that is not older than the upload.
func (r *run) renewCatalog(ctx context.Context) error {
	if err := r.catalogSince(ctx, r.started); err != nil {
		return r.ownFault(err)
	}
	return nil
}

// catalogSince gets a catalog whose load began at notBefore or later. To wait for
// one, it ends a transaction that has failed: behind a pooler that still holds a
// connection, which the load may need.
func (r *run) catalogSince(ctx context.Context, notBefore time.Time) error {
	if r.store.tables.get(notBefore) == nil {
		r.session.end(ctx)
	}
	c, err := r.store.catalog(ctx, notBefore)
	if err == nil {
		r.catalog = c
	}
	return err
}

// outOfDate is whether a statement failed because its table is no longer what
// the catalog was read as. The catalog is a new one then.
func (r *run) outOfDate(ctx context.Context, t *table, err error) (bool, error) {
	if !mayBeOutOfDate(err) {
		return false, nil
	}
	if err := r.catalogSince(ctx, r.store.options.Now()); err != nil {
		return false, &ownError{err}
	}
	for _, known := range r.catalog.tables {
		if known.oid == t.oid {
			return !slices.Equal(known.versions, t.versions), nil
		}
	}
	return true, nil // it is gone
}

// ownFault is the answer to a failure of ferry's own statements: never a
// verdict on the client's. What will not go away by itself is for the operator.
func (r *run) ownFault(err error) error {
	if limit, ok := errors.AsType[*fault.Error](err); ok {
		return limit
	}
	if hasSQLState(err, tooManyClients) {
		return r.clientsFault(err)
	}
	_, answered := errors.AsType[*pgconn.PgError](err)
	_, unsafe := errors.AsType[*UnsafeRoleError](err)
	if unsafe || (answered && !isTransient(err)) {
		r.store.options.Log.Error("ferry cannot use its database as it is set up; uploads wait", slog.Any("error", err))
		return fault.Retry(err, 10*time.Second, "uploads are held up by the server's database set-up; it is safe to try again")
	}
	return unavailable(err)
}

func (r *run) emptyResult() *uploads.Result {
	result := &uploads.Result{ExactlyOnce: r.upload.ExactlyOnce, Rejected: []uploads.Rejection{}}
	if last := r.upload.LastOpID(); r.upload.ExactlyOnce && last >= 0 {
		result.LastOpID = &last
	}
	if r.raises {
		result.Checkpoint = strconv.FormatInt(r.checkpoint, 10)
	}
	return result
}

// upsertRefused are what INSERT … ON CONFLICT may raise where an UPDATE, or an
// INSERT, would not.
var upsertRefused = []string{"42501", "23502"}

// upserts is whether a step is written as INSERT … ON CONFLICT.
func (r *run) upserts(s *step) bool {
	return s.kind == uploads.Put && s.takesUpdate() && s.shape.upsertable() && !r.noUpserts && !(r.splits && r.alone)
}

// fastSQL is the step's statement for the first path: it raises by itself if
// it does not touch every row.
func (s *step) fastSQL(upsert bool) string {
	switch {
	case s.kind == uploads.Patch:
		return s.shape.updateAllSQL()
	case s.kind == uploads.Delete:
		return s.shape.deleteAllSQL()
	case upsert:
		return s.shape.upsertSQL()
	case s.takesUpdate() && !s.shape.table.updateTrigger:
		return s.shape.updateThenInsertAllSQL()
	}
	return s.carefulSQL()
}

// carefulSQL is the step's statement for the second path. A PATCH or DELETE
// returns the positions of the rows that it touched, a PUT of those that it
// could not.
func (s *step) carefulSQL() string {
	switch {
	case s.kind == uploads.Patch:
		return s.shape.updateSQL()
	case s.kind == uploads.Delete:
		return s.shape.deleteSQL()
	case s.takesUpdate():
		return s.shape.updateThenInsertSQL()
	case s.shape.table.id.canSelect && !s.shape.changesRows():
		return s.shape.insertUnseenSQL()
	}
	return s.shape.insertSQL()
}

// takesUpdate is whether a PUT can update the row that is there: it has
// something to change, and the caller the rights to find and change rows.
func (s *step) takesUpdate() bool {
	for _, c := range s.shape.columns {
		if !c.canUpdate {
			return false
		}
	}
	return s.shape.changesRows() && s.shape.table.id.canSelect
}

// upsertable is whether INSERT … ON CONFLICT does what a PUT means. It fires
// BEFORE INSERT triggers for existing rows as well, and statement triggers of
// both kinds; and reading EXCLUDED takes the right to read the column.
func (s *shape) upsertable() bool {
	for _, c := range s.columns {
		if !c.canSelect {
			return false
		}
	}
	t := s.table
	return t.idArbiter && !t.insertTrigger && !t.updateTrigger && !t.statementTriggers
}

// changesRows is whether a PUT has anything to change in a row that is there.
func (s *shape) changesRows() bool {
	return len(s.columns) > 0 || len(s.absent) > 0 ||
		slices.ContainsFunc(s.table.stamps, func(st stamp) bool { return st.updates })
}
