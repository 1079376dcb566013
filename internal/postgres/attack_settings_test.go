package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/postgres"
)

// A setting that cannot be read concerns its own client table alone: docs/tables.md.
func TestASettingThatCannotBeReadHoldsUpNoOtherTable(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]string{
		"a column's name is a number": `INSERT INTO ferry.tables (client_name, table_name, columns) VALUES ('tallies', 'counted', '{"amount": 5}')`,
		"columns are a list":          `INSERT INTO ferry.tables (client_name, table_name, columns) VALUES ('tallies', 'counted', '{"amount": ["value"]}')`,
		"a claim's path is an object": `INSERT INTO ferry.tables (client_name, table_name, stamp_write) VALUES ('tallies', 'counted', '{"value": {"claim": "sub"}}')`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if _, err := b.admin.Exec(t.Context(), row); err != nil {
				return // Postgres refuses the setting, which is as good
			}
			if _, err := b.try(b.store, alice, body(put(1, "counted", "a", map[string]any{"value": 1}))); err != nil {
				t.Errorf("an upload to another table: %v", err)
			}
			if err := b.store.Ready(t.Context()); err != nil {
				t.Errorf("not ready: %v", err)
			}
		})
	}
}

// A word that is no encoding must not be taken for base64: hex digits are valid
// base64, and other bytes would be stored.
func TestAnUnknownByteaEncodingStoresNoOtherBytes(t *testing.T) {
	t.Parallel()
	b := setup(t, assetsSQL)
	if _, err := b.admin.Exec(t.Context(), `UPDATE ferry.tables SET bytea_encoding = '{"picture": "HEX"}'`); err != nil {
		return
	}
	b.upload(alice, body(put(1, "assets_v2", "1", map[string]any{"title": "x", "picture": "00ff00ff"})))
	got := b.text(`SELECT coalesce((SELECT encode(picture, 'hex') FROM inventory.assets), 'none')`)
	if got != "none" && got != "00ff00ff" {
		t.Errorf("00ff00ff is stored as %s", got)
	}
}

// Settings that write one column twice make SQL that Postgres cannot read. An
// operator should hear of the setting, and not of internal_error.
func TestSettingsThatWriteAColumnTwiceAreNamed(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"stamped twice":                 `UPDATE ferry.tables SET stamp_insert = '{"owner_id": "sub"}', stamp_write = '{"owner_id": "sub"}'`,
		"two names for one column":      `UPDATE ferry.tables SET columns = '{"title": "label", "name": "label"}'`,
		"the id is stamped":             `UPDATE ferry.tables SET stamp_insert = '{"asset_id": "n", "owner_id": "sub"}'`,
		"a generated column is stamped": `ALTER TABLE inventory.assets ADD twice int GENERATED ALWAYS AS (amount * 2) STORED; UPDATE ferry.tables SET stamp_write = '{"twice": "sub"}'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, assetsSQL)
			if _, err := b.admin.Exec(t.Context(), change); err != nil {
				return
			}
			data := map[string]any{"title": "x"}
			if strings.Contains(change, `"name"`) {
				data["name"] = "y"
			}
			got := b.upload(alice, body(put(1, "assets_v2", "1", data)))
			for _, r := range got.Rejected {
				if r.Code == "internal_error" || !strings.Contains(r.Message, "ferry.tables") {
					t.Errorf("%s: %s (%s)", r.Code, r.Message, r.SQLState)
				}
			}
		})
	}
}

// docs/tables.md: "Clients may not write a stamped column".
func TestAStampIsNotAvoidedByTheTablesOwnName(t *testing.T) {
	t.Parallel()
	b := setup(t, assetsSQL, `CREATE TABLE public.papers (id text PRIMARY KEY, owner_id text);
		ALTER TABLE papers ENABLE ROW LEVEL SECURITY;
		CREATE POLICY everybody ON papers TO authenticated USING (true);
		GRANT SELECT, INSERT, UPDATE, DELETE ON papers TO authenticated;
		INSERT INTO ferry.tables (client_name, table_name, stamp_insert) VALUES ('papers_v2', 'papers', '{"owner_id": "sub"}')`)
	b.upload(alice, body(put(1, "papers", "1", map[string]any{"owner_id": bob})))
	if got := b.text(`SELECT coalesce((SELECT owner_id FROM papers), 'none')`); got == bob {
		t.Error("alice made a row whose stamped column says bob")
	}
}

// Nor by a partition, a parent or a view through which its rows can be written.
func TestAStampIsNotAvoidedByAnotherRelationOverTheRows(t *testing.T) {
	t.Parallel()
	b := setup(t, `
		CREATE TABLE whole (id text PRIMARY KEY, owner_id text);
		CREATE TABLE papers (id text PRIMARY KEY, owner_id text) PARTITION BY HASH (id);
		CREATE TABLE papers_0 PARTITION OF papers FOR VALUES WITH (MODULUS 1, REMAINDER 0);
		CREATE VIEW paper_view AS SELECT id, owner_id FROM papers;
		CREATE VIEW view_of_view AS SELECT id, owner_id FROM paper_view;
		GRANT SELECT, INSERT, UPDATE, DELETE ON whole, papers, papers_0, paper_view, view_of_view TO authenticated;
		INSERT INTO ferry.tables (client_name, table_name, stamp_insert) VALUES ('papers_v2', 'papers', '{"owner_id": "sub"}')`)
	b.store = b.open(func(o *postgres.Options) { o.Tables = []string{"*"} })
	for i, relation := range []string{"papers", "papers_0", "paper_view", "view_of_view"} {
		r := b.upload(alice, body(put(i+1, relation, "1", map[string]any{"owner_id": bob})))
		if len(r.Rejected) != 1 || r.Rejected[0].Code != "forbidden" {
			t.Errorf("%s: %+v", relation, r)
		}
	}
	r := b.upload(alice, body(put(10, "papers_v2", "1", nil), put(11, "whole", "1", map[string]any{"owner_id": bob})))
	if diff := cmp.Diff(counts{Applied: 2}, countsOf(r)); diff != "" {
		t.Errorf("others (-want +got):\n%s", diff)
	}
	if got := b.text(`SELECT owner_id FROM papers`); got != alice {
		t.Errorf("the stamped column says %s", got)
	}
}

// A policy that raises for a row that the caller may not change: the PATCH
// touches nothing, and then looking for the row raises.
func TestAPolicyThatRaisesWhileLookingIsAVerdict(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TABLE shaky (id text PRIMARY KEY, owner text, n int);
		CREATE FUNCTION strict(n int) RETURNS boolean LANGUAGE plpgsql COST 10000 AS $$
		BEGIN IF n = 0 THEN RAISE EXCEPTION 'no'; END IF; RETURN true; END $$;
		ALTER TABLE shaky ENABLE ROW LEVEL SECURITY;
		CREATE POLICY s ON shaky FOR SELECT TO authenticated USING (strict(n));
		CREATE POLICY u ON shaky FOR UPDATE TO authenticated USING (owner = current_setting('app.user_id', true));
		CREATE POLICY d ON shaky FOR DELETE TO authenticated USING (owner = current_setting('app.user_id', true));
		GRANT SELECT, INSERT, UPDATE, DELETE ON shaky TO authenticated;
		INSERT INTO shaky VALUES ('x', 'bob', 0)`)
	for i, o := range []op{patch(1, "shaky", "x", map[string]any{"n": 1}), del(2, "shaky", "x")} {
		for try := range 2 {
			if _, err := b.try(b.store, alice, body(o)); err != nil {
				t.Errorf("operation %d, try %d: %v", i, try, err)
			}
		}
	}
}

// Whoever invents a client id per request must not fill the database.
func TestCheckpointsOfInventedClientsAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 1100 {
		_, err := b.store.RaiseCheckpoint(t.Context(), alice, fmt.Sprint("client ", i))
		if f, ok := errors.AsType[*fault.Error](err); ok && f.Code == fault.TooManyRequests {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("%s clients are remembered for one user", b.text(`SELECT count(*)::text FROM ferry.checkpoints`))
}

// The reference API has no op ids: what is sent again is stored again.
func TestARejectionIsStoredOnceWhileWhatFollowsIsHeldUp(t *testing.T) {
	t.Parallel()
	b := setup(t, `INSERT INTO counted VALUES ('held', 1)`)
	tx, err := b.admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `LOCK TABLE kinds`); err != nil {
		t.Fatal(err)
	}
	request := `{"transactions":[{"transaction_id":1,"crud":[{"op":"PUT","table":"counted","id":"a","op_data":{"value":-1}}]},` +
		`{"transaction_id":2,"crud":[{"op":"PUT","table":"kinds","id":"k","op_data":{"t":"x"}}]}]}`
	// The client is told of the rejection beside what is held up, so that it
	// sends only the latter again.
	result, err := b.try(b.store, alice, request)
	if f := fault.From(err); f.Code != fault.Unavailable {
		t.Fatalf("error %v", err)
	}
	want := []bool{true, false}
	for i, o := range result.Outcomes {
		if o.Decided != want[i] || (o.Rejection != nil) != want[i] {
			t.Errorf("transaction %d: %+v", i, o)
		}
	}
	if id := b.text(`SELECT id::text FROM ferry.rejections`); id != result.Outcomes[0].Rejection.ID {
		t.Errorf("the stored rejection is %s, the client was told %s", id, result.Outcomes[0].Rejection.ID)
	}
}

// PATCH through the other name of a table whose PUT stands rejected.
func TestAPatchThroughAnotherSpellingOfTheIDDependsOnItsRejectedPut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := "ABCDEF00-0000-4000-8000-000000000001"
	b.upload(alice, body(put(1, "lists", id, nil)))
	got := b.upload(alice, body(patch(2, "lists", strings.ToLower(id), map[string]any{"name": "mine"})))
	if got.Ignored != 0 {
		t.Errorf("the PATCH is dropped: %+v", got)
	}
}

// What a client transaction costs grows with its length, and not with its
// square: a single one has no limit of operations.
func TestManyMissingRowsInOneTransactionTakeLinearTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	took := func(client string, n int) time.Duration {
		ops := make([]op, n)
		for i := range ops {
			ops[i] = patch(i+1, "counted", fmt.Sprint("gone ", i), map[string]any{"value": 1}).in(1)
		}
		request := bodyOf(client, ops...)
		started := time.Now()
		result, err := b.try(b.store, alice, request)
		if err != nil {
			t.Fatalf("%d operations, after %v: %v", n, time.Since(started), err)
		}
		if result.Ignored != n {
			t.Errorf("%d of %d are ignored", result.Ignored, n)
		}
		return time.Since(started)
	}
	small, large := took("small", 10_000), took("large", 80_000)
	t.Logf("%v, %v", small, large)
	if large > 20*small {
		t.Errorf("eight times the operations take %v instead of %v", large, small)
	}
}

// A replay that cannot be decided stops no other one.
func TestAReplayIsRefusedByAPolicyThatRaises(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TABLE shaky (id text PRIMARY KEY, owner text, n int CHECK (n < 5));
		CREATE FUNCTION strict(n int) RETURNS boolean LANGUAGE plpgsql COST 10000 AS $$
		BEGIN IF n = 0 THEN RAISE EXCEPTION 'no'; END IF; RETURN true; END $$;
		ALTER TABLE shaky ENABLE ROW LEVEL SECURITY;
		CREATE POLICY s ON shaky FOR SELECT TO authenticated USING (strict(n));
		CREATE POLICY u ON shaky FOR UPDATE TO authenticated USING (owner = current_setting('app.user_id', true));
		GRANT SELECT, INSERT, UPDATE, DELETE ON shaky TO authenticated`)
	b.exec(`INSERT INTO shaky VALUES ('x', $1, 1)`, alice)
	id := b.reject(alice, patch(1, "shaky", "x", map[string]any{"n": 7}))
	b.exec(`UPDATE shaky SET owner = 'bob', n = 0`)
	if err := b.rejections().Replay(t.Context(), id, false, func(*postgres.Replayed) {}); err != nil {
		t.Error(err)
	}
}

// noteSettingSQL has each note say with which setting it is about to be committed.
const noteSettingSQL = `
CREATE FUNCTION note_setting() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	new.body := current_setting('synchronous_commit');
	RETURN new;
END $$;
CREATE TRIGGER setting BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION note_setting()`

// A server that does not wait for the disk would let a 200 be forgotten. One that
// waits for more than the disk is left to it.
func TestUploadsWaitForTheDisk(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{"off": "on", "on": "on", "local": "local", "remote_apply": "remote_apply"} {
		b := attackOn(t, noteSettingSQL)
		b.db.Exec(t, `ALTER DATABASE `+b.db.Name+` SET synchronous_commit = `+setting)
		b.expect(t, outcome{Applied: 1}, "u", "c", putNote(1, "a", `{"n":1}`))
		if got := b.text(t, `SELECT body FROM notes`); got != want {
			t.Errorf("where the server says %s an upload runs with %s, want %s", setting, got, want)
		}
	}
}

// What docs/guarantees.md does not promise: a table's owner can turn the waiting
// off again, and COMMIT believes it.
func TestATriggerOfTheAppCanKeepUploadsFromWaitingForTheDisk(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE TABLE seen (setting text); GRANT INSERT ON seen TO authenticated;
		CREATE FUNCTION turn_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			SET LOCAL synchronous_commit = off;
			RETURN new;
		END $$;
		CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO seen VALUES (current_setting('synchronous_commit'));
			RETURN NULL;
		END $$;
		CREATE TRIGGER turn_off BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION turn_off();
		CREATE CONSTRAINT TRIGGER look AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look()`)
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(1, "a", `{"n":1}`))
	if got := b.text(t, `SELECT string_agg(setting, ' ') FROM seen`); got != "off" {
		t.Errorf("at COMMIT the setting is %s: promise more in docs/guarantees.md", got)
	}
}
