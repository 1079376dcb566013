package postgres_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestValuesBecomeTheirColumnsType holds docs/types.md, row by row: what a
// client may send for a column, and what Postgres holds afterwards.
func TestValuesBecomeTheirColumnsType(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const refused = "refused"
	cases := []struct {
		column string
		want   string   // as text; refused for a rejection
		values []string // JSON
	}{
		{"b", "true", []string{`1`, `1.0`, `"1"`, `"1.0"`, `true`, `"true"`, `"t"`}},
		{"b", "false", []string{`0`, `0.0`, `"0"`, `"0.0"`, `false`, `"false"`, `"f"`}},
		{"b", refused, []string{`2`, `""`, `"yes please"`, `[]`, `{}`, `-1`}},
		{"b", "NULL", []string{`null`}},

		{"i4", "42", []string{`42`, `42.0`, `"42"`, `"42.0"`, `4.2e1`, `"42e0"`, `420e-1`}},
		{"i4", "1000", []string{`1e3`, `"1e3"`, `"1E3"`, `1E+3`}},
		{"i4", "0", []string{`0`, `-0`, `0.0`, `"0e5"`, `false`}},
		{"i4", "-2147483648", []string{`-2147483648`}},
		{"i4", refused, []string{`1.5`, `2147483648`, `-2147483649`, `"x"`, `""`, `1e10`, `1e999999999999`, `"0x1f"`, `"1_000"`, `"NaN"`, `[1]`, `"-+5"`}},
		{"i2", refused, []string{`32768`, `-32769`}},
		{"i8", "9007199254740993", []string{`9007199254740993`, `"9007199254740993"`, `9007199254740993.0`}},
		{"i8", "-9223372036854775808", []string{`-9223372036854775808`}},
		{"i8", "9223372036854775807", []string{`9223372036854775807`}},
		{"i8", refused, []string{`9223372036854775808`, `9223372036854776000`, `1e400`}},

		{"n", "123456789012345678901234567890.123456789", []string{`123456789012345678901234567890.123456789`, `"123456789012345678901234567890.123456789"`}},
		{"n", "42.0", []string{`42.0`, `"42.0"`}},
		{"n", "NaN", []string{`"NaN"`}},
		{"n", refused, []string{`"x"`, `""`, `{}`}},
		{"n52", "1.24", []string{`1.235`, `"1.235"`}}, // rounds as Postgres does
		{"n52", refused, []string{`1000`}},

		{"f8", "1.5", []string{`1.5`, `"1.5"`, `15e-1`}},
		{"f8", "1e+308", []string{`1e308`}},
		{"f8", "NaN", []string{`"NaN"`}},
		{"f8", "Infinity", []string{`"Infinity"`}},
		{"f8", "-Infinity", []string{`"-Infinity"`}},
		{"f8", refused, []string{`1e400`, `"x"`}},
		{"f4", "0.1", []string{`0.1`}},

		{"t", "é😀\"\\\n\t\u0001</script>\u2028", []string{`"é😀\"\\\n\t\u0001</script>\u2028"`, `"\u00e9\ud83d\ude00\"\\\n\t\u0001</script>\u2028"`}},
		{"t", "42.0", []string{`42.0`, `"42.0"`}},
		{"t", "true", []string{`true`}},
		{"t", `{"a":[1, 2]}`, []string{`{"a":[1, 2]}`, `"{\"a\":[1, 2]}"`}},
		{"t", "", []string{`""`}},
		{"t", refused, []string{`"\u0000"`, `"\ud800"`}},
		{"v5", "12345", []string{`"12345"`, `12345`}},
		{"v5", refused, []string{`"123456"`}},

		{"u", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", []string{`"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`, `"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"`, `"a0eebc999c0b4ef8bb6d6bb9bd380a11"`, `"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"`}},
		{"u", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", []string{`"a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11"`}},
		{"u", refused, []string{`"a0eebc9-99c0b-4ef8-bb6d-6bb9bd380a11"`, `"-a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`, `"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`}},
		{"u", refused, []string{`"x"`, `""`, `1`, `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1"`, `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111"`}},

		{"tz", "2023-03-06 13:47:00+00", []string{
			`"2023-03-06T13:47:00.000000Z"`, `"2023-03-06 13:47:00Z"`, `"2023-03-06 13:47:00"`, `"2023-03-06 15:47:00+02"`,
			`"2023-03-06T15:47:00+02:00"`, `"2023-03-06T08:17:00-0530"`, `"2023-03-06T13:47Z"`, `1678110420`, `"1678110420"`,
			`1678110420000`, `"1678110420000"`, `1678110420.0`, `1.67811042e9`,
		}},
		{"tz", "2023-03-06 13:47:00.12+00", []string{`"2023-03-06T13:47:00.12Z"`, `1678110420120`, `1678110420.12`}},
		{"tz", "2023-03-06 00:00:00+00", []string{`"2023-03-06"`}},
		{"tz", "infinity", []string{`"infinity"`}},
		{"tz", "-infinity", []string{`"-infinity"`, `"0000-01-01T00:00:00.000000Z"`, `"0000-01-01 00:00:00Z"`}},
		{"tz", "1970-01-01 00:00:00+00", []string{`"epoch"`, `0`}},
		{"tz", "9999-12-31 23:59:59+00", []string{`"9999-12-31T23:59:59Z"`}},
		{"tz", refused, []string{
			`"06/03/2023"`, `"now"`, `""`, `"today"`, `"2023-13-01"`, `"2023-02-30"`, `"2023-03-06T25:00:00Z"`, `"20230306"`,
			`true`, `{}`, `1e300`, `"2023-03-06 13:47:00 Europe/Berlin"`, `"2023-03-06 13:47:00+020030"`, `"2023-03-06 13:47:00+02:0030"`,
		}},
		{"ts", "2023-03-06 13:47:00", []string{`"2023-03-06T13:47:00.000000Z"`, `"2023-03-06 13:47:00"`, `"2023-03-06T15:47:00+02:00"`, `1678110420`}},
		{"ts", "2023-03-07 00:00:00", []string{`"2023-03-06T24:00:00"`}},
		{"ts", "infinity", []string{`"infinity"`}},
		{"d", "2023-03-06", []string{`"2023-03-06"`, `"2023-03-06T23:47:00Z"`, `"2023-03-06T23:47:00-05:00"`}},
		{"d", "-infinity", []string{`"-infinity"`, `"0000-01-01"`}},
		{"d", refused, []string{`"06/03/2023"`, `"yesterday"`, `""`, `1678110420`, `"2023-02-30"`, `"2023-03-06T25:00"`, `"2023-03-06T10:00:00+25"`}},

		{"j", `{"b": 1,  "a":[1.0]}`, []string{`"{\"b\": 1,  \"a\":[1.0]}"`, `{"b": 1,  "a":[1.0]}`}}, // byte for byte
		{"jb", `{"a": [1.0], "b": 1}`, []string{`"{\"b\": 1,  \"a\":[1.0]}"`, `{"b": 1,  "a":[1.0]}`}},
		{"jb", `"text"`, []string{`"\"text\""`}},
		{"jb", `123456789012345678901234567890`, []string{`123456789012345678901234567890`, `"123456789012345678901234567890"`}},
		{"jb", `true`, []string{`true`, `"true"`}},
		{"jb", refused, []string{`"not json"`, `""`, `"{"`, `"\"\\u0000\""`}},

		{"ta", `{a,b}`, []string{`"[\"a\",\"b\"]"`, `["a","b"]`, `"{a,b}"`}},
		{"ta", `{}`, []string{`"[]"`, `[]`, `"{}"`}},
		{"ta", `{"with \"quotes\"","back\\slash",NULL,"NULL","","{}","a,b"}`, []string{`["with \"quotes\"","back\\slash",null,"NULL","","{}","a,b"]`}},
		{"ta", `{{a,b},{c,d}}`, []string{`[["a","b"],["c","d"]]`}},
		{"ta", `{1,true,"{\"a\":1}"}`, []string{`[1,true,{"a":1}]`}},
		{"ta", refused, []string{`"a"`, `"[\"a\""`, `5`, `[["a"],["b","c"]]`, `[["a"],[["b"]]]`, `["a",["b"]]`, `["\u0000"]`}},
		{"ia", `{1,2,NULL}`, []string{`[1,"2.0",null]`, `"[1.0,2,null]"`}},
		{"ba", `{t,f}`, []string{`[1,0]`, `"[1,0]"`, `[true,false]`}},
	}
	opID := 0
	for _, c := range cases {
		for _, value := range c.values {
			opID++
			request := fmt.Sprintf(`{"client_id":"c","crud":[{"op_id":%d,"op":"PUT","type":"kinds","id":"x","data":{%q:%s}}]}`,
				opID, c.column, value)
			b.exec(`DELETE FROM kinds`)
			result := b.upload(alice, request)
			got := refused
			if len(result.Rejected) == 0 {
				got = b.text(`SELECT ` + c.column + `::text FROM kinds`)
			}
			if got != c.want {
				t.Errorf("%s in column %s became %s, want %s %+v", value, c.column, got, c.want, result.Rejected)
			}
		}
	}
}

// TestASyncedInfinityComesBackUnchanged: the PowerSync Service syncs infinity
// down as the last day of the year 9999.
func TestASyncedInfinityComesBackUnchanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`INSERT INTO kinds (id, tz, ts, d) VALUES ('a', 'infinity', 'infinity', 'infinity'), ('b', 'infinity', 'infinity', 'infinity'), ('c', now(), now(), now())`)
	synced := map[string]any{"tz": "9999-12-31T23:59:59.999999Z", "ts": "9999-12-31T23:59:59.999999", "d": "9999-12-31"}
	result := b.upload(alice, body(patch(1, "kinds", "a", synced), put(2, "kinds", "b", synced), patch(3, "kinds", "c", synced)))
	if result.Applied != 3 {
		t.Fatalf("%+v", result)
	}
	got := b.text(`SELECT string_agg(tz || ' ' || ts || ' ' || d, ',' ORDER BY id) FROM kinds`)
	want := strings.Repeat("infinity infinity infinity,", 2) + "9999-12-31 23:59:59.999999+00 9999-12-31 23:59:59.999999 9999-12-31"
	if got != want {
		t.Errorf("the rows are %s, want %s", got, want)
	}
}

func TestConversionDoesNotDependOnTheServersSettings(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`ALTER DATABASE ` + b.db.Name + ` SET timezone = 'Asia/Tokyo'`)
	b.exec(`ALTER DATABASE ` + b.db.Name + ` SET datestyle = 'SQL, DMY'`)
	b.exec(`ALTER DATABASE ` + b.db.Name + ` SET default_transaction_isolation = 'serializable'`)
	b.exec(`ALTER DATABASE ` + b.db.Name + ` SET default_transaction_read_only = on`)
	b.upload(alice, body(put(1, "kinds", "a", map[string]any{"tz": "2023-03-06 13:47:00", "ts": "2023-03-06 13:47:00Z", "d": "2023-03-06"})))
	if got := b.text(`SELECT (tz AT TIME ZONE 'UTC')::text || ' ' || ts || ' ' || d FROM kinds`); got != "2023-03-06 13:47:00 2023-03-06 13:47:00 2023-03-06" {
		t.Errorf("the row is %s", got)
	}
}
