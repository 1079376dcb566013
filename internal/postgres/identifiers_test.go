package postgres_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"ferry/internal/postgres"
)

// TestAnyLegalNameWorks: names come from the catalog and are quoted, and none
// can be mistaken for one of the statements' own.
func TestAnyLegalNameWorks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	names := []string{
		"order", "User", "with space", `quo"ted`, "sem;colon", "apo'strophe", "back\\slash", "täble", "表", "$1", "--", "/*", "%s",
		"d", "t", "k", "c1", "ord", "updated", "others", "stuck", "inserted", "touched", "excluded", "new", "id2",
		"a2345678901234567890123456789012345678901234567890123456789012", // 62 bytes: the longest is 63
	}
	opID := 0
	next := func() int { opID++; return opID }
	for _, name := range names {
		quoted := pgx.Identifier{name}.Sanitize()
		own := quoted + " text,"
		if name == "k" || name == "c1" || name == "ord" {
			own = "" // every table has these
		}
		b.exec(fmt.Sprintf(`CREATE TABLE %[1]s (id text PRIMARY KEY, %[2]s k text, c1 text, ord int);
			ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON %[1]s USING (true); GRANT ALL ON %[1]s TO authenticated`,
			quoted, own))
		got := b.upload(alice, body(
			put(next(), name, "a", map[string]any{"k": "1", "c1": "1", "ord": 1, name: 1}),
			put(next(), name, "b", map[string]any{"k": "1", "c1": "1", "ord": 1}),
			patch(next(), name, "a", map[string]any{"k": "2", "ord": 2}),
			del(next(), name, "b")))
		if diff := cmp.Diff(counts{Applied: 4}, countsOf(got)); diff != "" {
			t.Errorf("table %s: %s\n%+v", name, diff, got.Rejected)
		}
	}
}

func TestIDsOfOtherTypesAndNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	opID := 0
	next := func() int { opID++; return opID }
	for typ, id := range map[string]string{
		"int": "7", "bigint": "9007199254740993", "smallint": "-1", "uuid": uid(1), "varchar(40)": "a b", "char(5)": "abc",
		"numeric": "1.50", "date": "2024-02-29", "text": "", "int GENERATED ALWAYS AS IDENTITY": "42",
	} {
		table := fmt.Sprintf("ids_%d", next())
		b.exec(fmt.Sprintf(`CREATE TABLE %[1]s (id %[2]s PRIMARY KEY, v int);
			ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON %[1]s USING (true); GRANT ALL ON %[1]s TO authenticated`, table, typ))
		got := b.upload(alice, body(
			put(next(), table, id, map[string]any{"v": 1}),
			put(next(), table, id, map[string]any{"v": 2}),
			patch(next(), table, id, map[string]any{"v": 3})))
		if diff := cmp.Diff(counts{Applied: 3}, countsOf(got)); diff != "" {
			t.Errorf("id of type %s: %s\n%+v", typ, diff, got.Rejected)
		}
		if row := b.text(`SELECT count(*) || '/' || max(v) FROM ` + table); row != "1/3" {
			t.Errorf("id of type %s: rows %s, want 1/3", typ, row)
		}
		got = b.upload(alice, body(del(next(), table, id)))
		if diff := cmp.Diff(counts{Applied: 1}, countsOf(got)); diff != "" {
			t.Errorf("id of type %s: %s", typ, diff)
		}
	}
}

func TestViewsPartitionsAndInheritance(t *testing.T) {
	t.Parallel()
	b := setup(t, `
		CREATE VIEW list_names WITH (security_invoker = true) AS SELECT id, name FROM lists;
		GRANT SELECT, INSERT, UPDATE, DELETE ON list_names TO authenticated;
		CREATE TABLE parts (id text, day date NOT NULL DEFAULT '2024-01-01', v int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE parts_2024 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
		CREATE TABLE parents (id text PRIMARY KEY, v int);
		CREATE TABLE children (PRIMARY KEY (id), extra text) INHERITS (parents);
		GRANT SELECT, INSERT, UPDATE, DELETE ON parts, parents, children TO authenticated;`)
	b.store = b.open(func(o *postgres.Options) { o.Tables = []string{"*"} })
	got := b.upload(alice, body(
		put(1, "list_names", uid(1), map[string]any{"name": "through a view"}),
		patch(2, "list_names", uid(1), map[string]any{"name": "changed"}),
		put(3, "parts", "a", map[string]any{"v": 1}),
		put(4, "parts", "a", map[string]any{"v": 2}),
		patch(5, "parts", "a", map[string]any{"v": 3}),
		put(6, "children", "c", map[string]any{"v": 1, "extra": "x"}),
		patch(7, "parents", "c", map[string]any{"v": 2}),
		put(8, "parents", "c", map[string]any{"v": 3}),
		put(9, "parents", "p", map[string]any{"v": 4})))
	if rows := b.text(`SELECT string_agg(tableoid::regclass || ' ' || id || ' ' || v, ', ' ORDER BY id) FROM parents`); rows != "children c 3, parents p 4" {
		t.Errorf("the parent has %s", rows)
	}
	if diff := cmp.Diff(counts{Applied: 9}, countsOf(got)); diff != "" {
		t.Errorf("%s\n%+v", diff, got.Rejected)
	}
	got = b.upload(alice, body(
		del(10, "parts", "a"),
		del(11, "parents", "c")))
	if diff := cmp.Diff(counts{Applied: 2}, countsOf(got)); diff != "" {
		t.Errorf("%s\n%+v", diff, got.Rejected)
	}
	if name := b.text(`SELECT name || ' ' || owner_id FROM lists`); name != "changed "+alice {
		t.Errorf("the list is %s", name)
	}
}

// What the triggers of a partition do counts like what those of a table do.
func TestTriggersOfAPartition(t *testing.T) {
	t.Parallel()
	for _, of := range []string{"parts_0", "parts"} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			b := setup(t, `
				CREATE TABLE fired (event text);
				CREATE TABLE parts (id text PRIMARY KEY, v int) PARTITION BY HASH (id);
				CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
				ALTER TABLE parts ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON parts USING (true); GRANT ALL ON parts TO authenticated;
				CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
					INSERT INTO fired VALUES (tg_op);
					IF tg_op = 'UPDATE' AND new.v = -1 THEN RETURN NULL; END IF;
					RETURN new;
				END $$;
				CREATE TRIGGER fire BEFORE INSERT OR UPDATE ON `+of+` FOR EACH ROW EXECUTE FUNCTION fire()`)
			b.upload(alice, body(put(1, "parts", "a", map[string]any{"v": 1})))
			b.upload(alice, body(put(2, "parts", "a", map[string]any{"v": 2})))
			if got := b.text(`SELECT string_agg(event, ' ') FROM fired`); got != "INSERT UPDATE" {
				t.Errorf("fired %s, want INSERT UPDATE", got)
			}
			got := b.upload(alice, body(patch(3, "parts", "a", map[string]any{"v": -1})))
			if diff := cmp.Diff(counts{Applied: 1}, countsOf(got)); diff != "" {
				t.Errorf("a suppressed PATCH: %s", diff)
			}
		})
	}
}

// A statement that a rule rewrites does not say what it did.
func TestTablesWithRulesTakeNoUploads(t *testing.T) {
	t.Parallel()
	b := setup(t, `
		CREATE TABLE ruled (id text PRIMARY KEY, v int);
		ALTER TABLE ruled ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON ruled USING (true); GRANT ALL ON ruled TO authenticated;
		CREATE TABLE seen (id text);
		CREATE RULE note AS ON UPDATE TO ruled DO ALSO INSERT INTO seen VALUES (new.id)`)
	got := b.upload(alice, body(put(1, "ruled", "a", map[string]any{"v": 1})))
	if len(got.Rejected) != 1 || got.Rejected[0].Message != "the table has rules (CREATE RULE); triggers can do what they do, and take uploads" {
		t.Errorf("rejections %+v", got.Rejected)
	}
}
