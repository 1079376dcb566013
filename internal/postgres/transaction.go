package postgres

import (
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
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
// connect, because poolers refuse startup parameters and share connections. What
// nearly always is as it should be is only looked at: making and unmaking a
// setting costs more. A server that runs with synchronous_commit = off would let a
// 200 be forgotten. It returns the time, in seconds.
// $1: whether this commit need not wait for the disk, $2: lock_timeout,
// $3: statement_timeout.
const limitsSQL = `
SELECT extract(epoch FROM clock_timestamp()),
       CASE WHEN current_setting('role') <> 'none' THEN set_config('role', 'none', false) END,
       CASE WHEN current_setting('client_encoding') <> 'UTF8' THEN set_config('client_encoding', 'UTF8', false) END,
       CASE WHEN current_setting('bytea_output') <> 'hex' THEN set_config('bytea_output', 'hex', true) END,
       pg_advisory_unlock_all(),
       set_config('lock_timeout', $2, true),
       set_config('statement_timeout', $3, true),
       set_config('idle_in_transaction_session_timeout', '10s', true),
       CASE WHEN $1 = 'relaxed' THEN set_config('synchronous_commit', 'off', true)
            WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END`

// becomeCallerSQL makes the rest of the transaction run as the caller. The
// settings are those that PostgREST and Supabase make, so that policies written
// for them work; the last ones are those of the connection (see openPool), unless
// somebody changed them. $1: role, $2: claims, $3: user id, $4: search path.
const becomeCallerSQL = `
SELECT set_config('role', $1, true),
       set_config('request.jwt.claims', $2, true),
       set_config('request.jwt.claim.sub', $3, true),
       set_config('app.user_id', $3, true),
       set_config('search_path', $4, true),
       CASE WHEN current_setting('DateStyle') <> 'ISO, YMD' THEN set_config('DateStyle', 'ISO, YMD', true) END,
       CASE WHEN current_setting('row_security') <> 'on' THEN set_config('row_security', 'on', true) END,
       CASE WHEN current_setting('TimeZone') <> 'UTC' THEN set_config('TimeZone', 'UTC', true) END,
       CASE WHEN current_setting('array_nulls') <> 'on' THEN set_config('array_nulls', 'on', true) END`

func (r *run) begin() []query {
	commits := "durably"
	if r.relaxed {
		commits = "relaxed"
	}
	r.granted = r.statementLimit()
	queries := []query{{sql: beginSQL}, {sql: limitsSQL, row: r.readBegan, params: []param{
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

func (r *run) readBegan(values [][]byte) error {
	seconds, err := strconv.ParseFloat(string(values[0]), 64)
	r.began = time.Duration(seconds * float64(time.Second))
	return err
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
