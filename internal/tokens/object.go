package tokens

import (
	"bytes"
	"errors"
	"io"
	"slices"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// object is a JSON object with its members in their order, each value as it is
// spelled: a number keeps all its digits.
type object []member

type member struct {
	name  string
	value jsontext.Value
}

// parseObject reads one JSON object, strictly (RFC 7493): UTF-8, no name twice.
// The reader's own error is dropped, because it may quote the text.
func parseObject(text []byte) (object, bool) {
	// A bytes.Buffer is read in place.
	d := jsontext.NewDecoder(bytes.NewBuffer(text))
	if open, err := d.ReadToken(); err != nil || open.Kind() != '{' {
		return nil, false
	}
	o := make(object, 0, 8)
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, false
		}
		m := member{name: name.String()}
		value, err := d.ReadValue()
		if err != nil {
			return nil, false
		}
		// What ReadValue returns lives until the next read; the text stays.
		end := int(d.InputOffset())
		m.value = text[end-len(value) : end : end]
		o = append(o, m)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, false
	}
	_, err := d.ReadToken()
	return o, errors.Is(err, io.EOF)
}

// get returns the value of a member, or nil.
func (o object) get(name string) jsontext.Value {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// text returns a member that is a string, or nothing.
func (o object) text(name string) string {
	var text string
	_ = jsonv2.Unmarshal(o.get(name), &text)
	return text
}

// set changes a member where it stands, or adds it at the end.
func (o *object) set(name string, value jsontext.Value) {
	if i := slices.IndexFunc(*o, func(m member) bool { return m.name == name }); i >= 0 {
		(*o)[i].value = value
		return
	}
	*o = append(*o, member{name, value})
}

func (o *object) remove(name string) {
	*o = slices.DeleteFunc(*o, func(m member) bool { return m.name == name })
}

// json writes the object. Names are valid UTF-8, as they were read.
func (o object) json() jsontext.Value {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, quote(m.name)...), ':'), m.value...)
	}
	return append(b, '}')
}

// quote writes text that is known to be valid UTF-8 as a JSON string.
func quote(text string) []byte {
	quoted, _ := jsontext.AppendQuote(nil, text)
	return quoted
}
