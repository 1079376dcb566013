package postgres

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"

	"ferry/internal/uploads"
)

// The statements on how far a client's upload queue has been applied. The row of
// ferry.progress is what keeps two deliveries of one client apart.

// noteSQL notes decisions, if no op id up to now was above $7, no rejected client
// transaction is at or behind $8, and the row has room for them; or raises
// division_by_zero. Where it waited for another delivery, that is judged by what
// the other one has committed. $3: the highest op id, $4: how many operations, $5
// and $6: their decisions and the lowest op id, $9: the highest tx_id among those
// that are rejected, $10: how many bytes of decisions leave no room.
const noteSQL = `
INSERT INTO ferry.progress AS p (user_id, client_id, last_op_id, operations, recent, recent_first, rejected_tx_id)
VALUES ($1, $2, $3, $4, $5, $6, $9)
ON CONFLICT (user_id, client_id) DO UPDATE
SET last_op_id     = greatest(p.last_op_id, excluded.last_op_id),
    operations     = p.operations + excluded.operations,
    recent         = p.recent || excluded.recent,
    recent_first   = least(p.recent_first, excluded.recent_first),
    rejected_tx_id = greatest(p.rejected_tx_id, excluded.rejected_tx_id),
    updated_at     = now()
WHERE 1 / CASE WHEN p.last_op_id >= $7 OR p.rejected_tx_id >= $8 OR octet_length(p.recent) >= $10 THEN 0 ELSE 1 END = 1`

// rememberSQL moves the row's decisions to the history if they are more than $3
// bytes. rememberLargeSQL puts decisions there that the row has no room for: $5,
// of the op ids from $3 to $4.
const (
	rememberSQL = `
SELECT ferry.remember_recent(p)
FROM ferry.progress p
WHERE user_id = $1 AND client_id = $2 AND octet_length(recent) > $3`

	rememberLargeSQL = `
SELECT ferry.remember(p, $3, $4, $5)
FROM ferry.progress p
WHERE user_id = $1 AND client_id = $2`
)

// maxRecent is how many bytes of decisions the row keeps. It stays under a
// kilobyte: measured, a larger one slows small uploads.
const maxRecent = 768

// To look whether the row has grown too large is a statement of its own, so only
// uploads do that which pass a multiple of roomEvery among the op ids: these
// follow each other in a client's queue. Where they do not, there is no room at
// fullRow bytes, and the second path takes its turn, which always looks.
const (
	roomEvery = 16
	fullRow   = 2 * maxRecent
)

// ensureProgressSQL and lockProgressSQL make a redelivery wait for the first
// delivery; what they read then is final.
const ensureProgressSQL = `
INSERT INTO ferry.progress (user_id, client_id, last_op_id)
VALUES ($1, $2, -1)
ON CONFLICT (user_id, client_id) DO NOTHING`

const lockProgressSQL = `
SELECT recent
FROM ferry.progress
WHERE user_id = $1 AND client_id = $2
FOR UPDATE`

// historySQL reads older decisions that may be on these op ids: those where the
// lowest id that is not below first_op_id is not above last_op_id either.
// $3: op ids, rising, $4 and $5: the first and the last of them.
const historySQL = `
WITH asked (ids) AS MATERIALIZED (SELECT $3::text[]::bigint[])
SELECT h.entries
FROM asked, ferry.history h
WHERE h.user_id = $1 AND h.client_id = $2 AND h.last_op_id >= $4 AND h.first_op_id <= $5
  AND asked.ids[width_bucket(h.first_op_id - 1, asked.ids) + 1] <= h.last_op_id
ORDER BY h.seq`

// touchProgressSQL writes something, so that its COMMIT has to wait.
const touchProgressSQL = `
INSERT INTO ferry.progress (user_id, client_id, last_op_id)
VALUES ($1, $2, -1)
ON CONFLICT (user_id, client_id) DO UPDATE
SET updated_at = now()`

// client is the pair of parameters that names the client in ferry's tables.
func (r *run) client() []param {
	return []param{textParam(r.caller.UserID), textParam(r.upload.ClientID)}
}

// advance are the queries that note operations as applied, if all of them are
// certainly new, and none of a client transaction that was rejected in an earlier
// upload. firstTx is the tx_id of the first, the only one that may have been begun
// before.
func (r *run) advance(ops []*uploads.Operation, firstTx int64) []query {
	records := newRecordList(len(ops))
	for _, op := range ops {
		records.add(record{key: operationKey{op.OpID, op.Fingerprint}, decision: applied})
	}
	first, last := ops[0].OpID, ops[len(ops)-1].OpID
	return r.note(decisions{records.bytes, len(ops), first, last, -1}, first, firstTx)
}

// recordDecisions are the queries that note what becomes of ops.
func (r *run) recordDecisions(ops []*operation) []query {
	return r.note(decisionsOn(ops), anyOpID, -1)
}

// advanceDecisions are the same, if all of them are certainly new.
func (r *run) advanceDecisions(ops []*operation) []query {
	d := decisionsOn(ops)
	return r.note(d, d.first, -1)
}

// decisions are what is noted of some operations.
type decisions struct {
	records     []byte
	operations  int
	first, last int64 // op ids
	rejectedTx  int64 // the highest tx_id of a rejected one; -1 for none
}

func decisionsOn(ops []*operation) decisions {
	d := decisions{operations: len(ops), rejectedTx: -1}
	d.first, d.last = opIDs(ops)
	records := newRecordList(len(ops))
	for _, o := range ops {
		records.add(record{
			key:       operationKey{o.op.OpID, o.op.Fingerprint},
			decision:  o.expected,
			rejection: o.rejection,
		})
		if o.expected == rejected {
			d.rejectedTx = max(d.rejectedTx, o.tx.TxID)
		}
	}
	d.records = records.bytes
	return d
}

// anyOpID is above all op ids.
const anyOpID = math.MaxInt64

// note are the queries that note decisions, if all op ids noted so far are below
// above, and all rejected client transactions below firstTx, or that is -1. What
// may be noted in any case finds room in any case.
func (r *run) note(d decisions, above, firstTx int64) []query {
	recent, recentFirst := bytesParam(d.records), intParam(d.first)
	full, looks := fullRow, (d.first-1)/roomEvery != d.last/roomEvery
	if above == anyOpID {
		full, looks = math.MaxInt32, true
	}
	var more []query
	switch {
	case len(d.records) > maxRecent:
		more = []query{{sql: rememberLargeSQL, params: append(r.client(), intParam(d.first), intParam(d.last), recent)}}
		recent, recentFirst = bytesParam([]byte{}), param{oid: int8OID}
	case looks:
		more = []query{{sql: rememberSQL, params: append(r.client(), intParam(maxRecent))}}
	}
	return append([]query{{sql: noteSQL, params: append(r.client(),
		intParam(d.last), intParam(int64(d.operations)), recent, recentFirst, intParam(above), optionalInt(firstTx),
		optionalInt(d.rejectedTx), intParam(int64(full)))}}, more...)
}

// opIDs returns the lowest and the highest op id of some operations; 0 of none.
func opIDs(ops []*operation) (first, last int64) {
	for i, o := range ops {
		if i == 0 {
			first, last = o.op.OpID, o.op.OpID
		}
		first, last = min(first, o.op.OpID), max(last, o.op.OpID)
	}
	return first, last
}

// lockedHistory begins a transaction, reads what is known about operations, and
// keeps others out until it ends. more queries ride along.
func (r *run) lockedHistory(ctx context.Context, ops []*operation, more ...query) (map[operationKey]record, error) {
	known := make(map[operationKey]record, len(ops))
	sorted := slices.SortedFunc(slices.Values(ops), func(a, b *operation) int { return cmp.Compare(a.op.OpID, b.op.OpID) })
	ids := newTextArray(12 * len(ops))
	for _, o := range sorted {
		known[operationKey{o.op.OpID, o.op.Fingerprint}] = record{}
		ids.addText(strconv.FormatInt(o.op.OpID, 10))
	}
	first, last := opIDs(ops)
	read := func(values [][]byte) error {
		b, err := decodeBytea(values[0])
		if err != nil {
			return err
		}
		return readRecords(known, b)
	}
	queries := append(r.begin(),
		query{sql: ensureProgressSQL, params: r.client()},
		query{sql: lockProgressSQL, params: r.client(), row: read},
		query{sql: historySQL, replan: true, params: append(r.client(), ids.param(), intParam(first), intParam(last)), row: read})
	return known, r.session.exchange(ctx, append(queries, more...)...)
}
