package postgres

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// dateTime is an ISO date-time as it is written: no field is checked against
// the calendar.
type dateTime struct {
	date                                   string // YYYY-MM-DD, a year of up to six digits
	year, month, day, hour, minute, second int
	fraction                               string // ".123", or empty
	offset                                 time.Duration
}

// parseDateTime reads what the PowerSync Service syncs down, what SQLite's
// datetime() makes, and what JavaScript's toISOString() makes. Anything else is
// refused: Postgres would read "06/03/2023" by the session's DateStyle, and
// "now" by its clock.
func parseDateTime(text string) (d dateTime, ok bool) {
	year := countDigits(text)
	if year < 4 || year > 6 || len(text) < year+6 {
		return d, false
	}
	d.date = text[:year+6]
	month, okMonth := twoDigits(text[year:], '-')
	day, okDay := twoDigits(text[year+3:], '-')
	if !okMonth || !okDay {
		return d, false
	}
	d.year, _ = strconv.Atoi(text[:year])
	d.month, d.day = month, day
	rest := text[year+6:]
	if rest == "" {
		return d, true
	}
	if rest[0] != 'T' && rest[0] != ' ' {
		return d, false
	}
	return d, d.parseTime(rest)
}

// parseTime reads T17:42, T17:42:01 or T17:42:01.12, and a zone.
func (d *dateTime) parseTime(text string) (ok bool) {
	if d.hour, ok = twoDigits(text, text[0]); !ok {
		return false
	}
	if d.minute, ok = twoDigits(text[3:], ':'); !ok {
		return false
	}
	text = text[6:]
	if seconds, ok := twoDigits(text, ':'); ok {
		d.second, text = seconds, text[3:]
		if n := fractionLength(text); n > 0 {
			d.fraction, text = text[:n], text[n:]
		}
	}
	d.offset, ok = zoneOffset(strings.TrimLeft(text, " "))
	return ok
}

// twoDigits reads a separator and two digits at the beginning of text.
func twoDigits(text string, separator byte) (n int, ok bool) {
	if len(text) < 3 || text[0] != separator || !isDigit(text[1]) || !isDigit(text[2]) {
		return 0, false
	}
	return int(text[1]-'0')*10 + int(text[2]-'0'), true
}

// fractionLength returns the length of ".123" at the beginning of text, or 0.
func fractionLength(text string) int {
	if len(text) < 2 || text[0] != '.' || !isDigit(text[1]) {
		return 0
	}
	return 1 + countDigits(text[1:])
}

// countDigits returns with how many digits text begins.
func countDigits(text string) int {
	n := 0
	for n < len(text) && isDigit(text[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isEpochText is whether text is a point in time as seconds or milliseconds
// since 1970: nine digits or more, because eight may be a date.
func isEpochText(text string) bool {
	text = strings.TrimPrefix(text, "-")
	whole := countDigits(text)
	rest := text[whole:]
	return whole >= 9 && len(rest) == fractionLength(rest)
}

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

const epochLiteral = "1970-01-01 00:00:00+00"

// specialDateTime reads the values that are no calendar date. The PowerSync
// Service spells -infinity as the year 0, which Postgres' calendar lacks.
func specialDateTime(text string) (literal string, ok bool) {
	switch {
	case text != "" && '1' <= text[0] && text[0] <= '9':
		return "", false
	case strings.EqualFold(text, "infinity"):
		return "infinity", true
	case strings.EqualFold(text, "-infinity"):
		return "-infinity", true
	case strings.EqualFold(text, "epoch"):
		return epochLiteral, true
	}
	if strings.HasPrefix(text, "0000-01-01") {
		_, ok = parseDateTime(text)
		return "-infinity", ok
	}
	return "", false
}

// instant is a timestamp as Postgres keeps it: microseconds since the year 2000.
//
// Source: PostgreSQL's datatype/timestamp.h.
type instant int64

const (
	infinity      instant = math.MaxInt64
	minusInfinity instant = math.MinInt64
	// endOfTime is the year 294277, which Postgres' timestamps end before.
	endOfTime instant = 9223371331200000000
	// instantEpoch is the instant 0, in seconds since 1970.
	instantEpoch = 946684800
)

// startOfTime is the year 1: SQLite and the clients know none before it.
var startOfTime = instantOf(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), 0)

// instantOf counts from 1970.
func instantOf(seconds, micros int64) instant {
	return instant((seconds-instantEpoch)*1e6 + micros)
}

func (i instant) utc() time.Time {
	const perSecond = 1_000_000
	seconds, micros := i/perSecond, i%perSecond
	return time.Unix(int64(seconds)+instantEpoch, 1000*int64(micros)).UTC()
}

// parseInstant reads the same instant whatever the session's TimeZone: no zone
// means UTC. A timestamp without time zone is kept in UTC.
func parseInstant(t *dataType, text string, quoted bool) (instant, error) {
	if literal, ok := specialDateTime(text); ok {
		return map[string]instant{"infinity": infinity, "-infinity": minusInfinity, epochLiteral: instantOf(0, 0)}[literal], nil
	}
	if d, ok := parseDateTime(text); ok {
		return d.instant(t, text)
	}
	if isEpochText(text) || !quoted {
		return parseEpoch(t, text)
	}
	return 0, badDateTime(t, text)
}

// appendTimestamp spells an instant in UTC.
func appendTimestamp(dst []byte, t *dataType, text string, quoted bool) ([]byte, error) {
	i, err := parseInstant(t, text, quoted)
	switch {
	case err != nil:
		return dst, err
	case i == infinity:
		return append(dst, "infinity"...), nil
	case i == minusInfinity:
		return append(dst, "-infinity"...), nil
	}
	dst = i.utc().AppendFormat(dst, "2006-01-02 15:04:05.999999")
	if t.class == classTimestampTZ {
		dst = append(dst, "+00"...)
	}
	return dst, nil
}

// instant checks the date-time against the calendar.
func (d *dateTime) instant(t *dataType, text string) (instant, error) {
	const lastYear = 294277 // of which a zone may take some hours
	if d.year > lastYear || !d.exists() {
		return 0, dateTimeOverflow(t, text)
	}
	utc := time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, d.second, 0, time.UTC)
	i := instantOf(utc.Unix()-int64(d.offset/time.Second), microsOf(d.fraction))
	if i < startOfTime || i >= endOfTime {
		return 0, dateTimeOverflow(t, text)
	}
	return i, nil
}

// exists is whether the calendar and the clock have the date-time. 24:00:00 is
// midnight of the next day, a leap second the next minute: Postgres accepts
// both.
func (d *dateTime) exists() bool {
	endOfDay := d.hour == 24 && d.minute == 0 && d.second == 0
	return d.year > 0 && d.month >= 1 && d.month <= 12 && d.day >= 1 && (d.day <= 28 || d.day <= daysIn(d.year, d.month)) &&
		(d.hour <= 23 || endOfDay) && d.minute <= 59 && d.second <= 60 &&
		d.offset > -16*time.Hour && d.offset < 16*time.Hour
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// microsOf reads a fraction of a second (".123", or "") as microseconds, rounded
// as Postgres does.
//
// Source: PostgreSQL's ParseFraction in datetime.c.
func microsOf(fraction string) int64 {
	const places = 6
	if len(fraction) <= 1+places {
		return fractionOf(strings.TrimPrefix(fraction, "."), places)
	}
	f, _ := strconv.ParseFloat("0"+fraction, 64) // digits behind a point are a number
	return int64(math.RoundToEven(f * 1e6))
}

// zoneOffset reads "", "Z", "+02", "+0200", "+02:00" or "+02:00:30".
func zoneOffset(zone string) (offset time.Duration, ok bool) {
	switch {
	case zone == "" || zone == "Z" || zone == "z":
		return 0, true
	case zone[0] != '+' && zone[0] != '-':
		return 0, false
	}
	negative := zone[0] == '-'
	zone = zone[1:]
	withColons := len(zone) > 2 && zone[2] == ':'
	for unit := time.Hour; ; unit /= 60 {
		if len(zone) < 2 || !isDigit(zone[0]) || !isDigit(zone[1]) || unit < time.Second {
			return 0, false
		}
		offset += time.Duration(int(zone[0]-'0')*10+int(zone[1]-'0')) * unit
		if zone = zone[2:]; zone == "" {
			break
		}
		switch {
		case withColons && zone[0] == ':':
			zone = zone[1:]
		case withColons, unit < time.Hour: // Postgres takes +020030 for another zone
			return 0, false
		}
	}
	if negative {
		offset = -offset
	}
	return offset, true
}

// parseEpoch reads seconds, or milliseconds from 1e11 on (1e11 seconds would
// be the year 5138), exactly: without float64.
func parseEpoch(t *dataType, text string) (instant, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || strings.Trim(fraction, "0123456789") != "" {
		return parseEpochExponent(t, text)
	}
	const milliseconds = 100_000_000_000
	seconds, nanos := n, fractionOf(fraction, 9)
	if n >= milliseconds || n <= -milliseconds {
		seconds = n / 1000
		nanos = abs(n%1000)*1e6 + fractionOf(fraction, 6)
	}
	if strings.HasPrefix(whole, "-") {
		nanos = -nanos
	}
	utc := time.Unix(seconds, nanos).UTC()
	if utc.Year() < 1 || utc.Year() > 294276 { // the range of Postgres' timestamps
		return 0, dateTimeOverflow(t, text)
	}
	return instantOf(utc.Unix(), int64(utc.Nanosecond()/1000)), nil
}

// parseEpochExponent reads 1.67811042e+9, as SDKs spell large reals.
func parseEpochExponent(t *dataType, text string) (instant, error) {
	const longest = 16 // of digits before the point: far beyond any date
	plain := withoutExponent(text)
	whole, _, _ := strings.Cut(plain, ".")
	switch {
	case plain != text && len(whole) <= longest:
		return parseEpoch(t, plain)
	case text != "" && (text[0] == '-' || isDigit(text[0])):
		return 0, dateTimeOverflow(t, text)
	}
	return 0, badDateTime(t, text)
}

// clockWords are what Postgres reads as a date that depends on when it is read.
//
// Source: PostgreSQL documentation, "Special Date/Time Inputs".
var clockWords = regexp.MustCompile(`(?i)\b(?:now|today|tomorrow|yesterday|allballs)\b`)

// checkLiteral refuses a literal in Postgres' own notation that says what a
// single value may not say.
func checkLiteral(t *dataType, text string) error {
	if t.holdsDateTime() && t.parts&^dateTimeParts == 0 && clockWords.MatchString(text) {
		return badDateTime(t, text)
	}
	return nil
}

// fractionOf reads decimal digits behind a point as that many places.
func fractionOf(digits string, places int) (n int64) {
	for i := range places {
		n *= 10
		if i < len(digits) {
			n += int64(digits[i] - '0')
		}
	}
	return n
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

// appendDate keeps the date of an ISO date-time as it is written. The
// PowerSync Service syncs a date before the year 1 down with its BC.
func appendDate(dst []byte, t *dataType, text string) ([]byte, error) {
	if literal, ok := specialDateTime(text); ok {
		literal, _, _ = strings.Cut(literal, " ")
		return append(dst, literal...), nil
	}
	date, isBC := strings.CutSuffix(text, " BC")
	d, ok := parseDateTime(date)
	if !ok || (isBC && d.date != date) {
		return dst, badDateTime(t, text)
	}
	if !isBC && !d.exists() {
		return dst, dateTimeOverflow(t, text)
	}
	dst = append(dst, d.date...)
	if isBC {
		dst = append(dst, " BC"...)
	}
	return dst, nil
}

// appendTime refuses words such as "now"; Postgres checks the rest.
func appendTime(dst []byte, t *dataType, text string) ([]byte, error) {
	if len(text) < 5 || text[2] != ':' {
		return dst, badDateTime(t, text)
	}
	return append(dst, text...), nil
}
