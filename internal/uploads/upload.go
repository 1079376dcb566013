// Package uploads says what an upload is, the same for any database: the
// operations that a client queued, the client transactions they belong to, how
// every accepted body shape is decoded, and what the client is told about each
// operation. It owns the fingerprint by which a redelivered operation is known.
//
// It knows neither HTTP nor SQL: internal/httpapi hands it bodies, and
// internal/postgres applies what it decoded. It imports internal/fault only.
package uploads

import (
	"context"
	"encoding/json"
)

// Kind is what an operation does to its row.
type Kind uint8

// The operations of PowerSync's upload queue (CrudEntry's UpdateType).
const (
	Put Kind = iota + 1
	Patch
	Delete
)

// String returns the name that the SDKs use.
func (k Kind) String() string {
	switch k {
	case Put:
		return "PUT"
	case Patch:
		return "PATCH"
	case Delete:
		return "DELETE"
	}
	return "unknown"
}

// Field is one column of an operation's data: the client's name for it, and
// the value as the JSON text that the client sent. Numbers are therefore never
// rounded.
type Field struct {
	Name  string
	Value json.RawMessage
}

// Operation is one entry of the client's upload queue.
type Operation struct {
	Kind  Kind
	Table string // the client's name for it
	ID    string // the row's id, as text; may be empty
	// Fields are sorted by name, without duplicates and without the id.
	Fields []Field
	// OpID is the entry's place in the client's queue, rising for ever.
	// It is -1 where the client sent none.
	OpID int64
	// Malformed says why Postgres cannot hold the table, id or a column's
	// name (a lone surrogate), which then stands here as its JSON text; empty
	// for nearly every operation.
	Malformed string
	// Fingerprint tells this operation from another one under the same OpID.
	Fingerprint Fingerprint
	// Raw is the entry as the client sent it: one JSON object.
	Raw json.RawMessage
}

// Transaction is one client transaction: it is applied or rejected as a whole.
type Transaction struct {
	// TxID is the client's number for it, -1 where the client sent none.
	TxID       int64
	Operations []Operation
}

// Upload is one decoded request.
type Upload struct {
	// ClientID names the device's database; empty where the request had none.
	ClientID string
	// UserID is whom the client believes these operations belong to; empty
	// where the request did not say.
	UserID string
	// NamesUser is whether the request said whom they belong to.
	NamesUser    bool
	Transactions []Transaction
	// Grouped is whether the request itself said where each client transaction
	// ends ("transactions").
	Grouped bool
	// OutOfOrder is whether tx_ids do not rise, as no SDK sends them: a client
	// transaction may then go on after another one.
	OutOfOrder bool
	// ExactlyOnce is whether a redelivery can be recognised: the request has a
	// client id, and every operation an op id.
	ExactlyOnce bool
	// Operations is the number of operations in all transactions.
	Operations int
}

// LastOpID returns the last operation's id, or -1 for an upload without any.
func (u *Upload) LastOpID() int64 {
	for i := len(u.Transactions) - 1; i >= 0; i-- {
		if ops := u.Transactions[i].Operations; len(ops) > 0 {
			return ops[len(ops)-1].OpID
		}
	}
	return -1
}

// FirstTxID returns the client transaction of the first operation, or -1.
func (u *Upload) FirstTxID() int64 {
	for _, tx := range u.Transactions {
		if len(tx.Operations) > 0 {
			return tx.TxID
		}
	}
	return -1
}

// Caller is the user as whom an upload is applied.
type Caller struct {
	UserID string
	// Claims is the session's claims, one JSON object with `sub` equal to
	// UserID; row-level security policies read it.
	Claims json.RawMessage
}

// Store applies uploads.
type Store interface {
	// Apply decides every operation of u and returns once that is durable.
	// Each is applied once, found to be applied before, ignored, or stored as
	// rejected. An error is a *fault.Error; operations that were decided
	// before it stay so, and a redelivery finds them. The result beside an
	// error is nil, or has only Outcomes.
	Apply(ctx context.Context, caller Caller, u *Upload) (*Result, error)
}
