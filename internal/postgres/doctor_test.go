package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"ferry/internal/doctor"
	"ferry/internal/postgres"
	"ferry/internal/postgres/devcluster"
	"ferry/internal/postgres/postgrestest"
)

// healthySQL makes a deployment that nothing is wrong with.
const healthySQL = appSQL + `
REVOKE ALL ON unprotected FROM authenticated;
CREATE ROLE powersync_role LOGIN REPLICATION BYPASSRLS;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO powersync_role;
CREATE PUBLICATION powersync FOR TABLE lists, todos, counted, kinds;
`

// ailment is something wrong with a healthy deployment.
type ailment struct {
	sql    string // run as superuser; $db is the database
	change func(*postgres.DoctorOptions)
	also   []string // further codes that come with it
	// cured is whether what the finding says to run makes it go away.
	cured bool
}

func ailments() map[string]ailment {
	return map[string]ailment{
		"database-unreachable":   {change: func(o *postgres.DoctorOptions) { o.URL = "postgres://nobody:hidden@localhost/x?host=/nowhere" }},
		"read-only-database":     {sql: `ALTER DATABASE $db SET default_transaction_read_only = on`, cured: true},
		"synchronous-commit":     {sql: `ALTER DATABASE $db SET synchronous_commit = off`, cured: true},
		"few-connections":        {sql: `ALTER DATABASE $db CONNECTION LIMIT 20`, cured: true},
		"powersync-may-not-read": {sql: `REVOKE SELECT ON lists FROM powersync_role`, cured: true},
		"powersync-sees-no-rows": {sql: `CREATE ROLE powersync_of_$db LOGIN REPLICATION; GRANT SELECT ON ALL TABLES IN SCHEMA public TO powersync_of_$db`, cured: true},
		"replication-slot":       {sql: `SELECT pg_create_logical_replication_slot('slot_of_$db', 'pgoutput')`, cured: true},
		"clock-skew":             {change: func(o *postgres.DoctorOptions) { o.Now = func() time.Time { return time.Now().Add(-time.Minute) } }},
		"not-behind-pooler":      {change: func(o *postgres.DoctorOptions) { o.TransactionPool = true }},

		"schema-missing":     {sql: `DROP SCHEMA ferry CASCADE`},
		"schema-outdated":    {sql: `DELETE FROM ferry.goose_db_version WHERE version_id > 1`},
		"schema-newer":       {sql: `INSERT INTO ferry.goose_db_version (version_id, is_applied) VALUES (99999, true)`},
		"service-rights":     {sql: `REVOKE DELETE ON ferry.history FROM ferry_service; REVOKE EXECUTE ON FUNCTION ferry.existing_rows FROM ferry_service`},
		"unsafe-upload-role": {change: func(o *postgres.DoctorOptions) { o.Role = "nobody_at_all" }},
		"superuser-login":    {change: func(o *postgres.DoctorOptions) { o.URL = strings.Replace(o.URL, loginRole, "postgres", 1) }},
		"claims-function":    {change: func(o *postgres.DoctorOptions) { o.ClaimsFunction = []string{"public", "gone"} }},

		"upload-schemas": {
			sql:    `CREATE SCHEMA "App"; CREATE TABLE "App".things (id int PRIMARY KEY)`,
			change: func(o *postgres.DoctorOptions) { o.Schemas = []string{"public", "App"} }, cured: true,
		},
		"no-upload-tables": {sql: `REVOKE ALL ON ALL TABLES IN SCHEMA public FROM authenticated`},
		"upload-tables": {
			sql:    `GRANT SELECT ON unprotected TO authenticated; ALTER TABLE unprotected ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON unprotected USING (true); ALTER PUBLICATION powersync ADD TABLE unprotected`,
			change: func(o *postgres.DoctorOptions) { o.Tables = []string{"lists", "public.unprotected"} }, cured: true,
		},
		"table-settings":            {sql: `INSERT INTO ferry.tables (client_name, table_name, columns) VALUES ('lists', 'lists', '{"title": "nome"}')`},
		"table-with-rules":          {sql: `CREATE RULE r AS ON DELETE TO lists DO INSTEAD NOTHING`},
		"granted-without-rls":       {sql: `GRANT ALL ON unprotected TO authenticated`},
		"uploads-without-rls":       {sql: `CREATE VIEW short AS SELECT id, name FROM lists; GRANT ALL ON short TO authenticated`, change: everyTable, also: []string{"hidden-rows"}, cured: true},
		"no-policy":                 {sql: `DROP POLICY owned ON lists; CREATE POLICY readers ON lists FOR SELECT USING (true)`},
		"no-id-column":              {sql: `ALTER TABLE kinds RENAME COLUMN id TO key`},
		"unreadable-id":             {sql: `REVOKE SELECT ON kinds FROM authenticated`, cured: true},
		"id-not-unique":             {sql: `ALTER TABLE kinds DROP CONSTRAINT kinds_pkey, ADD PRIMARY KEY (id, u)`, cured: true},
		"no-primary-key":            {sql: `ALTER TABLE kinds DROP CONSTRAINT kinds_pkey; CREATE UNIQUE INDEX ON kinds (id)`, cured: true},
		"hidden-rows":               {sql: `CREATE ROLE owner_of_$db; ALTER TABLE lists OWNER TO owner_of_$db; CREATE ROLE migrator_of_$db; GRANT USAGE, CREATE ON SCHEMA ferry TO migrator_of_$db; ALTER FUNCTION ferry.existing_rows OWNER TO migrator_of_$db; GRANT ferry_service TO migrator_of_$db; ALTER TABLE todos OWNER TO migrator_of_$db; ALTER TABLE kinds OWNER TO migrator_of_$db; ALTER TABLE counted OWNER TO migrator_of_$db`, cured: true},
		"bytea-encoding":            {sql: `ALTER TABLE kinds ADD COLUMN "the picture" bytea`, cured: true},
		"put-absent-null":           {sql: `INSERT INTO ferry.tables (client_name, table_name, put_absent) VALUES ('lists', 'lists', 'null')`, cured: true},
		"open-rejections":           {sql: rejected(1)},
		"rejections-near-cap":       {sql: rejected(60 << 20), also: []string{"open-rejections"}},
		"clients-near-cap":          {sql: `INSERT INTO ferry.progress (user_id, client_id, last_op_id, updated_at) SELECT 'it''s me', n::text, 1, now() - interval '2 years' FROM generate_series(1, 801) n`, cured: true},
		"publication-missing":       {sql: `DROP PUBLICATION powersync`, cured: true},
		"not-published":             {sql: `ALTER PUBLICATION powersync DROP TABLE lists`, cured: true},
		"publication-incomplete":    {sql: `ALTER PUBLICATION powersync SET (publish = 'insert')`, cured: true},
		"publication-carries-ferry": {sql: `ALTER PUBLICATION powersync ADD TABLE ferry.accounts, ferry.progress`, cured: true},
		"checkpoints-not-published": {change: func(o *postgres.DoctorOptions) { o.WriteCheckpoints = true }, cured: true},
	}
}

func everyTable(o *postgres.DoctorOptions) {
	o.Tables = []string{"lists", "todos", "kinds", "counted", "short"}
}

// rejected stores a rejection of so many bytes.
func rejected(bytes int) string {
	return fmt.Sprintf(`INSERT INTO ferry.rejections (user_id, claims, operations, code, message, table_name, row_id, op_index, puts)
		VALUES ('alice', '{}', convert_to(repeat('x', %d), 'UTF8'), 'check_violation', 'no', 'lists', '1', 0, '{}')`, bytes)
}

// clinic is a server without a fault, on which each test has a database.
type clinic struct{ cluster *devcluster.Cluster }

func openClinic(t *testing.T) clinic {
	t.Helper()
	c := clinic{postgrestest.Own(t, map[string]string{"fsync": "on", "full_page_writes": "on", "wal_level": "logical", "autovacuum": "off"})}
	c.exec(t, "postgres", `CREATE DATABASE healthy`)
	c.exec(t, "healthy", createLoginSQL)
	m := newMigrator(t, c.cluster.URL("postgres", "", "healthy"))
	m.UploadRole, m.GrantTo = "authenticated", loginRole
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	c.exec(t, "healthy", healthySQL)
	return c
}

func (c clinic) exec(t *testing.T, database, sql string) {
	t.Helper()
	if err := execSQL(t.Context(), c.cluster.URL("postgres", "", database), sql); err != nil {
		t.Fatalf("%v\nin %s", err, sql)
	}
}

// transactions is how many have written something: these have an id.
func (c clinic) transactions(t *testing.T) (count int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.cluster.URL("postgres", "", "healthy"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := conn.QueryRow(t.Context(), `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint`).Scan(&count); err != nil {
		t.Fatal(err)
	}
	return count
}

func (c clinic) options(database string) postgres.DoctorOptions {
	return doctorOptions(c.cluster.URL(loginRole, "", database), c.cluster.URL("postgres", "", database))
}

func doctorOptions(url, migrateURL string) postgres.DoctorOptions {
	return postgres.DoctorOptions{
		Options: postgres.Options{
			URL: url, Role: "authenticated", Schemas: []string{"public"},
			Log: slog.New(slog.DiscardHandler), Now: time.Now,
		},
		MigrateURL: migrateURL,
	}
}

func examine(t *testing.T, o postgres.DoctorOptions) *doctor.Report {
	t.Helper()
	d := postgres.NewDoctor(t.Context(), o)
	defer d.Close()
	return doctor.Examine(t.Context(), d.Checks())
}

// codesOf are the codes of findings, each once.
func codesOf(findings []doctor.Finding) []string {
	codes := []string{}
	for _, f := range findings {
		codes = append(codes, f.Code)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

func TestDoctorFindsNothingInAHealthyDatabaseAndEachAilmentByItself(t *testing.T) {
	t.Parallel()
	c := openClinic(t)
	t.Run("healthy", func(t *testing.T) {
		before := c.transactions(t)
		report := examine(t, c.options("healthy"))
		if after := c.transactions(t); after != before {
			t.Errorf("%d transactions wrote something", after-before)
		}
		if diff := cmp.Diff(&doctor.Report{Findings: []doctor.Finding{}, Skipped: []string{}}, report); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}
	})
	for code, a := range ailments() {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			database := strings.ReplaceAll(code, "-", "_")
			c.exec(t, "postgres", `CREATE DATABASE `+database+` TEMPLATE healthy`)
			if a.sql != "" {
				c.exec(t, database, strings.ReplaceAll(a.sql, "$db", database))
			}
			o := c.options(database)
			if a.change != nil {
				a.change(&o)
			}
			report := examine(t, o)
			want := append([]string{code}, a.also...)
			slices.Sort(want)
			if diff := cmp.Diff(want, codesOf(report.Findings)); diff != "" {
				t.Fatalf("codes (-want +got):\n%s\nin %+v", diff, report.Findings)
			}
			checkSayWhatToDo(t, report.Findings)
			if a.cured {
				c.cure(t, database, report.Findings, code)
				if got := codesOf(examine(t, o).Findings); slices.Contains(got, code) {
					t.Errorf("after what the finding says to run: %v\n%+v", got, report.Findings)
				}
			}
		})
	}
}

// cure runs what the findings of a code say to run.
func (c clinic) cure(t *testing.T, database string, findings []doctor.Finding, code string) {
	t.Helper()
	for _, f := range findings {
		if f.Code == code {
			c.exec(t, database, f.Run)
		}
	}
}

func checkSayWhatToDo(t *testing.T, findings []doctor.Finding) {
	t.Helper()
	for _, f := range findings {
		if f.Problem == "" || f.Remedy == "" || (f.Run != "") != strings.HasSuffix(f.Remedy, ":") || strings.Contains(f.Problem, "hidden") && f.Code == "database-unreachable" {
			t.Errorf("finding %+v", f)
		}
	}
}

// elsewhere are the codes that other tests provoke.
var elsewhere = []string{
	"behind-transaction-pooler", "migrations-behind-pooler", // TestDoctorFindsAPoolerInTransactionMode
	"wal-level", "crash-unsafe", // TestDoctorFindsWhatTheServerLacks
	"encoding",                              // TestDoctorLooksAtWhatItCan
	"tables-unreadable",                     // TestDoctorSaysThatTheCatalogCannotBeRead
	"postgres-version", "postgres-untested", // TestDoctorJudgesVersionsOfPostgres
}

func TestEveryCheckOfTheDatabaseIsProvoked(t *testing.T) {
	t.Parallel()
	var codes []string
	for _, c := range postgres.NewDoctor(t.Context(), postgres.DoctorOptions{}).Checks() {
		codes = append(codes, c.Code)
	}
	provoked := slices.Concat(slices.Collect(maps.Keys(ailments())), elsewhere)
	slices.Sort(codes)
	slices.Sort(provoked)
	if diff := cmp.Diff(codes, provoked); diff != "" {
		t.Errorf("codes of checks, and those provoked (-checks +provoked):\n%s", diff)
	}
}

func TestDoctorFindsAPoolerInTransactionMode(t *testing.T) {
	t.Parallel()
	bouncer := postgrestest.FindPgBouncer(t)
	db := app.Clone(t)
	pooled := bouncer.InFrontOf(t, db, loginRole, nil)
	for name, test := range map[string]struct {
		options postgres.DoctorOptions
		session bool
		want    []string
	}{
		"unknown to ferry": {doctorOptions(pooled, pooled), true, []string{"behind-transaction-pooler", "migrations-behind-pooler"}},
		"known to ferry":   {doctorOptions(pooled, db.URL), false, nil},
	} {
		test.options.TransactionPool = !test.session
		got := codesOf(examine(t, test.options).Findings)
		want := slices.Sorted(slices.Values(append(test.want, "crash-unsafe", "granted-without-rls", "publication-missing", "wal-level")))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: codes (-want +got):\n%s", name, diff)
		}
	}
}

// The tests' shared server writes no logical log, and does without the disk.
func TestDoctorFindsWhatTheServerLacks(t *testing.T) {
	t.Parallel()
	db := app.Clone(t)
	got := codesOf(examine(t, doctorOptions(db.URLAs(loginRole, ""), db.URL)).Findings)
	want := []string{"crash-unsafe", "granted-without-rls", "publication-missing", "wal-level"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
}

func TestDoctorLooksAtWhatItCan(t *testing.T) {
	t.Parallel()
	db := postgrestest.New(t)
	latin := db.Name + "_latin1"
	db.Exec(t, `CREATE DATABASE `+latin+` ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`)
	defer db.Exec(t, `DROP DATABASE `+latin+` WITH (FORCE)`)
	db.Exec(t, createLoginSQL)
	server := []string{"crash-unsafe", "wal-level"}

	for name, test := range map[string]struct {
		database      string
		change        func(*postgres.DoctorOptions)
		want, skipped []string
	}{
		"nothing is set up": {
			database: db.Name,
			change:   func(o *postgres.DoctorOptions) { o.Role = "none_of_" + db.Name },
			want:     []string{"no-upload-tables", "publication-missing", "schema-missing", "unsafe-upload-role"},
			skipped:  []string{"not-published", "open-rejections"},
		},
		"the encoding is wrong": {
			database: latin,
			want:     []string{"encoding", "publication-missing", "schema-missing"},
		},
		"the configuration is wrong": {
			database: db.Name,
			change:   func(o *postgres.DoctorOptions) { o.Role, o.Schemas = "", nil },
			want:     []string{"publication-missing", "schema-missing"},
		},
	} {
		o := doctorOptions(strings.Replace(db.URLAs(loginRole, ""), db.Name, test.database, 1), "")
		if test.change != nil {
			test.change(&o)
		}
		report := examine(t, o)
		want := slices.Sorted(slices.Values(append(test.want, server...)))
		if diff := cmp.Diff(want, codesOf(report.Findings)); diff != "" {
			t.Errorf("%s: codes (-want +got):\n%s\n%+v", name, diff, report.Findings)
		}
		for _, code := range test.skipped {
			if !slices.Contains(report.Skipped, code) {
				t.Errorf("%s: %s is not among the skipped checks: %v", name, code, report.Skipped)
			}
		}
	}
}

func TestDoctorSaysThatTheCatalogCannotBeRead(t *testing.T) {
	t.Parallel()
	db := app.Clone(t)
	db.Exec(t, `REVOKE SELECT ON pg_catalog.pg_trigger FROM PUBLIC`)
	report := examine(t, doctorOptions(db.URLAs(loginRole, ""), ""))
	want := []string{"crash-unsafe", "publication-missing", "tables-unreadable", "wal-level"}
	if diff := cmp.Diff(want, codesOf(report.Findings)); diff != "" {
		t.Errorf("codes (-want +got):\n%s\n%+v", diff, report.Findings)
	}
}
