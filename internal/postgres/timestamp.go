package postgres

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// isoDateTime is what the PowerSync Service syncs down, what SQLite's
// datetime() makes, and what JavaScript's toISOString() makes. Anything else is
// refused: Postgres would read "06/03/2023" by the session's DateStyle, and
// "now" by its clock.
var isoDateTime = regexp.MustCompile(
	`^(\d{4,6})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?\s*(Z|z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)?)?$`)

// epochText is a point in time as seconds or milliseconds since 1970, in text:
// nine digits or more, because eight may be a date.
var epochText = regexp.MustCompile(`^-?\d{9,}(\.\d+)?$`)

func badDateTime(t *dataType, text string) error {
	return &conversionError{
		"invalid_datetime_format", "22007",
		fmt.Sprintf("invalid value for type %s: %s", t.name, shown(text)),
	}
}

func dateTimeOverflow(t *dataType, text string) error {
	return &conversionError{
		"datetime_field_overflow", "22008",
		fmt.Sprintf("date/time field value out of range for type %s: %s", t.name, shown(text)),
	}
}

// specialDateTime reads the values that are no calendar date. The PowerSync
// Service spells -infinity as the year 0, which Postgres' calendar lacks.
func specialDateTime(text string) (literal string, ok bool) {
	switch strings.ToLower(text) {
	case "infinity", "-infinity":
		return strings.ToLower(text), true
	case "epoch":
		return "1970-01-01 00:00:00+00", true
	}
	if strings.HasPrefix(text, "0000-01-01") {
		return "-infinity", true
	}
	return "", false
}

// isFarFuture is whether a value may stand for a stored infinity: the
// PowerSync Service syncs infinity down as the last day of the year 9999.
func isFarFuture(text []byte) bool { return strings.HasPrefix(string(text), "9999-12-31") }

// appendTimestamp converts to the same instant whatever the session's
// TimeZone: no zone means UTC. A timestamp without time zone is kept in UTC.
func appendTimestamp(dst []byte, t *dataType, text string, quoted bool) ([]byte, error) {
	if literal, ok := specialDateTime(text); ok {
		return append(dst, literal...), nil
	}
	if m := isoDateTime.FindStringSubmatch(text); m != nil {
		return appendISO(dst, t, text, m)
	}
	if epochText.MatchString(text) || !quoted {
		return appendEpoch(dst, t, text)
	}
	return dst, badDateTime(t, text)
}

// appendISO appends a date-time that isoDateTime matched, in UTC.
func appendISO(dst []byte, t *dataType, text string, m []string) ([]byte, error) {
	var f [6]int // year, month, day, hour, minute, second
	for i := range f {
		f[i], _ = strconv.Atoi(m[i+1]) // absent: 0
	}
	offset := zoneOffset(m[8])
	// 24:00:00 is midnight of the next day, a leap second the next minute:
	// Postgres accepts both.
	endOfDay := f[3] == 24 && f[4] == 0 && f[5] == 0
	if f[0] == 0 || f[1] < 1 || f[1] > 12 || f[2] < 1 || f[2] > daysIn(f[0], f[1]) ||
		(f[3] > 23 && !endOfDay) || f[4] > 59 || f[5] > 60 || offset <= -16*time.Hour || offset >= 16*time.Hour {
		return dst, dateTimeOverflow(t, text)
	}
	utc := time.Date(f[0], time.Month(f[1]), f[2], f[3], f[4], f[5], 0, time.UTC).Add(-offset)
	if utc.Year() < 1 {
		return dst, dateTimeOverflow(t, text)
	}
	return appendUTC(dst, t, utc, m[7]), nil
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// appendUTC appends an instant with its fraction of a second (".123", or "").
// Postgres rounds fractions to microseconds.
func appendUTC(dst []byte, t *dataType, utc time.Time, fraction string) []byte {
	dst = utc.AppendFormat(dst, "2006-01-02 15:04:05")
	dst = append(dst, fraction...)
	if t.class == classTimestampTZ {
		dst = append(dst, "+00"...)
	}
	return dst
}

// zoneOffset reads "", "Z", "+02", "+0200", "+02:00" or "+02:00:30".
func zoneOffset(zone string) time.Duration {
	digits := strings.ReplaceAll(strings.TrimLeft(zone, "+-Zz"), ":", "")
	if digits == "" {
		return 0
	}
	for len(digits) < 6 {
		digits += "0"
	}
	hours, _ := strconv.Atoi(digits[0:2])
	minutes, _ := strconv.Atoi(digits[2:4])
	seconds, _ := strconv.Atoi(digits[4:6])
	offset := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute + time.Duration(seconds)*time.Second
	if zone[0] == '-' {
		return -offset
	}
	return offset
}

// appendEpoch reads seconds, or milliseconds from 1e11 on (1e11 seconds would
// be the year 5138), exactly: without float64.
func appendEpoch(dst []byte, t *dataType, text string) ([]byte, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || strings.Trim(fraction, "0123456789") != "" {
		return appendEpochExponent(dst, t, text)
	}
	const milliseconds = 100_000_000_000
	negative := strings.HasPrefix(whole, "-")
	nanos := fractionOf(fraction, 9)
	seconds := n
	if n >= milliseconds || n <= -milliseconds {
		seconds = n / 1000
		nanos = abs(n%1000)*1e6 + fractionOf(fraction, 6)
	}
	if negative {
		nanos = -nanos
	}
	utc := time.Unix(seconds, nanos).UTC()
	if utc.Year() < 1 || utc.Year() > 294276 { // the range of Postgres' timestamps
		return dst, dateTimeOverflow(t, text)
	}
	return appendUTC(dst, t, utc, utc.Format(".000000")), nil
}

// appendEpochExponent reads 1.67811042e+9, as SDKs spell large reals.
func appendEpochExponent(dst []byte, t *dataType, text string) ([]byte, error) {
	negative, digits, ok := wholeDigits(text)
	if !ok {
		return dst, badDateTime(t, text)
	}
	if len(digits) > 15 {
		return dst, dateTimeOverflow(t, text)
	}
	if negative {
		digits = "-" + digits
	}
	return appendEpoch(dst, t, digits)
}

// fractionOf reads decimal digits behind a point as that many places.
func fractionOf(digits string, places int) int64 {
	for len(digits) < places {
		digits += "0"
	}
	n, _ := strconv.ParseInt(digits[:places], 10, 64)
	return n
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

// appendDate keeps the date of an ISO date-time as it is written.
func appendDate(dst []byte, t *dataType, text string) ([]byte, error) {
	if literal, ok := specialDateTime(text); ok {
		literal, _, _ = strings.Cut(literal, " ")
		return append(dst, literal...), nil
	}
	m := isoDateTime.FindStringSubmatch(text)
	if m == nil {
		return dst, badDateTime(t, text)
	}
	return append(dst, m[1]+"-"+m[2]+"-"+m[3]...), nil
}

// appendTime refuses words such as "now"; Postgres checks the rest.
func appendTime(dst []byte, t *dataType, text string) ([]byte, error) {
	if len(text) < 5 || text[2] != ':' {
		return dst, badDateTime(t, text)
	}
	return append(dst, text...), nil
}
