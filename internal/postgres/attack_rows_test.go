package postgres_test

import (
	"fmt"
	"testing"

	"ferry/internal/postgres"
)

// A verdict must not rest on what a neighbour did that is taken back with it.
func TestAttackAVerdictDoesNotRestOnARejectedNeighbour(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `
		CREATE TABLE docs (id text PRIMARY KEY, locked boolean NOT NULL DEFAULT false);
		CREATE TABLE parts (id text PRIMARY KEY, doc text REFERENCES docs DEFERRABLE INITIALLY DEFERRED);
		ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
		CREATE POLICY s ON docs FOR SELECT USING (true);
		CREATE POLICY i ON docs FOR INSERT WITH CHECK (true);
		CREATE POLICY u ON docs FOR UPDATE USING (NOT locked) WITH CHECK (true);
		CREATE POLICY d ON docs FOR DELETE USING (NOT locked);
		GRANT ALL ON docs, parts TO authenticated;
		INSERT INTO docs VALUES ('d', false), ('locked', true)`, allTables)
	b.expect(t, outcome{Applied: 1, Codes: []string{"foreign_key_violation", "forbidden"}}, "u", "c",
		entryOf(1, 1, "PATCH", "docs", "d", `{"locked":true}`),
		entryOf(2, 1, "PUT", "parts", "p", `{"doc":"missing"}`),
		entryOf(3, 2, "DELETE", "docs", "d", ""),
		entryOf(4, 3, "PATCH", "docs", "locked", `{"locked":false}`))
	if got := b.text(t, `SELECT string_agg(id, ' ') FROM docs`); got != "locked" {
		t.Errorf("rows %s", got)
	}
}

// Within a client transaction an operation meets what was done before it, and
// nothing that comes behind.
func TestAttackARowThatALaterOperationsTriggerMakes(t *testing.T) {
	t.Parallel()
	for op, data := range map[string]string{"PATCH": `{"n":1}`, "DELETE": ""} {
		b := attackOn(t, `
			CREATE TABLE profiles (id text PRIMARY KEY, n int);
			CREATE TABLE users (id text PRIMARY KEY, n int);
			GRANT ALL ON profiles, users TO authenticated;
			CREATE FUNCTION profile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO profiles VALUES (new.id, 0); RETURN NULL; END $$;
			CREATE TRIGGER profile AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION profile()`, allTables)
		b.expect(t, outcome{Applied: 2, Ignored: 1}, "u", "c",
			entryOf(1, 1, "PUT", "notes", "first", `{"n":1}`),
			entryOf(2, 1, op, "profiles", "k", data),
			entryOf(3, 1, "PUT", "users", "k", `{"n":1}`))
		b.expect(t, outcome{Applied: 2}, "u", "c",
			entryOf(4, 2, "PUT", "users", "l", `{"n":1}`),
			entryOf(5, 2, op, "profiles", "l", data))
	}
}

// Two spellings may be one row.
func TestAttackIDsUnderANondeterministicCollation(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `
		CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TABLE words (id text COLLATE blind PRIMARY KEY, n int);
		GRANT ALL ON words TO authenticated;
		INSERT INTO words VALUES ('Abc', 0)`, allTables)
	b.expect(t, outcome{Applied: 2}, "u", "c", entryOf(1, 1, "PATCH", "words", "abc", `{"n":1}`), entryOf(2, 2, "PATCH", "words", "ABC", `{"n":2}`))
	b.expect(t, outcome{Applied: 2}, "u", "c", entryOf(3, 3, "PATCH", "words", "abc", `{"n":3}`), entryOf(4, 3, "PATCH", "words", "ABC", `{"n":4}`))
	b.expect(t, outcome{Applied: 2}, "u", "c", entryOf(5, 4, "PUT", "words", "zz", `{"n":1}`), entryOf(6, 4, "PUT", "words", "ZZ", `{"n":2}`))
	b.expect(t, outcome{Applied: 1, Ignored: 1}, "u", "c", entryOf(7, 5, "DELETE", "words", "zz", ""), entryOf(8, 5, "DELETE", "words", "ZZ", ""))
	if got := b.text(t, `SELECT string_agg(id || n, ' ') FROM words`); got != "Abc4" {
		t.Errorf("rows %s", got)
	}
}

// Another table's constraint may have the name of the id's.
func TestAttackAViolationInATriggerOfAConstraintWithTheSameName(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `
		CREATE SCHEMA audit; GRANT USAGE ON SCHEMA audit TO authenticated;
		CREATE TABLE audit.notes (n int, CONSTRAINT notes_pkey PRIMARY KEY (n)); GRANT ALL ON audit.notes TO authenticated;
		CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit.notes VALUES (new.n); RETURN NULL; END $$;
		CREATE TRIGGER audit AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION audit()`)
	b.expect(t, outcome{Applied: 1, Codes: []string{"unique_violation"}}, "u", "c", putNote(1, "a", `{"n":1}`), putNote(2, "b", `{"n":1}`))
}

// No name of a table lets clients write what the server fills under another.
func TestAttackStampsUnderTwoNames(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE TABLE stamped (id text PRIMARY KEY, owner_id text, org_id text);
		GRANT ALL ON stamped TO authenticated;
		INSERT INTO ferry.tables (client_name, table_name, stamp_write) VALUES
			('by_owner', 'stamped', '{"owner_id": "sub"}'), ('by_both', 'stamped', '{"owner_id": "sub", "org_id": "sub"}')`, allTables)
	b.expect(t, outcome{Codes: []string{"forbidden"}}, "u", "c", entryOf(1, 1, "PUT", "by_owner", "a", `{"org_id":"mallory"}`))
	b.expect(t, outcome{Codes: []string{"unwritable_column"}}, "u", "c", entryOf(2, 2, "PUT", "by_both", "a", `{"org_id":"mallory"}`))
	b.expect(t, outcome{Applied: 1}, "u", "c", entryOf(3, 3, "PUT", "by_both", "a", ""))
}

// What a client has stored says nothing about how much of it is read.
func TestAttackAWideRangeOfOpIDs(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	var entries []string
	for i := range 2000 {
		entries = append(entries, putNote(10*i+1, fmt.Sprint(i), `{"n":1}`))
	}
	b.expect(t, outcome{Applied: 2000}, "u", "c", entries...)
	b.expect(t, outcome{Applied: 2, Duplicates: 1}, "u", "c",
		putNote(0, "first", `{"n":1}`), entries[1000], putNote(1<<62, "last", `{"n":1}`))
}

// A table that is made, or renamed, after a PUT into it was rejected has the same
// rows for its clients.
func TestWhatNeedsARejectedRowIsFoundUnderEachNameOfItsTable(t *testing.T) {
	t.Parallel()
	const readable = `ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON %[1]s USING (true); GRANT ALL ON %[1]s TO authenticated`
	for name, c := range map[string]struct{ before, after, fix string }{
		"made":    {``, `CREATE TABLE things (id text PRIMARY KEY, n int); ` + fmt.Sprintf(readable, "things"), ``},
		"renamed": {`CREATE TABLE things (id text PRIMARY KEY, n int CHECK (n > 1)); ` + fmt.Sprintf(readable, "things"), `ALTER TABLE things RENAME TO assets; INSERT INTO ferry.tables (client_name, table_name) VALUES ('things', 'assets')`, `ALTER TABLE assets DROP CONSTRAINT things_n_check; ALTER TABLE assets RENAME TO things; DELETE FROM ferry.tables`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := attackOn(t, c.before)
			put := b.apply(t, "u", "c", entryOf(1, 1, "PUT", "things", "a", `{"n":1}`))
			b.db.Exec(t, c.after)
			b.expect(t, outcome{Codes: []string{"depends_on_rejected"}}, "u", "c", entryOf(2, 2, "PATCH", "things", "a", `{"n":2}`))
			b.db.Exec(t, c.fix)
			rejections := &postgres.Rejections{Store: b.store}
			if err := rejections.Replay(t.Context(), put.Rejected[0].ID, false, func(*postgres.Replayed) {}); err != nil {
				t.Fatal(err)
			}
			if got := b.text(t, `SELECT n::text FROM things`); got != "2" {
				t.Errorf("n is %s after the replay, want 2", got)
			}
		})
	}
}
