package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/uploads"
)

// transaction is a client transaction on the second path.
type transaction struct {
	*uploads.Transaction
	operations []operation
	rejections []uuid // those that its operations belong to, in order
	// rejectedNow is the rejection that this run has stored.
	rejectedNow *uploads.Rejection
	continues   []continuation // rejections of the same client transaction, the newest last
}

// firstOpen returns the first operation that is still to be decided, or nil.
func (tx *transaction) firstOpen() *operation {
	for i := range tx.operations {
		if tx.operations[i].decided == undecided {
			return &tx.operations[i]
		}
	}
	return nil
}

// operation is an operation on the second path.
type operation struct {
	op *uploads.Operation
	tx *transaction
	// decided is what became of it, once that is committed.
	decided decision
	// expected is what it will be recorded as: applied, unless its row was
	// looked for and not found.
	expected decision
	// suppressed is whether touching no row is fine: a trigger of the app
	// decides what this operation does.
	suppressed bool
	// puzzled is whether its row was once there and yet not touched.
	puzzled bool
	// touched is whether the attempt that runs now changed its row.
	touched   bool
	rejection uuid
}

// transactions prepares the upload for the second path.
func (r *run) transactions() []*transaction {
	txs := make([]*transaction, len(r.upload.Transactions))
	for i := range r.upload.Transactions {
		tx := &transaction{Transaction: &r.upload.Transactions[i]}
		tx.operations = make([]operation, len(tx.Operations))
		for j := range tx.Operations {
			tx.operations[j] = operation{op: &tx.Operations[j], tx: tx, expected: applied}
		}
		txs[i] = tx
	}
	return txs
}

// open lists the operations that are still to be decided.
func open(txs []*transaction) []*operation {
	var ops []*operation
	for _, tx := range txs {
		for i := range tx.operations {
			if tx.operations[i].decided == undecided {
				ops = append(ops, &tx.operations[i])
			}
		}
	}
	return ops
}

// openTransactions lists the transactions that have such operations.
func openTransactions(txs []*transaction) []*transaction {
	var some []*transaction
	for _, tx := range txs {
		if tx.firstOpen() != nil {
			some = append(some, tx)
		}
	}
	return some
}

// obstacle is why a database transaction left nothing behind. Without refusals
// and err it should be tried again, with what was learned.
type obstacle struct {
	planned   []planRefusal // of the first path: by place among the operations
	refusals  []verdict     // of the second
	maybeSeen bool          // an operation may have been decided by an earlier delivery
	lostRows  bool          // a PATCH or DELETE touched no row, against what was expected
	// apart is whether the open operations from first to last must be tried
	// apart from the others: because one of them caused err, if that is set.
	apart bool
	err   *pgconn.PgError
	// genuine is whether err would come back however the statement is written.
	genuine     bool
	first, last int
	atCommit    bool
}

// verdict is the refusal of a client transaction because of one operation.
type verdict struct {
	operation *operation
	refusal   uploads.Refusal
	dependsOn *uuid // the rejection that came before it
	// certain is whether the database itself judged, so that it does not matter
	// how old the catalog is.
	certain bool
}

// verdictOf is the verdict of an error of the database.
func (r *run) verdictOf(o *operation, pgErr *pgconn.PgError) verdict {
	return verdict{
		operation: o, refusal: r.refusalOf(pgErr),
		// These may come of how the statement was written.
		certain: !strings.HasPrefix(pgErr.Code, "42") && pgErr.Code != "23505",
	}
}

// maxIdle bounds how often one set of transactions is tried in vain: each
// attempt learns something or meets a concurrent change.
const maxIdle = 8

var (
	errNoRest = errors.New("the rows of this upload kept changing")
	errNoTime = errors.New("the time for this upload is over; what is committed stays so")
)

// settle decides all operations of txs, in as few database transactions as it
// can: it splits where something is in the way, down to one client
// transaction. Savepoints could not do this: deferred triggers run at COMMIT,
// and settings made by the app's triggers outlive a ROLLBACK TO. met is what
// stood in the way of all of txs already; nil if they were not tried.
func (r *run) settle(ctx context.Context, txs []*transaction, met *obstacle) error {
	for idle := 0; idle < maxIdle; idle++ {
		txs = openTransactions(txs)
		if len(txs) == 0 {
			return nil
		}
		o, err := r.try(ctx, txs, met)
		switch {
		case err != nil:
			return err
		case o == nil:
			return nil
		case o.apart && len(txs) > 1:
			return r.settleParts(ctx, txs, o)
		case o.err != nil && isTransient(o.err):
			v, err := r.timedOut(ctx, txs[0], o.err)
			if err != nil {
				return err
			}
			o.refusals = []verdict{*v}
		case o.genuine && len(open(txs)) == 1:
			o.refusals = []verdict{r.verdictOf(open(txs)[0], o.err)}
		case o.genuine && !r.hasTimeToFindOut(len(open(txs))):
			o.refusals = []verdict{r.verdictOf(blamed(open(txs), o), o.err)}
		case o.apart:
			return r.settleAlone(ctx, txs[0])
		}
		rejected, err := r.rejectAll(ctx, o.refusals)
		if err != nil {
			return err
		}
		if rejected {
			idle = -1
		}
		met = nil
	}
	return unavailable(errNoRest)
}

// try applies txs at once if it can, unless met says what stands in the way. It
// looks closer where rows are lost or operations were perhaps seen before.
func (r *run) try(ctx context.Context, txs []*transaction, met *obstacle) (o *obstacle, err error) {
	r.alone = len(txs) == 1
	if o = met; o == nil {
		if r.outOfTime() {
			return nil, unavailable(errNoTime)
		}
		o, err = r.tryAtOnce(ctx, txs)
	}
	if err == nil && o != nil && o.needsCloserLook() {
		o, err = r.attempt(ctx, txs, false)
	}
	if err == nil && o != nil && o.err != nil && isTimeout(o.err) && (r.tooSlow == 0 || len(txs) < r.tooSlow) {
		r.tooSlow = len(txs)
	}
	return o, err
}

func (r *run) tryAtOnce(ctx context.Context, txs []*transaction) (*obstacle, error) {
	if r.upload.OutOfOrder { // any of them may continue a rejected one
		return &obstacle{maybeSeen: true}, nil
	}
	ops := open(txs)
	o, err := r.applyAtOnce(ctx, payload(ops), ops[0].tx.TxID)
	if err != nil || o != nil {
		return o, err
	}
	for _, op := range ops {
		op.decided = applied
	}
	return nil, nil
}

// maxSingly is how many operations of a client transaction are tried with a
// statement for each: of more, the memory for these statements would be without
// bounds.
const maxSingly = 5_000

// hasTimeToFindOut is whether a client transaction of so many operations, which
// was just tried, can be tried once more so that its culprit is known. Else the
// first operation of the statement that failed is blamed.
func (r *run) hasTimeToFindOut(operations int) bool {
	return operations <= maxSingly && r.took < r.left()-r.limit/4
}

// needsCloserLook is whether it takes the history, or the rows themselves, to
// know what is in the way.
func (o *obstacle) needsCloserLook() bool { return o.maybeSeen || o.lostRows || len(o.planned) > 0 }

// fanOut is into how many parts n transactions are split where any of them may
// be in the way: measured best, from one to two hundred culprits in a thousand.
func fanOut(n int) int {
	if n > 128 {
		return 32
	}
	return 6
}

// settleParts settles what ran before the error, what may have caused it, and
// the rest, in order.
func (r *run) settleParts(ctx context.Context, txs []*transaction, o *obstacle) error {
	ops := open(txs)
	first := slices.Index(txs, ops[o.first].tx)
	last := slices.Index(txs, ops[o.last].tx)
	parts := [][]*transaction{txs[:first], txs[first : last+1], txs[last+1:]}
	if last-first+1 == len(txs) || r.hurried() {
		parts = slices.Collect(slices.Chunk(txs, (len(txs)-1)/fanOut(len(txs))+1))
	}
	for _, part := range parts {
		if err := r.settle(ctx, part, nil); err != nil {
			return err
		}
	}
	return nil
}

// settleAlone decides one client transaction with a statement for each
// operation, so that the one in its way is known. An error here is a verdict.
func (r *run) settleAlone(ctx context.Context, tx *transaction) error {
	alone := []*transaction{tx}
	for idle := 0; idle < maxIdle; idle++ {
		if tx.firstOpen() == nil {
			return nil
		}
		o, err := r.attempt(ctx, alone, true)
		switch {
		case err != nil:
			return err
		case o == nil:
			return nil
		case o.err != nil && isTransient(o.err):
			v, err := r.timedOut(ctx, tx, o.err)
			if err != nil {
				return err
			}
			o.refusals = []verdict{*v}
		case o.err != nil:
			o.refusals = []verdict{r.verdictOf(blamed(open(alone), o), o.err)}
		}
		rejected, err := r.rejectAll(ctx, o.refusals)
		if err != nil {
			return err
		}
		if rejected {
			idle = -1
		}
	}
	return unavailable(errNoRest)
}

// blamed returns the operation that an error belongs to. At COMMIT (deferred
// constraints and triggers) the server names the table, if anything.
func blamed(ops []*operation, o *obstacle) *operation {
	if o.atCommit {
		for _, op := range ops {
			if op.op.Table == o.err.TableName {
				return op
			}
		}
	}
	return ops[o.first]
}

// rejectAll stores verdicts and reports whether it did: none of ferry's own rests
// on a catalog that may be older than the tables, so that the first ones of an
// upload only make it look anew.
func (r *run) rejectAll(ctx context.Context, verdicts []verdict) (bool, error) {
	if len(verdicts) == 0 {
		return false, nil
	}
	certain := !slices.ContainsFunc(verdicts, func(v verdict) bool { return !v.certain })
	if !certain && r.catalog.loadedAt.Before(r.started) {
		return false, r.refreshCatalog(ctx)
	}
	for _, v := range verdicts {
		if err := r.reject(ctx, v); err != nil {
			return false, err
		}
	}
	return true, nil
}
