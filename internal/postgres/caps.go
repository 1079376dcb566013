package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"ferry/internal/fault"
)

// maxOpenBytes bounds the operations of one user's open rejections, so that a
// user whose every write is refused cannot fill the database: 64 MiB are two
// requests of the largest default size, or half a million ordinary operations,
// far more than an honest client queues before somebody looks. Above it nothing
// is rejected: the client keeps its queue and waits for an operator.
const maxOpenBytes = 64 << 20

// tooManyClients is what ferry.limit_clients raises.
const tooManyClients = "FE002"

// capPause is how long a client waits that has met a cap: an operator must act.
const capPause = time.Minute

// openBytesSQL measures the user's open rejections.
const openBytesSQL = `
SELECT bytes
FROM ferry.open_rejections
WHERE user_id = $1`

// findRoom returns how many of the verdicts the user's open rejections leave room
// for. A client transaction that is larger than all the room still finds it while
// no other is there, or it could never be decided. The measure is taken once for
// each upload: concurrent ones may go beyond it a little.
func (r *run) findRoom(verdicts []verdict) int {
	total := *r.openBytes
	for i := range verdicts {
		bytes := bytesOf(verdicts[i : i+1])
		if total > 0 && total+bytes > maxOpenBytes {
			return i
		}
		total += bytes
	}
	return len(verdicts)
}

// bytesOf is what the operations of refused transactions take to store.
func bytesOf(verdicts []verdict) int {
	total := 0
	for _, o := range open(transactionsOf(verdicts)) {
		total += len(o.op.Raw) + len(",")
	}
	return total
}

func (r *run) measureOpen(ctx context.Context) error {
	if r.openBytes == nil {
		var total int
		err := r.session.exchange(ctx, query{
			sql: openBytesSQL, params: r.client()[:1],
			row: func(values [][]byte) (err error) {
				total, err = strconv.Atoi(string(values[0]))
				return err
			},
		})
		if err != nil {
			return fmt.Errorf("measure the open rejections: %w", err)
		}
		r.openBytes = &total
	}
	return nil
}

func (r *run) noRoom() error {
	r.store.options.Log.Warn("a user's open rejections have reached their cap; the user's refused uploads wait; "+
		"replay or discard some (ferry rejections list --user)",
		slog.String("user", r.caller.UserID), slog.Int("bytes", *r.openBytes))
	return &fault.Error{
		Code: fault.TooManyRequests, RetryAfter: capPause,
		Detail: "too many of this user's operations stand rejected; they wait on the device until the server's operator has dealt with some",
	}
}

// clientsFault is the answer to one client too many of a user.
func (r *run) clientsFault(err error) error {
	r.store.options.Log.Warn("a user has reached the cap of clients; uploads of further ones wait", slog.String("user", r.caller.UserID))
	return &fault.Error{
		Code: fault.TooManyRequests, RetryAfter: capPause, Cause: err,
		Detail: "this user uploads from too many clients; use a client id again, such as database.getClientId()",
	}
}
