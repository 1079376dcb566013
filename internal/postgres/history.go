package postgres

import (
	"encoding/binary"
	"errors"

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

// Decisions are stored one behind the other. A record is 17 bytes (op id,
// fingerprint, decision), or 33 with a rejection. A run stands for the records of
// operations whose ids follow each other without a gap, with one decision and no
// rejection: 15 bytes (the first op id, runTag, the decision, how many, and the
// version of the fingerprints) and 7 for each of them. It halves what a large
// upload has to write.
const (
	recordSize = 8 + 8 + 1
	runSize    = 8 + 1 + 1 + 4 + 1
	// runTag stands where a record has the version of its fingerprint.
	runTag = 0xff
	// inRun is what a run has of each fingerprint: all but the version.
	inRun = len(uploads.Fingerprint{}) - 1
)

// recordList builds the form of ferry.progress.recent and ferry.history.entries.
type recordList struct {
	bytes []byte
	// The record or run that was begun last: where, with what, and of how many.
	start int
	first record
	count int
}

func newRecordList(operations int) *recordList {
	return &recordList{bytes: make([]byte, 0, runSize+recordSize+operations*inRun)}
}

func (l *recordList) add(r record) {
	if !l.continuedBy(r) {
		l.start, l.first, l.count = len(l.bytes), r, 1
		l.bytes = appendRecord(l.bytes, r)
		return
	}
	if l.count == 1 {
		l.bytes = binary.BigEndian.AppendUint64(l.bytes[:l.start], uint64(l.first.key.opID)) //nolint:gosec // op ids are not negative
		l.bytes = append(l.bytes, runTag, byte(l.first.decision), 0, 0, 0, 0)
		l.bytes = append(l.bytes, l.first.key.fingerprint[:]...)
	}
	l.count++
	l.bytes = append(l.bytes, r.key.fingerprint[1:]...)
	binary.BigEndian.PutUint32(l.bytes[l.start+10:], uint32(l.count)) //nolint:gosec // bodies have far fewer
}

func (l *recordList) continuedBy(r record) bool {
	return l.count > 0 && r.decision == l.first.decision && r.decision != rejected &&
		r.key.opID == l.first.key.opID+int64(l.count) && r.key.fingerprint[0] == l.first.key.fingerprint[0]
}

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
func readRecords(known map[operationKey]record, b []byte) (err error) {
	note := func(r record) {
		if _, asked := known[r.key]; asked {
			known[r.key] = r
		}
	}
	for len(b) > 0 && err == nil {
		switch {
		case len(b) < runSize:
			err = errCutRecord
		case b[8] == runTag:
			b, err = readRun(b, note)
		default:
			b, err = readRecord(b, note)
		}
	}
	return err
}

var errCutRecord = errors.New("a stored decision is cut off")

func readRecord(b []byte, note func(record)) (rest []byte, err error) {
	if len(b) < recordSize {
		return nil, errCutRecord
	}
	r := record{decision: decision(b[16])}
	r.key.opID = int64(binary.BigEndian.Uint64(b)) //nolint:gosec // see add
	copy(r.key.fingerprint[:], b[8:16])
	b = b[recordSize:]
	if r.decision == rejected {
		if len(b) < len(r.rejection) {
			return nil, errCutRecord
		}
		copy(r.rejection[:], b)
		b = b[len(r.rejection):]
	}
	note(r)
	return b, nil
}

func readRun(b []byte, note func(record)) (rest []byte, err error) {
	r := record{decision: decision(b[9])}
	r.key.opID = int64(binary.BigEndian.Uint64(b)) //nolint:gosec // see add
	r.key.fingerprint[0] = b[14]
	count := int64(binary.BigEndian.Uint32(b[10:]))
	b = b[runSize:]
	if count*int64(inRun) > int64(len(b)) {
		return nil, errCutRecord
	}
	for range count {
		copy(r.key.fingerprint[1:], b)
		note(r)
		r.key.opID++
		b = b[inRun:]
	}
	return b, nil
}
