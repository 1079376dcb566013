package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/postgres"
	"ferry/internal/postgres/postgrestest"
	"ferry/migrations"
)

// roles are the database roles of one test: they belong to the whole cluster.
type roles struct{ upload, login, migrator string }

// newDatabase returns an empty database with a login role for ferry and one
// for its migrations, neither of them privileged, and an environment for them.
func newDatabase(t *testing.T) (*postgrestest.Database, roles) {
	t.Helper()
	db := postgrestest.New(t)
	r := roles{"upload_" + db.Name, "login_" + db.Name, "migrator_" + db.Name}
	db.Exec(t, `CREATE ROLE `+r.login+` LOGIN; CREATE ROLE `+r.migrator+` LOGIN;
		GRANT CREATE ON DATABASE `+db.Name+` TO `+r.migrator)
	return db, r
}

// migrateEnvironment is for migrations as superuser.
func migrateEnvironment(db *postgrestest.Database, r roles) []string {
	return []string{"DATABASE_URL=" + db.URL, "FERRY_UPLOAD_ROLE=" + r.upload}
}

// eachMigration is a line about each migration, after a word.
func eachMigration(t *testing.T, word string) string {
	t.Helper()
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("migrations %v, %v", names, err)
	}
	return word + strings.Join(names, "\n"+word) + "\n"
}

func TestMigrateUpDownAndStatus(t *testing.T) {
	t.Parallel()
	db, r := newDatabase(t)
	environ := migrateEnvironment(db, r)
	pending, applied := eachMigration(t, "pending  "), eachMigration(t, "applied  ")
	up := eachMigration(t, "applied ") + "schema ferry is up to date\n"
	lines := strings.SplitAfter(applied, "\n")
	newest := strings.TrimPrefix(lines[len(lines)-2], "applied  ")
	allButNewest := strings.TrimSuffix(applied, "applied  "+newest) + "pending  " + newest
	const question = "This drops tables of schema ferry: accounts and stored rejections are lost, and redelivered operations apply again. Roles stay.\nType yes to go on: "
	for _, step := range []struct {
		command, input string
		want           result
	}{
		{"status", "", result{Stdout: pending}},
		{"down --yes", "", result{Stdout: "took back nothing: schema ferry has no migrations\n"}},
		{"up", "", result{Stdout: up}},
		{"up", "", result{Stdout: "schema ferry is up to date\n"}},
		{"status", "", result{Stdout: applied}},
		{"down", "", result{Code: exitError, Stdout: question, Stderr: "ferry: migrate down: nothing was done\n"}},
		{"down", "no\n", result{Code: exitError, Stdout: question, Stderr: "ferry: migrate down: nothing was done\n"}},
		{"down", "y\nyes\n", result{Code: exitError, Stdout: question, Stderr: "ferry: migrate down: nothing was done\n"}},
		{"down", "Yes\n", result{Code: exitError, Stdout: question, Stderr: "ferry: migrate down: nothing was done\n"}},
		{"status", "", result{Stdout: applied}},
		{"down", "yes\r\n", result{Stdout: question + "took back " + newest}},
		{"status", "", result{Stdout: allButNewest}},
		{"up", "", result{Stdout: "applied " + newest + "schema ferry is up to date\n"}},
		{"down --yes", "", result{Stdout: "took back " + newest}},
	} {
		got := runWithInput(t, step.input, environ, append([]string{"migrate"}, strings.Fields(step.command)...)...)
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Fatalf("migrate %s, answered %q (-want +got):\n%s", step.command, step.input, diff)
		}
	}
}

func TestMigrateUpOnSeveralReplicasAtOnce(t *testing.T) {
	t.Parallel()
	db, r := newDatabase(t)
	results := make([]result, 4)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			results[i] = run(t, migrateEnvironment(db, r), "migrate", "up", "--grant-to", r.login)
		})
	}
	wg.Wait()
	applied := ""
	for _, r := range results {
		if r.Code != exitOK || r.Stderr != "" {
			t.Errorf("exit code %d: %s", r.Code, r.Stderr)
		}
		applied += strings.TrimSuffix(r.Stdout, "schema ferry is up to date\n")
	}
	if diff := cmp.Diff(eachMigration(t, "applied "), applied); diff != "" {
		t.Errorf("applied, each once (-want +got):\n%s", diff)
	}
	checkServes(t, db, r)
}

// checkServes opens the store as ferry does.
func checkServes(t *testing.T, db *postgrestest.Database, r roles) {
	t.Helper()
	store, err := postgres.Open(t.Context(), postgres.Options{
		URL: db.URLAs(r.login, ""), Role: r.upload, Schemas: []string{"public"},
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Ready(t.Context()); err != nil {
		t.Errorf("%s cannot serve: %v", r.login, err)
	}
}

func TestMigrateGoesOverItsOwnURL(t *testing.T) {
	t.Parallel()
	db, r := newDatabase(t)
	environ := []string{
		"DATABASE_URL=postgres://nobody@localhost/none?host=/nowhere",
		"FERRY_MIGRATE_DATABASE_URL=" + db.URL, "FERRY_UPLOAD_ROLE=" + r.upload,
	}
	mustRun(t, environ, "migrate", "up", "--grant-to", r.login)
	checkServes(t, db, r)
}

func TestMigrateUpAsARoleThatMayNotMakeRoles(t *testing.T) {
	t.Parallel()
	// ferry_service belongs to all databases: it is made here, and not by
	// another test between the attempts below.
	other, r := newDatabase(t)
	mustRun(t, migrateEnvironment(other, r), "migrate", "up")
	db, r := newDatabase(t)
	environ := []string{"DATABASE_URL=" + db.URLAs(r.migrator, ""), "FERRY_UPLOAD_ROLE=" + r.upload}
	got := run(t, environ, "migrate", "up", "--grant-to", r.login)
	if got.Code != exitError || got.Stdout != eachMigration(t, "applied ") {
		t.Fatalf("exit code %d, stdout %q, stderr\n%s", got.Code, got.Stdout, got.Stderr)
	}
	text, sql, _ := strings.Cut(got.Stderr, "\n\n")
	const want = "ferry: schema ferry is migrated, but this role may not set up the roles that serving needs "
	if !strings.HasPrefix(text, want) {
		t.Errorf("stderr begins with %q", text)
	}
	db.Exec(t, sql)
	if out := mustRun(t, environ, "migrate", "up", "--grant-to", r.login); out != "schema ferry is up to date\n" {
		t.Errorf("the second time: %q", out)
	}
	checkServes(t, db, r)
}

func TestMigrateUpShowsHowToLeaveSchemaFerryOutOfPublications(t *testing.T) {
	t.Parallel()
	db, r := newDatabase(t)
	db.Exec(t, `CREATE TABLE lists (id uuid PRIMARY KEY); CREATE TABLE todos (id uuid PRIMARY KEY);
		CREATE PUBLICATION powersync FOR ALL TABLES`)
	out := mustRun(t, migrateEnvironment(db, r), "migrate", "up")
	const sql = `BEGIN;
DROP PUBLICATION powersync;
CREATE PUBLICATION powersync FOR TABLE public.lists, public.todos;
COMMIT;
`
	want := eachMigration(t, "applied ") + `schema ferry is up to date

publication powersync carries schema ferry, too, which no device needs. To leave that
out, keep the tables that devices sync, for example:

` + sql + "\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Fatalf("output (-want +got):\n%s", diff)
	}
	db.Exec(t, sql)
	if out := mustRun(t, migrateEnvironment(db, r), "migrate", "up"); out != "schema ferry is up to date\n" {
		t.Errorf("afterwards: %q", out)
	}
}

func TestMigrateSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	db, r := newDatabase(t)
	for name, test := range map[string]struct {
		environ []string
		args    []string
		want    string
	}{
		"no database": {
			nil,
			[]string{"up"},
			"DATABASE_URL: not set, nor is FERRY_MIGRATE_DATABASE_URL",
		},
		"database away": {
			[]string{"DATABASE_URL=postgres://u:hidden-secret@localhost/d?host=/nowhere"},
			[]string{"status"},
			"connect to the database: ",
		},
		"no such login role": {
			migrateEnvironment(db, r),
			[]string{"up", "--grant-to", "missing_" + db.Name},
			"there is no role \"missing_" + db.Name + "\" to grant to; make it first",
		},
	} {
		got := run(t, test.environ, append([]string{"migrate"}, test.args...)...)
		if got.Code != exitError || !strings.Contains(got.Stderr, test.want) || strings.Contains(got.Stderr, "hidden-secret") {
			t.Errorf("%s: exit code %d, no %q in\n%s", name, got.Code, test.want, got.Stderr)
		}
	}
}

// brokenWriter takes nothing.
type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestAnAnswerThatCannotBeReadIsNotAYes(t *testing.T) {
	t.Parallel()
	db, r := newDatabase(t)
	environ := migrateEnvironment(db, r)
	mustRun(t, environ, "migrate", "up")
	code := Run(t.Context(), []string{"migrate", "down"}, environ, brokenReader{}, brokenWriter{}, brokenWriter{})
	if code != exitError {
		t.Errorf("exit code %d", code)
	}
	if out := mustRun(t, environ, "migrate", "status"); out != eachMigration(t, "applied  ") {
		t.Errorf("status %q", out)
	}
}

// brokenReader fails after a word.
type brokenReader struct{}

func (brokenReader) Read(p []byte) (int, error) { return copy(p, "yes"), errors.New("broken pipe") }
