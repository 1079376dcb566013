package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"slices"
	"strconv"

	"ferry/internal/uploads"
)

// insertRejectionSQL stores a rejection.
const insertRejectionSQL = `
INSERT INTO ferry.rejections AS r (
    user_id, client_id, tx_id, first_op_id, last_op_id, delivery, claims, operations,
    code, sqlstate, constraint_name, column_name, message,
    table_name, row_id, op_id, op_index, depends_on, puts, id)
VALUES ($1, nullif($2, ''), $3, $4, $5, $6, $7, $8,
    $9, $10, $11, $12, $13,
    $14, $15, $16, $17, $18::uuid,
    ARRAY(SELECT decode(hash, 'hex') FROM unnest($19::text[]) AS hash), $20::uuid)`

// ensureRejectionSQL stores it once: a second one of the same delivery is the
// first one.
const ensureRejectionSQL = insertRejectionSQL + `
ON CONFLICT (user_id, client_id, delivery) DO UPDATE SET delivery = r.delivery
RETURNING id`

// rejectionsSQL reads what clients are told of rejections. $1: ids.
const rejectionsSQL = `
SELECT r.id, coalesce(r.tx_id, -1), coalesce(r.op_id, -1), r.op_index, r.state, r.table_name, r.row_id,
       r.code, r.sqlstate, r.constraint_name, r.column_name, r.message
FROM ferry.rejections r
WHERE r.id = ANY ($1::uuid[])`

// reject stores refusals of client transactions in a database transaction of
// their own. What was decided meanwhile, by another delivery, stays so.
func (r *run) reject(ctx context.Context, verdicts []verdict) error {
	stored, err := r.storeRejections(ctx, verdicts)
	for _, v := range stored {
		r.store.options.Log.Info("client transaction rejected",
			slog.String("user", r.caller.UserID), slog.String("client", r.upload.ClientID),
			slog.Int64("tx_id", v.operation.tx.TxID), slog.String("table", shown(v.operation.op.Table)),
			slog.String("code", v.refusal.Code), slog.String("sqlstate", v.refusal.SQLState))
	}
	if err != nil {
		r.session.rollback(ctx)
		return r.ownFault(err)
	}
	return nil
}

// storeRejections returns the verdicts that it stored. Beside an error there may
// be some: those that there was room for.
func (r *run) storeRejections(ctx context.Context, verdicts []verdict) ([]verdict, error) {
	if stored, err := r.storeNew(ctx, verdicts); stored || err != nil {
		return verdicts, err
	}
	txs := transactionsOf(verdicts)
	before := len(open(txs))
	if err := r.recognise(ctx, txs); err != nil {
		return nil, err
	}
	if len(open(txs)) < before { // another delivery was faster: judge what is left anew
		r.session.rollback(ctx)
		return nil, nil
	}
	if err := r.measureOpen(ctx); err != nil {
		return nil, err
	}
	fitting := r.findRoom(verdicts)
	var full error
	if fitting < len(verdicts) {
		full = r.noRoom()
	}
	if fitting == 0 {
		return nil, full
	}
	verdicts = verdicts[:fitting]
	ids := newUUIDs(len(verdicts))
	inserts := make([]query, len(verdicts))
	for i, v := range verdicts {
		inserts[i] = query{sql: ensureRejectionSQL, params: r.rejectionParams(v, ids[i]), row: func(values [][]byte) (err error) {
			ids[i], err = parseUUID(values[0])
			return err
		}}
	}
	if err := r.session.exchange(ctx, append(inserts, r.forgetTimeouts(verdicts)...)...); err != nil {
		return nil, err
	}
	err := r.decideRejected(ctx, verdicts, ids, func(ops []*operation) []query {
		if !r.upload.ExactlyOnce {
			return []query{r.commit()}
		}
		return append(r.recordDecisions(ops), r.commit())
	})
	if err != nil {
		return nil, err
	}
	return verdicts, full
}

// storeNew stores rejections in one round trip, if their operations are newer
// than all that are known, as they nearly always are. It reports whether it did.
func (r *run) storeNew(ctx context.Context, verdicts []verdict) (bool, error) {
	if !r.upload.ExactlyOnce || r.upload.OutOfOrder || r.openBytes == nil || r.findRoom(verdicts) < len(verdicts) {
		return false, nil
	}
	ids := newUUIDs(len(verdicts))
	err := r.decideRejected(ctx, verdicts, ids, func(ops []*operation) []query {
		queries := append(r.begin(), r.advanceDecisions(ops)...)
		for i, v := range verdicts {
			queries = append(queries, query{sql: insertRejectionSQL, params: r.rejectionParams(v, ids[i])})
		}
		queries = append(queries, r.forgetTimeouts(verdicts)...)
		return append(queries, r.commit())
	})
	if hasSQLState(err, divisionByZero, "23505") {
		r.session.rollback(ctx)
		return false, nil
	}
	return err == nil, err
}

func transactionsOf(verdicts []verdict) []*transaction {
	txs := make([]*transaction, len(verdicts))
	for i, v := range verdicts {
		txs[i] = v.operation.tx
	}
	return txs
}

// decideRejected marks the open operations of refused transactions, each
// transaction's with its rejection's id, and runs what commits that.
func (r *run) decideRejected(ctx context.Context, verdicts []verdict, ids []uuid, commits func(ops []*operation) []query) error {
	ops := open(transactionsOf(verdicts))
	for i, v := range verdicts {
		for _, o := range open([]*transaction{v.operation.tx}) {
			o.expected, o.rejection = rejected, ids[i]
		}
	}
	if err := r.session.exchange(ctx, commits(ops)...); err != nil {
		for _, o := range ops {
			o.expected = applied
		}
		return err
	}
	r.gotFurther = true
	*r.openBytes += bytesOf(verdicts)
	for _, o := range ops {
		o.decided = rejected
		o.tx.belongsTo(o.rejection)
	}
	for i, v := range verdicts {
		v.operation.tx.rejectedNow = rejectionOf(v, ids[i])
	}
	return nil
}

func rejectionOf(v verdict, id uuid) *uploads.Rejection {
	o := v.operation
	return &uploads.Rejection{
		ID: id.String(), TxID: present(o.tx.TxID), OpID: present(o.op.OpID), OpIndex: opIndex(o),
		State: uploads.Open, Table: sendable(o.op.Table), RowID: sendable(o.op.ID), Refusal: v.refusal,
	}
}

// present is nil for the -1 that stands for "the client sent none".
func present(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

func (r *run) rejectionParams(v verdict, id uuid) []param {
	ops := open([]*transaction{v.operation.tx})
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
		dependsOn, r.putHashes(ops), textParam(id.String()))
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
func (r *run) putHashes(ops []*operation) param {
	hashes := newTextArray(80 * len(ops))
	for _, o := range ops {
		if o.op.Kind == uploads.Put {
			for _, hash := range r.rowHashes(o.op) {
				hashes.addText(hash)
			}
		}
	}
	return hashes.param()
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
		sql: rejectionsSQL, params: []param{list.param()},
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
