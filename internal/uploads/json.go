package uploads

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"

	"ferry/internal/fault"
)

func notJSON(err error) error {
	return fault.Wrap(err, fault.InvalidRequest, "the body is not valid JSON")
}

// object reads the object that comes next. It calls member after each name, to
// read the value, and returns the object's text.
func (d *decoder) object(member func(name *word) error) (json.RawMessage, error) {
	return d.listOf('}', func() error {
		quoted, err := d.name()
		if err != nil {
			return err
		}
		return member(d.word(quoted))
	})
}

// array reads the array that comes next. It calls element to read each element,
// and returns the array's text.
func (d *decoder) array(element func() error) (json.RawMessage, error) {
	return d.listOf(']', element)
}

func (d *decoder) listOf(closing byte, element func() error) (json.RawMessage, error) {
	start := d.pos
	if err := d.list(closing, element); err != nil {
		return nil, orNotJSON(err)
	}
	return d.input[start:d.pos:d.pos], nil
}

// orNotJSON says of an error of the scanner what it means to the client.
func orNotJSON(err error) error {
	if broken, ok := err.(*syntaxError); ok { //nolint:errorlint // the scanner wraps nothing
		return notJSON(broken)
	}
	return err
}

// readValue returns the next value as the client spelled it: a slice of the body.
func (d *decoder) readValue() (json.RawMessage, error) {
	value, err := d.value()
	if err != nil {
		return nil, notJSON(err)
	}
	return value, nil
}

func (d *decoder) skipNext() error {
	_, err := d.readValue()
	return err
}

// end reports what stands behind the body's value.
func (d *decoder) end() error {
	if d.peek(); d.pos < len(d.input) {
		return invalid("the body has something after its JSON value")
	}
	return nil
}

// wrongKind blames the structure, unless the JSON itself is broken here.
func (d *decoder) wrongKind(format string, args ...any) error {
	if c := d.peek(); !isNumber([]byte{c}) && !strings.ContainsRune(`{["tfn`, rune(c)) {
		return notJSON(d.broken())
	}
	return invalid(format, args...)
}

// unquote decodes a JSON string. Where it has what no Postgres text can hold,
// unheld says so, and text is the JSON text: other such strings stay different.
// The text may live in the body.
func unquote(v json.RawMessage) (text, unheld string) {
	if inner := v[1 : len(v)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return view(inner), ""
	}
	b, err := jsontext.AppendUnquote(nil, []byte(v))
	if err != nil {
		return string(v), `a lone surrogate (\ud800 to \udfff)`
	}
	return string(b), ""
}

// view is text that lives in the body: valid for as long as that is, and never
// changed. A copy for each id would be most of what decoding one costs.
func view(text []byte) string { return unsafe.String(unsafe.SliceData(text), len(text)) }

// wholeNumber reads a number from 0 to 2^63-2, however it is spelled: SDKs
// that know only reals send 41.0, others digits in a string.
func wholeNumber(v json.RawMessage) (int64, bool) {
	if v[0] == '"' {
		text, _ := unquote(v)
		v = json.RawMessage(text)
	}
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return n, isNumberOfQueue(n)
	}
	if !isNumber(v) || !jsontext.Value(v).IsValid() {
		return 0, false
	}
	digits, exponent, _ := strings.Cut(string(appendNumber(nil, v)), "e")
	zeros, err := strconv.Atoi(exponent)
	if err != nil || zeros < 0 || zeros > 18 {
		return 0, digits == "0"
	}
	n, err := strconv.ParseInt(digits+strings.Repeat("0", zeros), 10, 64)
	return n, err == nil && isNumberOfQueue(n)
}

// isNumberOfQueue leaves one number above all op ids, for "after all of them".
func isNumberOfQueue(n int64) bool { return n >= 0 && n < math.MaxInt64 }

func isNumber(v []byte) bool {
	return len(v) > 0 && (v[0] == '-' || (v[0] >= '0' && v[0] <= '9'))
}
