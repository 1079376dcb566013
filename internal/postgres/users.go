package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/internal/identity"
)

// Users is what operators do with users, whatever signs them in. It needs the
// rights that serving needs, and no more.
type Users struct {
	Store *Store
}

// The kinds of users.
const (
	KindAccount = "account" // of ferry's own
	KindGuest   = "guest"   // one without an e-mail address
	KindOther   = "other"   // whom something else signs in: known by the denylist alone
)

// User is what ferry knows of a user.
type User struct {
	ID             string     `json:"user_id"`
	Kind           string     `json:"kind"`
	Email          string     `json:"email,omitempty"`
	CreatedAt      *time.Time `json:"created_at,omitempty"`
	Sessions       int        `json:"sessions"` // of an account, that have not ended
	Disabled       bool       `json:"disabled"`
	Reason         string     `json:"reason,omitempty"`          // for which the user was disabled
	SessionsBefore *time.Time `json:"sessions_before,omitempty"` // sessions issued before this are void
}

// UserFilter selects users. A zero field selects all.
type UserFilter struct {
	Email    string // a part of the address, in any case
	Kind     string
	Disabled bool
	Since    time.Time // made at this time or later
	Limit    int
}

// ErrNoUser means that ferry has no account like that.
var ErrNoUser = errors.New("ferry has no such account")

// usersSQL is all users that ferry knows, one row each.
const usersSQL = `
SELECT u.id, u.kind, u.email, u.created_at, u.sessions, u.disabled, u.reason, u.sessions_before
FROM (
    SELECT coalesce(a.user_id::text, d.user_id) AS id,
           CASE WHEN a.user_id IS NULL THEN 'other' WHEN a.email IS NULL THEN 'guest' ELSE 'account' END AS kind,
           coalesce(a.email, '') AS email, a.email_key, a.created_at,
           (SELECT count(*) FROM ferry.sessions s WHERE s.user_id = a.user_id AND s.expires_at > now()) AS sessions,
           coalesce(d.disabled, false) AS disabled, coalesce(d.reason, '') AS reason, d.sessions_before
    FROM ferry.accounts a
    FULL JOIN ferry.denylist d ON d.user_id = a.user_id::text
) AS u`

const listUsersSQL = usersSQL + `
WHERE strpos(coalesce(u.email_key, ''), $1) > 0 AND ($2 = '' OR u.kind = $2) AND (NOT $3 OR u.disabled)
  AND ($4::timestamptz IS NULL OR u.created_at >= $4)
ORDER BY u.created_at DESC NULLS LAST, u.id
LIMIT nullif($5::bigint, 0)`

const findUserSQL = usersSQL + `
WHERE u.id = $1`

const findUserByEmailSQL = usersSQL + `
WHERE u.email_key = $1`

// List returns users, the newest accounts first and those of no account last.
func (u *Users) List(ctx context.Context, f UserFilter) ([]User, error) {
	since := &f.Since
	if f.Since.IsZero() {
		since = nil
	}
	return u.query(ctx, "list users", listUsersSQL, strings.ToLower(f.Email), f.Kind, f.Disabled, since, f.Limit)
}

// FindByEmail returns the user of the account with an address. The error wraps
// ErrNoUser if there is none.
func (u *Users) FindByEmail(ctx context.Context, email identity.Email) (*User, error) {
	found, err := u.query(ctx, "find a user", findUserByEmailSQL, email.Key)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ErrNoUser
	}
	return &found[0], nil
}

// Find returns the user with an id: one of KindOther where ferry knows nothing
// of it. The ids of accounts are found in any spelling of uuids.
func (u *Users) Find(ctx context.Context, id string) (*User, error) {
	ids := []string{id}
	if parsed, err := parseUUID(id); err == nil && parsed.String() != id {
		ids = append(ids, parsed.String())
	}
	user := &User{ID: id, Kind: KindOther}
	for _, spelling := range ids {
		found, err := u.query(ctx, "find a user", findUserSQL, spelling)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 && (spelling == id || found[0].Kind != KindOther) {
			return &found[0], nil
		}
	}
	return user, nil
}

func (u *Users) query(ctx context.Context, what, sql string, args ...any) ([]User, error) {
	rows, err := u.Store.control.Query(ctx, sql, args...)
	if err != nil {
		return nil, OperatorError(what, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r User, err error) {
		err = row.Scan(&r.ID, &r.Kind, &r.Email, &r.CreatedAt, &r.Sessions, &r.Disabled, &r.Reason, &r.SessionsBefore)
		return r, err
	})
	if err != nil {
		return nil, OperatorError(what, err)
	}
	return found, nil
}

const disableSQL = `
INSERT INTO ferry.denylist (user_id, disabled, reason)
VALUES ($1, true, $2)
ON CONFLICT (user_id) DO UPDATE SET disabled = true, reason = excluded.reason, changed_at = now()`

// enableSQL forgets a user of whom nothing else is to be remembered.
// $2: whether the sessions that were void are good again.
const enableSQL = `
WITH forgotten AS (
    DELETE FROM ferry.denylist
    WHERE user_id = $1 AND (sessions_before IS NULL OR $2)
    RETURNING 1
)
UPDATE ferry.denylist
SET disabled = false, reason = '', changed_at = now()
WHERE user_id = $1 AND sessions_before IS NOT NULL AND NOT $2`

// Disable keeps a user out, within a second on every replica.
func (u *Users) Disable(ctx context.Context, userID, reason string) error {
	if _, err := u.Store.control.Exec(ctx, disableSQL, userID, reason); err != nil {
		return OperatorError("disable a user", err)
	}
	return nil
}

// Enable lets a user in again. Sessions that were revoked stay so, unless
// sessionsToo.
func (u *Users) Enable(ctx context.Context, userID string, sessionsToo bool) error {
	if _, err := u.Store.control.Exec(ctx, enableSQL, userID, sessionsToo); err != nil {
		return OperatorError("enable a user", err)
	}
	return nil
}

// UserSession is a session of an account.
type UserSession struct {
	ID        string    `json:"session_id"`
	CreatedAt time.Time `json:"created_at"`
	UsedAt    time.Time `json:"used_at"` // to a day
	ExpiresAt time.Time `json:"expires_at"`
}

const listSessionsSQL = `
SELECT id::text, created_at, used_at, expires_at
FROM ferry.sessions
WHERE user_id = $1::uuid AND expires_at > now()
ORDER BY used_at DESC, created_at DESC, id`

const endOneSessionSQL = `
DELETE FROM ferry.sessions
WHERE id = $1::uuid
RETURNING user_id::text`

// Sessions returns the sessions of an account, the one that was used last
// first.
func (u *Users) Sessions(ctx context.Context, userID string) ([]UserSession, error) {
	rows, err := u.Store.control.Query(ctx, listSessionsSQL, userID)
	if err != nil {
		return nil, OperatorError("list sessions", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[UserSession])
	if err != nil {
		return nil, OperatorError("list sessions", err)
	}
	return found, nil
}

// EndSession ends a session of an account by its id, and returns whose it was.
// The error wraps ErrNoUser if there is none.
func (u *Users) EndSession(ctx context.Context, id string) (userID string, err error) {
	if _, err := parseUUID(id); err != nil {
		return "", ErrNoUser
	}
	err = u.Store.control.QueryRow(ctx, endOneSessionSQL, id).Scan(&userID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", ErrNoUser
	}
	if err != nil {
		return "", OperatorError("end a session", err)
	}
	return userID, nil
}

// deleteAccountSQL takes the sessions along.
const deleteAccountSQL = `
DELETE FROM ferry.accounts
WHERE user_id = $1::uuid`

// Delete deletes an account, with its address, password and sessions, and voids
// the sync tokens that were issued to it. What the user may have in other tables
// stays. The error wraps ErrNoUser if there is no such account.
func (u *Users) Delete(ctx context.Context, userID string) error {
	err := pgx.BeginFunc(ctx, u.Store.control, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteAccountSQL, userID)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrNoUser
		}
		_, err = revoke(ctx, tx, userID, true)
		return err
	})
	if errors.Is(err, ErrNoUser) {
		return err
	}
	if err != nil {
		return OperatorError("delete an account", err)
	}
	return nil
}

// Revoke voids all sessions of a user that were issued until now, whatever
// signed the user in.
func (u *Users) Revoke(ctx context.Context, user *User) error {
	ofAccount := user.Kind != KindOther
	err := pgx.BeginFunc(ctx, u.Store.control, func(tx pgx.Tx) error {
		if ofAccount {
			if _, err := tx.Exec(ctx, lockAccountSQL, user.ID); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, endSessionsSQL, user.ID, []byte(nil)); err != nil {
				return err
			}
		}
		_, err := revoke(ctx, tx, user.ID, ofAccount)
		return err
	})
	if err != nil {
		return OperatorError(fmt.Sprintf("revoke the sessions of %s", shown(user.ID)), err)
	}
	return nil
}
