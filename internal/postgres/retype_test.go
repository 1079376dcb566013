package postgres_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a value becomes is decided by the column's type of now, whatever the
// catalog was read as, also where the database would take the old type's value.
func TestARetypedColumnIsNeverWrittenAsItsOldType(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, before, alter, after string
		first, second              any
		want                       string
	}{
		{"int to text", "int", "ALTER COLUMN v TYPE text", "", 7, "007", "007"},
		{"int to text, a real", "int", "ALTER COLUMN v TYPE text", "", 7, "42.0", "42.0"},
		{"boolean to text", "boolean", "ALTER COLUMN v TYPE text", "", 1, "1", "1"},
		{"numeric to int", "numeric", "ALTER COLUMN v TYPE int", "", 1, 1.5, "rejected"},
		{"float8 to numeric", "float8", "ALTER COLUMN v TYPE numeric", "", 1, "123456789012345678.123", "123456789012345678.123"},
		{"date to timestamptz", "date", "ALTER COLUMN v TYPE timestamptz", "", "2023-03-06", "2023-03-06T13:47:00Z", "2023-03-06 13:47:00+00"},
		{"timestamptz to text", "timestamptz", "ALTER COLUMN v TYPE text", "", "2023-03-06", "2023-03-06T13:47:00.000000Z", "2023-03-06T13:47:00.000000Z"},
		{"jsonb to json", "jsonb", "ALTER COLUMN v TYPE json", "", "{}", `{"b":1,  "a":2}`, `{"b":1,  "a":2}`},
		{"bytea to text", "bytea", "ALTER COLUMN v TYPE text USING encode(v, 'hex')", "", "AAAA", "AP8Q", "AP8Q"},
		{
			"a composite type's attribute", "pair", "SET (fillfactor = 90)",
			"ALTER TYPE pair DROP ATTRIBUTE a; ALTER TYPE pair ADD ATTRIBUTE a int", `{"a":1,"b":2}`, `{"a":1,"b":2}`, "(2,1)",
		},
		{
			"a type within an array within a domain", "pairs", "SET (fillfactor = 90)",
			"ALTER TYPE pair DROP ATTRIBUTE a; ALTER TYPE pair ADD ATTRIBUTE a int", `[{"a":1,"b":2}]`, `[{"a":1,"b":2}]`, `{"(2,1)"}`,
		},
		{
			"a table made anew", "varchar(5)", "SET (fillfactor = 90)",
			`DROP TABLE r; CREATE TABLE r (id text PRIMARY KEY, v "char"); ALTER TABLE r ENABLE ROW LEVEL SECURITY;
			 CREATE POLICY p ON r TO authenticated USING (true); GRANT ALL ON r TO authenticated`, "abc", "abc", "rejected",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, `CREATE TYPE pair AS (a int, b int); CREATE DOMAIN pairs AS pair[];
				CREATE TABLE r (id text PRIMARY KEY, v `+c.before+`); ALTER TABLE r ENABLE ROW LEVEL SECURITY;
				CREATE POLICY p ON r TO authenticated USING (true); GRANT ALL ON r TO authenticated`)
			b.upload(alice, body(put(1, "r", "a", map[string]any{"v": c.first})))
			b.upload(alice, body(patch(2, "r", "a", map[string]any{"v": c.first})))
			b.exec(`ALTER TABLE r ` + c.alter + `; ` + c.after)
			for i, o := range []op{
				put(3, "r", "b", map[string]any{"v": c.second}),
				patch(4, "r", "b", map[string]any{"v": c.second}),
			} {
				r := b.upload(alice, body(o))
				got := "rejected"
				if len(r.Rejected) == 0 && r.Ignored == 0 {
					got = b.text(`SELECT v::text FROM r WHERE id = 'b'`)
				}
				if i == 1 && c.want == "rejected" { // its row is not there
					continue
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("after %s (-want +got):\n%s", o.Op, diff)
				}
			}
		})
	}
}

func TestARetypedIDIsNeverReadAsItsOldType(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TABLE r (id int PRIMARY KEY, v int); ALTER TABLE r ENABLE ROW LEVEL SECURITY;
		CREATE POLICY p ON r TO authenticated USING (true); GRANT ALL ON r TO authenticated`)
	b.upload(alice, body(put(1, "r", "7", map[string]any{"v": 1})))
	b.exec(`ALTER TABLE r ALTER COLUMN id TYPE text`)
	b.upload(alice, body(put(2, "r", "007", map[string]any{"v": 2})))
	b.upload(alice, body(del(3, "r", "7")))
	if got := b.text(`SELECT string_agg(id || '=' || v, ' ') FROM r`); got != "007=2" {
		t.Errorf("rows %s, want 007=2", got)
	}
}

// A catalog that was read while a table was being altered is no ground for a
// verdict, however new it is.
func TestATableThatIsAlteredUnderAnUploadIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ id, column, alter string }{
		"text to uuid":       {"text", "text", "ALTER COLUMN v TYPE uuid USING v::uuid"},
		"int to boolean":     {"text", "int", "ALTER COLUMN v TYPE boolean USING v > 0"},
		"an id to uuid":      {"text", "text", "ALTER COLUMN id TYPE uuid USING id::uuid"},
		"an id to text":      {"uuid", "text", "ALTER COLUMN id TYPE text"},
		"a column made anew": {"uuid", "int", "DROP COLUMN v, ADD COLUMN v jsonb"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, `CREATE TABLE r (id `+c.id+` PRIMARY KEY, v `+c.column+`); ALTER TABLE r ENABLE ROW LEVEL SECURITY;
				CREATE POLICY p ON r TO authenticated USING (true); GRANT ALL ON r TO authenticated`)
			value := map[string]any{"v": "1"}
			if c.column == "text" {
				value["v"] = uid(9)
			}
			other, err := b.admin.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer other.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // committed, if all goes well
			if _, err := other.Exec(t.Context(), `ALTER TABLE r `+c.alter); err != nil {
				t.Fatal(err)
			}
			got := make(chan counts, 1)
			go func() {
				var result counts
				if r, err := b.try(b.store, alice, body(put(1, "r", uid(1), value), patch(2, "r", uid(1), value), put(3, "r", uid(2), value))); err == nil {
					result = countsOf(r)
				}
				got <- result
			}()
			b.db.UntilWaiting(t, 1)
			if err := other.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(counts{Applied: 3}, <-got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The error by which an out of date table shows may be the app's own as well.
func TestTheAppsOwnLogarithmOfZeroIsAVerdict(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TABLE r (id text PRIMARY KEY, v float8 CHECK (ln(v) > -5)); ALTER TABLE r ENABLE ROW LEVEL SECURITY;
		CREATE POLICY p ON r TO authenticated USING (true); GRANT ALL ON r TO authenticated`)
	r := b.upload(alice, body(
		put(1, "r", "a", map[string]any{"v": 1}), put(2, "r", "b", map[string]any{"v": 0}), put(3, "r", "c", map[string]any{"v": 1})))
	want := counts{Applied: 2, Rejected: []string{"invalid_argument_for_logarithm"}}
	if diff := cmp.Diff(want, countsOf(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
