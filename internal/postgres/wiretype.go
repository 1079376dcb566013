package postgres

import "encoding/binary"

// wireType is how the values of a column travel: as text, which the SQL casts,
// or in the binary format of their own type where every value that ferry lets
// through has one form. Without the casts Postgres has a tenth less to do for an
// upload (docs/performance.md).
//
// Source for the oids: pg_type.dat. Source for the formats: the types' _recv
// functions.
type wireType struct {
	name          string // of the type of one value
	oid, arrayOID uint32
	appendValue   func(dst []byte, t *dataType, text string, quoted bool) ([]byte, error)
}

const textOID = 25

var textWire = wireType{name: "text", oid: textOID, arrayOID: 1009, appendValue: appendText}

// binaryWires are by the cast of the type.
var binaryWires = map[string]*wireType{
	"pg_catalog.bool": {"pg_catalog.bool", 16, 1000, func(dst []byte, t *dataType, text string, _ bool) ([]byte, error) {
		b, err := parseBool(t, text)
		return append(dst, b), err
	}},
	"pg_catalog.int2": {"pg_catalog.int2", 21, 1005, func(dst []byte, t *dataType, text string, _ bool) ([]byte, error) {
		n, err := parseInteger(t, text)
		return binary.BigEndian.AppendUint16(dst, uint16(n)), err //nolint:gosec // in range, if there is no error
	}},
	"pg_catalog.int4": {"pg_catalog.int4", 23, 1007, func(dst []byte, t *dataType, text string, _ bool) ([]byte, error) {
		n, err := parseInteger(t, text)
		return binary.BigEndian.AppendUint32(dst, uint32(n)), err //nolint:gosec // as above
	}},
	"pg_catalog.int8": {"pg_catalog.int8", 20, 1016, func(dst []byte, t *dataType, text string, _ bool) ([]byte, error) {
		n, err := parseInteger(t, text)
		return binary.BigEndian.AppendUint64(dst, uint64(n)), err //nolint:gosec // two's complement
	}},
	"pg_catalog.uuid": {"pg_catalog.uuid", 2950, 2951, func(dst []byte, t *dataType, text string, _ bool) ([]byte, error) {
		u, err := uuidOf(t, text)
		return append(dst, u[:]...), err
	}},
	`pg_catalog."timestamp"`: {`pg_catalog."timestamp"`, 1114, 1115, appendInstant},
	"pg_catalog.timestamptz": {"pg_catalog.timestamptz", 1184, 1185, appendInstant},
}

func appendInstant(dst []byte, t *dataType, text string, quoted bool) ([]byte, error) {
	i, err := parseInstant(t, text, quoted)
	return binary.BigEndian.AppendUint64(dst, uint64(i)), err //nolint:gosec // two's complement
}

// wire is how t's values travel.
func (t *dataType) wire() *wireType {
	if w := binaryWires[t.cast]; w != nil {
		return w
	}
	return &textWire
}

// cast is the SQL that makes a value that travelled one of its type.
func (w *wireType) cast(value string, t *dataType) string {
	if w == &textWire {
		return value + "::" + t.cast
	}
	return value
}
