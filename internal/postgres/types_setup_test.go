package postgres_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"ferry/internal/postgres"
)

// typesSQL makes the types that the tests of composite and other made types
// have in common.
const typesSQL = `
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy, "very"');
CREATE DOMAIN rating AS float8 CHECK (value BETWEEN 0 AND 5);
CREATE DOMAIN short AS varchar(3);
CREATE DOMAIN numbers AS int[] CHECK (cardinality(value) < 4);
CREATE TYPE point3 AS (x int, "Y y" numeric, label text);
CREATE TYPE nested AS (a boolean, b point3, "list" point3[], at timestamptz, doc jsonb, tags text[]);
CREATE TYPE blob AS (name text, bytes bytea);
CREATE TYPE stay AS (during tstzrange, days daterange, note text);
CREATE DOMAIN positive AS point3 CHECK ((value).x > 0);
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE TYPE moodrange AS RANGE (subtype = mood);
`

// oneColumn returns the SQL of a table that everybody may write, with the
// columns id and v.
func oneColumn(name, columnType string) string {
	return fmt.Sprintf(`CREATE TABLE %[1]s (id text PRIMARY KEY, v %[2]s);
		ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY;
		CREATE POLICY everybody ON %[1]s TO authenticated USING (true);
		GRANT SELECT, INSERT, UPDATE, DELETE ON %[1]s TO authenticated;`, name, columnType)
}

// tableOf makes a table for each type, in the order in which they come first.
type tableOf struct {
	names map[string]string
	sql   strings.Builder
}

func (o *tableOf) name(columnType string) string {
	if o.names == nil {
		o.names = map[string]string{}
	}
	if o.names[columnType] == "" {
		o.names[columnType] = fmt.Sprintf("kind_%d", len(o.names)+1)
		o.sql.WriteString(oneColumn(o.names[columnType], columnType))
	}
	return o.names[columnType]
}

// raw is a value as JSON in an upload.
func raw(value string) map[string]any { return map[string]any{"v": json.RawMessage(value)} }

// quoted is text as a JSON string.
func quoted(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// installing keeps parallel tests from installing at once.
var installing sync.Mutex

// needExtension makes an extension in b's database. Where the server lacks it,
// it is installed from Debian, or the test is skipped.
func (b *bundle) needExtension(name, debianPackage string) {
	b.t.Helper()
	installing.Lock()
	defer installing.Unlock()
	available := func() bool {
		return b.text(`SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = $1)::text`, name) == "true"
	}
	if !available() && os.Getuid() == 0 {
		install := exec.CommandContext(b.t.Context(), "apt-get", "install", "-qq", "-y", "--no-install-recommends", debianPackage)
		install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := install.CombinedOutput(); err != nil {
			b.t.Logf("apt-get install %s: %v\n%s", debianPackage, err, out)
		}
	}
	if !available() {
		b.t.Skipf("Postgres has no extension %s here: install Debian's %s", name, debianPackage)
	}
	b.exec(`CREATE EXTENSION IF NOT EXISTS ` + name)
}

func keepOptions(*postgres.Options) {}

// comeBackUnchanged sends each value back as a PATCH, as a PUT of its row and
// as a PUT of a new row, each all in one upload.
func comeBackUnchanged(t *testing.T, b *bundle, tables *tableOf, values []syncedValue) {
	t.Helper()
	opID := 0
	next := func() int { opID++; return opID }
	for _, c := range values {
		table := tables.name(c.columnType)
		for _, value := range c.synced {
			b.exec(`DELETE FROM ` + table)
			b.exec(`INSERT INTO ` + table + ` VALUES ('patched', ` + c.stored + `), ('put', ` + c.stored + `), ('other', NULL)`)
			want := b.text(`SELECT v::text FROM ` + table + ` WHERE id = 'put'`)
			result := b.upload(alice, body(
				patch(next(), table, "patched", raw(value)), patch(next(), table, "other", raw(value)),
				put(next(), table, "put", raw(value)), put(next(), table, "new", raw(value))))
			if result.Applied != 4 {
				t.Errorf("%s %s as %s is refused: %+v", c.columnType, c.stored, value, result.Rejected)
				continue
			}
			for _, id := range []string{"patched", "put", "other", "new"} {
				got := b.text(`SELECT v::text FROM ` + table + ` WHERE id = '` + id + `'`)
				want := want
				if id == "other" || id == "new" {
					// A row that had no infinity takes the far future at its word.
					want = inRow(b, table, "new", value, want)
				}
				if got != want {
					t.Errorf("%s %s, sent back as %s, becomes %s in row %s", c.columnType, want, value, got, id)
				}
			}
		}
	}
}

// inRow is what a row that is new must hold where others hold want.
func inRow(b *bundle, table, id, value, want string) string {
	if !strings.Contains(want, "infinity") || !strings.Contains(value, "9999-12-31") {
		return want
	}
	got := b.text(`SELECT v::text FROM ` + table + ` WHERE id = '` + id + `'`)
	if strings.Count(got, "infinity") >= strings.Count(want, "infinity") || !strings.Contains(got, "9999-12-31") && !strings.Contains(got, "10000-01-01") {
		b.t.Errorf("%s: the new row holds %s", value, got)
	}
	return got
}
