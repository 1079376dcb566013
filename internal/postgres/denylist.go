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
