package postgres

import (
	"context"
	"errors"
	"iter"
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
	// recognised is whether an earlier delivery did.
	recognised bool
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
	hidden    []int         // a PUT whose row is there, unseen
	// apart is whether the open operations from first to last must be tried
	// apart from the others: because one of them caused err, if that is set.
	apart bool
	err   *pgconn.PgError
	// genuine is whether err would come back however the statement is written, met
	// whether it is of one PUT that found its row there.
	genuine, met bool
	first, last  int
	atCommit     bool
}

// verdict is the refusal of a client transaction because of one operation.
type verdict struct {
	operation *operation
	refusal   uploads.Refusal
	dependsOn *uuid // the rejection that came before it
	// certain is whether the database itself judged, so that it does not matter
	// how old the catalog is.
	certain bool
	// counted is whether it comes of attempts in ferry.timeouts.
	counted bool
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

// settle decides all operations of txs, in order and in as few database
// transactions as it can. met is what stood in the way of all of them already;
// nil if they were not tried.
func (r *run) settle(ctx context.Context, txs []*transaction, met *obstacle) error {
	for size, since, searches := len(txs), 0, false; len(txs) > 0; met = nil {
		r.searches = searches
		n, clean, err := r.settleSome(ctx, txs[:min(size, len(txs))], met)
		if err != nil {
			return err
		}
		txs, since = txs[n:], since+n
		if size = max(leastPart, 2*since); !clean {
			since, searches = 0, true
		}
	}
	return nil
}

// leastPart is how many transactions are tried together at least where one was
// in the way.
const leastPart = 8

// settleSome decides the first of txs, up to what is in their way: it splits
// there, down to one client transaction. Savepoints could not do this: deferred
// triggers run at COMMIT, and settings made by the app's triggers outlive a
// ROLLBACK TO. It returns how many it decided, and whether nothing at all stood
// in the way.
func (r *run) settleSome(ctx context.Context, txs []*transaction, met *obstacle) (n int, clean bool, err error) {
	if clean = met == nil; clean && r.late && r.searches && len(txs) > 1 {
		// What is raised at COMMIT does not show where it comes from: ask first.
		if at := r.locate(ctx, txs, &obstacle{last: len(open(txs)) - 1}); at >= 0 {
			return at + 1, false, r.settleCulprit(ctx, txs[:at], txs[at:at+1])
		}
	}
	for idle := 0; idle < maxIdle; idle++ {
		still := openTransactions(txs)
		if len(still) == 0 {
			return len(txs), false, nil
		}
		o, err := r.try(ctx, still, met)
		switch {
		case err != nil:
			return 0, false, err
		case o == nil:
			return len(txs), clean, nil
		case o.apart && len(still) > 1:
			rest, err := r.settleParts(ctx, still, o)
			if n = len(txs); len(rest) > 0 {
				n = slices.Index(txs, rest[0])
			}
			return n, false, err
		case o.err != nil && isTransient(o.err):
			v, err := r.timedOut(ctx, still[0], o.err)
			if err != nil {
				return 0, false, err
			}
			o.refusals = []verdict{*v}
		case o.genuine && len(open(still)) == 1:
			o.refusals = []verdict{r.verdictOf(open(still)[0], o.err)}
		case o.genuine && o.err.Code == "23505" && len(open(still)) > maxSingly && idle < 2 && r.hasTimeToRepeat():
			// Another client may have made the row just then: look again.
		case o.genuine && !r.hasTimeToFindOut(len(open(still))):
			o.refusals = []verdict{r.verdictOf(blamed(open(still), o), o.err)}
		case o.apart:
			return len(txs), false, r.settleAlone(ctx, still[0])
		}
		rejected, err := r.rejectAll(ctx, o.refusals)
		if err != nil {
			return 0, false, err
		}
		if clean = false; rejected {
			idle = -1 // something was decided
		}
		if met = nil; o.needsCloserLook() {
			met = o
		}
	}
	return 0, false, unavailable(errNoRest)
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
		o, err = r.lookCloser(ctx, txs, o)
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
	b := batchOf(txs, together)
	if r.searches {
		b.atMost = partOf(len(b.ops))
	}
	_, o, err := r.tryInTurn(ctx, b)
	return o, err
}

// batchOf is the open operations of transactions, for applyInTurn.
func batchOf(txs []*transaction, atMost int) *batch {
	ops := open(txs)
	return &batch{ops: payload(ops), open: ops, firstTx: ops[0].tx.TxID, atMost: atMost, alone: len(txs) == 1}
}

// tryInTurn applies batches and notes what was decided.
func (r *run) tryInTurn(ctx context.Context, batches ...*batch) (done int, o *obstacle, err error) {
	done, o, err = r.applyInTurn(ctx, batches...)
	r.gotFurther = r.gotFurther || done > 0
	for _, b := range batches[:done] {
		for _, op := range b.open {
			op.decided = applied
		}
	}
	if o != nil && len(o.hidden) == 1 {
		o = r.meetRow(batches[done].open[o.hidden[0]])
	}
	return done, o, err
}

// maxSingly is how many operations of a client transaction are tried with a
// statement for each: of more, the memory for these statements would be without
// bounds.
const maxSingly = 5_000

// hasTimeToFindOut is whether a client transaction of so many operations, which
// was just tried, can be tried once more so that its culprit is known. Else the
// first operation of the statement that failed is blamed.
func (r *run) hasTimeToFindOut(operations int) bool {
	return operations <= maxSingly && r.hasTimeToRepeat()
}

func (r *run) hasTimeToRepeat() bool { return r.took < r.left()-r.limit/4 }

// needsCloserLook is whether it takes the history, or the rows themselves, to
// know what is in the way.
func (o *obstacle) needsCloserLook() bool { return o.maybeSeen || o.lostRows || len(o.planned) > 0 }

// lookCloser applies txs, or finds out what o is about. What may become a verdict
// of ferry's own must not rest on a catalog that is older than the upload.
func (r *run) lookCloser(ctx context.Context, txs []*transaction, o *obstacle) (*obstacle, error) {
	if o.lostRows || len(o.planned) > 0 {
		if err := r.renewCatalog(ctx); err != nil {
			return nil, err
		}
	}
	return r.attempt(ctx, txs, false)
}

func (r *run) settleEach(ctx context.Context, parts iter.Seq[[]*transaction]) error {
	for part := range parts {
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
		return false, r.renewCatalog(ctx)
	}
	for some := range slices.Chunk(verdicts, maxAtOnce) {
		if err := r.reject(ctx, some); err != nil {
			return false, err
		}
	}
	return true, nil
}

// maxAtOnce is how many rejections are stored together.
const maxAtOnce = 200
