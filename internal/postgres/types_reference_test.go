package postgres

import (
	"encoding/json"
	"regexp"
	"strings"
)

// digitsOfTime are numbers that clients mean as a point in time, and of which
// Postgres makes a date by their digits.
var digitsOfTime = regexp.MustCompile(`[0-9]{5}`)

// checkReference holds what was stored of v, or why nothing was, against what
// Postgres makes of the same value without a conversion.
func (h *held) checkReference(t reporter, c *heldColumn, v json.RawMessage, stored kept, refused error) {
	t.Helper()
	text, quoted, err := valueText(v)
	if err != nil {
		if refused == nil {
			t.Fatalf("%s as %s is stored as %q", v, c.sql, stored.text)
		}
		return
	}
	switch c.typ.class {
	case classArray, classComposite:
		h.checkPopulated(t, c, text, stored, refused)
	case classInteger:
		h.checkInteger(t, c, text, quoted, stored, refused)
	case classBool, classNumeric, classFloat, classUUID, classJSON, classText, classOther:
		h.checkPlain(t, c, text, stored, refused)
	case classTimestampTZ, classTimestamp, classDate, classTime:
		h.checkInstant(t, c, text, quoted, stored, refused)
	}
}

// checkPlain is for types that read the text of a value: what both accept is the
// same, and apart from booleans both accept the same.
func (h *held) checkPlain(t reporter, c *heldColumn, text string, stored kept, refused error) {
	t.Helper()
	want, err := h.insert(t, c, `SELECT $1::text::`+c.typ.cast, textParam(text))
	same := (err == nil) == (refused == nil)
	switch {
	case err == nil && refused == nil:
		same = stored.text == want.text
	case c.typ.class == classBool, text == "true", text == "false", text == "": // which money takes for nothing
		same = true
	case c.typ.class == classNumeric && strings.ContainsAny(text, "eE"): // money with an exponent
		same = true
	case c.typ.class == classJSON && nesting(text) > maxJSONNesting,
		c.typ.longest > 0 && len(text) > c.typ.longest: // which Postgres would cut
		same = refused != nil
	}
	if !same {
		t.Fatalf("%q as %s is stored as %q, %v; Postgres makes it %q, %v", text, c.sql, stored.text, refused, want.text, err)
	}
}

// checkInteger holds integers against numeric, which reads 42.0 and 1e3.
func (h *held) checkInteger(t reporter, c *heldColumn, text string, quoted bool, stored kept, refused error) {
	t.Helper()
	if text == "true" || text == "false" {
		return
	}
	want, err := h.insert(t, c, `SELECT n::numeric(40,0)::int8::`+c.typ.cast+
		` FROM (SELECT $1::text::numeric) AS d(n) WHERE n = trunc(n) OR 1/(n-n) = 0`, textParam(text))
	switch {
	case refused == nil && stored.text == "0" && err != nil: // 0e999999 is too much for numeric
	case refused == nil && (err != nil || stored.text != want.text),
		refused != nil && err == nil && !quoted:
		t.Fatalf("%q as %s is stored as %q, %v; Postgres makes it %q, %v", text, c.sql, stored.text, refused, want.text, err)
	}
}

// checkInstant holds dates and times in ISO 8601 against Postgres' reading in
// UTC. What it does not read at all is ours alone: points in time as numbers,
// and how the PowerSync Service spells infinities.
func (h *held) checkInstant(t reporter, c *heldColumn, text string, quoted bool, stored kept, refused error) {
	t.Helper()
	if refused != nil || !quoted || isEpochText(text) || strings.HasPrefix(text, "0000-01-01") {
		return
	}
	as := c.typ.cast
	if c.typ.class == classTimestamp { // which drops a zone
		as = "pg_catalog.timestamptz AT TIME ZONE 'UTC'"
	}
	want, err := h.insert(t, c, `SELECT $1::text::`+as, textParam(text))
	if err != nil || stored.text != want.text {
		t.Fatalf("%q as %s is stored as %q; Postgres makes it %q, %v", text, c.sql, stored.text, want.text, err)
	}
}

// checkPopulated holds a JSON array or object against json_populate_record:
// what both accept is the same. Left out is what means something else to ferry:
// zones of timestamps without one, points in time as numbers, bytes, and JSON
// arrays that are elements.
func (h *held) checkPopulated(t reporter, c *heldColumn, text string, stored kept, refused error) {
	t.Helper()
	parts := c.typ.parts
	nested := c.typ.element != nil && classSet(1<<classArray|1<<classJSON|1<<classMultirange).has(c.typ.element.class)
	if refused != nil || parts.has(classTimestamp) || parts.has(classBytea) || nested || !json.Valid([]byte(text)) ||
		(c.typ.holdsDateTime() && digitsOfTime.MatchString(text)) {
		return
	}
	want, err := h.insert(t, c, `SELECT (json_populate_record(NULL::`+c.table+`, json_build_object('v', $1::text::json))).v`, textParam(text))
	if err == nil && stored.text != want.text {
		t.Fatalf("%s as %s is stored as %s; Postgres makes it %s", text, c.sql, stored.text, want.text)
	}
}
