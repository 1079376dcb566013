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
	literal := arrayLiteral{typ: t}
	return literal.appendDimension(dst, array, 1)
}

// nullElement finds a NULL in the literal of an array whose other elements have
// no such word.
var nullElement = regexp.MustCompile(`(?i)[{,]\s*NULL\s*[,}]`)

// isBoundedLiteral is whether text is an array literal that begins with its
// bounds, as in [0:1]={7,8}.
func isBoundedLiteral(text string) bool {
	return strings.HasPrefix(text, "[") && strings.Contains(text, "]={") && strings.HasSuffix(text, "}")
}

// arrayLiteral is a literal that a JSON array becomes.
type arrayLiteral struct {
	typ *dataType
	// depth is in which dimension the elements are, 0 until there was one. All
	// are in the same: before version 17 Postgres takes {{a},{{b}}} for
	// {{{a}},{{b}}}.
	depth int
}

// appendDimension appends a valid JSON array.
func (l *arrayLiteral) appendDimension(dst []byte, array json.RawMessage, dimension int) ([]byte, error) {
	t := l.typ
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
		if dst, err = l.appendElement(dst, v, dimension); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func (l *arrayLiteral) appendElement(dst []byte, v json.RawMessage, dimension int) ([]byte, error) {
	t := l.typ
	if !isNull(v) && t.isDimension(v) {
		return l.appendDimension(dst, v, dimension+1)
	}
	if l.depth == 0 {
		l.depth = dimension
	}
	switch {
	case l.depth != dimension:
		return dst, invalidText(t, string(v))
	case !isNull(v):
		return appendQuotedPart(dst, t.element, v)
	case t.element.class == classBytea:
		return dst, notSynced(t)
	}
	return append(dst, "NULL"...), nil
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
		return strings.HasPrefix(inner, "[") || quotedMultirange.MatchString(inner)
	}
	return true
}

// quotedMultirange finds a multirange in Postgres' own notation, which is no
// range.
var quotedMultirange = regexp.MustCompile(`^"\s*\{\s*[[(}eE]`)

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
