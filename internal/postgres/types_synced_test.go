package postgres_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// syncedValue is a stored value and how the PowerSync Service (1.25, read in
// its packages jpgwire, module-postgres and sync-rules) syncs it down: in its
// compatibility editions 1 and later, where they differ.
type syncedValue struct {
	columnType string
	stored     string   // SQL
	synced     []string // JSON, as the client sends it back
}

var syncedValues = []syncedValue{
	{"boolean", `true`, []string{`1`, `1.0`, `"1"`, `"1.0"`}},
	{"smallint", `-32768`, []string{`-32768`, `-32768.0`}},
	{"integer", `42`, []string{`42`, `42.0`, `"42"`}},
	{"bigint", `9223372036854775807`, []string{`9223372036854775807`, `"9223372036854775807"`}},
	{"oid", `4294967295`, []string{`4294967295`}},
	{"numeric", `123456789012345678901234567890.1234567890123456789012345678900`, []string{`"123456789012345678901234567890.1234567890123456789012345678900"`}},
	{"numeric", `'NaN'`, []string{`"NaN"`}},
	{"numeric", `'-Infinity'`, []string{`"-Infinity"`}},
	{"numeric(5,2)", `1.20`, []string{`"1.20"`}},
	{"money", `'-1234.56'`, []string{`"-$1,234.56"`}},
	{"float8", `1.7976931348623157e308`, []string{`1.7976931348623157e+308`, `1.7976931348623157e308`}},
	{"float8", `5e-324`, []string{`5e-324`}},
	{"float8", `0.1::float8 + 0.2::float8`, []string{`0.30000000000000004`}},
	{"float8", `1`, []string{`1`, `1.0`}},
	{"float4", `3.4028235e38`, []string{`3.4028235e+38`}},
	{"float4", `0.1`, []string{`0.1`}},
	{"text", `E'a\n"b"\\\t''é😀'`, []string{quoted("a\n\"b\"\\\t'é😀")}},
	{"text", `''`, []string{`""`}},
	{"varchar(5)", `'12345'`, []string{`"12345"`}},
	{"char(5)", `'ab'`, []string{`"ab   "`}},
	{"name", `'n'`, []string{`"n"`}},
	{"uuid", `'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'`, []string{`"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`}},
	{"timestamptz", `'2023-03-06 15:47:00.123456+02'`, []string{`"2023-03-06T13:47:00.123456Z"`, `"2023-03-06 13:47:00.123456Z"`}},
	{"timestamptz", `'2023-03-06 15:47:00+02'`, []string{`"2023-03-06T13:47:00.000000Z"`, `"2023-03-06 13:47:00Z"`}},
	{"timestamptz", `'infinity'`, []string{`"9999-12-31T23:59:59Z"`, `"9999-12-31 23:59:59Z"`}},
	{"timestamptz", `'-infinity'`, []string{`"0000-01-01T00:00:00Z"`, `"0000-01-01 00:00:00Z"`}},
	{"timestamptz", `'9999-12-31 23:59:59+00'`, []string{`"9999-12-31T23:59:59.000000Z"`}},
	{"timestamptz(3)", `'0022-09-08 21:19:28.5+00'`, []string{`"0022-09-08T21:19:28.500000Z"`, `"0022-09-08 21:19:28.5Z"`}},
	{"timestamp", `'2023-03-06 13:47:00.123456'`, []string{`"2023-03-06T13:47:00.123456"`, `"2023-03-06 13:47:00.123456"`}},
	{"timestamp", `'infinity'`, []string{`"9999-12-31T23:59:59"`, `"9999-12-31 23:59:59"`}},
	{"timestamp", `'-infinity'`, []string{`"0000-01-01T00:00:00"`}},
	{"timestamp", `'10022-09-08 21:19:28'`, []string{`"10022-09-08T21:19:28.000000"`}},
	{"date", `'2023-03-06'`, []string{`"2023-03-06"`}},
	{"date", `'infinity'`, []string{`"9999-12-31"`}},
	{"date", `'-infinity'`, []string{`"0000-01-01"`}},
	{"date", `'0044-03-15 BC'`, []string{`"0044-03-15 BC"`}},
	{"date", `'12023-03-06'`, []string{`"12023-03-06"`}},
	{"time", `'17:42:01.12'`, []string{`"17:42:01.120000"`, `"17:42:01.12"`}},
	{"time", `'24:00'`, []string{`"24:00:00.000000"`, `"24:00:00"`}},
	{"timetz", `'17:42:01.123456-05:30'`, []string{`"17:42:01.123456-05:30"`}},
	{"interval", `'-1 year 2 mons -3 days 04:05:06.789'`, []string{`"-1 years +2 mons -3 days +04:05:06.789"`}},
	{"json", `'{"b": 1,  "a":[1.0,1.0], "b":2}'`, []string{quoted(`{"b": 1,  "a":[1.0,1.0], "b":2}`)}},
	{"json", `'null'`, []string{`"null"`}},
	{"jsonb", `'"text"'`, []string{quoted(`"text"`)}},
	{"jsonb", `'{"n": 123456789012345678901234567890.10, "s": "\"\\"}'`, []string{quoted(`{"n": 123456789012345678901234567890.10, "s": "\"\\"}`)}},
	{"bytea", `'\x00ff10'`, []string{`"AP8Q"`}}, // base64(v) in the sync rule
	{"bytea", `''`, []string{`""`}},
	{"mood", `'happy, "very"'`, []string{quoted(`happy, "very"`)}},
	{"bit(3)", `B'101'`, []string{`"101"`}},
	{"varbit", `B'10'`, []string{`"10"`}},
	{"inet", `'10.0.0.1/8'`, []string{`"10.0.0.1/8"`}},
	{"cidr", `'2001:db8::/32'`, []string{`"2001:db8::/32"`}},
	{"macaddr", `'00:00:5e:00:53:af'`, []string{`"00:00:5e:00:53:af"`}},
	{"macaddr8", `'00:00:5e:00:53:af:01:02'`, []string{`"00:00:5e:00:53:af:01:02"`}},
	{"tsvector", `'''a b'':1A c:2'`, []string{`"'a b':1A 'c':2"`}},
	{"tsquery", `'a & !b'`, []string{`"'a' & !'b'"`}},
	{"xml", `'<a b="1">x</a>'`, []string{quoted(`<a b="1">x</a>`)}},
	{"point", `'(1.5,2)'`, []string{`"(1.5,2)"`}},
	{"line", `'{1,2,3}'`, []string{`"{1,2,3}"`}},
	{"lseg", `'[(0,0),(1,1)]'`, []string{`"[(0,0),(1,1)]"`}},
	{"box", `'(3,4),(1,2)'`, []string{`"(3,4),(1,2)"`}},
	{"path", `'[(0,0),(1,1)]'`, []string{`"[(0,0),(1,1)]"`}},
	{"polygon", `'((0,0),(1,1),(1,0))'`, []string{`"((0,0),(1,1),(1,0))"`}},
	{"circle", `'<(1,2),3>'`, []string{`"<(1,2),3>"`}},
	{"pg_lsn", `'16/B374D848'`, []string{`"00000016/B374D848"`}},
	{"jsonpath", `'$."a"[*]'`, []string{quoted(`$."a"[*]`)}},
	{"int2vector", `'1 2 3'`, []string{`"1 2 3"`}},
	{"txid_snapshot", `'10:20:10,14,15'`, []string{`"10:20:10,14,15"`}},

	{"text[]", `ARRAY['a', NULL, 'NULL', '', 'b"\,{}', ' x ']`, []string{quoted(`["a",null,"NULL","","b\"\\,{}"," x "]`)}},
	{"text[]", `'{}'`, []string{`"[]"`}},
	{"text[]", `'{{one,1},{two,NULL}}'`, []string{quoted(`[["one","1"],["two",null]]`)}},
	{"int[]", `'{1,NULL,-3}'`, []string{`"[1,null,-3]"`, `[1,null,-3]`}},
	{"int[]", `'{{{1},{2}},{{3},{4}}}'`, []string{`"[[[1],[2]],[[3],[4]]]"`}},
	{"bigint[]", `'{9223372036854775807}'`, []string{`"[9223372036854775807]"`}},
	{"boolean[]", `'{t,f,NULL}'`, []string{`"[1,0,null]"`, `"[true,false,null]"`}},
	{"numeric[]", `'{1.10,NaN,123456789012345678901234567890.5}'`, []string{quoted(`["1.10","NaN","123456789012345678901234567890.5"]`)}},
	{"float8[]", `'{NaN,Infinity,-Infinity,1,1e300,NULL}'`, []string{`"[NaN,Infinity,-Infinity,1.0,1e+300,null]"`}},
	{"rating[]", `'{0,NULL,5}'`, []string{`"[0.0,null,5.0]"`, `"{0,NULL,5}"`}},
	{"uuid[]", `'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'`, []string{quoted(`["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]`)}},
	{"timestamptz[]", `'{"2023-03-06 15:47:00.12345+02",NULL,-infinity}'`, []string{
		quoted(`["2023-03-06T13:47:00.123450Z",null,"0000-01-01T00:00:00Z"]`), quoted(`["2023-03-06 13:47:00.12345Z",null,"0000-01-01 00:00:00Z"]`),
	}},
	{"timestamptz[]", `'{infinity,"9999-12-31 23:59:59+00","2023-03-06 15:47:00+02"}'`, []string{quoted(`["9999-12-31T23:59:59Z","9999-12-31T23:59:59.000000Z","2023-03-06T13:47:00.000000Z"]`)}},
	{"timestamp[]", `'{infinity}'`, []string{quoted(`["9999-12-31T23:59:59"]`)}},
	{"date[]", `'{infinity,-infinity,2023-03-06,NULL}'`, []string{quoted(`["9999-12-31","0000-01-01","2023-03-06",null]`)}},
	{"time[]", `'{15:47:00,24:00:00}'`, []string{quoted(`["15:47:00.000000","24:00:00.000000"]`)}},
	{"interval[]", `'{01:00:00}'`, []string{quoted(`["01:00:00"]`)}},
	{"jsonb[]", `ARRAY['{"a": [1, null]}', '"text"', '5', NULL, '[1, 2]', 'true', '"{\"x\":1}"']::jsonb[]`, []string{quoted(`[{"a": [1, null]},"text",5,null,[1, 2],true,"{\"x\":1}"]`)}},
	{"json[]", `ARRAY['{"b":1,  "a":2}', '"text"']::json[]`, []string{quoted(`[{"b":1,  "a":2},"text"]`)}},
	{"bytea[]", `'{}'`, []string{`"[]"`}},
	{"mood[]", `ARRAY['sad', 'happy, "very"']::mood[]`, []string{quoted(`{sad,"happy, \"very\""}`), quoted(`["sad","happy, \"very\""]`)}},
	{"inet[]", `'{127.0.0.1}'`, []string{quoted(`["127.0.0.1"]`)}},
	{"pg_lsn[]", `'{16/B374D848}'`, []string{quoted(`["00000016/B374D848"]`)}},
	{"point[]", `'{"(1,2)","(3,4)"}'`, []string{quoted(`["(1,2)","(3,4)"]`)}},
	{"box[]", `'{(3,4),(1,2);(7,8),(5,6)}'`, []string{quoted(`["(3,4),(1,2)","(7,8),(5,6)"]`)}},
	{"macaddr[]", `'{00:00:5e:00:53:af}'`, []string{quoted(`["00:00:5e:00:53:af"]`)}},
	{"oid[]", `'{1007}'`, []string{`"[1007]"`}},
	{"xml[]", `ARRAY['<a/>']::xml[]`, []string{quoted(`["<a/>"]`)}},

	{"rating", `2.5`, []string{`2.5`, `"2.5"`}},
	{"short", `'abc'`, []string{`"abc"`}},
	{"short[]", `'{abc}'`, []string{`"{abc}"`, quoted(`["abc"]`)}},
	{"numbers", `'{1,2,3}'`, []string{`"{1,2,3}"`, `"[1,2,3]"`}},
	{"numbers[]", `ARRAY['{1,2}'::numbers, '{3}'::numbers]`, []string{quoted(`{"{1,2}","{3}"}`), `"[[1,2],[3]]"`}},

	{"point3", `(1, 2.50, 'a "b" (c),\')`, []string{quoted(`{"x":1,"Y y":"2.50","label":"a \"b\" (c),\\"}`), quoted(`(1,2.50,"a ""b"" (c),\\")`)}},
	{"point3", `(NULL, NULL, '')`, []string{quoted(`{"x":null,"Y y":null,"label":""}`), quoted(`(,,"")`)}},
	{"point3[]", `ARRAY[(1, 2, 'x,"')::point3, NULL]`, []string{quoted(`[{"x":1,"Y y":"2","label":"x,\""},null]`), quoted(`{"(1,2,\"x,\"\"\")",NULL}`)}},
	{
		"nested", `(true, (1, 2.50, '"'), ARRAY[(3, NULL, 'NULL')::point3, NULL], 'infinity', '{"a": ["\"", 1.0]}', '{"a,\"",NULL}')`,
		[]string{
			quoted(`{"a":1,"b":{"x":1,"Y y":"2.50","label":"\""},"list":[{"x":3,"Y y":null,"label":"NULL"},null],"at":"9999-12-31T23:59:59Z","doc":{"a": ["\"", 1.0]},"tags":["a,\"",null]}`),
			`{"a":true,"b":{"x":1,"Y y":"2.50","label":"\""},"list":[{"x":3,"Y y":null,"label":"NULL"},null],"at":"infinity","doc":{"a": ["\"", 1.0]},"tags":["a,\"",null]}`,
		},
	},
	{"positive", `(1, 2.50, 'a')::point3`, []string{quoted(`{"x":1,"Y y":"2.50","label":"a"}`), quoted(`(1,2.50,a)`)}},
	{"stay", `(tstzrange('2023-03-06 13:47+00', 'infinity'), daterange('2023-03-06', 'infinity', '[]'), '9999-12-31, as is')`, []string{
		quoted(`{"during":{"lower":"2023-03-06T13:47:00.000000Z","upper":"9999-12-31T23:59:59Z","lower_exclusive":0,"upper_exclusive":1},` +
			`"days":{"lower":"2023-03-06","upper":"9999-12-31","lower_exclusive":0,"upper_exclusive":0},"note":"9999-12-31, as is"}`),
	}},

	{"int4range", `'[1,5)'`, []string{quoted(`{"lower":1,"upper":5,"lower_exclusive":0,"upper_exclusive":1}`), quoted(`{"lower":1,"upper":5,"lower_exclusive":false,"upper_exclusive":true}`), `"[1,5)"`}},
	{"int4range", `'empty'`, []string{`"empty"`, quoted(`"empty"`)}},
	{"int4range", `'(,)'`, []string{quoted(`{"lower":null,"upper":null,"lower_exclusive":1,"upper_exclusive":1}`), `"(,)"`}},
	{"int8range[]", `ARRAY['[1,5)', 'empty', NULL]::int8range[]`, []string{quoted(`[{"lower":1,"upper":5,"lower_exclusive":0,"upper_exclusive":1},"empty",null]`), quoted(`{"[1,5)",empty,NULL}`)}},
	{"numrange", `'(1.10,2.5]'`, []string{quoted(`{"lower":"1.10","upper":"2.5","lower_exclusive":1,"upper_exclusive":0}`)}},
	{"floatrange", `'[1,Infinity]'`, []string{quoted(`{"lower":1.0,"upper":Infinity,"lower_exclusive":0,"upper_exclusive":0}`)}},
	{"moodrange", `'[sad,"happy, \"very\""]'`, []string{quoted(`{"lower":"sad","upper":"happy, \"very\"","lower_exclusive":0,"upper_exclusive":0}`)}},
	{"tstzrange", `'["2023-03-06 13:47:00+00",infinity)'`, []string{
		quoted(`{"lower":"2023-03-06T13:47:00.000000Z","upper":"9999-12-31T23:59:59Z","lower_exclusive":0,"upper_exclusive":1}`),
		quoted(`["2023-03-06 13:47:00+00",infinity)`),
	}},
	{"tsrange", `'[-infinity,"2023-03-06 13:47:00"]'`, []string{quoted(`{"lower":"0000-01-01T00:00:00","upper":"2023-03-06T13:47:00.000000","lower_exclusive":0,"upper_exclusive":0}`)}},
	{"daterange", `'[2023-03-06,infinity]'`, []string{quoted(`{"lower":"2023-03-06","upper":"9999-12-31","lower_exclusive":0,"upper_exclusive":0}`)}},
	{"daterange", `'[2023-03-06,9999-12-31)'`, []string{quoted(`{"lower":"2023-03-06","upper":"9999-12-31","lower_exclusive":0,"upper_exclusive":1}`)}},
	{"int4multirange", `'{[2,4),[6,8)}'`, []string{
		quoted(`[{"lower":2,"upper":4,"lower_exclusive":0,"upper_exclusive":1},{"lower":6,"upper":8,"lower_exclusive":0,"upper_exclusive":1}]`),
		`"{[2,4),[6,8)}"`,
	}},
	{"int4multirange", `'{}'`, []string{`"[]"`, `"{}"`}},
	{"int4multirange[]", `ARRAY['{[2,4),[6,8)}', '{}', NULL]::int4multirange[]`, []string{
		quoted(`[[{"lower":2,"upper":4,"lower_exclusive":0,"upper_exclusive":1},{"lower":6,"upper":8,"lower_exclusive":0,"upper_exclusive":1}],[],null]`),
		quoted(`{"{[2,4),[6,8)}","{}",NULL}`),
	}},
	{"datemultirange", `'{[2023-03-06,infinity)}'`, []string{quoted(`[{"lower":"2023-03-06","upper":"9999-12-31","lower_exclusive":0,"upper_exclusive":1}]`)}},
}

// TestTypesComeBackUnchanged: what the PowerSync Service syncs down for a
// value, sent back unchanged, leaves the stored value unchanged. Values are
// compared as text, which tells more apart than equality does.
func TestTypesComeBackUnchanged(t *testing.T) {
	t.Parallel()
	var tables tableOf
	for _, c := range syncedValues {
		tables.name(c.columnType)
	}
	comeBackUnchanged(t, setup(t, typesSQL, tables.sql.String()), &tables, syncedValues)
}

// TestTypesOfExtensionsComeBackUnchanged is the same for types that ferry knows
// by name, or not at all.
func TestTypesOfExtensionsComeBackUnchanged(t *testing.T) {
	t.Parallel()
	values := []syncedValue{
		{"hstore", `'a=>1, "b c"=>NULL'`, []string{quoted(`"a"=>"1", "b c"=>NULL`)}},
		{"citext", `'MiXed'`, []string{`"MiXed"`}},
		{"citext[]", `'{MiXed,NULL}'`, []string{quoted(`{MiXed,NULL}`), quoted(`["MiXed",null]`)}},
		{"ltree", `'Top.Science'`, []string{`"Top.Science"`}},
		{"ltree[]", `'{Top.Science}'`, []string{quoted(`["Top.Science"]`)}},
		{"cube", `'(1,2),(3,4)'`, []string{`"(1, 2),(3, 4)"`}},
		{"seg", `'1.50 .. 2'`, []string{`"1.50 .. 2"`}},
		{"isbn13", `'978-0-393-04002-9'`, []string{`"978-0-393-04002-9"`}},
		{"vectorish", `'[1,2,3]'`, []string{`"[1,2,3]"`, `[1,2,3]`}},
	}
	var tables tableOf
	for _, c := range values {
		tables.name(c.columnType)
	}
	comeBackUnchanged(t, setup(t, `CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
		CREATE EXTENSION cube; CREATE EXTENSION seg; CREATE EXTENSION isn;
		CREATE DOMAIN vectorish AS text CHECK (value ~ '^\[[0-9,]*\]$');`, tables.sql.String()), &tables, values)
}

func TestTypesOfPostGISComeBackUnchanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.needExtension("postgis", "postgresql-15-postgis-3")
	const wkbPoint = `0101000000000000000000F03F0000000000000040`
	const bigEndianPoint = `00000000013FF00000000000004000000000000000`
	const hexPoint = `0101000020E6100000000000000000F03F0000000000000040`
	values := []syncedValue{
		{"geometry", `'SRID=4326;POINT(1 2)'`, []string{quoted(hexPoint), `"SRID=4326;POINT(1 2)"`}},
		{"geometry(Point,4326)", `'SRID=4326;POINT(1 2)'`, []string{quoted(hexPoint), `"POINT(1 2)"`, quoted(`{"type":"Point","coordinates":[1,2]}`), `{"type":"Point","coordinates":[1,2]}`}},
		{"geometry(Point,25832)", `'SRID=25832;POINT(1 2)'`, []string{`"POINT(1 2)"`, `"SRID=25832;POINT(1 2)"`, quoted(` {"type":"Point","coordinates":[1,2]}`)}},
		{"geometry(PointZ)", `'POINT Z(1 2 3)'`, []string{`"POINT Z (1 2 3)"`}},
		{"geography(Point,4267)", `'SRID=4267;POINT(1 2)'`, []string{`"POINT(1 2)"`, `"SRID=4267;POINT(1 2)"`, quoted(wkbPoint), `{"type":"Point","coordinates":[1,2],"crs":null}`}},
		{"geometry(Point,25832)", `'SRID=25832;POINT(1 2)'`, []string{quoted(wkbPoint), quoted(bigEndianPoint)}},
		{"geography", `'POINT(1 2)'`, []string{quoted(hexPoint), `"POINT(1 2)"`, quoted(`{"type":"Point","coordinates":[1,2]}`)}},
		{"geometry(Point,4326)[]", `ARRAY['SRID=4326;POINT(1 2)']::geometry[]`, []string{quoted("{" + hexPoint + "}"), quoted(`["` + hexPoint + `"]`), `[{"type":"Point","coordinates":[1,2]}]`}},
		{"local", `'SRID=25832;POINT(1 2)'`, []string{quoted(`{"type":"Point","coordinates":[1,2]}`)}},
	}
	b.exec(`CREATE DOMAIN local AS geometry(Point,25832)`)
	var tables tableOf
	for _, c := range values {
		tables.name(c.columnType)
	}
	b.exec(tables.sql.String())
	b.store = b.open(keepOptions)
	comeBackUnchanged(t, b, &tables, values)

	for i, value := range []string{`"SRID=3857;POINT(1 2)"`, quoted(hexPoint), `"POINT(1"`, `"LINESTRING(1 2, 3 4)"`, `""`, `{}`, `{"type":"Point"}`, `"{"`} {
		got := b.upload(alice, bodyOf("refused", put(i, tables.name("geometry(Point,25832)"), "x", raw(value))))
		if len(got.Rejected) != 1 {
			t.Errorf("%s is %+v, want a rejection", value, got)
		}
	}
}

// TestTypesMixInOneUpload: rows of every type in one upload, each in a client
// transaction of its own, and a bad value among them.
func TestTypesMixInOneUpload(t *testing.T) {
	t.Parallel()
	var tables tableOf
	for _, c := range syncedValues {
		tables.name(c.columnType)
	}
	b := setup(t, typesSQL, tables.sql.String())
	var ops []op
	want := map[int]string{}
	for _, c := range syncedValues {
		table := tables.name(c.columnType)
		for _, value := range c.synced {
			n := len(ops) + 1
			ops = append(ops, put(n, table, uid(n), raw(value)).in(n))
			if strings.Contains(c.stored, "infinity") {
				continue // a new row takes the far future at its word
			}
			b.exec(`INSERT INTO ` + table + ` VALUES ('stored', ` + c.stored + `) ON CONFLICT (id) DO UPDATE SET v = excluded.v`)
			want[n] = b.text(`SELECT v::text FROM ` + table + ` WHERE id = 'stored'`)
		}
	}
	good := len(ops)
	ops = slices.Insert(ops, good/2, put(0, tables.name("int4range"), "bad", raw(`{"lower":2,"upper":1}`)).in(0))
	for i := range ops {
		ops[i].OpID, ops[i].TxID = i+1, i+1
	}
	result := b.upload(alice, body(ops...))
	if result.Applied != good || len(result.Rejected) != 1 || result.Rejected[0].RowID != "bad" {
		t.Fatalf("%d of %d applied: %+v", result.Applied, good, result.Rejected)
	}
	for _, o := range ops {
		n, _ := strconv.Atoi(strings.TrimLeft(o.ID[max(0, len(o.ID)-12):], "0"))
		if want[n] == "" {
			continue
		}
		if got := b.text(`SELECT v::text FROM ` + o.Type + ` WHERE id = '` + o.ID + `'`); got != want[n] {
			t.Errorf("row %d of %s is %s, want %s", n, o.Type, got, want[n])
		}
	}
}

// TestTypesInArraysComeBackUnchanged: an array of any type, as the service writes
// it: a JSON array of what it writes for the elements.
func TestTypesInArraysComeBackUnchanged(t *testing.T) {
	t.Parallel()
	var values []syncedValue
	for _, c := range syncedValues {
		switch {
		case strings.HasSuffix(c.columnType, "[]"), c.columnType == "numbers": // an array already
		case c.columnType == "json", c.columnType == "jsonb", c.columnType == "bytea": // see docs/types.md: values within values
		default:
			values = append(values, syncedValue{
				c.columnType + "[]", "ARRAY[" + c.stored + ", NULL]::" + c.columnType + "[]",
				[]string{"[" + c.synced[0] + ",null]", quoted("[" + c.synced[0] + ",null]")},
			})
		}
	}
	var tables tableOf
	for _, c := range values {
		tables.name(c.columnType)
	}
	comeBackUnchanged(t, setup(t, typesSQL, tables.sql.String()), &tables, values)
}
