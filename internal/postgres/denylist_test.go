package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/identity"
)

func (b *bundle) readDenylist(known string) *identity.DeniedUsers {
	b.t.Helper()
	list, err := b.store.ReadDenylist(b.t.Context(), known)
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

func TestDenylistIsReadWhole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	empty := b.readDenylist("")
	if len(empty.Users) != 0 || empty.Version == "" {
		t.Errorf("at first: %+v", empty)
	}
	b.exec(`INSERT INTO ferry.denylist (user_id, disabled, sessions_before) VALUES
		('disabled', true, NULL), ('revoked', false, '2026-01-02 03:04:05.678901+01'), ('both', true, '2026-01-02Z'), ('neither', false, NULL)`)
	list := b.readDenylist(empty.Version)
	want := map[string]identity.Denied{
		"disabled": {Disabled: true},
		"revoked":  {SessionsBefore: time.Date(2026, 1, 2, 2, 4, 5, 678901000, time.UTC)},
		"both":     {Disabled: true, SessionsBefore: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)},
	}
	if diff := cmp.Diff(want, list.Users); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if again := b.readDenylist(list.Version); again != nil {
		t.Errorf("read again without a change: %+v", again)
	}
}

func TestEveryChangeOfTheDenylistIsANewVersion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	seen := map[string]bool{b.readDenylist("").Version: true}
	for _, sql := range []string{
		`INSERT INTO ferry.denylist (user_id, disabled) VALUES ('a', true)`,
		`UPDATE ferry.denylist SET disabled = false`,
		`DELETE FROM ferry.denylist`,
		`TRUNCATE ferry.denylist`,
	} {
		b.exec(sql)
		version := b.readDenylist("").Version
		if seen[version] {
			t.Errorf("%s: the version stays", sql)
		}
		seen[version] = true
	}
}

// A transaction that is still open has changed neither the list nor its
// version; its commit changes both at once.
func TestTheVersionChangesWithTheCommit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	before := b.readDenylist("")
	tx, err := b.admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO ferry.denylist (user_id, disabled) VALUES ('a', true)`); err != nil {
		t.Fatal(err)
	}
	if list := b.readDenylist(before.Version); list != nil {
		t.Errorf("before the commit: %+v", list)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list := b.readDenylist(before.Version); list == nil || !list.Users["a"].Disabled {
		t.Errorf("after the commit: %+v", list)
	}
}

func TestDenylistCannotBeReadWithoutItsTables(t *testing.T) {
	t.Parallel()
	b := setup(t, `DELETE FROM ferry.denylist_version`)
	if list, err := b.store.ReadDenylist(t.Context(), ""); err == nil {
		t.Errorf("without a version: %+v", list)
	}
	b.exec(`DROP TABLE ferry.denylist_version`)
	if list, err := b.store.ReadDenylist(t.Context(), ""); err == nil {
		t.Errorf("without the table: %+v", list)
	}
}

func TestDenylistBehindPgBouncer(t *testing.T) {
	t.Parallel()
	b := setup(t, `INSERT INTO ferry.denylist (user_id, disabled) VALUES ('a', true)`)
	b.store = b.behindPgBouncer()
	if list := b.readDenylist(""); !list.Users["a"].Disabled {
		t.Errorf("%+v", list)
	}
}

// Nobody must be signed in to make accounts wait for the database.
func TestAccountsThatWaitDoNotHoldUpTheDenylist(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	holder, err := b.admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), `LOCK TABLE ferry.sessions`); err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() { b.who(t.Context(), "ferry_session_unknown") })
	}
	b.db.UntilWaiting(t, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := b.store.ReadDenylist(ctx, ""); err != nil {
		t.Error(err)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	waiting.Wait()
}
