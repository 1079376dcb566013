package postgres

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
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
	// shares is whether it is tried together with other clients' uploads, began when
	// its last database transaction began, by the server's clock (since 1970).
	shares bool
	began  time.Duration
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

// applyAnyhow applies the upload together with those of other clients, or else by
// itself.
func (r *run) applyAnyhow(ctx context.Context) (*uploads.Result, error) {
	result, leave := r.share(ctx)
	defer leave()
	if result != nil {
		return result, nil
	}
	var err error
	if r.session, err = r.store.takeSession(ctx); err != nil {
		return nil, unavailable(err)
	}
	defer r.session.release()
	return r.apply(ctx)
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
	r.pace = r.store.paces.of(r.key())
	if r.upload.OutOfOrder || r.pace > 0 {
		return r.applyInParts(ctx, nil)
	}
	_, o, err := r.applyInTurn(ctx, r.whole())
	if err != nil {
		r.notePace(ctx, err)
		return nil, err
	}
	if o == nil {
		return r.allApplied(), nil
	}
	return r.applyInParts(ctx, o)
}

// whole is the upload as one batch.
func (r *run) whole() *batch {
	return &batch{
		ops: payloadOf(r.upload), firstTx: r.upload.FirstTxID(), atMost: together, alone: len(r.upload.Transactions) == 1,
	}
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
	// Behind a pooler makeDurable may ask another connection than the one that
	// committed: a crash between them would not show.
	r.relaxed, r.splits = r.upload.ExactlyOnce && r.session.isOurs(), true
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
	if err := r.makeSure(ctx, txs); err != nil {
		return nil, cmp.Or(settled, err)
	}
	if settled != nil {
		return &uploads.Result{Outcomes: outcomes(txs, nil)}, settled
	}
	return r.result(ctx, txs)
}

// hurried is whether so much of the time is gone that nothing large may be
// tried twice: something must be committed before the client comes again.
func (r *run) hurried() bool {
	spent := r.store.options.Now().Sub(r.started)
	return spent > r.limit/3
}

// makeSure waits until all that is decided will last.
func (r *run) makeSure(ctx context.Context, txs []*transaction) error {
	if r.relaxed {
		return r.makeDurable(ctx)
	}
	return r.recogniseAgain(ctx, txs)
}

// makeDurable waits until everything that this run has committed is on disk.
// The commits of the second path do not wait one by one: what follows them in
// the write-ahead log cannot reach the disk before them.
//
// Source: PostgreSQL documentation, "Asynchronous Commit".
func (r *run) makeDurable(ctx context.Context) error {
	if err := r.session.exchange(ctx, r.durably()...); err != nil {
		r.session.rollback(ctx)
		return r.ownFault(err)
	}
	return nil
}

// durably are the queries of a database transaction that waits until all that was
// committed before it over the same connection is on disk.
func (r *run) durably() []query {
	r.relaxed = false
	return append(r.begin(), query{sql: touchProgressSQL, params: r.client()}, r.commit())
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

// allApplied is the result of the first path.
func (r *run) allApplied() *uploads.Result {
	result := r.emptyResult()
	result.Applied = r.upload.Operations
	return result
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
