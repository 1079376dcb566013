package postgres_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whatever the type of an id, and however it is spelled, each path means the same
// row: what updates and inserts, what looks for missing and for hidden rows, what
// depends on a rejected one, and what replays it.
func TestEachPathMeansTheSameRow(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad'); CREATE DOMAIN small AS int2 CHECK (value > 0);
		CREATE DOMAIN key AS uuid NOT NULL`)
	for i, c := range []struct{ typ, row, rowAgain, hidden, missing, missingAgain string }{
		{"uuid", "ABCDEF00-0000-4000-8000-000000000001", "abcdef00-0000-4000-8000-000000000001", uid(2), "{" + uid(3) + "}", uid(3)},
		{"key", uid(1), "00000000000040008000000000000001", uid(2), uid(3), uid(3)},
		{"int2", "7", "7.0", "-32768", "32767", "3.2767e4"},
		{"small", "7", "+7", "1", "32767", "32767"},
		{"int4", "7", "007", "-2147483648", "2147483647", "2147483647.0"},
		{"int8", "9007199254740993", "9007199254740993.0", "-9223372036854775808", "9223372036854775807", "9223372036854775807"},
		{"int2 GENERATED ALWAYS AS IDENTITY", "7", "7", "8", "9", "9"},
		{"oid", "4294967295", "4294967295.0", "0", "1", "1.0"},
		{"boolean", "1", "TRUE", "", "f", "0.0"},
		{"timestamp", "2024-01-01T00:00:00.5Z", "2024-01-01 01:00:00.5+01", "infinity", "0001-01-01", "0001-01-01T00:00:00Z"},
		{"timestamptz", "2024-01-01T00:00:00.123456Z", "2024-01-01 01:00:00.123456+01", "-infinity", "294276-12-31T23:59:59.999999Z", "294276-12-31 23:59:59.999999"},
		{"timestamptz(3)", "2024-01-01T00:00:00.123Z", "1704067200123", "9999-12-31T00:00:00Z", "1970-01-01T00:00:00Z", "epoch"},
		{"date", "2024-02-29", "2024-02-29T00:00:00Z", "infinity", "0001-01-01", "0001-01-01"},
		{"numeric(5,2)", "1.5", "1.50", "-2", "20", "20"},
		{"varchar(4)", "a b", "a b", "", "a  b", "a  b"},
		{"char(5)", "abc", "abc  ", "", "x", "x"},
		{"mood", "ok", "ok", "sad", "glad", "glad"},
		{"bytea", "AP8Q", `\x00ff10`, "AAAA", "/w==", "_w"},
	} {
		t.Run(c.typ, func(t *testing.T) {
			b := *b
			b.t = t
			table := fmt.Sprintf("of_%d", i)
			b.exec(fmt.Sprintf(`CREATE TABLE %[1]s (id %[2]s PRIMARY KEY, v int CHECK (v >= 0));
				ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON %[1]s USING (v < 100) WITH CHECK (true); GRANT ALL ON %[1]s TO authenticated`, table, c.typ))
			opID := 0
			v := func(kind, id string, v int) op {
				opID++
				o := op{OpID: opID, TxID: opID, Op: kind, Type: table, ID: id}
				if kind != "DELETE" {
					o.Data = map[string]any{"v": v}
				}
				return o
			}
			expect := func(want counts, ops ...op) string {
				t.Helper()
				got := b.upload(alice, bodyOf("device of "+c.typ, ops...))
				if diff := cmp.Diff(want, countsOf(got)); diff != "" {
					t.Errorf("(-want +got):\n%s\n%+v", diff, got.Rejected)
				}
				if len(got.Rejected) == 0 {
					return ""
				}
				return got.Rejected[0].ID
			}
			expect(counts{Applied: 3}, v("PUT", c.row, 1), v("PATCH", c.rowAgain, 2), v("PUT", c.rowAgain, 3))
			expect(counts{Applied: 2}, v("PUT", c.row, 4), v("PATCH", c.rowAgain, 5))
			if c.typ != "boolean" { // which has two values only
				expect(counts{Applied: 1}, v("PUT", c.hidden, 1))
				b.exec(`UPDATE ` + table + ` SET v = 100 WHERE v = 1`)
				expect(counts{Rejected: []string{"forbidden", "forbidden", "forbidden"}}, v("PUT", c.hidden, 1), v("PATCH", c.hidden, 1), v("DELETE", c.hidden, 0))
				expect(counts{Applied: 1, Rejected: []string{"forbidden"}}, v("PATCH", c.row, 5), v("PUT", c.hidden, 1))
			}
			expect(counts{Applied: 1, Ignored: 2}, v("PATCH", c.missing, 1), v("PATCH", c.row, 6), v("DELETE", c.missingAgain, 0))
			rejection := expect(counts{Applied: 1, Rejected: []string{"check_violation", "depends_on_rejected"}},
				v("PUT", c.missing, -1), v("PATCH", c.rowAgain, 7), v("PATCH", c.missingAgain, 8))
			b.exec(`ALTER TABLE ` + table + ` DROP CONSTRAINT ` + table + `_v_check`)
			for _, r := range b.replay(rejection) {
				if r.Refusal != nil || r.Applied != 1 {
					t.Errorf("replayed %+v", r)
				}
			}
			if got := b.text(`SELECT string_agg(v::text, ' ' ORDER BY v) FROM ` + table + ` WHERE v < 100`); got != "7 8" {
				t.Errorf("values %s, want 7 8", got)
			}
			expect(counts{Applied: 2}, v("DELETE", c.rowAgain, 0), v("DELETE", c.missing, 0))
			if got := b.text(`SELECT count(*)::text FROM ` + table + ` WHERE v < 100`); got != "0" {
				t.Errorf("%s rows are left", got)
			}
		})
	}
}
