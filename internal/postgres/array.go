package postgres

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"ferry/internal/uploads"
)

// maxDimensions is how many an array may have.
//
// Source: PostgreSQL's MAXDIM.
const maxDimensions = 6

// appendArray reads a JSON array, or Postgres' own array literal, and appends
// a literal.
func appendArray(dst []byte, t *dataType, text string) ([]byte, error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(trimmed, "{"), isBoundedLiteral(trimmed):
		if t.element.class == classBytea && nullElement.MatchString(text) {
			return dst, notSynced(t)
		}
		return append(dst, text...), checkLiteral(t, text)
	case !strings.HasPrefix(trimmed, "["):
		return dst, invalidText(t, text)
	}
	array, ok := t.document(trimmed)
	if !ok {
		return dst, invalidText(t, text)
	}
	return appendDimension(dst, t, array, 1)
}

// nullElement finds a NULL in the literal of an array whose other elements have
// no such word.
var nullElement = regexp.MustCompile(`(?i)[{,]\s*NULL\s*[,}]`)

// isBoundedLiteral is whether text is an array literal that begins with its
// bounds, as in [0:1]={7,8}.
func isBoundedLiteral(text string) bool {
	return strings.HasPrefix(text, "[") && strings.Contains(text, "]={") && strings.HasSuffix(text, "}")
}

// appendDimension appends a valid JSON array as a literal.
func appendDimension(dst []byte, t *dataType, array json.RawMessage, dimension int) ([]byte, error) {
	if dimension > maxDimensions {
		return dst, &conversionError{
			uploads.CodeTooLarge, "54000",
			fmt.Sprintf("an array of type %s has at most %d dimensions", t.name, maxDimensions),
		}
	}
	dst = append(dst, '{')
	first := true
	for v, err := range elements(array) {
		if err != nil {
			return dst, invalidText(t, string(array))
		}
		if !first {
			dst = append(dst, t.delimiter)
		}
		first = false
		if dst, err = appendElement(dst, t, v, dimension); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func appendElement(dst []byte, t *dataType, v json.RawMessage, dimension int) ([]byte, error) {
	switch {
	case isNull(v) && t.element.class == classBytea:
		return dst, notSynced(t)
	case isNull(v):
		return append(dst, "NULL"...), nil
	case t.isDimension(v):
		return appendDimension(dst, t, v, dimension+1)
	}
	return appendQuotedPart(dst, t.element, v)
}

// isDimension is whether an element of a JSON array is one more dimension. It
// is not if elements are themselves spelled as JSON arrays.
func (t *dataType) isDimension(v json.RawMessage) bool {
	if v[0] != '[' {
		return false
	}
	switch t.element.class {
	case classJSON, classArray: // an array of domains over arrays
		return false
	case classMultirange: // [{"lower":1,…}] is one
		inner := strings.TrimLeft(string(v[1:]), " \t\r\n")
		return strings.HasPrefix(inner, "[")
	}
	return true
}

// notSynced refuses a NULL that may stand for bytes: the PowerSync Service
// cannot sync bytes within another value down, and a client that sends such a
// value back would erase them.
func notSynced(t *dataType) error {
	return &conversionError{
		"null_value_not_allowed", "22004",
		"a value of type " + t.name + " lacks its bytea, which the PowerSync Service does not sync down:" +
			" send all of it, or leave the column out",
	}
}
