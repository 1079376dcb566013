package postgres

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"

	"ferry/internal/uploads"
)

// conversionError says that a value cannot become its column's type. It is a
// verdict on the client transaction, reached without asking the database, in
// the words and with the SQLSTATE that Postgres would use.
type conversionError struct {
	code     string
	sqlstate string
	message  string
}

func (e *conversionError) Error() string { return e.message }

func invalidText(t *dataType, text string) error {
	return &conversionError{
		"invalid_text_representation", "22P02",
		fmt.Sprintf("invalid value for type %s: %s", t.name, shown(text)),
	}
}

func outOfRange(t *dataType, text string) error {
	return &conversionError{
		"numeric_value_out_of_range", "22003",
		fmt.Sprintf("value %s is out of range for type %s", shown(text), t.name),
	}
}

func malformed(what string) error {
	return &conversionError{uploads.CodeMalformedValue, "", "a value has " + what + ", which Postgres cannot hold"}
}

// shown quotes the caller's own value for a message, shortened.
func shown(text string) string {
	const limit = 64
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return strconv.Quote(text)
}

// isNull is whether v is JSON's null, which is SQL's NULL in every column.
func isNull(v json.RawMessage) bool { return v[0] == 'n' }

// appendValue appends the text that Postgres reads as v's value of type t.
// v is a valid JSON value other than null. Numbers keep every digit: they
// never pass through a float64.
func appendValue(dst []byte, t *dataType, v json.RawMessage) ([]byte, error) {
	text, quoted, err := valueText(v)
	if err != nil {
		return dst, err
	}
	return appendText(dst, t, text, quoted)
}

// appendText is appendValue for a value whose text is known. quoted is whether
// it was a JSON string.
func appendText(dst []byte, t *dataType, text string, quoted bool) ([]byte, error) {
	switch t.class {
	case classBool:
		return appendBool(dst, t, text)
	case classInteger:
		return appendInteger(dst, t, text)
	case classNumeric, classFloat:
		return appendNumber(dst, t, text)
	case classText:
		return appendLimited(dst, t, text)
	case classUUID:
		return appendUUID(dst, t, text)
	case classTimestampTZ, classTimestamp:
		return appendTimestamp(dst, t, text, quoted)
	case classDate:
		return appendDate(dst, t, text)
	case classTime:
		return appendTime(dst, t, text)
	case classBytea:
		if !quoted {
			return dst, invalidText(t, text)
		}
		return appendBytea(dst, t, text)
	case classJSON:
		return appendJSON(dst, t, text)
	case classArray:
		return appendArray(dst, t, text)
	case classComposite:
		return appendComposite(dst, t, text)
	case classRange:
		return appendRange(dst, t, text, quoted)
	case classMultirange:
		return appendMultirange(dst, t, text)
	case classGeometry:
		return appendGeometry(dst, t, text)
	}
	return append(dst, text...), nil
}

// valueText returns a JSON string's text, and every other value as it is
// spelled. quoted is whether it was a string. The text shares v's memory if
// nothing had to be unescaped: it is valid for as long as v is.
func valueText(v json.RawMessage) (text string, quoted bool, err error) {
	if v[0] != '"' {
		return shared(v), false, nil
	}
	b := []byte(v[1 : len(v)-1])
	if bytes.IndexByte(b, '\\') >= 0 {
		if b, err = jsontext.AppendUnquote(nil, []byte(v)); err != nil {
			return "", true, malformed("a lone surrogate")
		}
		if bytes.IndexByte(b, 0) >= 0 {
			return "", true, malformed("the character U+0000")
		}
	}
	return shared(b), true, nil
}

// shared returns b, which is never changed, as a string without a copy: one for
// each value of an upload would be most of what converting it costs.
func shared(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// parseBool accepts what the SDKs send for a boolean: SQLite has none, so it is
// 0 or 1, as an integer, a real, or the text of either. It returns 0 or 1.
func parseBool(t *dataType, text string) (byte, error) {
	switch strings.ToLower(text) {
	case "1", "1.0", "true", "t":
		return 1, nil
	case "0", "0.0", "false", "f":
		return 0, nil
	}
	return 0, invalidText(t, text)
}

func appendBool(dst []byte, t *dataType, text string) ([]byte, error) {
	b, err := parseBool(t, text)
	if err != nil {
		return dst, err
	}
	return append(dst, "ft"[b]), nil
}

// parseInteger accepts a number or its text, if its value is whole: 42.0 and
// 1e3 are how SDKs that only know reals spell integers.
func parseInteger(t *dataType, text string) (int64, error) {
	n, ok := plainInteger(text)
	if !ok {
		var err error
		if n, err = parseWhole(t, text); err != nil {
			return 0, err
		}
	}
	if low, high := t.integerRange(); n < low || n > high {
		return 0, outOfRange(t, text)
	}
	return n, nil
}

// plainInteger reads what nearly all integers are: some digits and nothing else.
func plainInteger(text string) (n int64, ok bool) {
	digits := strings.TrimPrefix(text, "-")
	if digits == "" || countDigits(digits) < len(digits) {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

func parseWhole(t *dataType, text string) (int64, error) {
	switch text {
	case "true":
		return 1, nil
	case "false":
		return 0, nil
	}
	negative, digits, ok := wholeDigits(text)
	if !ok {
		return 0, invalidText(t, text)
	}
	if negative {
		digits = "-" + digits
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, outOfRange(t, text)
	}
	return n, nil
}

func appendInteger(dst []byte, t *dataType, text string) ([]byte, error) {
	n, err := parseInteger(t, text)
	if err != nil {
		return dst, err
	}
	return strconv.AppendInt(dst, n, 10), nil
}

// wholeDigits reads a decimal number that has a whole value, and returns its
// digits without leading zeros. Numbers over a hundred digits are cut there:
// they are out of any integer's range.
func wholeDigits(text string) (negative bool, digits string, ok bool) {
	const longest, farExponent = 100, 1_000_000
	mantissa, exponentText, hasExponent := strings.Cut(strings.Replace(text, "E", "e", 1), "e")
	exponent := 0
	if hasExponent {
		var err error
		if exponent, err = strconv.Atoi(exponentText); err != nil {
			return false, "", false
		}
		exponent = max(-farExponent, min(exponent, farExponent))
	}
	negative, mantissa = cutSign(mantissa)
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if whole+fraction == "" || countDigits(whole) < len(whole) || countDigits(fraction) < len(fraction) {
		return false, "", false
	}
	fraction = strings.TrimRight(fraction, "0") // 42.0 needs no copy then
	digits = whole + fraction
	exponent -= len(fraction)
	digits = strings.TrimLeft(digits, "0")
	for exponent < 0 && strings.HasSuffix(digits, "0") {
		digits, exponent = digits[:len(digits)-1], exponent+1
	}
	switch {
	case digits == "":
		return false, "0", true
	case exponent < 0:
		return false, "", false // a fraction is left
	case exponent+len(digits) > longest:
		return negative, strings.Repeat("9", longest), true
	}
	return negative, digits + strings.Repeat("0", exponent), true
}

// cutSign cuts one sign off the beginning of a number.
func cutSign(number string) (negative bool, unsigned string) {
	unsigned, negative = strings.CutPrefix(number, "-")
	if !negative {
		unsigned = strings.TrimPrefix(number, "+")
	}
	return negative, unsigned
}

// appendNumber hands a number's digits over as they were sent; Postgres reads
// NaN and the infinities, too.
func appendNumber(dst []byte, t *dataType, text string) ([]byte, error) {
	switch text {
	case "true":
		return append(dst, '1'), nil
	case "false":
		return append(dst, '0'), nil
	case "":
		return dst, invalidText(t, text)
	}
	if t.cast == "pg_catalog.money" { // whose input knows no exponents
		text = withoutExponent(text)
	}
	return append(dst, text...), nil
}

// withoutExponent spells a decimal number with all its digits. What is no number,
// or is beyond any type that needs this, stays as it is.
func withoutExponent(text string) string {
	const farthest = 40
	mantissa, exponentText, _ := strings.Cut(strings.Replace(text, "E", "e", 1), "e")
	exponent, err := strconv.Atoi(exponentText)
	negative, unsigned := cutSign(mantissa)
	whole, fraction, _ := strings.Cut(unsigned, ".")
	digits := whole + fraction
	if err != nil || exponent < -farthest || exponent > farthest || digits == "" || countDigits(digits) < len(digits) {
		return text
	}
	point := len(whole) + exponent
	digits = strings.Repeat("0", max(0, 1-point)) + digits + strings.Repeat("0", max(0, point-len(digits)))
	point = max(point, 1)
	sign := ""
	if negative {
		sign = "-"
	}
	if point == len(digits) {
		return sign + digits
	}
	return sign + digits[:point] + "." + digits[point:]
}

// appendLimited hands text over unless it is too long for its type: a cast, and
// what an assignment does with blanks, would cut it.
func appendLimited(dst []byte, t *dataType, text string) ([]byte, error) {
	if t.longest == 0 || len(text) <= t.longest {
		return append(dst, text...), nil
	}
	if inBytes := fixedLengths[t.cast] > 0; inBytes || utf8.RuneCountInString(text) > t.longest {
		return dst, &conversionError{
			"string_data_right_truncation", "22001",
			fmt.Sprintf("value too long for type %s of length %d", t.name, t.longest),
		}
	}
	return append(dst, text...), nil
}

// appendBytea reads base64 (any alphabet, padded or not), or hex behind `\x`.
func appendBytea(dst []byte, t *dataType, text string) ([]byte, error) {
	if strings.HasPrefix(text, `\x`) {
		return append(dst, text...), nil
	}
	standard := strings.NewReplacer("-", "+", "_", "/", "\n", "", "\r", "").Replace(strings.TrimRight(text, "="))
	decoded, err := base64.RawStdEncoding.DecodeString(standard)
	if err != nil {
		return dst, invalidText(t, text)
	}
	return hex.AppendEncode(append(dst, `\x`...), decoded), nil
}

// uuidOf reads a uuid as Postgres does, in braces or not.
func uuidOf(t *dataType, text string) (uuid, error) {
	u, err := parseUUID(text)
	if err != nil && strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") {
		u, err = parseUUID(text[1 : len(text)-1])
	}
	if err != nil {
		return u, invalidText(t, text)
	}
	return u, nil
}

// appendUUID spells a uuid as Postgres does, so that one row has one spelling.
func appendUUID(dst []byte, t *dataType, text string) ([]byte, error) {
	u, err := uuidOf(t, text)
	if err != nil {
		return dst, err
	}
	return u.append(dst), nil
}
