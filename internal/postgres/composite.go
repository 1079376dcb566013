package postgres

import (
	"slices"
	"strings"
)

// appendComposite reads a JSON object, or Postgres' own (a,b), and appends a
// literal. Members that are missing are NULL.
func appendComposite(dst []byte, t *dataType, text string) ([]byte, error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(trimmed, "("):
		return append(dst, text...), nil
	case !strings.HasPrefix(trimmed, "{"):
		return dst, invalidText(t, text)
	}
	object, ok := t.document(trimmed)
	if !ok {
		return dst, invalidText(t, text)
	}
	values, err := members(object)
	if err != nil {
		return dst, invalidText(t, text)
	}
	dst = append(dst, '(')
	for i, f := range t.fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		v, there := values[f.name]
		delete(values, f.name)
		switch {
		case !there && f.typ.class == classBytea:
			return dst, notSynced(t)
		case !there || isNull(v): // nothing between commas is NULL
		default:
			if dst, err = appendQuotedPart(dst, f.typ, v); err != nil {
				return dst, err
			}
		}
	}
	if len(values) > 0 {
		return dst, unknownMember(t, values)
	}
	return append(dst, ')'), nil
}

// unknownMember refuses what would otherwise be lost.
func unknownMember[V any](t *dataType, left map[string]V) error {
	names := make([]string, 0, len(left))
	for name := range left {
		names = append(names, name)
	}
	return &conversionError{
		"invalid_text_representation", "22P02",
		"type " + t.name + " has no member " + shown(slices.Min(names)),
	}
}
