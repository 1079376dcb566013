package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/identity"
)

// Accounts keeps ferry's own accounts, in the tables of a store. Each of its
// database transactions that changes several sessions of a user locks the
// user's account first, so that no two of them wait for each other.
type Accounts struct {
	Store *Store
	// Lifetime is how long sessions last; of no use to whoever begins and finds
	// none.
	Lifetime identity.SessionLifetime
}

var _ identity.AccountStore = (*Accounts)(nil)

// createAccountSQL makes a guest where all are NULL.
const createAccountSQL = `
INSERT INTO ferry.accounts (email, email_key, password_hash)
VALUES (nullif($1, ''), nullif($2, ''), nullif($3, ''))
RETURNING user_id::text, coalesce(email, '')`

// upgradeGuestSQL gives the user of a session, $1, an address and a password.
const upgradeGuestSQL = `
UPDATE ferry.accounts a
SET email = $2, email_key = $3, password_hash = $4
FROM ferry.sessions s
WHERE s.token_hash = $1 AND s.expires_at > now() AND a.user_id = s.user_id AND a.email IS NULL
RETURNING a.user_id::text, a.email`

const sessionExistsSQL = `
SELECT EXISTS (SELECT FROM ferry.sessions WHERE token_hash = $1 AND expires_at > now())`

const findPasswordSQL = `
SELECT user_id::text, password_hash, password_version
FROM ferry.accounts
WHERE email_key = $1`

// lockPasswordSQL finds out whether a password is still the account's, and
// keeps it so until the end of the transaction.
const lockPasswordSQL = `
SELECT user_id::text, email
FROM ferry.accounts
WHERE user_id = $1::uuid AND password_version = $2
FOR NO KEY UPDATE`

const rehashSQL = `
UPDATE ferry.accounts
SET password_hash = $2
WHERE user_id = $1::uuid`

const replacePasswordSQL = `
UPDATE ferry.accounts
SET password_hash = $3, password_version = password_version + 1
WHERE user_id = $1::uuid AND password_version = $2`

const lockAccountSQL = `
SELECT
FROM ferry.accounts
WHERE user_id = $1::uuid
FOR NO KEY UPDATE`

// CreateAccount implements identity.AccountStore.
func (a *Accounts) CreateAccount(ctx context.Context, email identity.Email, passwordHash string, token identity.TokenHash) (*identity.AccountSession, error) {
	return a.begin(ctx, token, func(tx pgx.Tx, s *identity.AccountSession) error {
		return accountError(tx.QueryRow(ctx, createAccountSQL, email.Text, email.Key, passwordHash).Scan(&s.UserID, &s.Email))
	})
}

// UpgradeGuest implements identity.AccountStore.
func (a *Accounts) UpgradeGuest(ctx context.Context, guest identity.TokenHash, email identity.Email, passwordHash string, token identity.TokenHash) (*identity.AccountSession, error) {
	return a.begin(ctx, token, func(tx pgx.Tx, s *identity.AccountSession) error {
		err := tx.QueryRow(ctx, upgradeGuestSQL, guest[:], email.Text, email.Key, passwordHash).Scan(&s.UserID, &s.Email)
		if errors.Is(err, pgx.ErrNoRows) {
			return whyNotUpgraded(ctx, tx, guest)
		}
		if err != nil {
			return accountError(err)
		}
		_, err = tx.Exec(ctx, endSessionsSQL, s.UserID, []byte(nil))
		return err
	})
}

func whyNotUpgraded(ctx context.Context, tx pgx.Tx, guest identity.TokenHash) error {
	var there bool
	if err := tx.QueryRow(ctx, sessionExistsSQL, guest[:]).Scan(&there); err != nil {
		return err
	}
	if there {
		return identity.ErrNotGuest
	}
	return identity.ErrNoSession
}

// FindPassword implements identity.AccountStore.
func (a *Accounts) FindPassword(ctx context.Context, email identity.Email) (*identity.StoredPassword, error) {
	var p identity.StoredPassword
	err := a.Store.accounts.QueryRow(ctx, findPasswordSQL, email.Key).Scan(&p.UserID, &p.Hash, &p.Version)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, identity.ErrNoAccount
	}
	if err != nil {
		return nil, fmt.Errorf("find a password: %w", err)
	}
	return &p, nil
}

// StartSession implements identity.AccountStore.
func (a *Accounts) StartSession(ctx context.Context, p *identity.StoredPassword, newHash string, token identity.TokenHash) (*identity.AccountSession, error) {
	return a.begin(ctx, token, func(tx pgx.Tx, s *identity.AccountSession) error {
		err := tx.QueryRow(ctx, lockPasswordSQL, p.UserID, p.Version).Scan(&s.UserID, &s.Email)
		if errors.Is(err, pgx.ErrNoRows) {
			return identity.ErrPasswordChanged
		}
		if err != nil {
			return err
		}
		disabled, err := isDisabled(ctx, tx, p.UserID)
		switch {
		case err != nil:
			return err
		case disabled:
			return identity.ErrUserDisabled
		case newHash == "":
			return nil
		}
		_, err = tx.Exec(ctx, rehashSQL, p.UserID, newHash)
		return err
	})
}

// ReplacePassword implements identity.AccountStore. The session that is kept
// begins anew, so that the denylist can void all that were issued before.
func (a *Accounts) ReplacePassword(ctx context.Context, p *identity.StoredPassword, newHash string, keep identity.TokenHash) error {
	return a.transaction(ctx, "replace a password", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, replacePasswordSQL, p.UserID, p.Version, newHash)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return identity.ErrPasswordChanged
		}
		before, err := endSessions(ctx, tx, p.UserID, keep[:])
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, reissueSessionSQL, keep[:], before)
		return err
	})
}

// begin begins a session of the account that prepare finds or makes, in one
// transaction. A zero token begins none.
func (a *Accounts) begin(ctx context.Context, token identity.TokenHash, prepare func(pgx.Tx, *identity.AccountSession) error) (*identity.AccountSession, error) {
	var s identity.AccountSession
	err := a.transaction(ctx, "begin a session", func(tx pgx.Tx) error {
		if err := prepare(tx, &s); err != nil || token == (identity.TokenHash{}) {
			return err
		}
		return tx.QueryRow(ctx, beginSessionSQL, s.UserID, token[:], identity.MaxSessions-1, a.Lifetime.Idle.Seconds()).
			Scan(&s.IssuedAt, &s.ExpiresAt)
	})
	if err != nil {
		return nil, err
	}
	return &s, nil
}

func (a *Accounts) transaction(ctx context.Context, what string, do func(pgx.Tx) error) error {
	if err := pgx.BeginFunc(ctx, a.Store.accounts, do); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// accountError finds the one error of the database that is somebody's choice
// of an address.
func accountError(err error) error {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "23505" && pgErr.ConstraintName == "account_per_email" {
		return identity.ErrEmailTaken
	}
	return err
}
