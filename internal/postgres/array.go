package postgres

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// appendArray reads a JSON array, or Postgres' own array literal, and appends
// a literal.
func appendArray(dst []byte, t *dataType, text string) ([]byte, error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(trimmed, "{"), isBoundedLiteral(trimmed):
		return append(dst, text...), nil
	case !strings.HasPrefix(trimmed, "["):
		return dst, invalidText(t, text)
	}
	value := jsontext.Value(trimmed)
	if !value.IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
		return dst, invalidText(t, text)
	}
	return appendArrayLiteral(dst, t, json.RawMessage(value))
}

// isBoundedLiteral is whether text is an array literal that begins with its
// bounds, as in [0:1]={7,8}.
func isBoundedLiteral(text string) bool {
	return strings.HasPrefix(text, "[") && strings.Contains(text, "]={") && strings.HasSuffix(text, "}")
}

// appendArrayLiteral appends a valid JSON array as a literal. An array within
// it is one more dimension, unless the elements are JSON themselves.
func appendArrayLiteral(dst []byte, t *dataType, array json.RawMessage) ([]byte, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(array),
		jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := dec.ReadToken(); err != nil {
		return dst, invalidText(t, string(array))
	}
	dst = append(dst, '{')
	for first := true; dec.PeekKind() != ']'; first = false {
		value, err := dec.ReadValue()
		if err != nil {
			return dst, invalidText(t, string(array))
		}
		if !first {
			dst = append(dst, t.delimiter)
		}
		if dst, err = appendElement(dst, t, json.RawMessage(value)); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func appendElement(dst []byte, t *dataType, v json.RawMessage) ([]byte, error) {
	switch {
	case isNull(v):
		return append(dst, "NULL"...), nil
	case v[0] == '[' && t.element.class != classJSON:
		return appendArrayLiteral(dst, t, v)
	}
	text, err := appendValue(nil, t.element, v)
	if err != nil {
		return dst, err
	}
	return appendQuoted(dst, text), nil
}

// appendQuoted appends an element in double quotes, so that no content can be
// taken for a delimiter, a brace or NULL.
func appendQuoted(dst, text []byte) []byte {
	dst = append(dst, '"')
	for _, c := range text {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
