package postgres

import (
	"bytes"
	"encoding/binary"
	"time"
)

// The PowerSync Service syncs infinity down as the end of the year 9999, which
// is a date that apps use, too. So a value with that date leaves a stored
// infinity as it is, and is taken at its word anywhere else.

// farFuture is what the date is within a converted value.
const farFuture = "9999-12-31"

// farFutureStart is its beginning, farFutureEnd its end.
var (
	farFutureStart = instantOf(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).Unix(), 0)
	farFutureEnd   = instantOf(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), 0)
)

// mayBeInfinity is whether a converted value may stand for a stored infinity.
func (t *dataType) mayBeInfinity(value []byte) bool {
	switch t.class {
	case classTimestampTZ, classTimestamp:
		i := instant(binary.BigEndian.Uint64(value)) //nolint:gosec // two's complement
		return farFutureStart <= i && i < farFutureEnd
	case classDate:
		return bytes.HasPrefix(value, []byte(farFuture))
	}
	return t.holdsDateTime() && bytes.Contains(value, []byte(farFuture))
}

// keepInfinitySQL is the expression v, of c's type, but what t, the row that is
// updated, has in c if v is how that is synced down.
func keepInfinitySQL(c *column, v string) string {
	stored := "t." + c.sql
	if c.typ.isDateTime() {
		return "CASE WHEN " + v + " >= '9999-12-31' AND " + v + " < '10000-01-01' AND " + stored + " = 'infinity'" +
			" THEN " + stored + " ELSE " + v + " END"
	}
	// Only where an infinity is stored, because the comparison makes many casts.
	changed := v
	if c.typ.parts&^dateTimeParts == 0 {
		changed = infinite(c.typ, v) + "::" + c.typ.cast
	}
	return "CASE WHEN (strpos(" + stored + "::text, 'infinity') > 0) IS NOT TRUE THEN " + v +
		" WHEN " + infinite(c.typ, stored) + " = " + infinite(c.typ, v) + " THEN " + stored + "::" + c.typ.cast +
		" ELSE " + changed + " END"
}

// dateTimeParts are the classes of types in which the end of the year 9999 is
// nothing but a date, and not part of some text.
const dateTimeParts classSet = 1<<classTimestampTZ | 1<<classTimestamp | 1<<classDate |
	1<<classArray | 1<<classRange | 1<<classMultirange

// infinite is an expression's text with infinity in place of the end of the
// year 9999. The cast makes the quoting of both what Postgres would make it. A
// daterange [a,9999-12-31] is written [a,10000-01-01).
func infinite(t *dataType, expression string) string {
	return `regexp_replace(regexp_replace(` + expression + `::text,` +
		` '9999-12-31( 23:59:59(\.\d+)?(\+00)?)?(?! )', 'infinity', 'g'), '10000-01-01\)', 'infinity]', 'g')` +
		"::" + t.cast + "::text"
}
