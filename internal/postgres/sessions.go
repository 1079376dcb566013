package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/internal/identity"
)

// beginSessionSQL also ends a few sessions that have expired, so that nobody
// has to, and those of the account that are one too many.
// $1: user id, $2: token hash, $3: how many others may stay, $4: seconds.
const beginSessionSQL = `
WITH expired AS (
    DELETE FROM ferry.sessions
    WHERE id = ANY (ARRAY(
        SELECT s.id FROM ferry.sessions s
        WHERE s.expires_at < now()
        ORDER BY s.expires_at
        LIMIT 8
        FOR UPDATE SKIP LOCKED))
), surplus AS (
    DELETE FROM ferry.sessions
    WHERE id = ANY (ARRAY(
        SELECT s.id FROM ferry.sessions s
        WHERE s.user_id = $1::uuid
        ORDER BY s.used_at DESC, s.id
        OFFSET $3))
)
INSERT INTO ferry.sessions (user_id, token_hash, expires_at)
VALUES ($1::uuid, $2, now() + $4::float8 * interval '1 second')
RETURNING issued_at, expires_at`

// sessionEndSQL is when session s ends: also one that began when the operator
// let sessions last longer.
const sessionEndSQL = `least(s.expires_at, s.used_at + $2::float8 * interval '1 second', s.created_at + $3::float8 * interval '1 second')`

// findSessionSQL finds a session and, once in a while, notes that it was used.
// $1: token hash, $2, $3, $4: seconds until it ends if it is not used, until it
// ends at the latest, and between two notes.
const findSessionSQL = `
WITH touched AS (
    UPDATE ferry.sessions s
    SET used_at = now(),
        expires_at = least(now() + $2::float8 * interval '1 second', s.created_at + $3::float8 * interval '1 second')
    WHERE s.token_hash = $1 AND ` + sessionEndSQL + ` > now() AND s.used_at < now() - $4::float8 * interval '1 second'
    RETURNING s.id, s.expires_at
)
SELECT s.user_id::text, coalesce(a.email, ''), s.issued_at, coalesce(t.expires_at, ` + sessionEndSQL + `), ` + sessionEndSQL + ` <= now()
FROM ferry.sessions s
JOIN ferry.accounts a ON a.user_id = s.user_id
LEFT JOIN touched t ON t.id = s.id
WHERE s.token_hash = $1`

const endSessionSQL = `
DELETE FROM ferry.sessions
WHERE token_hash = $1`

// endSessionsSQL ends all sessions of a user, $1, but one.
const endSessionsSQL = `
DELETE FROM ferry.sessions
WHERE user_id = $1::uuid AND token_hash IS DISTINCT FROM $2::bytea`

const reissueSessionSQL = `
UPDATE ferry.sessions
SET issued_at = $2
WHERE token_hash = $1`

// FindSession implements identity.AccountStore, in one round trip.
func (a *Accounts) FindSession(ctx context.Context, token identity.TokenHash) (*identity.AccountSession, error) {
	var s identity.AccountSession
	var expired bool
	err := a.Store.accounts.QueryRow(ctx, findSessionSQL, token[:],
		a.Lifetime.Idle.Seconds(), a.Lifetime.Max.Seconds(), a.Lifetime.Touch().Seconds()).
		Scan(&s.UserID, &s.Email, &s.IssuedAt, &s.ExpiresAt, &expired)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, identity.ErrNoSession
	case err != nil:
		return nil, fmt.Errorf("find a session: %w", err)
	case expired:
		return nil, identity.ErrSessionExpired
	}
	return &s, nil
}

// EndSession implements identity.AccountStore.
func (a *Accounts) EndSession(ctx context.Context, token identity.TokenHash) error {
	if _, err := a.Store.accounts.Exec(ctx, endSessionSQL, token[:]); err != nil {
		return fmt.Errorf("end a session: %w", err)
	}
	return nil
}

// EndSessions implements identity.AccountStore.
func (a *Accounts) EndSessions(ctx context.Context, userID string) error {
	return a.transaction(ctx, "end all sessions of a user", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockAccountSQL, userID); err != nil {
			return err
		}
		_, err := endSessions(ctx, tx, userID, nil)
		return err
	})
}

// endSessions ends a user's sessions but one, whose account is locked, and
// voids all that was issued until now. It returns when that was.
func endSessions(ctx context.Context, tx pgx.Tx, userID string, keep []byte) (time.Time, error) {
	if _, err := tx.Exec(ctx, endSessionsSQL, userID, keep); err != nil {
		return time.Time{}, err
	}
	return revoke(ctx, tx, userID, true)
}
