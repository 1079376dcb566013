package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/fault"
	"ferry/internal/tokens"
	"ferry/internal/uploads"
)

// ClaimsFunction is a function of the app's that gives sync tokens their custom
// claims. It is called with the user id as text, as the upload role, with the
// session's claims set as uploads set them, and may only read.
type ClaimsFunction struct {
	store *Store
	name  string // quoted
}

var _ tokens.ClaimSource = (*ClaimsFunction)(nil)

// ClaimsFunction returns the function of a name, or of a schema and a name, as
// the catalog has them. Without a schema it is looked for where uploads look
// for tables.
func (s *Store) ClaimsFunction(name ...string) *ClaimsFunction {
	return &ClaimsFunction{store: s, name: pgx.Identifier(name).Sanitize()}
}

// claimsTimeout bounds each part of a call: the wait for a connection, and the
// function.
const claimsTimeout = 5 * time.Second

const beginReadOnlySQL = `BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY`

// claimsLimitsSQL is limitsSQL for a call of the function.
const claimsLimitsSQL = `
SELECT set_config('role', 'none', false),
       set_config('client_encoding', 'UTF8', false),
       set_config('lock_timeout', '5s', true),
       set_config('statement_timeout', '5s', true),
       set_config('idle_in_transaction_session_timeout', '5s', true)`

// callSQL casts the result to text and not to jsonb: numbers keep their
// spelling.
func (f *ClaimsFunction) callSQL() string { return `SELECT ` + f.name + `($1::text)::text` }

// checkSQL resolves the function and the rights to it, and calls nothing.
func (f *ClaimsFunction) checkSQL() string { return `EXPLAIN SELECT ` + f.name + `(''::text)::text` }

// Claims implements tokens.ClaimSource: one network round trip. Its errors are
// *fault.Error, TokenRefused with the message of an exception that the function
// raised, and Unavailable where the database is, or an error for the function's
// author.
func (f *ClaimsFunction) Claims(ctx context.Context, userID string, sessionClaims json.RawMessage) (json.RawMessage, error) {
	var results []jsontext.Value // nil for NULL
	err := f.run(ctx, uploads.Caller{UserID: userID, Claims: sessionClaims}, query{
		sql: f.callSQL(), params: []param{textParam(userID)},
		row: func(values [][]byte) error {
			results = append(results, bytes.Clone(values[0]))
			return nil
		},
	})
	switch {
	case err != nil:
		return nil, f.fault(err)
	case len(results) == 0, len(results) == 1 && results[0] == nil:
		return nil, nil
	case len(results) > 1, results[0].Kind() != '{', !results[0].IsValid():
		return nil, fmt.Errorf("the claims function %s must return one JSON object (as json, jsonb or text) in which no name stands twice, or NULL", f.name)
	}
	return json.RawMessage(results[0]), nil
}

// Check returns what is wrong with the function, as far as that is known
// without calling it: it is not there, or the upload role may not call it. A
// database that is away is no error of the function's.
func (f *ClaimsFunction) Check(ctx context.Context) error {
	err := f.run(ctx, uploads.Caller{Claims: json.RawMessage(`{}`)}, query{sql: f.checkSQL()})
	if hasSQLState(err, "42883", "42725", "42501", "3F000") {
		return f.fault(err)
	}
	return nil
}

// appStatement is the place of the function's statement in its exchange.
const appStatement = 4

// run runs a statement with the function as the caller. A statement that takes
// too long is ended by its own timeout, which leaves the connection usable.
func (f *ClaimsFunction) run(ctx context.Context, caller uploads.Caller, q query) error {
	waiting, stopWaiting := context.WithTimeout(ctx, claimsTimeout)
	defer stopWaiting()
	session, err := f.store.takeSession(waiting)
	if err != nil {
		return err
	}
	defer session.release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimsTimeout+time.Second)
	defer cancel()
	r := &run{store: f.store, caller: caller, session: session}
	return r.repeatedly(ctx, func() error {
		return r.session.exchange(ctx, query{sql: resetSQL}, query{sql: beginReadOnlySQL}, query{sql: claimsLimitsSQL},
			r.becomeCaller(), q, r.commit())
	})
}

// fault says whose failure an error of run is.
func (f *ClaimsFunction) fault(err error) error {
	failed, answered := errors.AsType[*queryError](err)
	pgErr, isPostgres := errors.AsType[*pgconn.PgError](err)
	switch {
	case !answered || !isPostgres || failed.index != appStatement:
		return f.ownFault(err)
	case raisedByApp(pgErr) && !isTransient(err):
		message := "the app gives this user no token"
		if pgErr.Message != "" {
			message = refusalOf(pgErr).Message
		}
		return fault.Wrap(err, fault.TokenRefused, message)
	case pgErr.Code == "25006", pgErr.Code == "25001": // it writes, or tries to make that possible
		return fmt.Errorf("the claims function %s may read but not write: %w", f.name, err)
	case pgErr.Code == "42883":
		return fmt.Errorf("the claims function %s does not exist, or not with one argument of type text, or calls one that does not: %w", f.name, err)
	case pgErr.Code == "42501":
		return fmt.Errorf("the claims function %s may not be called by the upload role, or may not read what it reads; see GRANT EXECUTE ON FUNCTION and GRANT USAGE ON SCHEMA: %w", f.name, err)
	case isTransient(err):
		return tokenUnavailable(err)
	}
	return fmt.Errorf("the claims function %s failed: %w", f.name, err)
}

// ownFault is the answer to a failure of ferry's own statements. What will not
// go away by itself is for the operator.
func (f *ClaimsFunction) ownFault(err error) error {
	if _, answered := errors.AsType[*pgconn.PgError](err); answered && !isTransient(err) {
		f.store.options.Log.Error("ferry cannot use its database as it is set up; tokens wait", slog.Any("error", err))
	}
	return tokenUnavailable(err)
}

func tokenUnavailable(cause error) error {
	return fault.Retry(cause, 2*time.Second, "the database cannot tell this token's claims right now; it is safe to try again")
}
