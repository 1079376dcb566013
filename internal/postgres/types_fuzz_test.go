package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/postgres/postgrestest"
)

// FuzzAppendValue gives any JSON value to a column of any kind of type: the
// conversion never panics, and what it makes is stored or refused by Postgres,
// which is never a broken connection.
func FuzzAppendValue(f *testing.F) {
	for _, value := range []string{
		`null`, `1`, `1.0`, `"1e3"`, `-0`, `1e999999999`, `true`, `"é\u0000"`, `"\ud800"`, `"2023-03-06T15:47:00.12+02:00"`,
		`"2024-02-29T24:00:00Z"`, `"2023-02-29 00:00"`, `"2016-12-31T23:59:60.9999995Z"`, `"294276-12-31 23:59:59.9999999"`, `"0001-01-01T00:00:00+01:00"`,
		`-62135596800.0000001`, `"{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}"`, `"a0eebc999c0b4ef8bb6d6bb9bd380a1"`, `9223372036854775807`, `-9223372036854775808`, `"+7"`, `"1000000000000000000"`,
		`"9999-12-31"`, `"0000-01-01"`, `1678110420000`, `-99999999999999999999`, `"-infinity"`, `"0044-03-15 BC"`,
		`[1,null,"x"]`, `"[NaN,-Infinity]"`, `"{a,b}"`, `"[0:1]={7,8}"`, `[[[[[[[1]]]]]]]`, `[{"lower":1,"upper":2}]`,
		`{"x":1,"ok":0,"at":["epoch"]}`, `"(1,,)"`, `{"lower":"1","upper":null,"lower_exclusive":1}`, `"[1,5)"`, `"\"empty\""`,
		`"AP8="`, `"\\x00"`, `{"type":"Point","coordinates":[1,2]}`, `"\u2028\"\\"`,
	} {
		for kind := range 24 {
			f.Add(uint8(kind), value) //nolint:gosec // small
		}
	}
	types, conn := fuzzTypes(f)
	f.Fuzz(func(t *testing.T, kind uint8, value string) {
		v := json.RawMessage(value)
		if !json.Valid(v) || len(v) > 1<<16 {
			return
		}
		if compact, err := compacted(v); err != nil || isNull(compact) {
			return
		} else {
			v = compact
		}
		typ := types[int(kind)%len(types)]
		text, err := appendValue([]byte("before"), typ, v)
		if err != nil {
			if _, ok := errors.AsType[*conversionError](err); !ok {
				t.Fatalf("%s as %s: %v", v, typ.name, err)
			}
			return
		}
		if string(text[:6]) != "before" {
			t.Fatalf("%s as %s overwrote what was there", v, typ.name)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		result := conn.PgConn().ExecParams(ctx, "SELECT $1::text::"+typ.cast, [][]byte{text[6:]}, []uint32{textOID}, nil, nil).Read()
		if _, ok := errors.AsType[*pgconn.PgError](result.Err); result.Err != nil && !ok {
			t.Fatalf("%s as %s became %q: %v", v, typ.name, text[6:], result.Err)
		}
		if typ.wire() != &textWire {
			sameOnTheWire(ctx, t, conn, typ, v, text[6:])
		}
	})
}

// sameOnTheWire holds that a value which travels in its type's binary format is
// what its text is.
func sameOnTheWire(ctx context.Context, t *testing.T, conn *pgx.Conn, typ *dataType, v json.RawMessage, text []byte) {
	t.Helper()
	array := newArray(typ.wire())
	mark := array.begin()
	var err error
	if array.buf, err = appendColumnValue(array.buf, array.wire, &column{typ: typ}, v); err != nil {
		t.Fatalf("%s as %s has a text form, %q, and no other: %v", v, typ.name, text, err)
	}
	array.end(mark)
	p := array.param()
	sql := "SELECT ($1::text::" + typ.cast + ")::text, ($2::" + array.wire.name + ")[1]::text"
	result := conn.PgConn().ExecParams(ctx, sql, [][]byte{text, p.value}, []uint32{textOID, p.oid}, []int16{0, p.format}, nil).Read()
	if result.Err != nil {
		t.Fatalf("%s as %s, or as %q: %v", v, typ.name, text, result.Err)
	}
	if row := result.Rows[0]; string(row[0]) != string(row[1]) {
		t.Errorf("%s as %s is %s on the wire, and %s as text", v, typ.name, row[1], row[0])
	}
}

// compacted is v as a body's decoder hands it over: without white space around.
func compacted(v json.RawMessage) (json.RawMessage, error) {
	var inner json.RawMessage
	err := json.Unmarshal(v, &inner)
	return inner, err
}

// fuzzTypes reads types of every class from a real catalog.
func fuzzTypes(f *testing.F) ([]*dataType, *pgx.Conn) {
	f.Helper()
	db := postgrestest.New(f)
	conn, err := pgx.Connect(f.Context(), db.URLAs("postgres", ""))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = conn.Close(context.Background()) })
	const makeSQL = `
SET statement_timeout = '5s';
SET search_path = pg_catalog;
CREATE TYPE public.part AS (x int, ok boolean, at timestamptz[], doc jsonb, bytes bytea, r int4range[]);
CREATE DOMAIN public.numbers AS int[];
CREATE TABLE public.every (
    a bool, b int2, c int8, d oid, e numeric, f float8, g text, h uuid, i timestamptz, j timestamp, k date, l timetz,
    m jsonb, n json, o bytea, p text[], q jsonb[], r box[], s public.part, t public.part[], u tstzrange, v nummultirange,
    w nummultirange[], x public.numbers[], y bytea[], z interval)`
	if _, err := conn.Exec(f.Context(), makeSQL); err != nil {
		f.Fatal(err)
	}
	tx, err := conn.Begin(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	used := map[*column]uint32{}
	rows, err := tx.Query(f.Context(), `SELECT atttypid FROM pg_attribute WHERE attrelid = 'public.every'::regclass AND attnum > 0 ORDER BY attnum`)
	if err != nil {
		f.Fatal(err)
	}
	oids, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil {
		f.Fatal(err)
	}
	for _, oid := range oids {
		used[&column{}] = oid
	}
	byOID, err := readTypes(f.Context(), tx, used)
	if err != nil {
		f.Fatal(err)
	}
	if err := tx.Commit(f.Context()); err != nil {
		f.Fatal(err)
	}
	types := make([]*dataType, len(oids))
	for i, oid := range oids {
		types[i] = byOID[oid]
	}
	return types, conn
}
