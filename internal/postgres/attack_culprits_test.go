package postgres_test

import (
	"fmt"
	"testing"
	"time"
)

const culpritsDDL = `
CREATE FUNCTION refuse_negative() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.n < 0 THEN
        RAISE EXCEPTION 'n must not be negative';
    END IF;
    RETURN NEW;
END
$$;
CREATE TABLE checked (id text PRIMARY KEY, n integer CHECK (n >= 0));
CREATE TABLE needed (id text PRIMARY KEY, n integer NOT NULL);
CREATE TABLE owned (id text PRIMARY KEY, n integer);
CREATE TABLE before (id text PRIMARY KEY, n integer);
CREATE TRIGGER refuse BEFORE INSERT ON before FOR EACH ROW EXECUTE FUNCTION refuse_negative();
CREATE TABLE after (id text PRIMARY KEY, n integer);
CREATE TRIGGER refuse AFTER INSERT ON after FOR EACH ROW EXECUTE FUNCTION refuse_negative();
CREATE TABLE parents (n integer PRIMARY KEY);
INSERT INTO parents SELECT generate_series(0, 1000);
CREATE TABLE children (id text PRIMARY KEY, n integer REFERENCES parents);
CREATE TABLE deferred (id text PRIMARY KEY, n integer REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['checked', 'needed', 'owned', 'before', 'after', 'children', 'deferred'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY p ON %I TO authenticated USING (%s)', name,
            CASE name WHEN 'owned' THEN 'n >= 0' ELSE 'true' END);
        EXECUTE format('GRANT ALL ON %I TO authenticated', name);
    END LOOP;
END
$$;
INSERT INTO owned SELECT 'hidden' || i, -1 FROM generate_series(0, 20000) AS i;
INSERT INTO owned SELECT 'seen' || i, 1 FROM generate_series(0, 20000) AS i;
ANALYZE`

// culprits are the ways in which an operation can be refused. n is the number that
// is written, good and bad; ids are prefixes, empty for rows that are new.
var culprits = []struct {
	name, op, table string
	good, bad       string
	goodID, badID   string
	code            string
}{
	{"a CHECK", "PUT", "checked", `{"n":1}`, `{"n":-1}`, "", "", "check_violation"},
	{"NULL", "PUT", "needed", `{"n":1}`, `{"n":null}`, "", "", "not_null_violation"},
	{"a policy's check on PUT", "PUT", "owned", `{"n":1}`, `{"n":-1}`, "", "", "forbidden"},
	{"a policy's check on PATCH", "PATCH", "owned", `{"n":1}`, `{"n":-1}`, "seen", "seen", "forbidden"},
	{"a hidden row on PUT", "PUT", "owned", `{"n":1}`, `{"n":1}`, "seen", "hidden", "forbidden"},
	{"a hidden row on PATCH", "PATCH", "owned", `{"n":1}`, `{"n":1}`, "seen", "hidden", "forbidden"},
	{"a BEFORE trigger", "PUT", "before", `{"n":1}`, `{"n":-1}`, "", "", "raise_exception"},
	{"an AFTER trigger", "PUT", "after", `{"n":1}`, `{"n":-1}`, "", "", "raise_exception"},
	{"a foreign key", "PUT", "children", `{"n":1}`, `{"n":-1}`, "", "", "foreign_key_violation"},
	{"a deferred foreign key", "PUT", "deferred", `{"n":1}`, `{"n":-1}`, "", "", "foreign_key_violation"},
	{"an unknown column", "PUT", "checked", `{"n":1}`, `{"n":1,"m":1}`, "", "", "unknown_column"},
	{"a value of another type", "PUT", "checked", `{"n":1}`, `{"n":"x"}`, "", "", "invalid_text_representation"},
}

// Not parallel, and the best of a few: it compares times.
func TestAttackTwentyBadTransactionsAmongAThousand(t *testing.T) {
	b := attackOn(t, culpritsDDL)
	next := 1
	for _, c := range culprits {
		t.Run(c.name, func(t *testing.T) {
			client := c.name
			batch := func(bad bool) []string {
				entries := make([]string, 1000)
				for i := range entries {
					prefix, data := c.goodID, c.good
					if bad && i%50 == 13 {
						prefix, data = c.badID, c.bad
					}
					id := fmt.Sprint(next)
					if prefix != "" {
						id = fmt.Sprint(prefix, i)
					}
					entries[i] = entryOf(next, next, c.op, c.table, id, data)
					next++
				}
				return entries
			}
			timed := func(entries []string, want outcome) float64 {
				started := time.Now()
				r := b.apply(t, "u", client, entries...)
				took := time.Since(started).Seconds()
				b.balanced(t, r, len(entries))
				if r.Applied != want.Applied || len(r.Rejected) != len(want.Codes) {
					t.Errorf("%d applied, %d rejected", r.Applied, len(r.Rejected))
				}
				for i := range want.Codes {
					if r.Rejected[i].Code != want.Codes[i] {
						t.Errorf("rejected as %s", r.Rejected[i].Code)
					}
				}
				return took
			}
			refused := outcome{Applied: 980}
			for range 20 {
				refused.Codes = append(refused.Codes, c.code)
			}
			timed(batch(false), outcome{Applied: 1000})
			best := 1000.0
			for try := 0; try < 12 && (try < 2 || best > 10); try++ {
				clean := timed(batch(false), outcome{Applied: 1000})
				bad := timed(batch(true), refused)
				t.Logf("clean %.1f ms, with 20 bad %.1f ms: %.1f times", clean*1e3, bad*1e3, bad/clean)
				best = min(best, bad/clean)
			}
			// Splitting in halves took 60 times.
			if best > 10 {
				t.Errorf("20 bad transactions make an upload of 1,000 %.1f times as slow", best)
			}
		})
	}
}
