package postgres

import (
	"context"
	"errors"
	"slices"
)

// How the second path finds what is in the way of many client transactions: they
// are tried in several statements, and those that failed in smaller ones again.
// What is found here only says where to split. A verdict takes more: see settle.go.

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
