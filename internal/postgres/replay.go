package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/internal/fault"
	"ferry/internal/uploads"
)

// Replayed is what became of the replay of one rejection.
type Replayed struct {
	ID string `json:"rejection_id"`
	// State is the rejection's state now. It stays open after a refusal.
	State uploads.State `json:"state"`
	// Already is whether there was nothing to do: it was settled before.
	Already bool `json:"already,omitempty"`
	Applied int  `json:"applied"`
	Ignored int  `json:"ignored"` // PATCH or DELETE that matched no row
	// Refusal is why it was refused again; nil if it was not.
	Refusal *uploads.Refusal `json:"refusal,omitempty"`
}

// PlannedOperation is an operation that a replay would carry out.
type PlannedOperation struct {
	Kind  string `json:"op"`
	Table string `json:"table"`
	RowID string `json:"id"`
	// Exists is whether the row is there now: a PUT would overwrite what may
	// be newer.
	Exists bool `json:"exists"`
	// Refusal is set where it is known already that it would be refused.
	Refusal *uploads.Refusal `json:"refusal,omitempty"`
}

// waitingSQL lists what waited for a rejection. $1: that one.
const waitingSQL = `
SELECT r.id::text, r.user_id, coalesce(r.client_id, ''), coalesce(r.first_op_id, 9223372036854775807), r.created_at
FROM ferry.rejections r
WHERE r.depends_on = $1::uuid AND r.state = 'open'`

// lockRejectionSQL makes a second replay wait for the first. It returns the
// states of the rejection and of what it depends on.
const lockRejectionSQL = `
SELECT r.state, coalesce((SELECT d.state FROM ferry.rejections d WHERE d.id = r.depends_on), '')
FROM ferry.rejections r
WHERE r.id = $1::uuid
FOR UPDATE OF r`

// disabledSQL tells whether the user may not use the app. It is asked once the
// locks are held: how long that took must not matter.
const disabledSQL = `
SELECT
FROM ferry.denylist
WHERE user_id = $1 AND disabled`

// waitForClientSQL keeps the client's uploads out until the replay is decided:
// none of them must find the rejection open and its row missing.
const waitForClientSQL = `
SELECT
FROM ferry.progress
WHERE user_id = $1 AND client_id = $2
FOR UPDATE`

const replayedSQL = `
UPDATE ferry.rejections
SET state = 'replayed', settled_at = now()
WHERE id = $1::uuid AND state = 'open'`

const refusedAgainSQL = `
UPDATE ferry.rejections
SET refused_at = now(), code = $2, sqlstate = $3, constraint_name = $4, column_name = $5, message = $6,
    table_name = $7, row_id = $8, op_id = $9, op_index = $10
WHERE id = $1::uuid AND state = 'open'`

// Replay replays an open rejection as its user, and then what depends on it,
// directly or not, in the order of the operations (alone leaves those as they
// are). Each is decided in a database transaction of its own, together with its
// change of state, and reported once that is durable. What is refused again
// stays open, with the newest reason, and so does what depends on it. An error
// is no verdict: the replay may be repeated.
func (j *Rejections) Replay(ctx context.Context, id string, alone bool, report func(*Replayed)) error {
	began, story := j.Store.options.Now(), story{{ID: id}}
	for len(story) > 0 {
		next := story.takeNext()
		result, err := j.replay(ctx, next, began)
		if err != nil {
			return fmt.Errorf("replay rejection %s: %w", next, err)
		}
		report(result)
		if alone {
			return nil
		}
		if result.State != uploads.Replayed {
			continue
		}
		rows, _ := j.Store.control.Query(ctx, waitingSQL, next) // its error is that of the rows
		waiting, err := pgx.CollectRows(rows, pgx.RowToStructByPos[episode])
		if err != nil {
			return OperatorError("find what depends on the replayed rejections", err)
		}
		story.add(waiting)
	}
	return nil
}

// story is what is left to be replayed, each client's in the order of its queue.
type story []episode

type episode struct {
	ID, UserID, ClientID string
	FirstOpID            int64
	CreatedAt            time.Time
}

func (s *story) add(more []episode) {
	*s = append(*s, more...)
	slices.SortFunc(*s, func(a, b episode) int {
		return cmp.Or(cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.ClientID, b.ClientID),
			cmp.Compare(a.FirstOpID, b.FirstOpID), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

// takeNext returns, of what comes first in each client's queue, what was refused
// first, because the op ids of two clients say nothing about each other.
func (s *story) takeNext() (id string) {
	next := 0
	for i, e := range *s {
		first := i == 0 || e.UserID != (*s)[i-1].UserID || e.ClientID != (*s)[i-1].ClientID
		if first && cmp.Or(e.CreatedAt.Compare((*s)[next].CreatedAt), cmp.Compare(e.ID, (*s)[next].ID)) < 0 {
			next = i
		}
	}
	id = (*s)[next].ID
	*s = slices.Delete(*s, next, next+1)
	return id
}

// replay needs no catalog that is newer than notBefore, unless for a refusal.
func (j *Rejections) replay(ctx context.Context, id string, notBefore time.Time) (*Replayed, error) {
	stored, err := j.Find(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case stored.State != uploads.Open:
		return &Replayed{ID: stored.ID, State: stored.State, Already: true}, nil
	}
	var result *Replayed
	err = j.withReplay(ctx, stored, notBefore, func(ctx context.Context, p *replay) (err error) {
		result, err = p.decide(ctx)
		return err
	})
	return result, err
}

// Plan tells what the replay of a rejection would do, without doing it.
func (j *Rejections) Plan(ctx context.Context, id string) (*StoredRejection, []PlannedOperation, error) {
	stored, err := j.Find(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	var planned []PlannedOperation
	err = j.withReplay(ctx, stored, j.Store.options.Now(), func(ctx context.Context, p *replay) (err error) {
		planned, err = p.plan(ctx)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("plan the replay of rejection %s: %w", id, err)
	}
	return stored, planned, nil
}

// withReplay prepares the replay of a stored rejection on a connection.
func (j *Rejections) withReplay(ctx context.Context, stored *StoredRejection, notBefore time.Time, do func(context.Context, *replay) error) error {
	up, err := uploads.Decode(stored.Operations)
	if err != nil {
		return fmt.Errorf("read the stored operations: %w", err)
	}
	s := j.Store
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	started := s.options.Now()
	c, err := s.catalog(ctx, notBefore)
	if err != nil {
		return err
	}
	session, err := s.takeSession(ctx)
	if err != nil {
		return err
	}
	defer session.release()
	// A client transaction whose number stood around its entries was decoded
	// as many.
	whole := uploads.Transaction{TxID: -1}
	for _, tx := range up.Transactions {
		whole.Operations = append(whole.Operations, tx.Operations...)
	}
	r := &run{
		store: s, session: session, catalog: c,
		caller:  uploads.Caller{UserID: stored.UserID, Claims: stored.Claims},
		upload:  &uploads.Upload{ClientID: stored.ClientID, Operations: up.Operations, Transactions: []uploads.Transaction{whole}},
		started: started, limit: replayTimeout, alone: true,
	}
	return do(ctx, &replay{run: r, stored: stored, ops: open(r.transactions())})
}

// replayTimeout is longer than any statement of an upload may take; no client
// waits for a replay.
const replayTimeout = 2 * time.Minute

// replay is the replay of one rejection over one connection. It is one attempt
// of the second path, with the rejection's state in the place of the client's
// progress.
type replay struct {
	*run
	stored *StoredRejection
	ops    []*operation
	// state and rootState are those of the rejection and of what it depends
	// on, once they are locked.
	state, rootState uploads.State
	// disabled is whether the user is, in whose name nothing is done then.
	disabled bool
}

// decide applies the operations or returns why they were refused.
func (p *replay) decide(ctx context.Context) (*Replayed, error) {
	for range maxIdle {
		o, err := p.attempt(ctx)
		switch {
		case err != nil:
			return nil, err
		case p.state != uploads.Open:
			return &Replayed{ID: p.stored.ID, State: p.state, Already: true}, nil
		case p.disabled:
			refusal := uploads.Refusal{Code: string(fault.UserDisabled), Message: "the user is disabled; nothing is done in their name"}
			return &Replayed{ID: p.stored.ID, State: uploads.Open, Refusal: &refusal}, nil
		case p.rootState == uploads.Open:
			refusal := dependent("this depends on rejection " + p.stored.DependsOn + ", which is open: replay that one")
			return &Replayed{ID: p.stored.ID, State: uploads.Open, Refusal: &refusal}, nil
		case o == nil:
			return p.done(), nil
		case o.err != nil && isTransient(o.err):
			return nil, fmt.Errorf("the database gave it up; try again: %w", o.err)
		case p.catalog.loadedAt.Before(p.started): // a refusal needs a newer one
			if err := p.renewCatalog(ctx); err != nil {
				return nil, err
			}
		case o.err != nil:
			return p.refused(ctx, verdict{operation: blamed(p.ops, o), refusal: p.refusalOf(o.err)})
		case len(o.refusals) > 0:
			return p.refused(ctx, o.refusals[0])
		}
	}
	return nil, errNoRest
}

func (p *replay) done() *Replayed {
	result := &Replayed{ID: p.stored.ID, State: uploads.Replayed}
	for _, o := range p.ops {
		if o.expected == ignored {
			result.Ignored++
		} else {
			result.Applied++
		}
	}
	return result
}

// attempt returns nil once the replay is committed, and an obstacle if it left
// nothing behind.
func (p *replay) attempt(ctx context.Context) (*obstacle, error) {
	var o *obstacle
	err := p.repeatedly(ctx, func() (err error) {
		o, err = p.attemptOnce(ctx)
		return err
	})
	p.session.rollback(ctx)
	return o, err
}

func (p *replay) attemptOnce(ctx context.Context) (*obstacle, error) {
	if err := p.lock(ctx); err != nil || p.state != uploads.Open || p.disabled || p.rootState == uploads.Open {
		return nil, err
	}
	steps, planned := plan(p.catalog, payload(p.ops), 1)
	if len(planned) > 0 {
		return &obstacle{refusals: []verdict{{operation: p.ops[planned[0].ref], refusal: planned[0].refusal}}}, nil
	}
	prefix := []query{{sql: replayedSQL, params: p.id(), tag: "UPDATE 1"}, p.becomeCaller()}
	if o, err := p.runSteps(ctx, prefix, steps, p.ops); err != nil || o != nil {
		return o, err
	}
	if lost := unexpected(steps, p.ops); len(lost) > 0 {
		return p.lookForRows(ctx, p.ops, lost, true)
	}
	return p.finish(ctx, p.ops)
}

func (p *replay) id() []param { return []param{textParam(p.stored.ID)} }

// lock begins the database transaction and keeps other replays, and uploads of
// the same client, out until it ends.
func (p *replay) lock(ctx context.Context) error {
	p.state, p.rootState, p.disabled = "", "", false
	queries := p.begin()
	if p.stored.ClientID != "" {
		queries = append(queries, query{sql: waitForClientSQL, params: p.client()})
	}
	queries = append(queries, query{sql: lockRejectionSQL, params: p.id(), row: func(values [][]byte) error {
		p.state, p.rootState = uploads.State(values[0]), uploads.State(values[1])
		return nil
	}}, query{sql: disabledSQL, params: p.client()[:1], row: func([][]byte) error {
		p.disabled = true
		return nil
	}})
	if err := p.session.exchange(ctx, queries...); err != nil {
		if isTimeout(err) {
			return fmt.Errorf("an upload or another replay holds it; try again: %w", err)
		}
		return err
	}
	if p.state == "" {
		return ErrNoRejection
	}
	return nil
}

// refused stores the newest reason.
func (p *replay) refused(ctx context.Context, v verdict) (*Replayed, error) {
	op := v.operation.op
	p.session.end(ctx) // see catalogSince
	_, err := p.store.control.Exec(ctx, refusedAgainSQL, p.stored.ID,
		v.refusal.Code, v.refusal.SQLState, v.refusal.Constraint, v.refusal.Column, sendable(v.refusal.Message),
		sendable(op.Table), sendable(op.ID), presentOpID(op.OpID), p.opIndex(v.operation))
	if err != nil {
		return nil, OperatorError("store the reason", err)
	}
	return &Replayed{ID: p.stored.ID, State: uploads.Open, Refusal: &v.refusal}, nil
}

func presentOpID(id int64) *int64 {
	if id < 0 {
		return nil
	}
	return &id
}

// opIndex is an operation's place within the client transaction, of which
// only the end may be stored: an earlier delivery decided the rest.
func (p *replay) opIndex(o *operation) int {
	skipped := 0
	for i, other := range p.ops {
		if p.stored.OpID != nil && other.op.OpID == *p.stored.OpID {
			skipped = p.stored.OpIndex - i
		}
	}
	return skipped + slices.Index(p.ops, o)
}

// plan finds out which rows are there, in a database transaction that changes
// nothing.
func (p *replay) plan(ctx context.Context) ([]PlannedOperation, error) {
	planned := make([]PlannedOperation, len(p.ops))
	for i, o := range p.ops {
		planned[i] = PlannedOperation{Kind: o.op.Kind.String(), Table: o.op.Table, RowID: o.op.ID}
	}
	steps, refusals := plan(p.catalog, payload(p.ops), together)
	for _, r := range refusals {
		planned[r.ref].Refusal = &r.refusal
	}
	defer p.session.rollback(ctx)
	found := make([]rowState, len(p.ops))
	// An id that its column cannot hold is the replay's to refuse.
	if err := p.look(ctx, steps, found, append(p.begin(), p.becomeCaller())); err != nil && isTransient(err) {
		return nil, err
	}
	for i, row := range found {
		planned[i].Exists = row.visible || row.exists
	}
	return planned, nil
}
