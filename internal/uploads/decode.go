package uploads

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"ferry/internal/fault"
)

// maxClientID is the longest client id, in bytes: PowerSync's are UUIDs.
const maxClientID = 200

// Decode reads a request body in any of the shapes that PowerSync's SDKs and
// published connectors send. The upload keeps slices of body.
//
// Its errors are *fault.Error with code fault.InvalidRequest: the client's
// code is wrong, and the detail names the entry.
func Decode(body []byte) (*Upload, error) { return DecodeAtMost(body, math.MaxInt) }

// ErrTooManyOperations is the error of DecodeAtMost for what goes beyond it.
var ErrTooManyOperations = errors.New("more operations than one request of several client transactions may have")

// DecodeAtMost is Decode for at most so many operations, where they belong to
// more than one client transaction: a single one cannot be cut by the client.
// It stops reading there.
func DecodeAtMost(body []byte, operations int) (*Upload, error) {
	if !utf8.Valid(body) {
		return nil, invalid("the body is not UTF-8")
	}
	d := decoders.Get().(*decoder) //nolint:forcetypeassert // nothing else is put there
	defer d.release()
	d.scanner, d.limit = scanner{input: body}, operations
	up := &Upload{}
	if err := d.upload(up); err != nil {
		return nil, err
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return up, checkOpIDs(up)
}

// decoder reads one body from its start to its end.
type decoder struct {
	scanner
	vocabulary
	limit   int // of entries in more than one transaction
	entries int // read so far

	columns    columnList // of the present entry
	operations slab[Operation]
	fields     slab[Field]
	scratch    []byte
}

// decoders keep what they learn of the words of one body for the next ones.
var decoders = sync.Pool{New: func() any { return &decoder{} }}

// What a decoder may keep: bytes of words, and as many of room for values, and
// columns.
const (
	maxKept        = 16 << 10
	maxKeptColumns = 256
)

// release keeps d for other bodies, but nothing of this body or its upload.
func (d *decoder) release() {
	if d.size > maxKept || cap(d.scratch) > maxKept || cap(d.columns.columns) > maxKeptColumns {
		return
	}
	clear(d.columns.columns[:cap(d.columns.columns)])
	clear(d.scratch[:cap(d.scratch)])
	*d = decoder{vocabulary: d.vocabulary, columns: d.columns, scratch: d.scratch}
	d.startEntry()
	decoders.Put(d)
}

func invalid(format string, args ...any) error {
	return fault.New(fault.InvalidRequest, format, args...)
}

// at says in err's detail which element of a list it is about.
func at(list string, index int, err error) error {
	if err == nil {
		return nil
	}
	f := fault.From(err)
	return fault.Wrap(f.Cause, f.Code, fmt.Sprintf("%s %d: %s", list, index, f.Detail))
}

func (d *decoder) upload(up *Upload) (err error) {
	switch d.peek() {
	case '[':
		up.Transactions, _, err = d.entryList()
	case '{':
		err = d.envelope(up)
	default:
		err = d.wrongKind(`the body must be {"client_id": …, "crud": […]}`)
	}
	for _, tx := range up.Transactions {
		up.Operations += len(tx.Operations)
	}
	return err
}

// envelope reads the object around the operations.
func (d *decoder) envelope(up *Upload) error {
	var seen struct{ operations, clientID, userID presence }
	_, err := d.object(func(w *word) error {
		switch name := w.text; name {
		case "crud", "batch", "operations", "transactions":
			return d.operationList(name, up, &seen.operations)
		case "client_id", "clientId":
			return d.text(name, &up.ClientID, &seen.clientID)
		case "user_id", "userId":
			return d.text(name, &up.UserID, &seen.userID)
		}
		return d.skipNext()
	})
	switch {
	case err != nil:
		return err
	case !seen.operations.set:
		return invalid(`the body has no operations: send them as "crud", in queue order`)
	case seen.clientID.set:
		err = checkClientID(up.ClientID)
	}
	up.NamesUser = seen.userID.set
	return err
}

// checkCount is called with the number of transactions read so far.
func (d *decoder) checkCount(transactions int) error {
	if d.entries > d.limit && transactions > 1 {
		return ErrTooManyOperations
	}
	return nil
}

func (d *decoder) operationList(name string, up *Upload, seen *presence) (err error) {
	switch d.peek() {
	case 'n':
		return d.skipNext()
	case '[':
	default:
		return d.wrongKind("%q must be an array", name)
	}
	var list []byte
	switch {
	case seen.set: // under a second name: only equal operations are no contradiction
		list, err = d.readValue()
	case name == "transactions":
		up.Grouped = true
		up.Transactions, list, err = d.transactionList()
	default:
		up.Transactions, list, err = d.entryList()
	}
	if err != nil {
		return err
	}
	return seen.note(name, list)
}

// text reads a string member; null counts as absent.
func (d *decoder) text(name string, into *string, seen *presence) error {
	switch d.peek() {
	case 'n':
		return d.skipNext()
	case '"':
	default:
		return d.wrongKind("%q must be a string", name)
	}
	value, err := d.readValue()
	if err != nil {
		return err
	}
	if err := seen.note(name, value); err != nil {
		return err
	}
	text, unheld := unquote(value)
	if unheld != "" {
		return invalid("%q has %s", name, unheld)
	}
	*into = strings.Clone(text) // it outlives the body
	return nil
}

func checkClientID(id string) error {
	if id == "" || len(id) > maxClientID {
		return invalid("client_id must have 1 to %d bytes: send database.getClientId()", maxClientID)
	}
	if strings.ContainsFunc(id, unicode.IsControl) {
		return invalid("client_id has a control character: send database.getClientId()")
	}
	return nil
}

// checkOpIDs decides whether the upload can be applied exactly once, and notes
// whether its client transactions are in order.
func checkOpIDs(up *Upload) error {
	last, missing, index := int64(-1), false, 0
	lastTx := int64(-1)
	for _, tx := range up.Transactions {
		if tx.TxID >= 0 {
			up.OutOfOrder = up.OutOfOrder || tx.TxID <= lastTx
			lastTx = tx.TxID
		}
		for _, op := range tx.Operations {
			switch {
			case op.OpID < 0:
				missing = true
			case op.OpID <= last:
				return invalid("entry %d: op_id %d does not rise: send the queue in its order", index, op.OpID)
			default:
				last = op.OpID
			}
			index++
		}
	}
	up.ExactlyOnce = up.ClientID != "" && !missing
	return nil
}

// presence remembers that a field of several accepted names has come, and
// with which JSON text.
type presence struct {
	set   bool
	value []byte
}

// note keeps a field's value. A further one, usually under another name, must
// mean the same. The latest is kept, so that none is looked at more than twice.
func (p *presence) note(name string, value []byte) error {
	if p.set && !bytes.Equal(appendCanonical(nil, p.value), appendCanonical(nil, value)) {
		return invalid("%q is given twice, with different values", name)
	}
	p.set, p.value = true, value
	return nil
}
