package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"ferry/internal/postgres/devcluster"
)

// Template is a database that the tests of a package get copies of. It is made
// once per test binary, when the first copy is asked for.
type Template struct {
	prepare func(ctx context.Context, url string) error

	once sync.Once
	name string
	err  error
}

// NewTemplate returns a template that prepare fills. prepare gets the address
// of an empty database as superuser, must close its connections, and runs
// once. Roles that it makes may exist already: another template of the binary
// may have made them.
func NewTemplate(prepare func(ctx context.Context, url string) error) *Template {
	return &Template{prepare: prepare}
}

// New returns an empty database for t, dropped at the end of the test.
func New(t testing.TB) *Database {
	t.Helper()
	cluster, admin := sharedFor(t)
	return create(t, cluster, admin, "template1")
}

// Clone returns a copy of the template for t, dropped at the end of the test.
// If the template cannot be made, every test that clones it fails.
func (tmpl *Template) Clone(t testing.TB) *Database {
	t.Helper()
	cluster, admin := sharedFor(t)
	tmpl.once.Do(func() { tmpl.name, tmpl.err = tmpl.build(cluster, admin) })
	if tmpl.err != nil {
		t.Fatalf("make the template database: %v", tmpl.err)
	}
	return create(t, cluster, admin, tmpl.name)
}

// build has a context of its own: the template outlives the test that happens
// to ask first.
func (tmpl *Template) build(cluster *devcluster.Cluster, admin *pgxpool.Pool) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := fmt.Sprintf("template_%d", shared.databases.Add(1))
	if err := createDatabase(ctx, admin, name, "template1"); err != nil {
		return "", err
	}
	// A panic or t.FailNow inside prepare must not look like success later.
	tmpl.err = errors.New("its prepare function did not return")
	return name, tmpl.prepare(ctx, cluster.URL(superuser, "", name))
}

func sharedFor(t testing.TB) (*devcluster.Cluster, *pgxpool.Pool) {
	t.Helper()
	cluster, admin, err := shared.start()
	if err != nil {
		t.Fatalf("start Postgres for the tests: %v", err)
	}
	return cluster, admin
}

// Database is one test's own database.
type Database struct {
	URL  string // as superuser
	Name string

	cluster *devcluster.Cluster
}

func create(t testing.TB, cluster *devcluster.Cluster, admin *pgxpool.Pool, template string) *Database {
	t.Helper()
	name := fmt.Sprintf("test_%d", shared.databases.Add(1))
	if err := createDatabase(t.Context(), admin, name, template); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// t.Context() is done by now.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := admin.Exec(ctx, "DROP DATABASE "+quote(name)+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the database of this test: %v", err)
		}
	})
	return &Database{URL: cluster.URL(superuser, "", name), Name: name, cluster: cluster}
}

// UntilWaiting returns once so many connections to the database wait for a lock.
func (db *Database) UntilWaiting(t testing.TB, connections int) {
	t.Helper()
	_, admin := sharedFor(t)
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		var waiting int
		if err := admin.QueryRow(t.Context(),
			`SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'`, db.Name).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		if waiting >= connections {
			return
		}
	}
	t.Fatalf("%d connections never waited", connections)
}

func createDatabase(ctx context.Context, admin *pgxpool.Pool, name, template string) error {
	_, err := admin.Exec(ctx, "CREATE DATABASE "+quote(name)+" TEMPLATE "+quote(template))
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// URLAs returns the database's address for a role. The socket that tests use
// trusts every role, whatever its password.
func (d *Database) URLAs(role, password string) string {
	return d.cluster.URL(role, password, d.Name)
}

// Pool returns a pool of superuser connections, closed at the end of the test.
func (d *Database) Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return newPool(t, d.URL)
}

// PoolAs returns a pool of a role's connections, closed at the end of the test.
func (d *Database) PoolAs(t testing.TB, role string) *pgxpool.Pool {
	t.Helper()
	return newPool(t, d.URLAs(role, ""))
}

func newPool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatalf("open a pool: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Exec runs SQL as superuser. Without args it may be several statements.
func (d *Database) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.URL)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
