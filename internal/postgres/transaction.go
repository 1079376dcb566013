package postgres

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/internal/uploads"
)

// The statements around the app's own in each database transaction. They run
// in this order: begin, limits, progress, then the caller's role, which stays
// until COMMIT because deferred triggers run as whoever is current then.

// resetSQL and discardTempSQL undo what functions of the app set and made for the
// whole session: the next user of the connection must not see it. limitsSQL does
// so for the role, which RESET ALL leaves alone, and for locks. Behind a pooler,
// which sets the encoding after connecting, RESET ALL goes too far: back to the
// role's own.
const (
	resetSQL       = `RESET ALL`
	discardTempSQL = `DISCARD TEMP`
)

const beginSQL = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE`

const (
	commitSQL   = `COMMIT`
	rollbackSQL = `ROLLBACK`
)

// limitsSQL bounds the transaction. The settings are made here and not at
// connect, because poolers refuse startup parameters and share connections. A
// server that runs with synchronous_commit = off would let a 200 be forgotten.
// $1: whether this commit need not wait for the disk, $2: lock_timeout,
// $3: statement_timeout.
const limitsSQL = `
SELECT set_config('role', 'none', false),
       set_config('client_encoding', 'UTF8', false),
       pg_advisory_unlock_all(),
       set_config('bytea_output', 'hex', true),
       set_config('lock_timeout', $2, true),
       set_config('statement_timeout', $3, true),
       set_config('idle_in_transaction_session_timeout', '10s', true),
       set_config('synchronous_commit', CASE
           WHEN $1 = 'relaxed' THEN 'off'
           WHEN current_setting('synchronous_commit') = 'off' THEN 'on'
           ELSE current_setting('synchronous_commit') END, true)`

// becomeCallerSQL makes the rest of the transaction run as the caller. The
// settings are those that PostgREST and Supabase make, so that policies written
// for them work. $1: role, $2: claims, $3: user id, $4: search path.
const becomeCallerSQL = `
SELECT set_config('role', $1, true),
       set_config('request.jwt.claims', $2, true),
       set_config('request.jwt.claim.sub', $3, true),
       set_config('app.user_id', $3, true),
       set_config('row_security', 'on', true),
       set_config('search_path', $4, true),
       set_config('TimeZone', 'UTC', true),
       set_config('DateStyle', 'ISO, YMD', true),
       set_config('array_nulls', 'on', true)`

// advanceSQL moves the client's progress on, or raises possiblySeen.
const advanceSQL = `SELECT ferry.advance($1, $2, $3, $4, $5, $6, $7)`

// recordSQL notes decisions in the client's history.
const recordSQL = `SELECT ferry.record($1, $2, $3, $4, $5, $6, 9223372036854775807)`

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
UPDATE ferry.progress
SET updated_at = now()
WHERE user_id = $1 AND client_id = $2`

func (r *run) begin() []query {
	commits := "durably"
	if r.relaxed {
		commits = "relaxed"
	}
	r.granted = r.statementLimit()
	queries := []query{{sql: beginSQL}, {sql: limitsSQL, params: []param{
		textParam(commits), milliseconds(min(longestWait, r.granted/2)), milliseconds(r.granted),
	}}}
	if r.raises {
		queries = append(queries, r.raiseCheckpoint())
	}
	if r.wasReset {
		return queries
	}
	return append([]query{{sql: resetSQL}, queries[0], {sql: discardTempSQL}}, queries[1:]...)
}

func milliseconds(d time.Duration) param {
	return textParam(strconv.FormatInt(d.Milliseconds(), 10) + "ms")
}

func (r *run) commit() query { return query{sql: commitSQL, tag: commitSQL} }

func (r *run) becomeCaller() query {
	return query{sql: becomeCallerSQL, params: []param{
		textParam(r.store.options.Role),
		textParam(string(r.caller.Claims)),
		textParam(r.caller.UserID),
		textParam(r.store.searchPath),
	}}
}

// client is the pair of parameters that names the client in ferry's tables.
func (r *run) client() []param {
	return []param{textParam(r.caller.UserID), textParam(r.upload.ClientID)}
}

// progressParams are those of recordSQL, and the first ones of advanceSQL.
func (r *run) progressParams(first, last int64, records []byte, operations int) []param {
	return append(r.client(), intParam(first), intParam(last), bytesParam(records),
		param{strconv.AppendInt(nil, int64(operations), 10), int4OID, 0})
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

// recordDecisions is the query that notes what becomes of ops.
func (r *run) recordDecisions(ops []*operation) query {
	return query{sql: recordSQL, params: r.decisions(ops)}
}

// advanceDecisions is the same, if all of them are new.
func (r *run) advanceDecisions(ops []*operation) query {
	return query{sql: advanceSQL, params: append(r.decisions(ops), optionalInt(-1))}
}

func (r *run) decisions(ops []*operation) []param {
	records := newRecordList(len(ops))
	for _, o := range ops {
		records.add(record{
			key:       operationKey{o.op.OpID, o.op.Fingerprint},
			decision:  o.expected,
			rejection: o.rejection,
		})
	}
	first, last := opIDs(ops)
	return r.progressParams(first, last, records.bytes, len(ops))
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

// advance is the query that notes operations as applied, if all of them are
// new. firstTx is the tx_id of the first: it may continue a rejected one.
func (r *run) advance(ops []*uploads.Operation, firstTx int64) query {
	records := newRecordList(len(ops))
	for _, op := range ops {
		records.add(record{key: operationKey{op.OpID, op.Fingerprint}, decision: applied})
	}
	first, last := ops[0].OpID, ops[len(ops)-1].OpID
	return query{
		sql:    advanceSQL,
		params: append(r.progressParams(first, last, records.bytes, len(ops)), optionalInt(firstTx)),
	}
}

// searchPath lists schemas for the setting of that name. Operators of
// extension types are found through it.
func searchPath(schemas []string) string {
	path := ""
	for _, s := range append(append([]string{}, schemas...), "public", "extensions") {
		if path != "" {
			path += ", "
		}
		path += pgx.Identifier{s}.Sanitize()
	}
	return path
}
