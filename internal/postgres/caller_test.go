package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestColumnGrantsHold(t *testing.T) {
	t.Parallel()
	b := setup(t, `
		CREATE TABLE accounts (id text PRIMARY KEY, name text, balance int DEFAULT 0, secret text);
		ALTER TABLE accounts ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON accounts USING (true);
		GRANT SELECT (id, name, balance), INSERT (id, name), UPDATE (name) ON accounts TO authenticated;`)
	got := b.upload(alice, body(
		put(1, "accounts", "a", map[string]any{"name": "Ann"}),
		patch(2, "accounts", "a", map[string]any{"balance": 100}),
		put(3, "accounts", "a", map[string]any{"name": "Anna", "balance": 100}),
		put(4, "accounts", "b", map[string]any{"name": "Bo", "secret": "x"}),
		patch(5, "accounts", "a", map[string]any{"name": "Anne"}),
		del(6, "accounts", "a")))
	want := counts{Applied: 2, Rejected: []string{"forbidden", "forbidden", "forbidden", "forbidden"}}
	if diff := cmp.Diff(want, countsOf(got)); diff != "" {
		t.Errorf("%s\n%+v", diff, got.Rejected)
	}
	if row := b.text(`SELECT string_agg(id || name || balance, ',') FROM accounts`); row != "aAnne0" {
		t.Errorf("the rows are %s", row)
	}
}

func TestForcedRowLevelSecurityHoldsAndHiddenRowsAreForbidden(t *testing.T) {
	t.Parallel()
	b := setup(t, `ALTER TABLE lists FORCE ROW LEVEL SECURITY`)
	b.exec(`INSERT INTO lists (id, name, owner_id) VALUES ($1, 'hers', $2)`, uid(1), bob)
	got := b.upload(alice, body(
		patch(1, "lists", uid(1), map[string]any{"name": "mine now"}),
		del(2, "lists", uid(1)),
		patch(3, "lists", uid(2), map[string]any{"name": "nobody's"})))
	if diff := cmp.Diff(counts{Ignored: 1, Rejected: []string{"forbidden", "forbidden"}}, countsOf(got)); diff != "" {
		t.Errorf("%s\n%+v", diff, got.Rejected)
	}
}

func TestWhatMayBeSeenButNotChangedIsForbidden(t *testing.T) {
	t.Parallel()
	b := setup(t, `
		CREATE TABLE news (id text PRIMARY KEY, title text, author uuid);
		ALTER TABLE news ENABLE ROW LEVEL SECURITY;
		CREATE POLICY read ON news FOR SELECT USING (true);
		CREATE POLICY change ON news FOR UPDATE USING (author = nullif(current_setting('app.user_id', true), '')::uuid);
		CREATE POLICY make ON news FOR INSERT WITH CHECK (author = nullif(current_setting('app.user_id', true), '')::uuid);
		GRANT SELECT, INSERT, UPDATE, DELETE ON news TO authenticated;`)
	b.exec(`INSERT INTO news VALUES ('hers', 'x', $1)`, bob)
	got := b.upload(alice, body(
		put(1, "news", "mine", map[string]any{"title": "a", "author": alice}),
		patch(2, "news", "hers", map[string]any{"title": "b"}),
		put(3, "news", "hers", map[string]any{"title": "b", "author": alice}),
		del(4, "news", "mine"), // no policy for DELETE
		patch(5, "news", "mine", map[string]any{"author": bob}),
		patch(6, "news", "mine", map[string]any{"title": "c"})))
	want := counts{Applied: 2, Rejected: []string{"forbidden", "forbidden", "forbidden", "forbidden"}}
	if diff := cmp.Diff(want, countsOf(got)); diff != "" {
		t.Errorf("%s\n%+v", diff, got.Rejected)
	}
	if rows := b.text(`SELECT string_agg(id || title, ',' ORDER BY id) FROM news`); rows != "hersx,minec" {
		t.Errorf("the rows are %s", rows)
	}
}

func TestTriggersAndDeferredTriggersRunAsTheCaller(t *testing.T) {
	t.Parallel()
	b := setup(t, `
		CREATE TABLE ran (id text PRIMARY KEY, at_once text, at_commit text);
		CREATE FUNCTION who() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF tg_when = 'BEFORE' THEN new.at_once := current_user || current_setting('app.user_id'); RETURN new; END IF;
			UPDATE ran SET at_commit = current_user || current_setting('app.user_id') WHERE id = new.id;
			RETURN NULL;
		END $$;
		CREATE TRIGGER before_it BEFORE INSERT ON ran FOR EACH ROW EXECUTE FUNCTION who();
		CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON ran DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION who();
		ALTER TABLE ran ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON ran USING (true);
		GRANT SELECT, INSERT, UPDATE ON ran TO authenticated;`)
	b.upload(alice, body(put(1, "ran", "a", nil)))
	want := "authenticated" + alice
	if got := b.text(`SELECT at_once || '/' || at_commit FROM ran`); got != want+"/"+want {
		t.Errorf("triggers ran as %s, want %s", got, want)
	}
}
