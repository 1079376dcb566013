package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"slices"
	"strconv"

	"ferry/internal/uploads"
)

// insertRejectionSQL stores a rejection. A second one of the same delivery is
// the first one.
const insertRejectionSQL = `
INSERT INTO ferry.rejections AS r (
    user_id, client_id, tx_id, first_op_id, last_op_id, delivery, claims, operations,
    code, sqlstate, constraint_name, column_name, message,
    table_name, row_id, op_id, op_index, depends_on, puts)
VALUES ($1, nullif($2, ''), $3, $4, $5, $6, $7, $8,
    $9, $10, $11, $12, $13,
    $14, $15, $16, $17, $18::uuid,
    ARRAY(SELECT decode(hash, 'hex') FROM unnest($19::text[]) AS hash))
ON CONFLICT (user_id, client_id, delivery) DO UPDATE SET delivery = r.delivery
RETURNING id`

// rejectionsSQL reads what clients are told of rejections. $1: ids.
const rejectionsSQL = `
SELECT r.id, coalesce(r.tx_id, -1), coalesce(r.op_id, -1), r.op_index, r.state, r.table_name, r.row_id,
       r.code, r.sqlstate, r.constraint_name, r.column_name, r.message
FROM ferry.rejections r
WHERE r.id = ANY ($1::uuid[])`

// reject stores the refusal of a client transaction in a database transaction
// of its own. What was decided meanwhile, by another delivery, stays so.
func (r *run) reject(ctx context.Context, v verdict) error {
	tx := v.operation.tx
	if err := r.storeRejection(ctx, v); err != nil {
		r.session.rollback(ctx)
		return r.ownFault(err)
	}
	r.store.options.Log.Info("client transaction rejected",
		slog.String("user", r.caller.UserID), slog.String("client", r.upload.ClientID),
		slog.Int64("tx_id", tx.TxID), slog.String("table", shown(v.operation.op.Table)),
		slog.String("code", v.refusal.Code), slog.String("sqlstate", v.refusal.SQLState))
	return nil
}

func (r *run) storeRejection(ctx context.Context, v verdict) error {
	tx := []*transaction{v.operation.tx}
	before := len(open(tx))
	if err := r.recognise(ctx, tx); err != nil {
		return err
	}
	ops := open(tx)
	if len(ops) < before { // another delivery was faster: judge what is left anew
		r.session.rollback(ctx)
		return nil
	}
	if err := r.checkRoom(ctx, ops); err != nil {
		return err
	}
	var id uuid
	err := r.session.exchange(ctx, query{
		sql: insertRejectionSQL, params: r.rejectionParams(v, ops),
		row: func(values [][]byte) (err error) {
			id, err = parseUUID(values[0])
			return err
		},
	})
	if err != nil {
		return err
	}
	for _, o := range ops {
		o.expected, o.rejection = rejected, id
	}
	queries := []query{r.commit()}
	if r.upload.ExactlyOnce {
		queries = []query{r.recordDecisions(ops), r.commit()}
	}
	if err := r.session.exchange(ctx, queries...); err != nil {
		for _, o := range ops {
			o.expected = applied
		}
		return err
	}
	for _, o := range ops {
		o.decided = rejected
		o.tx.belongsTo(id)
	}
	refused := v.operation
	refused.tx.rejectedNow = &uploads.Rejection{
		ID: id.String(), TxID: present(refused.tx.TxID), OpID: present(refused.op.OpID), OpIndex: opIndex(refused),
		State: uploads.Open, Table: sendable(refused.op.Table), RowID: sendable(refused.op.ID), Refusal: v.refusal,
	}
	return nil
}

// present is nil for the -1 that stands for "the client sent none".
func present(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

func (r *run) rejectionParams(v verdict, ops []*operation) []param {
	first, last := ops[0].op, ops[len(ops)-1].op
	delivery := param{oid: byteaOID}
	if r.upload.ExactlyOnce {
		delivery = bytesParam(deliveryHash(ops))
	}
	dependsOn := param{oid: textOID}
	if v.dependsOn != nil {
		dependsOn = textParam(v.dependsOn.String())
	}
	return append(r.client(),
		optionalInt(v.operation.tx.TxID), optionalInt(first.OpID), optionalInt(last.OpID),
		delivery, bytesParam(r.caller.Claims), bytesParam(asSent(ops)),
		textParam(v.refusal.Code), textParam(v.refusal.SQLState),
		textParam(v.refusal.Constraint), textParam(v.refusal.Column), textParam(v.refusal.Message),
		textParam(sendable(v.operation.op.Table)), textParam(sendable(v.operation.op.ID)),
		optionalInt(v.operation.op.OpID),
		param{strconv.AppendInt(nil, int64(opIndex(v.operation)), 10), int4OID, 0},
		dependsOn, textArrayParam(r.putHashes(ops)))
}

// opIndex is an operation's place within its client transaction.
func opIndex(o *operation) int {
	for i := range o.tx.operations {
		if &o.tx.operations[i] == o {
			return i
		}
	}
	return 0
}

// deliveryHash is the same for every delivery of the same operations.
func deliveryHash(ops []*operation) []byte {
	var b []byte
	for _, o := range ops {
		b = appendRecord(b, record{key: operationKey{o.op.OpID, o.op.Fingerprint}})
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

// asSent is a JSON array of the entries as the client sent them.
func asSent(ops []*operation) []byte {
	raws := make([][]byte, len(ops))
	for i, o := range ops {
		raws[i] = o.op.Raw
	}
	return slices.Concat([]byte("["), bytes.Join(raws, []byte(",")), []byte("]"))
}

// putHashes names the rows that a transaction would have made.
func (r *run) putHashes(ops []*operation) []byte {
	hashes := newTextArray(40 * len(ops))
	for _, o := range ops {
		if o.op.Kind == uploads.Put {
			hash := r.rowHash(o.op)
			hashes.addText(hex.EncodeToString(hash[:]))
		}
	}
	return hashes.bytes()
}

// result counts the decisions on txs and reads their rejections.
func (r *run) result(ctx context.Context, txs []*transaction) (*uploads.Result, error) {
	result := r.emptyResult()
	var ids []uuid
	for _, tx := range txs {
		for i := range tx.operations {
			switch tx.operations[i].decided {
			case applied:
				result.Applied++
			case duplicate:
				result.Duplicates++
			case ignored:
				result.Ignored++
			}
		}
		ids = append(ids, tx.rejections...)
	}
	if len(ids) == 0 {
		return result, nil
	}
	stored, err := r.rejections(ctx, ids)
	if err != nil {
		return nil, r.ownFault(err)
	}
	for _, id := range ids {
		rejection, ok := stored[id]
		if !ok { // pruned since: an operator has dealt with it
			rejection = uploads.Rejection{ID: id.String(), State: uploads.Discarded}
			rejection.Code, rejection.Message = uploads.CodeInternalError, "this rejection is no longer stored"
		}
		stored[id] = rejection
		result.Rejected = append(result.Rejected, rejection)
	}
	result.Outcomes = outcomes(txs, stored)
	return result, nil
}

// outcomes tells what became of each client transaction.
func outcomes(txs []*transaction, stored map[uuid]uploads.Rejection) []uploads.Outcome {
	list := make([]uploads.Outcome, len(txs))
	for i, tx := range txs {
		list[i].Decided = tx.firstOpen() == nil
		if len(tx.rejections) > 0 {
			rejection, ok := stored[tx.rejections[0]]
			switch {
			case ok:
				list[i].Rejection = &rejection
			case tx.rejectedNow != nil:
				list[i].Rejection = tx.rejectedNow
			default:
				list[i].Decided = false // it is, but why is not known here
			}
		}
	}
	return list
}

func (r *run) rejections(ctx context.Context, ids []uuid) (map[uuid]uploads.Rejection, error) {
	list := newTextArray(40 * len(ids))
	for _, id := range ids {
		list.addText(id.String())
	}
	stored := make(map[uuid]uploads.Rejection, len(ids))
	err := r.session.exchange(ctx, query{
		sql: rejectionsSQL, params: []param{textArrayParam(list.bytes())},
		row: func(values [][]byte) error {
			id, err := parseUUID(values[0])
			if err != nil {
				return err
			}
			text := func(i int) string { return string(values[i]) }
			index, err := strconv.Atoi(text(3))
			stored[id] = uploads.Rejection{
				ID: id.String(), TxID: presentInt(text(1)), OpID: presentInt(text(2)), OpIndex: index,
				State: uploads.State(text(4)), Table: text(5), RowID: text(6),
				Refusal: uploads.Refusal{
					Code: text(7), SQLState: text(8), Constraint: text(9), Column: text(10), Message: text(11),
				},
			}
			return err
		},
	})
	return stored, err
}

// presentInt reads a number; -1 stands for none.
func presentInt(text string) *int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil
	}
	return present(n)
}
