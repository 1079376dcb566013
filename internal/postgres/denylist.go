package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/internal/identity"
)

var _ identity.DenylistStore = (*Store)(nil)

const denylistVersionSQL = `
SELECT version::text
FROM ferry.denylist_version`

// denylistSQL reads the list and its version as of one moment. A list without
// users is one row without a user.
const denylistSQL = `
SELECT v.version::text, d.user_id, d.disabled, d.sessions_before
FROM ferry.denylist_version v
LEFT JOIN ferry.denylist d ON d.disabled OR d.sessions_before IS NOT NULL`

// revokeSQL voids all that was issued to a user, $1, until now. It is called
// where the user's account is locked, if there is one: the time is that of the
// statement, not of the transaction, which may have waited.
//
// $2: whether nothing from before can be good in 25 hours: the sessions of an
// account are gone, and a sync token lives for a day at most. Such rows are
// forgotten then, a few with each revocation, unless an operator has made them.
const revokeSQL = `
WITH forgotten AS (
    DELETE FROM ferry.denylist
    WHERE user_id = ANY (ARRAY(
        SELECT d.user_id FROM ferry.denylist d
        WHERE d.forget_at < now() AND NOT d.disabled AND d.user_id <> $1
        LIMIT 8
        FOR UPDATE SKIP LOCKED))
)
INSERT INTO ferry.denylist AS d (user_id, sessions_before, forget_at)
VALUES ($1, clock_timestamp(), CASE WHEN $2 THEN clock_timestamp() + interval '25 hours' END)
ON CONFLICT (user_id) DO UPDATE
SET sessions_before = greatest(d.sessions_before, excluded.sessions_before),
    forget_at = CASE WHEN d.forget_at IS NOT NULL THEN excluded.forget_at END,
    changed_at = now()
RETURNING sessions_before`

// revoke returns the time before which sessions are void now.
func revoke(ctx context.Context, tx pgx.Tx, userID string, forgettable bool) (before time.Time, err error) {
	err = tx.QueryRow(ctx, revokeSQL, userID, forgettable).Scan(&before)
	return before, err
}

const isDisabledSQL = `
SELECT EXISTS (SELECT FROM ferry.denylist WHERE user_id = $1 AND disabled)`

func isDisabled(ctx context.Context, tx pgx.Tx, userID string) (disabled bool, err error) {
	err = tx.QueryRow(ctx, isDisabledSQL, userID).Scan(&disabled)
	return disabled, err
}

// ReadDenylist implements identity.DenylistStore. Nearly always it reads one
// row.
func (s *Store) ReadDenylist(ctx context.Context, known string) (*identity.DeniedUsers, error) {
	var version string
	if err := s.control.QueryRow(ctx, denylistVersionSQL).Scan(&version); err != nil {
		return nil, fmt.Errorf("read the version of the denylist: %w", err)
	}
	if version == known {
		return nil, nil
	}
	rows, err := s.control.Query(ctx, denylistSQL)
	if err != nil {
		return nil, fmt.Errorf("read the denylist: %w", err)
	}
	list := &identity.DeniedUsers{Users: map[string]identity.Denied{}}
	var (
		userID   *string
		disabled *bool
		before   *time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&list.Version, &userID, &disabled, &before}, func() error {
		if userID == nil {
			return nil
		}
		denied := identity.Denied{Disabled: *disabled}
		if before != nil {
			denied.SessionsBefore = before.UTC()
		}
		list.Users[*userID] = denied
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the denylist: %w", err)
	}
	return list, nil
}
