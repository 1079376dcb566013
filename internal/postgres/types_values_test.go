package postgres_test

import (
	"strings"
	"testing"
)

// TestTypesAreMadeOfTheirParts holds what a client may send, beside what the
// PowerSync Service sends it, for types that are made of others.
func TestTypesAreMadeOfTheirParts(t *testing.T) {
	t.Parallel()
	const refused = "refused"
	deep := func(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }
	cases := []struct {
		columnType string
		want       string   // as text; refused for a rejection
		values     []string // JSON
	}{
		{"point3", `(1,,)`, []string{`{"x":1}`, `{"x":"1.0"}`, quoted(` {"x":1,"label":null} `), `{"x":2,"x":1}`, `"(1,,)"`}},
		{"point3", `(,,)`, []string{`{}`, `"{}"`}},
		{"point3", refused, []string{`{"x":1,"y":2}`, `{"X":1}`, `{"x":1.5}`, `{"x":"a"}`, `[1,2,3]`, `1`, `""`, `"{"`, `"(1,2"`, `"a"`, `{"label":"\u0000"}`, quoted(deep(10_000)), `{"x":` + deep(9_000) + `}`}},
		{"positive", refused, []string{`{"x":0}`, `"(0,,)"`}},
		{"nested", `(t,"(1,,)",,,,)`, []string{`{"a":1,"b":{"x":1}}`, `{"a":1.0,"b":"{\"x\":1}"}`, `{"a":"true","b":"(1,,)"}`}},
		{"nested", `(,,"{""(1,,)"",NULL}",,,)`, []string{`{"list":[{"x":1},null]}`, `{"list":"[\"(1,,)\",null]"}`}},
		{"nested", `(,,,"1970-01-01 00:00:00+00",,)`, []string{`{"at":"epoch"}`, `{"at":0}`}},
		{"nested", `(,,,,"""{\\""a\\"":1}""",)`, []string{`{"doc":"{\"a\":1}"}`}}, // a part that is JSON is itself
		{"nested", `(,,,,,)`, []string{`{"doc":null}`}},
		{"nested", refused, []string{`{"a":2}`, `{"b":{"z":1}}`, `{"list":[{"z":1}]}`, `{"at":"now"}`}},
		{"blob", `(a,)`, []string{`{"name":"a","bytes":null}`}},
		{"blob", `(,"\\x00ff")`, []string{`{"bytes":"AP8="}`}},
		{"blob", refused, []string{`{"name":"a"}`, `{"bytes":1234}`}}, // whose digits are also legal base64

		{"bytea[]", `{"\\x00ff","\\x"}`, []string{`["AP8",""]`}},
		{"bytea[]", refused, []string{`[null]`, `["AP8",null]`, `[["AP8"],[null]]`, `[1234]`, `[true]`, `"{NULL}"`, quoted(`{"\\x00", null}`)}},
		{"bytea[]", `{"\\x00"}`, []string{quoted(`{"\\x00"}`)}},
		{"jsonb[]", `{NULL,"{\"a\": null}","\"x\"","[1, 2]"}`, []string{`[null,{"a":null},"x",[1,2]]`}},
		{"jsonb[]", refused, []string{`"[NaN]"`, `[` + deep(21) + `]`}},
		{"float8[]", `{NaN,Infinity,-Infinity,1.5}`, []string{`"[NaN,Infinity,-Infinity,1.5]"`, `["NaN","Infinity","-Infinity","1.5"]`, `"[\"NaN\" , Infinity,\n-Infinity,1.5]"`}},
		{"float8[]", refused, []string{`"[NaN"`, `"[nan]"`, `"[-NaN]"`, `["x"]`, `[{}]`}},
		{"int[]", refused, []string{`"[NaN]"`, `[1.5]`, `[2147483648]`, `[[1],[2,3]]`, `[[1],2]`, `[[[[[[[1]]]]]]]`, `"[1,]"`, `"{1,"`, deep(9_000), quoted(deep(100_000)), quoted(strings.Repeat("{", 100_000))}},
		{"int[]", `[0:1]={7,8}`, []string{`"[0:1]={7,8}"`}},
		{"int[]", `{{{{{{1}}}}}}`, []string{`[[[[[[1]]]]]]`}},
		{"box[]", `{(3,4),(1,2);(7,8),(5,6);NULL}`, []string{`["(3,4),(1,2)","(7,8),(5,6)",null]`}},
		{"box[]", refused, []string{`["(3","4)","(1","2)"]`}}, // the service's first edition cuts boxes up
		{"mood[]", refused, []string{`["angry"]`, `"{angry}"`}},
		{"short[]", refused, []string{`["abcd"]`}},
		{"short", refused, []string{`"abcd"`}},
		{"rating", refused, []string{`6`, `-1`}},
		{"rating[]", refused, []string{`[6]`}},
		{"numbers", refused, []string{`[1,2,3,4]`}},
		{"numbers[]", refused, []string{`[[1,2,3,4]]`}},
		{"timestamptz[]", `{"1970-01-01 00:00:00+00",infinity,-infinity,"9999-12-31 00:00:00+00","2023-03-06 13:47:00+00"}`, []string{`["epoch","infinity","-infinity","9999-12-31",1678110420]`}},
		{"timestamptz[]", refused, []string{`["now"]`, `["06/03/2023"]`, `[""]`, `"{now}"`, `"{2023-01-01,TOMORROW}"`, `"{06/03/2023}"`}},
		{"text[]", `{now}`, []string{`"{now}"`}},

		{"int4range", `[1,5)`, []string{`{"lower":1,"upper":5}`, `{"lower":"1","upper":5.0,"lower_exclusive":"0","upper_exclusive":1.0}`, `{"lower":0,"upper":4,"lower_exclusive":true,"upper_exclusive":false}`}},
		{"int4range", `empty`, []string{`"EMPTY"`, quoted(` "empty" `)}},
		{"int4range", `[1,)`, []string{`{"lower":1}`, `{"lower":1,"upper":null,"lower_exclusive":null}`}},
		{"int4range", refused, []string{`{"lower":5,"upper":1}`, `{"lower":1,"higher":5}`, `{"lower":1,"upper_exclusive":2}`, `{"lower":"a"}`, `[1,5]`, `1`, `""`, `"1,5"`, `"{"`, `"[1"`}},
		{"tstzrange", `["1970-01-01 00:00:00+00","9999-12-31 23:59:59+00")`, []string{`{"lower":"epoch","upper":"9999-12-31T23:59:59Z"}`}},
		{"tstzrange", `[-infinity,infinity)`, []string{`{"lower":"0000-01-01T00:00:00Z","upper":"infinity"}`}},
		{"tstzrange", refused, []string{`{"lower":"now"}`, `"[now,)"`, `"(,today]"`}},
		{"tstzmultirange", refused, []string{`["[now,)"]`, `"{[yesterday,)}"`}},
		{"int4multirange", `{[2,4),[6,8)}`, []string{`["[2,4)",{"lower":6,"upper":8}]`, `[{"lower":6,"upper":8},{"lower":2,"upper":4},"empty"]`}},
		{"int4multirange", refused, []string{`[null]`, `{"lower":1}`, `[1]`, `"x"`, `[[]]`}},
		{"int4multirange[]", `{"{[2,4)}","{}"}`, []string{`[["[2,4)"],[]]`}},

		{"json", deep(20), []string{deep(20), quoted(deep(20))}},
		{"json", `"` + deep(21) + `"`, []string{quoted(`"` + deep(21) + `"`)}},
		{"money", `$1,234.50`, []string{`1234.5`, `"1234.5"`, `1.2345e3`, `"12345E-1"`, `0.12345e+4`}},
		{"money", `-$0.15`, []string{`-1.5e-1`, `"-15e-2"`, `-0.15`}},
		{"money", `$10,000,000.00`, []string{`1e7`, `"1.0E7"`}},
		{"money", refused, []string{`1e99`, `"1e"`, `"e1"`, `"x"`, `1e999999999999`}},
		{"name", strings.Repeat("n", 63), []string{quoted(strings.Repeat("n", 63))}},
		{"name", refused, []string{quoted(strings.Repeat("n", 64)), quoted(strings.Repeat("é", 32))}},
		{"name[]", refused, []string{`["` + strings.Repeat("n", 64) + `"]`}},
		{`"char"`, `a`, []string{`"a"`}},
		{`"char"`, `1`, []string{`1`}},
		{`"char"`, refused, []string{`"ab"`, `12`, `"é"`}},
		{"varchar(3)", `äbc`, []string{`"äbc"`}},
		{"varchar(3)", refused, []string{`"abc "`, `"    "`, `"abcd"`}},
		{"short[]", refused, []string{`["abc "]`}},
		{"timestamptz", `2023-03-06 13:47:00.5+00`, []string{`1.6781104205e9`, `1678110420.5`, `16781104205e-1`, `1.6781104205e12`, `1678110420500`}},
		{"timestamptz", refused, []string{`1e300`, `1e999999999999`, `"1.6781104205e9"`, `true`}},
		{"interval", `1 day`, []string{`"1 day"`, `"P1D"`}},
		{"interval", refused, []string{`"x"`, `""`}},
		{"bit(3)", refused, []string{`"1010"`, `"10"`}},
		{"inet", refused, []string{`"10.0.0.300"`}},
		{"xml", refused, []string{`"<a>"`}},
		{"point", refused, []string{`"(1"`}},
		{"oid", refused, []string{`4294967296`, `-1`}},
		{"moodrange", `[sad,ok]`, []string{`{"lower":"sad","upper":"ok","upper_exclusive":0}`}},
	}
	var tables tableOf
	for _, c := range cases {
		tables.name(c.columnType)
	}
	b := setup(t, typesSQL, tables.sql.String())
	opID := 0
	for _, c := range cases {
		table := tables.name(c.columnType)
		for _, value := range c.values {
			opID++
			b.exec(`DELETE FROM ` + table)
			result := b.upload(alice, body(put(opID, table, "x", raw(value))))
			got := refused
			if len(result.Rejected) == 0 {
				got = b.text(`SELECT v::text FROM ` + table)
			}
			if got != c.want {
				t.Errorf("%.200s in a %s became %.200s, want %s %.300v", value, c.columnType, got, c.want, result.Rejected)
			}
		}
	}
}

// TestTypesThatNestTooDeepAreTooLarge: the PowerSync Service cannot replicate
// such JSON, and Postgres has no such arrays.
func TestTypesThatNestTooDeepAreTooLarge(t *testing.T) {
	t.Parallel()
	var tables tableOf
	for _, columnType := range []string{"json", "jsonb", "jsonb[]", "nested", "int[]"} {
		tables.name(columnType)
	}
	b := setup(t, typesSQL, tables.sql.String())
	opID := 0
	for _, levels := range []int{21, 9_000} {
		deep := strings.Repeat(`[`, levels) + strings.Repeat(`]`, levels)
		objects := strings.Repeat(`{"a":`, levels) + `1` + strings.Repeat(`}`, levels)
		for table, values := range map[string][]string{
			"json":    {deep, quoted(deep), objects, quoted(objects)},
			"jsonb":   {deep, quoted(deep), objects, quoted(objects)},
			"jsonb[]": {`[` + deep + `]`, quoted(`[1,` + objects + `]`)},
			"nested":  {`{"doc":` + deep + `}`, quoted(`{"doc":` + objects + `}`)},
			"int[]":   {deep, quoted(deep)},
		} {
			for _, value := range values {
				opID++
				result := b.upload(alice, body(put(opID, tables.name(table), "x", raw(value))))
				if len(result.Rejected) != 1 || result.Rejected[0].Code != "too_large" {
					t.Errorf("%d levels in a %s, %.30s: %.300v", levels, table, value, result.Rejected)
				}
			}
		}
	}
}

// TestTypesKeepAStoredInfinityAmongOtherValues: within a value, too, the far
// future is the stored infinity, and only where there is one.
func TestTypesKeepAStoredInfinityAmongOtherValues(t *testing.T) {
	t.Parallel()
	var tables tableOf
	table := tables.name("timestamptz[]")
	b := setup(t, tables.sql.String())
	b.exec(`INSERT INTO ` + table + ` VALUES ('a', '{infinity,epoch}'), ('b', '{"2023-01-01 00:00:00+00"}'), ('c', '{infinity}')`)
	b.upload(alice, body(
		patch(1, table, "a", raw(`["9999-12-31T23:59:59Z","2023-01-01"]`)), // the other element changed
		patch(2, table, "b", raw(`["9999-12-31T23:59:59Z"]`)),
		patch(3, table, "c", raw(`["9999-12-31T12:00:00Z"]`)),
	))
	got := b.text(`SELECT string_agg(v::text, ' ' ORDER BY id) FROM ` + table)
	want := `{infinity,"2023-01-01 00:00:00+00"} {"9999-12-31 23:59:59+00"} {"9999-12-31 12:00:00+00"}`
	if got != want {
		t.Errorf("the rows are %s, want %s", got, want)
	}
}
