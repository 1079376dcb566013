package uploads

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/zeebo/xxh3"
)

// Fingerprint identifies an operation by what it does: its kind, table, row id
// and data. Two spellings of the same operation (key order, string escapes, 42
// and 42.0) have the same fingerprint; tx_id, old values and metadata do not
// count. Its first byte is the version of this rule, the rest a hash that is no
// secret and withstands no attack: it is compared only with operations of the same
// user, client and op id, and whoever made two alike would only lose the second.
type Fingerprint [8]byte

// fingerprintVersion changes whenever the rule does, so that stored
// fingerprints are never mistaken for those of another rule.
const fingerprintVersion = 2

// Tags keep values of different JSON types apart: "1" is not 1.
const (
	tagString  = 's'
	tagUnheld  = 'u' // a string with a lone surrogate, as it is spelled
	tagNumber  = 'n'
	tagLiteral = 'l' // null, true, false
	tagObject  = 'o'
	tagArray   = 'a'
	tagEnd     = 'e' // of an array
)

// newJSONDecoder reads a value that has been read before.
func newJSONDecoder(value []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(value),
		jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
}

// fingerprint computes op's fingerprint. scratch is reused between calls.
func fingerprint(op *Operation, scratch []byte) (Fingerprint, []byte) {
	b := append(scratch[:0], byte(op.Kind))
	b = appendSized(b, []byte(op.Table))
	b = appendSized(b, []byte(op.ID))
	for _, f := range op.Fields {
		b = appendSized(b, []byte(f.Name))
		b = appendCanonical(b, f.Value)
	}
	var fp Fingerprint
	binary.BigEndian.PutUint64(fp[:], xxh3.Hash(b))
	fp[0] = fingerprintVersion
	return fp, b
}

// appendSized appends v behind its length, so that neighbours cannot be
// shifted into each other.
func appendSized(b, v []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// appendCanonical appends the canonical form of one valid JSON value. No form
// is the beginning of another one.
func appendCanonical(b []byte, v json.RawMessage) []byte {
	switch v[0] {
	case '{', '[':
		return appendNext(b, newJSONDecoder(v))
	case '"':
		return appendString(b, v)
	case 't', 'f', 'n':
		return append(b, tagLiteral, v[0])
	}
	var room [32]byte
	return appendSized(append(b, tagNumber), appendNumber(room[:0], v))
}

func appendString(b []byte, v json.RawMessage) []byte {
	if inner := v[1 : len(v)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return appendSized(append(b, tagString), inner)
	}
	text, unheld := unquote(v)
	if unheld != "" {
		return appendSized(append(b, tagUnheld), v)
	}
	return appendSized(append(b, tagString), []byte(text))
}

// appendNext appends the canonical form of dec's next value.
func appendNext(b []byte, dec *jsontext.Decoder) []byte {
	switch dec.PeekKind() {
	case '{':
		return appendObject(b, dec)
	case '[':
		return appendArray(b, dec)
	}
	v, err := dec.ReadValue()
	if err != nil {
		return b // not reached: the value has been read before
	}
	return appendCanonical(b, json.RawMessage(v))
}

func appendArray(b []byte, dec *jsontext.Decoder) []byte {
	b = append(b, tagArray)
	_, _ = dec.ReadToken()
	for more(dec) {
		b = appendNext(b, dec)
	}
	_, _ = dec.ReadToken()
	return append(b, tagEnd)
}

// appendObject appends a digest of the members, sorted by name. It is a digest
// so that sorting an object never moves the bytes of the objects inside it:
// the time for any value grows with its length alone, however deep it is.
func appendObject(b []byte, dec *jsontext.Decoder) []byte {
	type member struct {
		name string
		form []byte
	}
	var members []member
	_, _ = dec.ReadToken()
	for more(dec) {
		quoted, err := dec.ReadValue()
		if err != nil {
			break // not reached, as above
		}
		name, _ := unquote(json.RawMessage(quoted))
		members = append(members, member{name, appendNext(nil, dec)})
	}
	_, _ = dec.ReadToken()

	slices.SortStableFunc(members, func(x, y member) int { return cmp.Compare(x.name, y.name) })
	start := len(b)
	for _, m := range members {
		b = append(appendSized(b, []byte(m.name)), m.form...)
	}
	digest := sha256.Sum256(b[start:])
	return append(append(b[:start], tagObject), digest[:]...)
}

// more reports whether the present array or object goes on.
func more(dec *jsontext.Decoder) bool {
	kind := dec.PeekKind()
	return kind != ']' && kind != '}' && kind != 0
}

// appendNumber spells a JSON number as digits without leading or trailing
// zeros and a power of ten: 42, 42.0 and 4.2e1 are all 42e0. It never expands
// an exponent, which may be huge.
func appendNumber(b, v []byte) []byte {
	mantissa, exponent := v, int64(0)
	if i := bytes.IndexAny(v, "eE"); i >= 0 {
		e, err := strconv.ParseInt(string(v[i+1:]), 10, 32)
		if err != nil {
			return append(b, v...) // beyond any column's range: equal only to itself
		}
		mantissa, exponent = v[:i], e
	}
	start := len(b)
	if mantissa[0] == '-' {
		b, mantissa = append(b, '-'), mantissa[1:]
	}
	first := len(b)
	whole, fraction, _ := bytes.Cut(mantissa, []byte{'.'})
	b = append(append(b, whole...), fraction...)
	digits := bytes.TrimLeft(b[first:], "0")
	trimmed := bytes.TrimRight(digits, "0")
	if len(trimmed) == 0 {
		return append(b[:start], '0') // -0 is stored as 0 by every exact type
	}
	exponent += int64(len(digits) - len(trimmed) - len(fraction))
	b = append(append(b[:first], trimmed...), 'e')
	return strconv.AppendInt(b, exponent, 10)
}
