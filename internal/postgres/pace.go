package postgres

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
)

// paces remembers, of clients whose uploads ran into the limits of time, how
// many client transactions may be tried together. A later delivery begins so,
// and not with the batch that takes too long: each gets further, and what is
// slow by itself is met alone, with all the time there is.
type paces struct {
	mu    sync.Mutex
	sizes map[clientKey]int
}

// maxPaces bounds the clients that are remembered; who is forgotten only pays
// for one more try.
const maxPaces = 10_000

// of returns how many to try together, 0 for all.
func (p *paces) of(key clientKey) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sizes[key]
}

func (p *paces) set(key clientKey, size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sizes == nil || len(p.sizes) >= maxPaces {
		p.sizes = map[clientKey]int{}
	}
	p.sizes[key] = size
}

func (p *paces) forget(key clientKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sizes, key)
}

func (r *run) key() clientKey { return clientKey{r.caller.UserID, r.upload.ClientID} }

// settleAtPace settles txs in parts of a size, in order.
func (r *run) settleAtPace(ctx context.Context, txs []*transaction, size int) error {
	err := r.recognise(ctx, txs)
	r.session.rollback(ctx)
	if err != nil {
		return r.ownFault(err)
	}
	return r.settleEach(ctx, slices.Chunk(openTransactions(txs), size))
}

// notePace is called with what became of the upload. Many statements may take too
// long of which none does by itself, and so may the search for what is refused.
func (r *run) notePace(ctx context.Context, settled error) {
	switch {
	case r.tooSlow > 0:
		r.store.paces.set(r.key(), max(1, r.tooSlow/2))
	case settled != nil && !r.gotFurther && r.outOfTime():
		r.store.paces.set(r.key(), max(1, cmp.Or(r.pace, len(r.upload.Transactions))/2))
	case settled == nil && r.pace > 0:
		r.store.paces.forget(r.key())
		// Attempts count as long as none succeeded.
		if err := r.session.exchange(ctx, query{sql: forgetClientsTimeoutsSQL, params: r.client()}); err != nil {
			r.store.options.Log.Warn("attempts that timed out stay counted", slog.Any("error", err))
		}
	}
}
