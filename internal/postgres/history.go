package postgres

import (
	"encoding/binary"
	"fmt"

	"ferry/internal/uploads"
)

// decision is what became of an operation.
type decision uint8

// The decisions as they are stored: never renumber them.
const (
	undecided decision = iota
	applied
	ignored
	rejected
	duplicate // applied by an earlier delivery; stored as applied
)

// operationKey identifies an operation of one client. An op id alone does not:
// a restored or copied client database reuses them.
type operationKey struct {
	opID        int64
	fingerprint uploads.Fingerprint
}

// record is one remembered decision.
type record struct {
	key       operationKey
	decision  decision
	rejection uuid // of a rejected operation
}

// A record is 17 bytes (op id, fingerprint, decision), or 33 with a rejection.
const recordSize = 8 + 8 + 1

// appendRecord appends r in the form of ferry.progress.recent and
// ferry.history.entries.
func appendRecord(dst []byte, r record) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.key.opID)) //nolint:gosec // op ids are not negative
	dst = append(dst, r.key.fingerprint[:]...)
	dst = append(dst, byte(r.decision))
	if r.decision == rejected {
		dst = append(dst, r.rejection[:]...)
	}
	return dst
}

// readRecords puts stored records into known, of the operations that are keys of
// it: a client may have stored any number of others.
func readRecords(known map[operationKey]record, b []byte) error {
	for len(b) > 0 {
		if len(b) < recordSize {
			return fmt.Errorf("a stored decision ends after %d bytes", len(b))
		}
		var r record
		r.key.opID = int64(binary.BigEndian.Uint64(b)) //nolint:gosec // see appendRecord
		copy(r.key.fingerprint[:], b[8:16])
		r.decision = decision(b[16])
		b = b[recordSize:]
		if r.decision == rejected {
			if len(b) < len(r.rejection) {
				return fmt.Errorf("a stored rejection ends after %d bytes", len(b))
			}
			copy(r.rejection[:], b)
			b = b[len(r.rejection):]
		}
		if _, asked := known[r.key]; asked {
			known[r.key] = r
		}
	}
	return nil
}
