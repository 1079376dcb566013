package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"ferry/internal/uploads"
)

// existingSQL returns the positions of the ids that exist, whoever may see
// them. $1: ids, $2: table, $3: id column.
func (s *shape) existingSQL() string {
	return "SELECT ferry.existing_rows($2, $3, " + s.ids() + "::text[])"
}

// dependenciesSQL returns, for hashes of rows that do not exist, the open
// rejections that would have made them. An operation of the same client that
// came before the rejected one does not depend on it. OFFSET 0 leaves Postgres
// nothing but the hash to search by: for LIMIT 1 it would read the user's open
// rejections in order, all of them for each row.
// $1: user id, $2: client id, $3: hashes in hex, $4: op ids.
const dependenciesSQL = `
SELECT row.position, rejection.id
FROM unnest($3::text[], $4::bigint[]) WITH ORDINALITY AS row (hash, op_id, position)
CROSS JOIN LATERAL (
    SELECT r.id
    FROM (
        SELECT id, user_id, client_id, first_op_id, state, created_at
        FROM ferry.rejections
        WHERE puts @> ARRAY[decode(row.hash, 'hex')]
        OFFSET 0) AS r
    WHERE r.user_id = $1
      AND r.state = 'open'
      AND (r.client_id IS DISTINCT FROM $2 OR r.first_op_id IS NULL OR r.first_op_id < row.op_id)
    ORDER BY r.created_at, r.id
    LIMIT 1) AS rejection`

// continuedSQL returns the rejections that client transactions may continue: of
// what was sent before, the newest, and those of their own operations.
// $1: user id, $2: client id, $3: tx ids, $4 and $5: their first and last op ids.
const continuedSQL = `
SELECT tx.position, part.id, part.last_op_id
FROM unnest($3::bigint[], $4::bigint[], $5::bigint[]) WITH ORDINALITY AS tx (id, first_op_id, last_op_id, position)
CROSS JOIN LATERAL (
    (SELECT r.id, r.last_op_id
     FROM ferry.rejections r
     WHERE r.user_id = $1 AND r.client_id = $2 AND r.tx_id = tx.id
       AND r.last_op_id < tx.first_op_id AND r.state <> 'replayed'
     ORDER BY r.last_op_id DESC
     LIMIT 1)
    UNION ALL
    SELECT r.id, r.last_op_id
    FROM ferry.rejections r
    WHERE r.user_id = $1 AND r.client_id = $2 AND r.tx_id = tx.id
      AND r.last_op_id >= tx.first_op_id AND r.last_op_id < tx.last_op_id AND r.state <> 'replayed') AS part
ORDER BY part.last_op_id`

// ownRoleSQL goes back to the role that ferry connects as.
const ownRoleSQL = `SELECT set_config('role', 'none', true)`

func hiddenRow() uploads.Refusal {
	return uploads.Refusal{
		Code: uploads.CodeForbidden, SQLState: "42501",
		Message: "the row exists, and this user may not change it",
	}
}

func dependent(message string) uploads.Refusal {
	return uploads.Refusal{Code: uploads.CodeDependsOnRejected, Message: message}
}

// continuations is the query that finds, for each of txs, the rejection that
// it may continue: the client's SDK may cut a transaction into several uploads.
func (r *run) continuations(txs []*transaction) query {
	ids, firsts, lasts := newTextArray(12*len(txs)), newTextArray(12*len(txs)), newTextArray(12*len(txs))
	for _, tx := range txs {
		tx.continues = nil
		first, last := opIDs(open([]*transaction{tx}))
		ids.addText(strconv.FormatInt(tx.TxID, 10)) // -1 for none, which matches nothing
		firsts.addText(strconv.FormatInt(first, 10))
		lasts.addText(strconv.FormatInt(last, 10))
	}
	return query{
		sql: continuedSQL, replan: true, params: append(r.client(), ids.param(), firsts.param(), lasts.param()),
		row: func(values [][]byte) error {
			lastOpID, err := strconv.ParseInt(string(values[2]), 10, 64)
			if err != nil {
				return err
			}
			return positionAndID(len(txs), func(i int, root uuid) {
				txs[i].continues = append(txs[i].continues, continuation{root, lastOpID})
			})(values)
		},
	}
}

// continuation is a rejection of a part of a client transaction.
type continuation struct {
	rejection uuid
	lastOpID  int64
}

// continued refuses the transactions whose first part stands rejected: the same
// client's, with the same tx_id, further up in the queue. A client whose
// database was reset may come to use such a tx_id for something else; that is
// rejected as well, and as little lost.
func continued(txs []*transaction) []verdict {
	var verdicts []verdict
	for _, tx := range txs {
		first := tx.firstOpen()
		for _, part := range slices.Backward(tx.continues) {
			if first != nil && part.lastOpID < first.op.OpID {
				verdicts = append(verdicts, verdict{
					operation: first, dependsOn: &part.rejection,
					refusal: dependent("this continues a transaction that was rejected"),
				})
				break
			}
		}
	}
	return verdicts
}

// positionAndID reads rows of a position, from 1 to count, and a rejection's id.
func positionAndID(count int, found func(i int, id uuid)) func(values [][]byte) error {
	return func(values [][]byte) error {
		position, err := strconv.Atoi(string(values[0]))
		if err != nil || position < 1 || position > count {
			return fmt.Errorf("position %q of %d", values[0], count)
		}
		id, err := parseUUID(values[1])
		if err == nil {
			found(position-1, id)
		}
		return err
	}
}

// lostRow is an operation that did not find its row, or found one again.
type lostRow struct {
	ref  int // among the operations of the attempt
	step *step
}

// rowState is what was found of a row that an operation did not touch.
type rowState struct {
	visible bool // to the caller
	exists  bool
}

// lookForRows finds out why operations did not touch their rows: as the rows
// are now, while the database transaction is still open, and as they were
// before it. It notes what to expect the next time, or returns verdicts.
//
// Where the two differ, other operations of the same database transaction have
// changed the row, and it depends on them what the answer is: then they are
// committed first. Within one client transaction the state counts that the
// operations before this one make.
func (r *run) lookForRows(ctx context.Context, ops []*operation, lost []lostRow, singly bool) (*obstacle, error) {
	var missing []*operation
	var refs []int
	putAt := puts(ops)
	for _, l := range lost {
		o := ops[l.ref]
		at, isPut := putAt[rowName{o.op.Table, o.op.ID}]
		switch {
		case o.touched: // it is there now
			o.expected, o.suppressed = applied, false
		case isPut && !singly && at.first < l.ref && ops[at.first].tx != o.tx: // and it went again since
			return &obstacle{apart: true, first: l.ref, last: l.ref}, nil
		case !isPut || at.last <= l.ref:
			missing, refs = append(missing, o), append(refs, l.ref)
		case !singly:
			return &obstacle{apart: true, first: l.ref, last: l.ref}, nil
		default:
			// Had it been there, out of reach, that PUT would not have gone through.
			if o.suppressed = l.step.shape.table.suppresses(o.op.Kind); !o.suppressed {
				o.expected = ignored
			}
		}
	}
	if len(missing) == 0 {
		return &obstacle{}, nil
	}
	steps, _ := plan(r.catalog, payload(missing), together)
	now, before := make([]rowState, len(missing)), make([]rowState, len(missing))
	depends := make([]*uuid, len(missing))
	err := r.lookTwice(ctx, steps, now, before, r.dependencies(missing, depends))
	if refused, ok := errors.AsType[*lookError](err); ok {
		if changed, err := r.outOfDate(ctx, refused.step.shape.table, refused.err); changed || err != nil {
			return &obstacle{}, err
		}
		in := refused.step.refs
		o, err := obstacleOf(refused.err, refs[in[0]], refs[in[len(in)-1]])
		if o != nil && singly {
			o.refusals = []verdict{{operation: missing[in[0]], refusal: r.refusalOf(o.err)}}
		}
		return o, err
	}
	if err != nil {
		return nil, err
	}
	result := &obstacle{}
	for _, s := range steps {
		for _, i := range s.refs {
			row := now[i]
			// What others of the same database transaction did may decide whether
			// the row is there, and whether it may be changed.
			if !singly && (row != before[i] || row.visible && !s.shape.table.suppresses(s.shape.kind)) {
				return &obstacle{apart: true, first: refs[i], last: refs[i]}, nil
			}
			if row != before[i] {
				if row, err = r.stateBehind(ctx, ops[:refs[i]], missing[i]); err != nil {
					return obstacleOf(err, refs[i], refs[i])
				}
			}
			if v := judge(missing[i], s, row, depends[i]); v != nil {
				result.refusals = append(result.refusals, *v)
			}
		}
	}
	result.refusals = firstPerTransaction(result.refusals)
	return result, nil
}

// rowName is a row as the client names it.
type rowName struct{ table, id string }

// places are those of the first and the last operation of some kind on a row.
type places struct{ first, last int }

// puts returns where rows are put.
func puts(ops []*operation) map[rowName]places {
	found := map[rowName]places{}
	for i, o := range ops {
		if o.op.Kind != uploads.Put {
			continue
		}
		row := rowName{o.op.Table, o.op.ID}
		at, again := found[row]
		if at.last = i; !again {
			at.first = i
		}
		found[row] = at
	}
	return found
}

// stateBehind is the state of o's row as the operations before it leave it: they
// are carried out once more, and taken back.
func (r *run) stateBehind(ctx context.Context, before []*operation, o *operation) (rowState, error) {
	queries := append(r.begin(), r.becomeCaller())
	steps, _ := plan(r.catalog, payload(before), 1)
	for _, s := range steps {
		queries = append(queries, careful(s, before))
	}
	asked, _ := plan(r.catalog, []*uploads.Operation{o.op}, together)
	found := make([]rowState, 1)
	err := r.look(ctx, asked, found, queries)
	r.session.rollback(ctx)
	return found[0], err
}

// lookTwice looks at rows in the open transaction, ends it, and looks again.
// more is asked along the way.
func (r *run) lookTwice(ctx context.Context, steps []*step, now, before []rowState, more query) error {
	if err := r.look(ctx, steps, now, nil, more); err != nil {
		return err
	}
	r.session.rollback(ctx)
	return r.look(ctx, steps, before, append(r.begin(), r.becomeCaller()))
}

// judge decides on an operation that did not touch its row.
func judge(o *operation, s *step, row rowState, dependsOn *uuid) *verdict {
	switch {
	case row.visible && s.shape.table.suppresses(s.shape.kind):
		o.suppressed = true
	case row.visible && !o.puzzled:
		o.puzzled = true // it may have been made just now: look again
	case row.visible, row.exists:
		return &verdict{operation: o, refusal: hiddenRow()}
	case dependsOn != nil:
		return &verdict{
			operation: o, dependsOn: dependsOn,
			refusal: dependent("this needs a row whose PUT was rejected"),
		}
	default:
		o.expected = ignored
	}
	return nil
}

// suppresses is whether a trigger may have kept an operation from touching a
// row that is there: soft deletes, or updates that change nothing.
func (t *table) suppresses(kind uploads.Kind) bool {
	if kind == uploads.Delete {
		return t.deleteTrigger
	}
	return t.updateTrigger
}

// lookError is the error of an app's policy, which a look at rows ran into.
type lookError struct {
	step *step
	err  error
}

func (e *lookError) Error() string { return e.err.Error() }
func (e *lookError) Unwrap() error { return e.err }

// look asks, behind first, for rows as the caller, and then past the policies.
// The transaction is of no use after it.
func (r *run) look(ctx context.Context, steps []*step, found []rowState, first []query, more ...query) error {
	queries := first
	var asked []*step
	for _, s := range steps {
		if !s.shape.table.id.canSelect {
			continue
		}
		asked = append(asked, s)
		ids := &shape{traits: traits{table: s.shape.table}}
		queries = append(queries, query{
			sql: ids.visibleSQL(), params: []param{s.ids()},
			row: atPosition(s, func(ref int) { found[ref].visible = true }),
		})
	}
	queries = append(append(queries, query{sql: ownRoleSQL}), more...)
	err := r.session.exchange(ctx, queries...)
	if failed, ok := errors.AsType[*queryError](err); ok {
		if i := failed.index - len(first); i >= 0 && i < len(asked) {
			return &lookError{asked[i], err}
		}
	}
	if err != nil {
		return err
	}
	for _, s := range steps {
		t := s.shape.table
		err := r.session.exchange(ctx, query{
			sql: s.shape.existingSQL(),
			params: []param{
				s.ids(),
				{strconv.AppendUint(nil, uint64(t.oid), 10), oidOID, 0},
				textParam(t.id.name),
			},
			row: atPosition(s, func(ref int) { found[ref].exists = true }),
		})
		if err == nil {
			continue
		}
		if isTransient(err) {
			return err
		}
		r.store.warnOfHiddenRows(t, err)
		return nil // the transaction is broken; rows of further tables count as missing
	}
	return nil
}

// warnOfHiddenRows says once per table that ferry's function cannot look past
// the policies there.
func (s *Store) warnOfHiddenRows(t *table, err error) {
	if _, warned := s.blind.LoadOrStore(t.oid, true); !warned {
		s.options.Log.Warn("rows of this table that are hidden from a user count as missing: "+
			"the owner of ferry.existing_rows must own the table or bypass row-level security, "+
			"and the id must be of a built-in type",
			slog.String("table", t.sql), slog.Any("error", err))
	}
}

// dependencies is the query for the rejection that each missing row waits for.
func (r *run) dependencies(missing []*operation, depends []*uuid) query {
	hashes, opIDs := newTextArray(80*len(missing)), newTextArray(24*len(missing))
	var refs []int
	for i, o := range missing {
		for _, hash := range r.rowHashes(o.op) {
			refs = append(refs, i)
			hashes.addText(hash)
			opIDs.addText(strconv.FormatInt(o.op.OpID, 10))
		}
	}
	return query{
		sql:    dependenciesSQL,
		replan: true,
		params: append(r.client(), hashes.param(), opIDs.param()),
		row:    positionAndID(len(refs), func(i int, root uuid) { depends[refs[i]] = &root }),
	}
}

// rowHashes name a user's row in ferry.rejections.puts, whatever the length of its
// id. The first is for what the client calls it, whatever becomes of the table. The
// second is for the row on the server, where the catalog knows it, so that another
// spelling of the id, or another client table over the same one, names it as well.
func (r *run) rowHashes(op *uploads.Operation) []string {
	hash := func(table, id string) string {
		sum := sha256.Sum256([]byte(r.caller.UserID + "\x00" + table + "\x00" + id))
		return hex.EncodeToString(sum[:16])
	}
	hashes := []string{hash(op.Table, op.ID)}
	if t := r.catalog.tables[op.Table]; t != nil && t.id != nil {
		if id, err := appendText(nil, t.id.typ, op.ID, true); err == nil {
			hashes = append(hashes, hash(t.sql, string(id)))
		}
	}
	return hashes
}
