package uploads

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"ferry/internal/fault"
)

// newJSONDecoder reads body in place. It lets a lone surrogate escape
// ("\ud800") through: that is what a user typed, so it becomes a rejection and
// not a 400. It also lets a name come twice: whether that is a contradiction
// depends on the values.
func newJSONDecoder(body []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(body),
		jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
}

func notJSON(err error) error {
	return fault.Wrap(err, fault.InvalidRequest, "the body is not valid JSON")
}

// object reads the object that comes next. It calls member after each name,
// to read the value; unheld is as unquote says. It returns the object's text.
func (d *decoder) object(member func(name, unheld string) error) (json.RawMessage, error) {
	if _, err := d.dec.ReadToken(); err != nil {
		return nil, notJSON(err)
	}
	start := d.dec.InputOffset() - 1
	for d.dec.PeekKind() == '"' {
		quoted, err := d.readValue()
		if err != nil {
			return nil, err
		}
		if err := member(d.intern(quoted)); err != nil {
			return nil, err
		}
	}
	return d.end(start)
}

// array reads the array that comes next. It calls element to read each
// element, and returns the array's text.
func (d *decoder) array(element func() error) (json.RawMessage, error) {
	if _, err := d.dec.ReadToken(); err != nil {
		return nil, notJSON(err)
	}
	start := d.dec.InputOffset() - 1
	for d.dec.PeekKind() != ']' {
		if err := element(); err != nil {
			return nil, err
		}
	}
	return d.end(start)
}

// end reads the end of an object or array, and returns its text.
func (d *decoder) end(start int64) (json.RawMessage, error) {
	if _, err := d.dec.ReadToken(); err != nil {
		return nil, notJSON(err)
	}
	end := d.dec.InputOffset()
	return d.body[start:end:end], nil
}

// readValue returns the next value as the client spelled it: a slice of body.
func (d *decoder) readValue() (json.RawMessage, error) {
	value, err := d.dec.ReadValue()
	if err != nil {
		return nil, notJSON(err)
	}
	end := d.dec.InputOffset()
	return d.body[end-int64(len(value)) : end : end], nil
}

func (d *decoder) skip() error {
	if err := d.dec.SkipValue(); err != nil {
		return notJSON(err)
	}
	return nil
}

// wrongKind blames the structure, unless the JSON itself is broken here.
func (d *decoder) wrongKind(format string, args ...any) error {
	if d.dec.PeekKind() == 0 {
		_, err := d.dec.ReadToken()
		return notJSON(err)
	}
	return invalid(format, args...)
}

// intern unquotes a name, and returns the same string for the same name: a
// batch has few distinct ones.
func (d *decoder) intern(quoted json.RawMessage) (name, unheld string) {
	if name, ok := d.names[string(quoted)]; ok {
		return name, ""
	}
	name, unheld = unquote(quoted)
	if unheld == "" {
		if d.names == nil {
			d.names = make(map[string]string, 16)
		}
		d.names[string(quoted)] = name
	}
	return name, unheld
}

// unquote decodes a JSON string. Where it has what no Postgres text can hold,
// unheld says so, and text is the JSON text: other such strings stay different.
func unquote(v json.RawMessage) (text, unheld string) {
	if inner := v[1 : len(v)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), ""
	}
	b, err := jsontext.AppendUnquote(nil, []byte(v))
	if err != nil {
		return string(v), `a lone surrogate (\ud800 to \udfff)`
	}
	return string(b), ""
}

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
