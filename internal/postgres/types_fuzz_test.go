package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"ferry/internal/postgres/postgrestest"
)

// fuzzedTypes are columns of every row of docs/types.md.
var fuzzedTypes = []string{
	"bool", "int2", "int4", "int8", "oid", "numeric", "numeric(5,2)", "money", "float4", "float8",
	"text", "varchar(5)", "char(5)", "name", `"char"`, "public.citext", "uuid",
	"timestamptz", "timestamptz(3)", "timestamp", "date", "time", "timetz", "interval", "json", "jsonb", "bytea",
	"public.mood", "public.rating", "public.short", "public.numbers", "public.point3", "public.nested",
	"bit(3)", "varbit", "inet", "cidr", "macaddr", "tsvector", "xml", "point", "box", "pg_lsn", "public.hstore", "public.ltree",
	"bool[]", "int4[]", "int8[]", "numeric[]", "float8[]", "text[]", "varchar(5)[]", "uuid[]", "timestamptz[]", "timestamp[]", "date[]",
	"time[]", "json[]", "jsonb[]", "bytea[]", "box[]", "public.mood[]", "public.short[]", "public.numbers[]", "public.point3[]",
	"int4range", "int8range", "numrange", "tstzrange", "tsrange", "daterange", "public.moodrange", "int4range[]", "tstzrange[]",
	"int4multirange", "datemultirange", "int4multirange[]", "public.stay",
}

const fuzzedTypesSQL = `
CREATE EXTENSION citext SCHEMA public;
CREATE EXTENSION hstore SCHEMA public;
CREATE EXTENSION ltree SCHEMA public;
SET search_path = pg_catalog;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET statement_timeout = '5s';
SET lc_messages = 'C';
CREATE TYPE public.mood AS ENUM ('sad', 'ok', 'happy, "very"');
CREATE TYPE public.moodrange AS RANGE (subtype = public.mood);
CREATE DOMAIN public.rating AS float8 CHECK (value BETWEEN 0 AND 5);
CREATE DOMAIN public.short AS varchar(3);
CREATE DOMAIN public.numbers AS int[];
CREATE TYPE public.point3 AS (x int, "Y y" numeric, label text);
CREATE TYPE public.nested AS (a boolean, b public.point3, list public.point3[], at timestamptz, doc json, tags text[], bytes bytea);
CREATE TYPE public.stay AS (during tstzrange, days daterange, note varchar(4));`

// FuzzAppendValue gives any JSON value to a column of any kind of type.
func FuzzAppendValue(f *testing.F) {
	for i, value := range []string{
		`1`, `1.0`, `"1e3"`, `-0`, `1e999999999`, `true`, `"é\u0000"`, `"\ud800"`, `"2023-03-06T15:47:00.12+02:00"`,
		`"9999-12-31"`, `"0000-01-01"`, `1678110420000`, `-99999999999999999999`, `"-infinity"`, `"0044-03-15 BC"`,
		`[1,null,"x"]`, `"[NaN,-Infinity]"`, `"{a,b}"`, `"[0:1]={7,8}"`, `[[[[[[[1]]]]]]]`, `[{"lower":1,"upper":2}]`,
		`{"x":1,"ok":0,"at":["epoch"]}`, `"(1,,)"`, `{"lower":"1","upper":null,"lower_exclusive":1}`, `"[1,5)"`, `"\"empty\""`,
		`"AP8="`, `"\\x00"`, `{"type":"Point","coordinates":[1,2]}`, `"\u2028\"\\"`, `"-+5"`, `"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"`,
	} {
		for kind := i % 8; kind < len(fuzzedTypes); kind += 8 { // fuzzing finds the others
			f.Add(uint8(kind), value) //nolint:gosec // small
		}
	}
	h := newHeld(f)
	f.Fuzz(func(t *testing.T, kind uint8, value string) {
		v := json.RawMessage(value)
		if !json.Valid(v) || len(v) > 1<<16 {
			return
		}
		if compact, err := compacted(v); err == nil && !isNull(compact) {
			h.check(t, h.columns[int(kind)%len(h.columns)], compact)
		}
	})
}

// FuzzGeneratedValue gives each type values of its own, in every spelling that
// clients have for them: what FuzzAppendValue seldom hits upon. PostGIS' types are
// among them where the server has PostGIS.
func FuzzGeneratedValue(f *testing.F) {
	h := newHeld(f, "public.geometry", "public.geometry(Point,4326)", "public.geometry(Point,25832)", "public.geography(Point,4326)", "public.geometry[]")
	f.Fuzz(rapid.MakeFuzz(h.checkGenerated))
}

// TestGeneratedValuesAreStoredAsPostgresReadsThem is a little of
// FuzzGeneratedValue, so that it always runs.
func TestGeneratedValuesAreStoredAsPostgresReadsThem(t *testing.T) {
	t.Parallel()
	rapid.Check(t, newHeld(t).checkGenerated)
}

func (h *held) checkGenerated(t *rapid.T) {
	c := rapid.SampledFrom(h.columns).Draw(t, "type")
	h.check(t, c, json.RawMessage(drawTop(t, c.typ)))
}

// compacted is v as a body's decoder hands it over: without white space around.
func compacted(v json.RawMessage) (json.RawMessage, error) {
	var inner json.RawMessage
	err := json.Unmarshal(v, &inner)
	return inner, err
}

// held are tables with one column each, that hold what is converted.
type held struct {
	conn    *pgx.Conn
	columns []*heldColumn
}

type heldColumn struct {
	sql   string // the column's type
	table string
	typ   *dataType
}

// String is what rapid shows.
func (c *heldColumn) String() string { return c.sql }

// newHeld makes tables for fuzzedTypes, and for types of PostGIS.
func newHeld(t testing.TB, postGIS ...string) *held {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), postgrestest.New(t).URLAs("postgres", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	h := &held{conn: conn}
	makeSQL := fuzzedTypesSQL
	if postGIS != nil && h.has(t, "postgis") {
		makeSQL = "CREATE EXTENSION postgis SCHEMA public;" + makeSQL
	} else {
		postGIS = nil
	}
	for i, name := range slices.Concat(fuzzedTypes, postGIS) {
		h.columns = append(h.columns, &heldColumn{sql: name, table: fmt.Sprintf("public.held_%d", i)})
		makeSQL += fmt.Sprintf(";CREATE UNLOGGED TABLE public.held_%d (v %s)", i, name)
	}
	if _, err := conn.Exec(t.Context(), makeSQL); err != nil {
		t.Fatal(err)
	}
	if err := h.readTypes(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

// has is whether the server has an extension to create.
func (h *held) has(t testing.TB, extension string) bool {
	t.Helper()
	var available bool
	err := h.conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = $1)`, extension).Scan(&available)
	if err != nil {
		t.Fatal(err)
	}
	return available
}

// readTypes reads the columns' types as the catalog's loader does.
func (h *held) readTypes(ctx context.Context) error {
	tx, err := h.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // it only reads
	used := map[*column]uint32{}
	oids, modifiers := make([]uint32, len(h.columns)), make([]int32, len(h.columns))
	for i, c := range h.columns {
		err := tx.QueryRow(ctx, `SELECT atttypid, atttypmod FROM pg_attribute WHERE attrelid = $1::regclass AND attname = 'v'`, c.table).
			Scan(&oids[i], &modifiers[i])
		if err != nil {
			return err
		}
		used[&column{}] = oids[i]
	}
	byOID, err := readTypes(ctx, tx, used)
	for i, c := range h.columns {
		c.typ = byOID[oids[i]].withModifier(modifiers[i])
	}
	return err
}

// reporter is a test, or a try of rapid's.
type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
}

// check converts v for a column and stores it as an upload does. The conversion
// never panics, and what it makes is stored or refused by Postgres, which is
// never a broken connection. What is stored is what Postgres itself makes of the
// value, where it reads it, and stays the same when it is sent back.
func (h *held) check(t reporter, c *heldColumn, v json.RawMessage) {
	t.Helper()
	stored, err := h.store(t, c, v)
	h.checkReference(t, c, v, stored, err)
	if err != nil {
		return
	}
	for _, spelling := range c.spellings(stored) {
		again, err := h.store(t, c, json.RawMessage(spelling))
		if isNotSynced(err) {
			continue
		}
		if err != nil || again.text != stored.text {
			t.Fatalf("%s as %s is stored as %s; sent back as %s it becomes %s, %v", v, c.sql, stored.text, spelling, again.text, err)
		}
	}
}

// kept is a stored value: as text, and as Postgres makes JSON of it.
type kept struct{ text, json string }

// store stores a value as uploads do. It returns the refusal of the conversion
// or of Postgres as an error.
func (h *held) store(t reporter, c *heldColumn, v json.RawMessage) (kept, error) {
	t.Helper()
	text, err := appendValue([]byte("before"), c.typ, v)
	array := newArray(c.typ.wire())
	mark := array.begin()
	var wireErr error
	array.buf, wireErr = appendColumnValue(array.buf, array.wire, &column{typ: c.typ}, v)
	if (err == nil) != (wireErr == nil) {
		t.Fatalf("%s as %s: %v as text, %v on the wire", v, c.sql, err, wireErr)
	}
	if err != nil {
		if _, ok := errors.AsType[*conversionError](err); !ok {
			t.Fatalf("%s as %s: %v", v, c.sql, err)
		}
		return kept{}, err
	}
	if string(text[:6]) != "before" {
		t.Fatalf("%s as %s overwrote what was there", v, c.sql)
	}
	array.end(mark)
	stored, err := h.insert(t, c, "SELECT "+array.wire.cast("d.a", c.typ)+" FROM unnest($1::"+array.wire.name+"[]) AS d(a)", array.param())
	alone, aloneErr := h.insert(t, c, "SELECT "+array.wire.cast("d.a", c.typ)+" FROM (SELECT $1::"+array.wire.name+" OFFSET 0) AS d(a)", array.only())
	if alone != stored || (aloneErr == nil) != (err == nil) {
		t.Fatalf("%s as %s is %q, %v in an array, and %q, %v by itself", v, c.sql, stored.text, err, alone.text, aloneErr)
	}
	if array.wire != &textWire {
		asText, textErr := h.insert(t, c, "SELECT $1::text::"+c.typ.cast, textParam(string(text[6:])))
		if asText != stored || (textErr == nil) != (err == nil) {
			t.Fatalf("%s as %s is %q, %v on the wire, and %q, %v as text", v, c.sql, stored.text, err, asText.text, textErr)
		}
	}
	return stored, err
}

// insert stores what a query of one parameter makes.
func (h *held) insert(t reporter, c *heldColumn, query string, p param) (kept, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sql := "INSERT INTO " + c.table + " " + query + " RETURNING v::text, to_json(v)::text"
	result := h.conn.PgConn().ExecParams(ctx, sql, [][]byte{p.value}, []uint32{p.oid}, []int16{p.format}, nil).Read()
	if _, ok := errors.AsType[*pgconn.PgError](result.Err); result.Err != nil && !ok {
		t.Fatalf("%s of %q: %v", sql, p.value, result.Err)
	}
	if result.Err != nil {
		return kept{}, result.Err
	}
	return kept{string(result.Rows[0][0]), string(result.Rows[0][1])}, nil
}

// isNotSynced is whether a value would erase bytes: docs/types.md refuses it.
func isNotSynced(err error) bool {
	refused, ok := errors.AsType[*conversionError](err)
	return ok && refused.code == "null_value_not_allowed"
}

// spellings are how a stored value may come back: as Postgres writes it, and in
// JSON where Postgres' JSON says all of it.
func (c *heldColumn) spellings(stored kept) []string {
	beforeChrist := strings.Contains(stored.text, " BC")
	var all []string
	if !beforeChrist || c.typ.class != classTimestamp && c.typ.class != classTimestampTZ {
		all = append(all, quotedJSON(stored.text))
	}
	switch c.typ.class {
	case classOther, classJSON, classText, classGeometry: // not what the service syncs, or the same
		return all
	}
	switch {
	case beforeChrist, strings.Contains(stored.text, "]={"): // array bounds that do not begin at 1
	case c.typ.parts.has(classJSON) && strings.Contains(stored.json, "null"): // JSON's null, or SQL's
	case stored.json[0] == '[', stored.json[0] == '{':
		all = append(all, stored.json, quotedJSON(stored.json))
	default:
		all = append(all, stored.json)
	}
	return all
}

func quotedJSON(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}
