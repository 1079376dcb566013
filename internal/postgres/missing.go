package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"

	"ferry/internal/uploads"
)

// existingSQL returns the positions of the ids that exist, whoever may see
// them. $1: table, $2: id column, $3: ids.
const existingSQL = `SELECT ferry.existing_rows($1, $2, $3)`

// dependenciesSQL returns, for hashes of rows that do not exist, the open
// rejections that would have made them. An operation of the same client that
// came before the rejected one does not depend on it.
// $1: user id, $2: client id, $3: hashes in hex, $4: op ids.
const dependenciesSQL = `
SELECT row.position, rejection.id
FROM unnest($3::text[], $4::bigint[]) WITH ORDINALITY AS row (hash, op_id, position)
CROSS JOIN LATERAL (
    SELECT r.id
    FROM ferry.rejections r
    WHERE r.user_id = $1
      AND r.state = 'open'
      AND r.puts @> ARRAY[decode(row.hash, 'hex')]
      AND (r.client_id IS DISTINCT FROM $2 OR r.first_op_id IS NULL OR r.first_op_id < row.op_id)
    ORDER BY r.created_at, r.id
    LIMIT 1) AS rejection`

// continuedSQL returns the rejections that client transactions may continue.
// $1: user id, $2: client id, $3: tx ids.
const continuedSQL = `
SELECT tx.position, r.id, r.last_op_id
FROM unnest($3::bigint[]) WITH ORDINALITY AS tx (id, position)
JOIN ferry.rejections r ON r.user_id = $1 AND r.client_id = $2 AND r.tx_id = tx.id
WHERE r.state <> 'replayed'
ORDER BY r.last_op_id`

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
	ids := newTextArray(12 * len(txs))
	for _, tx := range txs {
		tx.continues = nil
		ids.addText(strconv.FormatInt(tx.TxID, 10)) // -1 for none, which matches nothing
	}
	return query{
		sql: continuedSQL, params: append(r.client(), textArrayParam(ids.bytes())),
		row: func(values [][]byte) error {
			lastOpID, err := strconv.ParseInt(string(values[2]), 10, 64)
			if err != nil {
				return err
			}
			return positionAndID(len(txs), func(i int, root uuid) {
				if first := txs[i].firstOpen(); first != nil && lastOpID < first.op.OpID {
					txs[i].continues = &root
				}
			})(values)
		},
	}
}

// continued refuses the transactions whose first part stands rejected.
func continued(txs []*transaction) []verdict {
	var verdicts []verdict
	for _, tx := range txs {
		if first := tx.firstOpen(); first != nil && tx.continues != nil {
			verdicts = append(verdicts, verdict{
				operation: first, dependsOn: tx.continues,
				refusal: dependent("this continues a transaction that was rejected"),
			})
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

// lookForRows finds out why the rows of some PATCHes and DELETEs were not
// touched. It notes what to expect the next time, and returns the verdicts on
// those that cannot be carried out. Nothing is in progress when it is called.
func (r *run) lookForRows(ctx context.Context, txs []*transaction) ([]verdict, error) {
	var lost []*operation
	ops := open(txs)
	for _, o := range ops {
		switch {
		case o.op.Kind == uploads.Put:
		case o.touched: // it is there now
			o.expected, o.suppressed = applied, false
		case o.expected == applied && !o.suppressed:
			lost = append(lost, o)
		}
	}
	if len(lost) == 0 {
		return nil, nil
	}
	steps, _ := plan(r.catalog, payload(lost), false)
	found := make([]rowState, len(lost))
	if err := r.lookAsCaller(ctx, steps, found); err != nil {
		return nil, r.ownFault(err)
	}
	r.lookAsOwner(ctx, steps, found)
	depends, err := r.dependencies(ctx, lost)
	if err != nil {
		return nil, r.ownFault(err)
	}

	var verdicts []verdict
	for _, s := range steps {
		for _, ref := range s.refs {
			o := lost[ref]
			switch {
			case found[ref].visible && s.shape.table.suppresses(s.kind):
				o.suppressed = true
			case found[ref].visible && !o.puzzled:
				o.puzzled = true // it may have been made just now: look again
			case found[ref].visible, found[ref].exists:
				verdicts = append(verdicts, verdict{operation: o, refusal: hiddenRow()})
			case depends[ref] != nil:
				verdicts = append(verdicts, verdict{
					operation: o, dependsOn: depends[ref],
					refusal: dependent("this needs a row whose PUT was rejected"),
				})
			default:
				o.expected = ignored
			}
		}
	}
	return firstPerTransaction(verdicts), nil
}

// rowState is what was found of a row that an operation did not touch.
type rowState struct {
	visible bool // to the caller
	exists  bool
}

// suppresses is whether a trigger may have kept a PATCH or DELETE from
// touching a row: soft deletes, or updates that change nothing.
func (t *table) suppresses(kind uploads.Kind) bool {
	if kind == uploads.Delete {
		return t.deleteTrigger
	}
	return t.updateTrigger
}

// madeBefore is whether an operation before o in the same database transaction
// makes its row: then it is there by the time o runs, but hidden.
func madeBefore(ops []*operation, o *operation) bool {
	made := false
	for _, earlier := range ops {
		if earlier == o {
			break
		}
		if earlier.op.Table == o.op.Table && earlier.op.ID == o.op.ID && earlier.op.Kind != uploads.Patch {
			made = earlier.op.Kind == uploads.Put
		}
	}
	return made
}

func (r *run) lookAsCaller(ctx context.Context, steps []*step, found []rowState) error {
	queries := append(r.begin(), r.becomeCaller())
	for _, s := range steps {
		if !s.shape.table.id.canSelect {
			continue
		}
		ids := shape{table: s.shape.table}
		queries = append(queries, query{
			sql: ids.visibleSQL(), params: s.params()[:1],
			row: atPosition(s, func(ref int) { found[ref].visible = true }),
		})
	}
	err := r.session.exchange(ctx, queries...)
	r.session.rollback(ctx)
	return err
}

// lookAsOwner asks whether the rows exist at all. Where ferry's function cannot
// look past the policies, they count as missing, and the log says so.
func (r *run) lookAsOwner(ctx context.Context, steps []*step, found []rowState) {
	for _, s := range steps {
		t := s.shape.table
		err := r.session.exchange(ctx, query{
			sql: existingSQL,
			params: []param{
				{strconv.AppendUint(nil, uint64(t.oid), 10), oidOID, 0},
				textParam(t.id.name),
				s.params()[0],
			},
			row: atPosition(s, func(ref int) { found[ref].exists = true }),
		})
		if err != nil {
			r.session.rollback(ctx)
			r.store.options.Log.Warn("ferry cannot tell hidden rows of this table from missing ones: "+
				"its role must own the table or bypass row-level security",
				slog.String("table", t.sql), slog.Any("error", err))
		}
	}
}

func atPosition(s *step, mark func(ref int)) func(values [][]byte) error {
	return func(values [][]byte) error {
		position, err := strconv.Atoi(string(values[0]))
		if err != nil {
			return err
		}
		mark(s.refs[position-1])
		return nil
	}
}

// dependencies returns the rejection that each missing row waits for, or nil.
func (r *run) dependencies(ctx context.Context, lost []*operation) ([]*uuid, error) {
	hashes, opIDs := newTextArray(40*len(lost)), newTextArray(12*len(lost))
	for _, o := range lost {
		hash := rowHash(o.op)
		hashes.addText(hex.EncodeToString(hash[:]))
		opIDs.addText(strconv.FormatInt(o.op.OpID, 10))
	}
	depends := make([]*uuid, len(lost))
	err := r.session.exchange(ctx, query{
		sql: dependenciesSQL,
		params: append(r.client(),
			textArrayParam(hashes.bytes()), textArrayParam(opIDs.bytes())),
		row: positionAndID(len(lost), func(i int, root uuid) { depends[i] = &root }),
	})
	return depends, err
}

// rowHash names a row in ferry.rejections.puts, whatever the length of its id.
func rowHash(op *uploads.Operation) [16]byte {
	sum := sha256.Sum256([]byte(op.Table + "\x00" + op.ID))
	return [16]byte(sum[:16])
}
