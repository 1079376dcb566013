package postgres_test

import (
	"testing"
)

// What a trigger makes for the whole session is gone for the next user of the
// connection, and does not make the upload role an owner of tables.
func TestAttackWhatATriggerLeavesInTheSession(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE TABLE seen (value text); GRANT INSERT ON seen TO authenticated;
		CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			CREATE TEMP TABLE IF NOT EXISTS context (who text);
			INSERT INTO seen SELECT 'temp table of ' || who FROM context;
			INSERT INTO context VALUES (new.owner);
			INSERT INTO seen SELECT 'setting of ' || who FROM nullif(current_setting('app.left', true), '') AS who WHERE who IS NOT NULL;
			PERFORM set_config('app.left', new.owner, false);
			INSERT INTO seen SELECT 'lock' WHERE EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid());
			PERFORM pg_advisory_lock(42);
			PERFORM lo_create(0);
			RETURN new;
		END $$;
		CREATE TRIGGER leave BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION leave()`)
	b.store = openAttacked(t, b.db.URLAs("ferry_login", "")+"&pool_max_conns=1")
	for i, user := range []string{"u", "v", "u", "v"} {
		b.expect(t, outcome{Applied: 1}, user, "c", putNote(i+1, string(rune('a'+i)), `{"n":1}`))
	}
	if got := b.text(t, `SELECT coalesce(string_agg(value, ', '), 'nothing') FROM seen`); got != "nothing" {
		t.Errorf("one user's trigger saw of another's: %s", got)
	}
	if err := b.store.Ready(t.Context()); err != nil {
		t.Errorf("the upload role owns what its sessions made: %v", err)
	}
}

func TestAttackAnotherClientEncoding(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `DO $do$ BEGIN EXECUTE format('ALTER DATABASE %I SET client_encoding = LATIN1', current_database()); END $do$`)
	b.store = openAttacked(t, b.db.URLAs("ferry_login", ""))
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(1, "a", `{"body":"hé中"}`))
	if got := b.text(t, `SELECT encode(convert_to(body, 'UTF8'), 'hex') FROM notes`); got != "68c3a9e4b8ad" {
		t.Errorf("stored %s", got)
	}
}
