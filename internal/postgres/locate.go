package postgres

import (
	"context"
	"errors"
	"slices"
)

// How the second path finds what is in the way of many client transactions: they
// are tried in several statements, and those that failed in smaller ones again.
// What comes before them is committed on the way. What is found here only says
// where to split; a verdict takes more: see settle.go.

// fanOut is into how many parts transactions are split where nothing shows which
// of them is in the way, or where they are too much for the database together, or
// for the time.
const fanOut = 6

// settleParts settles what ran before the error and what caused it, or all of txs
// if that does not show. It returns the rest.
func (r *run) settleParts(ctx context.Context, txs []*transaction, o *obstacle) (rest []*transaction, err error) {
	txs = openTransactions(txs) // an earlier delivery may have decided some
	first, last := -1, 0
	if o.genuine && !r.hurried() {
		first, last = suspects(txs, o)
		if first == 0 && last == len(txs)-1 { // as of what is raised at COMMIT
			first = r.locate(ctx, txs, o)
			last = first
		}
	}
	if first < 0 {
		return nil, r.settleEach(ctx, slices.Chunk(txs, (len(txs)-1)/fanOut+1))
	}
	if first == last {
		err := r.settleCulprit(ctx, txs[:first], txs[first:last+1])
		if hasSQLState(o.err, upsertRefused...) && txs[first].rejectedNow == nil {
			r.noUpserts = true
		}
		return txs[last+1:], err
	}
	among, err := r.settleSuspects(ctx, txs[:first], txs[first:last+1])
	return txs[last+1-len(among):], err
}

// suspects returns the places of the first and the last transaction from which
// an error may have come.
func suspects(txs []*transaction, o *obstacle) (first, last int) {
	ops := open(txs)
	return slices.Index(txs, ops[o.first].tx), slices.Index(txs, ops[o.last].tx)
}

// settleSuspects settles the transactions before some of which one failed, and
// these up to that one: in several statements it shows where. It returns the rest.
func (r *run) settleSuspects(ctx context.Context, before, some []*transaction) (rest []*transaction, err error) {
	behind := batchOf(some, partOf(len(open(some))))
	o, err := r.settleBefore(ctx, before, behind)
	if err != nil || len(openTransactions(some)) == 0 {
		return nil, err
	}
	if o == nil || !o.genuine {
		return nil, r.settle(ctx, some, o)
	}
	if o.met { // once more it is certain
		open(some)[o.first].puzzled = true
	}
	return r.settleParts(ctx, some, o)
}

// settleCulprit settles transactions, and the one behind them that was in the way.
func (r *run) settleCulprit(ctx context.Context, before, culprit []*transaction) error {
	o, err := r.settleBefore(ctx, before, batchOf(culprit, together))
	if err != nil {
		return err
	}
	if o != nil && o.err != nil && isTransient(o.err) {
		o = nil // it had but a part of the time
	}
	return r.settle(ctx, culprit, o)
}

// settleBefore settles transactions, and tries a batch behind them on the way. It
// returns what stood in that one's way, if it was tried.
func (r *run) settleBefore(ctx context.Context, before []*transaction, behind *batch) (*obstacle, error) {
	if r.upload.OutOfOrder { // any of them may continue a rejected one
		return nil, r.settle(ctx, before, nil)
	}
	if len(before) == 0 {
		_, o, err := r.tryInTurn(ctx, behind)
		return o, err
	}
	done, o, err := r.tryInTurn(ctx, batchOf(before, together), behind)
	if err == nil && done == 0 {
		return nil, r.settle(ctx, before, o)
	}
	return o, err
}

// statements is how many statements the operations are tried in.
const statements = 16

// partOf is how many of so many operations go into each.
func partOf(operations int) int { return (operations-1)/statements + 1 }

// checkNowSQL makes what is deferred to COMMIT fail with its statement.
const checkNowSQL = `SET CONSTRAINTS ALL IMMEDIATE`

// locate returns the place in txs of the one that o came from, or -1 if it does
// not show.
func (r *run) locate(ctx context.Context, txs []*transaction, o *obstacle) int {
	ops := open(txs)
	first, last := o.first, o.last
	for ops[first].tx != ops[last].tx {
		if r.outOfTime() || !r.narrow(ctx, ops, &first, &last) {
			return -1
		}
	}
	return slices.Index(txs, ops[first].tx)
}

// narrow tries the operations before first in large statements, and those up to
// last in small ones. It leaves nothing behind, and reports whether one failed
// that tells more.
func (r *run) narrow(ctx context.Context, ops []*operation, first, last *int) bool {
	before, _ := plan(r.catalog, payload(ops[:*first]), together)
	suspects := ops[*first : *last+1]
	steps, _ := plan(r.catalog, payload(suspects), partOf(len(suspects)))

	queries := append(r.begin(), r.becomeCaller(), query{sql: checkNowSQL})
	queries = r.append(queries, before)
	firstStep := len(queries)
	err := r.session.exchange(ctx, r.append(queries, steps)...)
	r.session.rollback(ctx)
	failed, ok := errors.AsType[*queryError](err)
	if !ok || failed.index < firstStep {
		return false
	}
	s := steps[failed.index-firstStep]
	refs := s.refs
	if len(refs) == len(suspects) {
		return false
	}
	if len(refs) == 1 && s.metItsRow(err) {
		suspects[refs[0]].puzzled = true
	}
	*first, *last = *first+refs[0], *first+refs[len(refs)-1]
	return true
}
