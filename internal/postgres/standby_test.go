package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"ferry/internal/fault"
	"ferry/internal/postgres"
	"ferry/internal/postgres/devcluster"
	"ferry/internal/postgres/postgrestest"
)

// setupOwn is setup in a cluster that the test may change.
func setupOwn(t *testing.T) (*bundle, *devcluster.Cluster) {
	t.Helper()
	cluster := postgrestest.Own(t, nil)
	b := &bundle{t: t}
	url := cluster.URL("postgres", "", "postgres")
	if err := makeApp(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.admin, err = pgxpool.New(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.admin.Close)
	b.store = openAt(t, cluster.URL(loginRole, "", "postgres"))
	return b, cluster
}

func openAt(t *testing.T, url string) *postgres.Store {
	t.Helper()
	store, err := postgres.Open(t.Context(), postgres.Options{
		URL: url, Role: "authenticated", Schemas: []string{"public"},
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

// TestACommitThatNoStandbyHasIsNotAcknowledged: an administrator cancels what
// waits for a synchronous standby; Postgres then says that the commit went well.
func TestACommitThatNoStandbyHasIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	b, _ := setupOwn(t)
	upload := body(put(1, "counted", "a", map[string]any{"value": 1}))
	b.upload(alice, body(put(0, "counted", "b", map[string]any{"value": 1}))) // connects, and reads the catalog
	b.exec("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	b.exec("SELECT pg_reload_conf()")
	waits := `SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'`
	b.untilCommitsWait(waits)
	failed := make(chan error, 1)
	go func() {
		_, err := b.try(b.store, alice, upload)
		failed <- err
	}()
	b.await(waits, "1")
	b.exec(`SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
	var f *fault.Error
	if err := <-failed; !errors.As(err, &f) || f.Code != fault.Unavailable {
		t.Fatalf("a commit that no standby has: %v, want unavailable", err)
	}

	again := make(chan counts, 1)
	go func() { again <- countsOf(b.upload(alice, upload)) }()
	b.await(waits, "1") // the retry finds it done, and waits as well
	b.exec("ALTER SYSTEM RESET synchronous_standby_names")
	b.exec("SELECT pg_reload_conf()")
	if diff := cmp.Diff(counts{Duplicates: 1}, <-again); diff != "" {
		t.Errorf("the retry (-want +got):\n%s", diff)
	}
}

// untilCommitsWait returns once commits wait for a standby: Postgres makes the
// setting its own some time after it was told to.
func (b *bundle) untilCommitsWait(waits string) {
	b.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = b.admin.Exec(b.t.Context(), `SELECT pg_logical_emit_message(true, 'anything', '')`)
		}()
		for waiting := true; waiting; {
			if b.text(waits) == "1" {
				b.exec(`SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
				<-ended
				return
			}
			select {
			case <-ended: // too early: try another one
				waiting = false
			default:
			}
		}
	}
	b.t.Fatal("commits do not wait for a standby")
}

// await asks a query until it says what is wanted.
func (b *bundle) await(sql, want string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	for b.text(sql) != want {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			b.t.Fatalf("%s is not %s within 10 s", sql, want)
		}
	}
}

// TestAStandbyIsNeitherReadyNorAVerdict: also where a connection leads to one
// that was a primary when it was made.
func TestAStandbyIsNeitherReadyNorAVerdict(t *testing.T) {
	t.Parallel()
	b, cluster := setupOwn(t)
	if err := cluster.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	signal := filepath.Join(cluster.Data(), "standby.signal")
	if err := os.WriteFile(signal, nil, 0o644); err != nil { //nolint:gosec // Postgres reads it
		t.Fatal(err)
	}
	standby, err := devcluster.Start(t.Context(), devcluster.Options{
		Dir: filepath.Dir(cluster.Data()), Settings: map[string]string{"max_connections": "200"}, // as it was
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Stop(context.Background()) })
	careless := openAt(t, cluster.URL(loginRole, "", "postgres")+"&target_session_attrs=any")
	upload := body(put(1, "counted", "a", map[string]any{"value": 1}))
	for _, store := range []*postgres.Store{b.store, careless} {
		var f *fault.Error
		if err := store.Ready(t.Context()); !errors.As(err, &f) || f.Code != fault.Unavailable {
			t.Errorf("ready on a standby: %v, want unavailable", err)
		}
		if _, err := b.try(store, alice, upload); !errors.As(err, &f) || f.Code != fault.Unavailable {
			t.Errorf("an upload to a standby: %v, want unavailable", err)
		}
	}
	if err := careless.Ready(t.Context()); !strings.Contains(err.Error(), "standby") {
		t.Errorf("ready on a standby: %v, which does not say so", err)
	}
	b.text("SELECT pg_promote()::text")
	for _, store := range []*postgres.Store{b.store, careless} {
		if err := store.Ready(t.Context()); err != nil {
			t.Errorf("ready once it is promoted: %v", err)
		}
		if _, err := b.try(store, alice, upload); err != nil {
			t.Errorf("an upload once it is promoted: %v", err)
		}
	}
}
