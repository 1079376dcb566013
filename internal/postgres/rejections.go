package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/internal/uploads"
)

// Rejections is what operators do with the stored rejections of a store. It
// needs the rights that serving needs, and no more.
type Rejections struct {
	Store *Store
}

// StoredRejection is a row of ferry.rejections.
type StoredRejection struct {
	uploads.Rejection
	UserID    string     `json:"user_id"`
	ClientID  string     `json:"client_id,omitempty"`  // empty where the request had none
	DependsOn string     `json:"depends_on,omitempty"` // the rejection that came before it
	CreatedAt time.Time  `json:"created_at"`
	RefusedAt *time.Time `json:"refused_at,omitempty"` // when a replay was last refused
	SettledAt *time.Time `json:"settled_at,omitempty"` // when it was replayed or discarded
	// Operations are the client transaction as it was sent, a JSON array, and
	// Claims those of the session, a JSON object. Lists leave both out.
	Operations json.RawMessage `json:"operations,omitempty"`
	Claims     json.RawMessage `json:"claims,omitempty"`
}

// RejectionFilter selects stored rejections. A zero field selects all.
type RejectionFilter struct {
	User, Table, Code string
	Since             time.Time // refused by the database at this time or later
	State             uploads.State
	NewestFirst       bool
	Limit             int
}

// ErrNoRejection means that no rejection has this id: it was pruned, or never
// there.
var ErrNoRejection = errors.New("there is no such rejection")

const rejectionColumns = `
       r.id::text, r.user_id, coalesce(r.client_id, ''), r.tx_id, r.op_id, r.op_index, r.state, r.table_name, r.row_id,
       r.code, r.sqlstate, r.constraint_name, r.column_name, r.message, coalesce(r.depends_on::text, ''),
       r.created_at, r.refused_at, r.settled_at`

// listRejectionsSQL has two orders, and no limit where $6 is 0.
const listRejectionsSQL = `
SELECT` + rejectionColumns + `, NULL::bytea, NULL::bytea
FROM ferry.rejections r
WHERE ($1 = '' OR r.user_id = $1) AND ($2 = '' OR r.table_name = $2) AND ($3 = '' OR r.code = $3)
  AND ($4::timestamptz IS NULL OR r.created_at >= $4) AND ($5 = '' OR r.state = $5)
ORDER BY CASE WHEN $7 THEN r.created_at END DESC, r.created_at, r.first_op_id, r.id
LIMIT nullif($6::bigint, 0)`

const findRejectionSQL = `
SELECT` + rejectionColumns + `, r.operations, r.claims
FROM ferry.rejections r
WHERE r.id = $1::uuid`

// dependentsSQL lists what depends on $1, directly or not: each behind what it
// depends on, which was stored before it.
const dependentsSQL = `
WITH RECURSIVE story (id) AS (
    SELECT $1::uuid
    UNION
    SELECT r.id FROM story JOIN ferry.rejections r ON r.depends_on = story.id
)
SELECT` + rejectionColumns + `, NULL::bytea, NULL::bytea
FROM story
JOIN ferry.rejections r ON r.id = story.id
WHERE r.id <> $1::uuid
ORDER BY r.created_at, r.first_op_id, r.id`

const discardSQL = `
UPDATE ferry.rejections
SET state = 'discarded', settled_at = now()
WHERE id = $1::uuid AND state = 'open'`

// List returns the selected rejections, without their operations and claims.
func (j *Rejections) List(ctx context.Context, f RejectionFilter) ([]StoredRejection, error) {
	since := &f.Since
	if f.Since.IsZero() {
		since = nil
	}
	return j.query(ctx, "list rejections", listRejectionsSQL,
		f.User, f.Table, f.Code, since, string(f.State), f.Limit, f.NewestFirst)
}

// Find returns one rejection, whole. The error wraps ErrNoRejection if there
// is none.
func (j *Rejections) Find(ctx context.Context, id string) (*StoredRejection, error) {
	if _, err := parseUUID(id); err != nil {
		return nil, fmt.Errorf("rejection %s: %w: an id has 32 hexadecimal digits", shown(id), ErrNoRejection)
	}
	found, err := j.query(ctx, "find a rejection", findRejectionSQL, id)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("rejection %s: %w", id, ErrNoRejection)
	}
	return &found[0], nil
}

// Dependents returns the rejections that depend on one, directly or through
// others, in the order in which they were stored.
func (j *Rejections) Dependents(ctx context.Context, id string) ([]StoredRejection, error) {
	return j.query(ctx, "find what depends on a rejection", dependentsSQL, id)
}

// Discard gives an open rejection up and reports whether it was open. Nothing
// is deleted.
func (j *Rejections) Discard(ctx context.Context, id string) (bool, error) {
	tag, err := j.Store.control.Exec(ctx, discardSQL, id)
	if err != nil {
		return false, OperatorError("discard a rejection", err)
	}
	return tag.RowsAffected() == 1, nil
}

// Prune deletes the rejections that were replayed or discarded before a time
// and that no rejection which stays depends on. It returns how many.
func (j *Rejections) Prune(ctx context.Context, before time.Time) (int64, error) {
	var deleted int64
	err := j.Store.control.QueryRow(ctx, `SELECT ferry.prune_rejections($1)`, before).Scan(&deleted)
	if err != nil {
		return 0, OperatorError("prune rejections", err)
	}
	return deleted, nil
}

func (j *Rejections) query(ctx context.Context, what, sql string, args ...any) ([]StoredRejection, error) {
	rows, err := j.Store.control.Query(ctx, sql, args...)
	if err != nil {
		return nil, OperatorError(what, err)
	}
	found, err := pgx.CollectRows(rows, scanRejection)
	if err != nil {
		return nil, OperatorError(what, err)
	}
	return found, nil
}

func scanRejection(row pgx.CollectableRow) (r StoredRejection, err error) {
	var operations, claims []byte
	err = row.Scan(&r.ID, &r.UserID, &r.ClientID, &r.TxID, &r.OpID, &r.OpIndex, &r.State, &r.Table, &r.RowID,
		&r.Code, &r.SQLState, &r.Constraint, &r.Column, &r.Message, &r.DependsOn,
		&r.CreatedAt, &r.RefusedAt, &r.SettledAt, &operations, &claims)
	r.Operations, r.Claims = operations, claims
	return r, err
}

// OperatorError wraps an error with what was being done, and says what to do about the failures that an operator can mend.
func OperatorError(what string, err error) error {
	switch {
	case hasSQLState(err, "42P01", "3F000", "42703", "42883"):
		return fmt.Errorf("%s: schema ferry is missing or older than this ferry; run: ferry migrate up (%w)", what, err)
	case hasSQLState(err, "42501"):
		return fmt.Errorf("%s: the role in DATABASE_URL has no rights on schema ferry; run: ferry migrate up --grant-to ROLE (%w)", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
