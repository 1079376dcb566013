package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/internal/doctor"
)

// rejectionChecks look at what waits for an operator, and at users who are about
// to meet a cap.
func (d *Doctor) rejectionChecks() []doctor.Check {
	return []doctor.Check{
		{Code: "open-rejections", Severity: doctor.Note, Find: d.needsSchema(openRejections)},
		{Code: "rejections-near-cap", Severity: doctor.Warning, Find: d.needsSchema(rejectionsNearCap)},
		{Code: "clients-near-cap", Severity: doctor.Warning, Find: d.needsSchema(clientsNearCap)},
	}
}

func openRejections(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var count int
	var oldest *time.Time
	err := tx.QueryRow(ctx, `SELECT count(*), min(created_at) FROM ferry.rejections WHERE state = 'open'`).Scan(&count, &oldest)
	if err != nil || count == 0 {
		return nil, err
	}
	return found(fmt.Sprintf("%d rejections are open, the oldest since %s: writes of users that the database has not got.", count, oldest.UTC().Format(time.RFC3339)),
		"Look at them, and replay or discard them:", "ferry rejections list"), nil
}

// nearCap is how much of a cap, in percent, is used when an operator should act,
// and maxUsersShown how many users are named.
const (
	nearCap       = 80
	maxUsersShown = 20
)

// fullestSQL lists users by the bytes of their open rejections.
// $1: how many bytes at least, $2: how many users.
const fullestSQL = `
SELECT user_id, bytes
FROM ferry.open_rejections
WHERE bytes >= $1
ORDER BY bytes DESC, user_id
LIMIT $2`

func rejectionsNearCap(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var user string
	var bytes int64
	return rowsAs(ctx, tx, fullestSQL, []any{maxOpenBytes / 100 * nearCap, maxUsersShown}, []any{&user, &bytes}, func() doctor.Finding {
		return doctor.Finding{
			Problem: fmt.Sprintf("The open rejections of user %s have %d MiB of %d: beyond that the user's refused uploads wait on the device.", user, bytes>>20, maxOpenBytes>>20),
			Remedy:  "Look at them, and replay or discard them:", Run: "ferry rejections list --user " + shellWord(user),
		}
	})
}

// maxClients is that of ferry.limit_clients.
const maxClients = 1000

// mostClientsSQL lists users by how many clients they have uploaded from.
// $1: how many at least, $2: how many users.
const mostClientsSQL = `
SELECT user_id, count(*)
FROM ferry.progress
GROUP BY user_id
HAVING count(*) >= $1
ORDER BY count(*) DESC, user_id
LIMIT $2`

func clientsNearCap(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var user string
	var clients int
	return rowsAs(ctx, tx, mostClientsSQL, []any{maxClients / 100 * nearCap, maxUsersShown}, []any{&user, &clients}, func() doctor.Finding {
		return doctor.Finding{
			Problem: fmt.Sprintf("User %s has uploaded from %d clients of %d: beyond that uploads of new ones wait.", user, clients, maxClients),
			Remedy:  "Let the app use one client id per installation (database.getClientId()); then forget the old ones:",
			Run: fmt.Sprintf("DELETE FROM ferry.history h USING ferry.progress p\nWHERE (h.user_id, h.client_id) = (p.user_id, p.client_id) AND p.user_id = %s AND p.updated_at < now() - interval '1 year';\n"+
				"DELETE FROM ferry.progress WHERE user_id = %[1]s AND updated_at < now() - interval '1 year';", literal(user)),
		}
	})
}
