package postgres

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/uploads"
)

// The longest that a statement may wait for a lock, and take. What is left of
// the upload's time may make it shorter.
const (
	longestWait = 5 * time.Second
	longest     = 20 * time.Second
)

// left is what is left of the time that the upload may take.
func (r *run) left() time.Duration {
	return r.limit - r.store.options.Now().Sub(r.started)
}

// outOfTime is whether too little is left to try anything.
func (r *run) outOfTime() bool { return r.left() < r.limit/4 }

// hadItsTime is whether what was just tried alone had enough of the time: else it
// would be blamed for what others took.
func (r *run) hadItsTime() bool { return r.granted >= r.limit/3 }

// statementLimit is the longest that a statement may take now. Where several
// client transactions are tried together, half of the time is kept for finding
// the one that takes so long, so that it is met alone in the end.
func (r *run) statementLimit() time.Duration {
	if r.limit == 0 { // not an upload
		return longest
	}
	if r.shares {
		return r.store.lanes.statement
	}
	limit := r.left() - r.reserve()
	if !r.alone {
		limit /= 2
	}
	return max(r.reserve(), min(longest, limit))
}

// reserve is the time that is kept for what must be written in the end, and for
// the answer.
func (r *run) reserve() time.Duration { return r.limit / 8 }

// exchangeInTime is an exchange that is canceled when only the reserve is left, so
// that there is time to count that: of many statements none may reach its own
// limit.
func (r *run) exchangeInTime(ctx context.Context, queries []query) error {
	return r.session.exchangeWithin(ctx, r.left()-r.reserve(), queries)
}

// exchangeWithin is an exchange that is canceled after so long.
func (s *session) exchangeWithin(ctx context.Context, limit time.Duration, queries []query) error {
	canceled := make(chan struct{})
	timer := time.AfterFunc(limit, func() {
		defer close(canceled)
		s.cancel(ctx)
	})
	err := s.exchange(ctx, queries...)
	if !timer.Stop() {
		<-canceled // or it would meet what comes next
	}
	return err
}

// A client transaction that times out or deadlocks alone becomes a verdict
// after so many attempts over so long, if the database answers otherwise.
const (
	timeoutAttempts = 5
	timeoutPeriod   = 2 * time.Minute
)

// countTimeoutSQL counts one more attempt of a client transaction. What was
// not tried for a day begins anew.
// $1: user id, $2: client id, $3: delivery, $4: the time.
const countTimeoutSQL = `
INSERT INTO ferry.timeouts AS t (user_id, client_id, delivery, first_at)
VALUES ($1, $2, $3, $4::timestamptz)
ON CONFLICT (user_id, client_id, delivery) DO UPDATE
SET attempts = CASE WHEN t.first_at < excluded.first_at - interval '1 day' THEN 1 ELSE t.attempts + 1 END,
    first_at = CASE WHEN t.first_at < excluded.first_at - interval '1 day' THEN excluded.first_at ELSE t.first_at END
RETURNING attempts, extract(epoch FROM $4::timestamptz - first_at)::bigint`

// forgetTimeoutsSQL drops what is of no use any more: the client's rejected
// transaction, and whatever it did not try for a day.
// $1: user id, $2: client id, $3: delivery, $4: the time.
const forgetTimeoutsSQL = `
DELETE FROM ferry.timeouts
WHERE user_id = $1 AND client_id = $2
  AND (delivery = $3 OR first_at < $4::timestamptz - interval '1 day')`

// forgetClientsTimeoutsSQL drops all that is counted of a client.
const forgetClientsTimeoutsSQL = `
DELETE FROM ferry.timeouts
WHERE user_id = $1 AND client_id = $2`

// mayTimeOut is whether an error of a client transaction alone is counted:
// statements that gave up waiting, deadlocks, serialization failures.
func mayTimeOut(pgErr *pgconn.PgError) bool {
	return isTimeout(pgErr) || strings.HasPrefix(pgErr.Code, "40")
}

// timedOut counts an attempt of a client transaction that was tried alone, and
// returns the verdict once there were enough. The count is committed apart.
func (r *run) timedOut(ctx context.Context, tx *transaction, pgErr *pgconn.PgError) (*verdict, error) {
	if isTimeout(pgErr) && !r.hadItsTime() {
		return nil, unavailable(pgErr)
	}
	ops := open([]*transaction{tx})
	var attempts, seconds int
	err := r.session.exchange(ctx, query{
		sql: countTimeoutSQL, params: r.timeoutParams(ops),
		row: func(values [][]byte) (err error) {
			if attempts, err = strconv.Atoi(string(values[0])); err != nil {
				return err
			}
			seconds, err = strconv.Atoi(string(values[1]))
			return err
		},
	})
	if err != nil {
		return nil, r.ownFault(err)
	}
	if attempts < timeoutAttempts || time.Duration(seconds)*time.Second < timeoutPeriod {
		return nil, unavailable(pgErr)
	}
	return &verdict{operation: ops[0], certain: true, counted: true, refusal: uploads.Refusal{
		Code: uploads.CodeTimeout, SQLState: pgErr.Code,
		Message: "the database gave this up again and again: " + pgErr.Message,
	}}, nil
}

// forgetTimeouts are the queries that end what was counted. They belong into the
// transaction that stores the verdicts: without these, the count goes on.
func (r *run) forgetTimeouts(verdicts []verdict) []query {
	var queries []query
	for _, v := range verdicts {
		if v.counted {
			queries = append(queries, query{sql: forgetTimeoutsSQL, params: r.timeoutParams(open([]*transaction{v.operation.tx}))})
		}
	}
	return queries
}

func (r *run) timeoutParams(ops []*operation) []param {
	now := r.store.options.Now().UTC().Format(time.RFC3339)
	return append(r.client(), bytesParam(deliveryHash(ops)), textParam(now))
}
