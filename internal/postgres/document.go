package postgres

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"ferry/internal/uploads"
)

// maxJSONNesting is how deep a json or jsonb value may be: the PowerSync
// Service cannot replicate what is deeper.
const maxJSONNesting = 20

// maxPart bounds the bytes of one element or member. Each level of quoting may
// double a value, so that a short one in a type of many levels could grow
// without end.
const maxPart = 32 << 20

// lenient is how JSON is read that Postgres, and not ferry, is to judge.
func lenient() []jsontext.Options {
	return []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}
}

// document returns text as one valid JSON value. The PowerSync Service writes
// floats that JSON lacks as bare words, which become strings here.
func (t *dataType) document(text string) (v json.RawMessage, ok bool) {
	value := jsontext.Value(text)
	if value.IsValid(lenient()...) {
		return json.RawMessage(value), true
	}
	if !t.parts.has(classFloat) {
		return nil, false
	}
	value = jsontext.Value(quoteBareFloats(text))
	return json.RawMessage(value), value.IsValid(lenient()...)
}

// quoteBareFloats quotes NaN, Infinity and -Infinity outside of strings.
func quoteBareFloats(text string) string {
	var b strings.Builder
	inString := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\' && i+1 < len(text):
			b.WriteByte(c)
			i++
		case c == '"':
			inString = !inString
		case !inString:
			if word := bareFloat(text[i:]); word != "" {
				b.WriteString(`"` + word + `"`)
				i += len(word) - 1
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

func bareFloat(text string) string {
	for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
		if strings.HasPrefix(text, word) {
			return word
		}
	}
	return ""
}

// elements are those of a valid JSON array.
func elements(array json.RawMessage) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		dec := jsontext.NewDecoder(bytes.NewReader(array), lenient()...)
		if _, err := dec.ReadToken(); err != nil {
			yield(nil, err)
			return
		}
		for dec.PeekKind() != ']' {
			v, err := dec.ReadValue()
			if !yield(json.RawMessage(v), err) || err != nil {
				return
			}
		}
	}
}

// members are those of a valid JSON object. The last of a name counts, as in
// jsonb.
func members(object json.RawMessage) (map[string]json.RawMessage, error) {
	found := map[string]json.RawMessage{}
	dec := jsontext.NewDecoder(bytes.NewReader(object), lenient()...)
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String()
		v, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		found[key] = json.RawMessage(v.Clone())
	}
	return found, nil
}

// appendPart appends a part of an array, composite or range. Where it is JSON,
// it stands there as itself, and not as text: a string is a JSON string. That
// is how the PowerSync Service writes them.
func appendPart(dst []byte, t *dataType, v json.RawMessage) ([]byte, error) {
	if t.class == classJSON {
		return appendJSON(dst, t, string(v))
	}
	return appendValue(dst, t, v)
}

// appendQuotedPart appends a part in double quotes, so that no content can be
// taken for a delimiter, a bracket or NULL.
func appendQuotedPart(dst []byte, t *dataType, v json.RawMessage) ([]byte, error) {
	text, err := appendPart(nil, t, v)
	if err != nil {
		return dst, err
	}
	if len(text) > maxPart {
		return dst, &conversionError{
			uploads.CodeTooLarge, "54000",
			fmt.Sprintf("a value of type %s has more than %d bytes within another value", t.name, maxPart),
		}
	}
	return appendQuoted(dst, text), nil
}

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

// appendJSON hands a document over byte for byte; whether it is one is for
// Postgres to say.
func appendJSON(dst []byte, t *dataType, text string) ([]byte, error) {
	if nesting(text) > maxJSONNesting {
		return dst, &conversionError{
			uploads.CodeTooLarge, "",
			fmt.Sprintf("a value of type %s is nested more than %d levels deep, which the PowerSync Service cannot sync",
				t.name, maxJSONNesting),
		}
	}
	return append(dst, text...), nil
}

// nesting returns how deep the arrays and objects of a JSON text are, or of a
// text that is none, something.
func nesting(text string) int {
	depth, deepest := 0, 0
	inString := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			depth++
			deepest = max(deepest, depth)
		case c == ']' || c == '}':
			depth--
		}
	}
	return deepest
}
