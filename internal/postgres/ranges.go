package postgres

import (
	"encoding/json"
	"strings"
)

// appendRange reads {"lower","upper","lower_exclusive","upper_exclusive"}, the
// word empty, or Postgres' own [a,b), and appends a literal. A bound that is
// null or missing is infinite. Without flags a range is [lower,upper), as in
// Postgres.
//
// Source: the PowerSync Service's compatibility edition 2 (custom_postgres_types).
func appendRange(dst []byte, t *dataType, text string, quoted bool) ([]byte, error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.EqualFold(strings.Trim(trimmed, `"`), "empty"):
		return append(dst, "empty"...), nil
	case strings.HasPrefix(trimmed, "{"):
		return appendRangeObject(dst, t, trimmed)
	case quoted && strings.HasPrefix(trimmed, "["), strings.HasPrefix(trimmed, "("):
		return append(dst, text...), checkLiteral(t, text)
	}
	return dst, invalidText(t, text)
}

func appendRangeObject(dst []byte, t *dataType, text string) ([]byte, error) {
	object, ok := t.document(text)
	if !ok {
		return dst, invalidText(t, text)
	}
	values, err := members(object)
	if err != nil {
		return dst, invalidText(t, text)
	}
	take := func(name string) json.RawMessage {
		v := values[name]
		delete(values, name)
		return v
	}
	lower, upper := take("lower"), take("upper")
	afterLower, ok1 := flag(take("lower_exclusive"), false)
	beforeUpper, ok2 := flag(take("upper_exclusive"), true)
	if len(values) > 0 {
		return dst, unknownMember(t, values)
	}
	if !ok1 || !ok2 {
		return dst, invalidText(t, text)
	}
	dst = append(dst, bracket(afterLower, '(', '['))
	if dst, err = appendBound(dst, t, lower); err != nil {
		return dst, err
	}
	dst = append(dst, ',')
	if dst, err = appendBound(dst, t, upper); err != nil {
		return dst, err
	}
	return append(dst, bracket(beforeUpper, ')', ']')), nil
}

// appendBound appends a range's bound, nothing for an infinite one.
func appendBound(dst []byte, t *dataType, v json.RawMessage) ([]byte, error) {
	if v == nil || isNull(v) {
		return dst, nil
	}
	return appendQuotedPart(dst, t.element, v)
}

func bracket(exclusive bool, open, closed byte) byte {
	if exclusive {
		return open
	}
	return closed
}

// flag reads 0, 1, false or true. The service writes a boolean within JSON as
// either, depending on its compatibility options.
func flag(v json.RawMessage, absent bool) (value, ok bool) {
	if v == nil || isNull(v) {
		return absent, true
	}
	switch strings.Trim(string(v), `"`) {
	case "1", "1.0", "true":
		return true, true
	case "0", "0.0", "false":
		return false, true
	}
	return false, false
}

// appendMultirange reads a JSON array of ranges, or Postgres' own {[a,b),…},
// and appends a literal.
func appendMultirange(dst []byte, t *dataType, text string) ([]byte, error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(trimmed, "{"):
		return append(dst, text...), checkLiteral(t, text)
	case !strings.HasPrefix(trimmed, "["):
		return dst, invalidText(t, text)
	}
	array, ok := t.document(trimmed)
	if !ok {
		return dst, invalidText(t, text)
	}
	dst = append(dst, '{')
	first := true
	for v, err := range elements(array) {
		if err != nil || isNull(v) {
			return dst, invalidText(t, text)
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if dst, err = appendPart(dst, t.element, v); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}
