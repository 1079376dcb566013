package postgres_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"ferry/internal/postgres"
	"ferry/internal/postgres/postgrestest"
	"ferry/migrations"
)

// migrationNames are the names of all migrations, in order.
func migrationNames(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("migrations %v, %v", names, err)
	}
	return names
}

func TestMigrationsGoUpAndDown(t *testing.T) {
	t.Parallel()
	db := postgrestest.New(t)
	m := newMigrator(t, db.URL)
	m.UploadRole = "upload_" + db.Name
	all := migrationNames(t)
	newest := len(all) - 1
	status := func(applied int) []postgres.MigrationStatus {
		list := make([]postgres.MigrationStatus, len(all))
		for i, name := range all {
			list[i] = postgres.MigrationStatus{Name: name, Applied: i < applied}
		}
		return list
	}
	type step struct {
		name string
		do   func() (any, error)
		want any
	}
	steps := []step{
		{"status at first", func() (any, error) { return m.Status(t.Context()) }, status(0)},
		{"down at first", func() (any, error) { return m.Down(t.Context()) }, ""},
		{"up", func() (any, error) { return m.Up(t.Context()) }, all},
		{"status", func() (any, error) { return m.Status(t.Context()) }, status(len(all))},
		{"up again", func() (any, error) { return m.Up(t.Context()) }, []string{}},
		{"down", func() (any, error) { return m.Down(t.Context()) }, all[newest]},
		{"status after down", func() (any, error) { return m.Status(t.Context()) }, status(newest)},
		{"up after down", func() (any, error) { return m.Up(t.Context()) }, all[newest:]},
	}
	for _, name := range slices.Backward(all) {
		steps = append(steps, step{"down to nothing", func() (any, error) { return m.Down(t.Context()) }, name})
	}
	steps = append(steps,
		step{"down again", func() (any, error) { return m.Down(t.Context()) }, ""},
		step{"up after down", func() (any, error) { return m.Up(t.Context()) }, all},
	)
	for _, step := range steps {
		got, err := step.do()
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestReplicasMigrateAtOnce(t *testing.T) {
	t.Parallel()
	// Several databases of one server as well: they share the roles.
	const replicas = 4
	databases := []*postgrestest.Database{postgrestest.New(t), postgrestest.New(t)}
	upload, login := "upload_"+databases[0].Name, "login_"+databases[0].Name
	databases[0].Exec(t, `CREATE ROLE `+login+` LOGIN`)
	migrators := make([]*postgres.Migrator, 0, replicas*len(databases))
	for _, db := range databases {
		for range replicas {
			m := newMigrator(t, db.URL)
			m.UploadRole, m.GrantTo = upload, login
			migrators = append(migrators, m)
		}
	}
	errs := make([]error, len(migrators))
	var wg sync.WaitGroup
	for i, m := range migrators {
		wg.Go(func() { _, errs[i] = m.Up(t.Context()) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, db := range databases {
		if err := openStoreAs(t, db.URLAs(login, ""), upload).Ready(t.Context()); err != nil {
			t.Errorf("not ready: %v", err)
		}
	}
}

func TestAnotherDatabaseMayMakeTheSameRoleMeanwhile(t *testing.T) {
	t.Parallel()
	here, there := postgrestest.New(t), postgrestest.New(t)
	m := newMigrator(t, here.URL)
	m.UploadRole = "upload_" + here.Name
	admin := there.Pool(t)
	tx, err := admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `CREATE ROLE `+m.UploadRole); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := m.Up(t.Context())
		done <- err
	}()
	here.UntilWaiting(t, 1)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestARoleThatMayNotMakeRolesIsToldWhatToRun(t *testing.T) {
	t.Parallel()
	const grants = `REVOKE ALL ON SCHEMA ferry FROM PUBLIC, "$upload";
REVOKE ALL ON ALL TABLES IN SCHEMA ferry FROM PUBLIC, "$upload";
REVOKE ALL ON ALL ROUTINES IN SCHEMA ferry FROM PUBLIC, "$upload";
GRANT USAGE ON SCHEMA ferry TO ferry_service;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA ferry TO ferry_service;
GRANT SELECT ON ferry.goose_db_version TO ferry_service;
GRANT SELECT, INSERT, UPDATE ON ferry.progress TO ferry_service;
GRANT SELECT, INSERT, DELETE ON ferry.history TO ferry_service;
GRANT SELECT, INSERT, UPDATE ON ferry.rejections TO ferry_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON ferry.timeouts TO ferry_service;
GRANT SELECT ON ferry.tables TO ferry_service;
GRANT SELECT, INSERT, UPDATE ON ferry.checkpoints TO ferry_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON ferry.accounts TO ferry_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON ferry.sessions TO ferry_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON ferry.attempts TO ferry_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON ferry.denylist TO ferry_service;
GRANT SELECT ON ferry.denylist_version TO ferry_service;
GRANT SELECT ON ferry.open_rejections TO ferry_service;
`
	for name, test := range map[string]struct {
		before string // is run as superuser
		want   string // is left to run
	}{
		"no role": {
			``,
			`CREATE ROLE "$upload" NOLOGIN;` + "\n" + grants + `GRANT "ferry_service" TO "$login";` + "\n" + `GRANT "$upload" TO "$login";`,
		},
		"no membership": {
			`CREATE ROLE $upload; GRANT ferry_service TO $login`,
			grants + `GRANT "$upload" TO "$login";`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			setupRights(t) // makes ferry_service, which all databases share
			db := postgrestest.New(t)
			upload, login, migrator := "upload_"+db.Name, "login_"+db.Name, "migrator_"+db.Name
			named := strings.NewReplacer("$upload", upload, "$login", login, "$migrator", migrator, "$database", db.Name).Replace
			db.Exec(t, named(`CREATE ROLE $login LOGIN; CREATE ROLE $migrator LOGIN; GRANT CREATE ON DATABASE $database TO $migrator;`+test.before))
			m := newMigrator(t, db.URLAs(migrator, ""))
			m.UploadRole, m.GrantTo = upload, login

			_, err := m.Up(t.Context())
			roles, ok := errors.AsType[*postgres.RolesError](err)
			if !ok {
				t.Fatalf("error %v, want a RolesError", err)
			}
			if diff := cmp.Diff(named(test.want), roles.SQL); diff != "" {
				t.Errorf("SQL (-want +got):\n%s", diff)
			}
			db.Exec(t, roles.SQL)
			if _, err := m.Up(t.Context()); err != nil {
				t.Fatalf("after the SQL was run: %v", err)
			}
			if err := openStoreAs(t, db.URLAs(login, ""), upload).Ready(t.Context()); err != nil {
				t.Errorf("not ready: %v", err)
			}
		})
	}
}

func TestASchemaMadeByAnAdministratorNeedsNoRightToMakeIt(t *testing.T) {
	t.Parallel()
	db := postgrestest.New(t)
	migrator := "migrator_" + db.Name
	db.Exec(t, `CREATE ROLE `+migrator+` LOGIN CREATEROLE`)
	m := newMigrator(t, db.URLAs(migrator, ""))
	m.UploadRole = "upload_" + db.Name

	_, err := m.Up(t.Context())
	if err == nil || !strings.Contains(err.Error(), "CREATE SCHEMA ferry AUTHORIZATION") {
		t.Fatalf("error %v does not say what to run", err)
	}
	db.Exec(t, `CREATE SCHEMA ferry AUTHORIZATION `+migrator)
	if _, err := m.Up(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestGrantToSaysWhatIsWrongWithTheRole(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ before, want string }{
		"missing":   {``, `there is no role "$login" to grant to; make it first, with a password: CREATE ROLE "$login" LOGIN`},
		"NOINHERIT": {`CREATE ROLE $login LOGIN NOINHERIT`, `role "$login" is NOINHERIT and would not get the rights of ferry_service; run: ALTER ROLE "$login" INHERIT`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := postgrestest.New(t)
			named := strings.NewReplacer("$login", "login_"+db.Name).Replace
			db.Exec(t, named(test.before))
			m := newMigrator(t, db.URL)
			m.UploadRole, m.GrantTo = "upload_"+db.Name, "login_"+db.Name
			if name == "NOINHERIT" && serverVersion(t, db) >= 16 {
				// Each membership says whether it inherits.
				if _, err := m.Up(t.Context()); err != nil {
					t.Fatal(err)
				}
				return
			}
			if _, err := m.Up(t.Context()); err == nil || err.Error() != named(test.want) {
				t.Errorf("error %v\n want %s", err, named(test.want))
			}
		})
	}
}

func TestNamesAreQuoted(t *testing.T) {
	t.Parallel()
	db := postgrestest.New(t)
	m := newMigrator(t, db.URL)
	m.UploadRole, m.GrantTo = `Upload "role'; `+db.Name, `Login $$ %s \ `+db.Name
	db.Exec(t, `CREATE ROLE `+pgx.Identifier{m.GrantTo}.Sanitize()+` LOGIN`)
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := openStoreAs(t, db.URLAs(m.GrantTo, ""), m.UploadRole).Ready(t.Context()); err != nil {
		t.Errorf("not ready: %v", err)
	}
}

func TestANewerSchemaIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := setupRights(t)
	b.db.Exec(t, `INSERT INTO ferry.goose_db_version (version_id, is_applied) VALUES (99, true)`)
	if applied, err := b.migrator.Up(t.Context()); err != nil || len(applied) > 0 {
		t.Errorf("up applied %q, error %v", applied, err)
	}
	if err := b.store.Ready(t.Context()); err != nil {
		t.Errorf("not ready: %v", err)
	}
	_, err := b.migrator.Down(t.Context())
	if err == nil || !strings.Contains(err.Error(), "a newer ferry") {
		t.Errorf("down: error %v", err)
	}
}

func TestPublicationsForAllTablesCanBeMadeAnewWithoutSchemaFerry(t *testing.T) {
	t.Parallel()
	b := setupRights(t)
	b.migrator.Schemas = []string{"public", "App"}
	b.leaveFerryOut(t, nil)
	b.db.Exec(t, `
		CREATE SCHEMA "App";
		CREATE TABLE "App"."To do" (id int PRIMARY KEY, day date) ;
		CREATE TABLE parts (id int) PARTITION BY LIST (id);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
		CREATE UNLOGGED TABLE lost (id int);
		CREATE SCHEMA other; CREATE TABLE other.thing (id int);
		CREATE PUBLICATION notes_only FOR TABLE notes;
		CREATE PUBLICATION powersync FOR ALL TABLES;
		CREATE PUBLICATION "Every thing" FOR ALL TABLES;
		CREATE PUBLICATION named FOR TABLE notes, ferry.accounts, ferry.checkpoints, ferry.progress`)
	const tables = ` FOR TABLE "App"."To do", public.notes, public.parts;`
	want := []postgres.Publication{
		{Name: "Every thing", SQL: "BEGIN;\nDROP PUBLICATION \"Every thing\";\nCREATE PUBLICATION \"Every thing\"" + tables + "\nCOMMIT;\n"},
		{Name: "named", SQL: "ALTER PUBLICATION named DROP TABLE ferry.accounts, ferry.checkpoints, ferry.progress;\n"},
		{Name: "powersync", SQL: "BEGIN;\nDROP PUBLICATION powersync;\nCREATE PUBLICATION powersync" + tables + "\nCOMMIT;\n"},
	}
	b.leaveFerryOut(t, want)
}

// leaveFerryOut runs what is said of the publications that carry schema ferry: then
// none does.
func (b *rightsBundle) leaveFerryOut(t *testing.T, want []postgres.Publication) {
	t.Helper()
	got, err := b.migrator.PublicationsOfFerry(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatalf("publications (-want +got):\n%s\nerror %v", diff, err)
	}
	for _, p := range got {
		b.db.Exec(t, p.SQL)
	}
	if got, err := b.migrator.PublicationsOfFerry(t.Context()); got != nil || err != nil {
		t.Errorf("publications afterwards: %v, %v", got, err)
	}
}

func TestAPublicationOfAWholeSchemaIsToldHowToLeaveItOut(t *testing.T) {
	t.Parallel()
	b := setupRights(t)
	if serverVersion(t, b.db) < 150000 {
		t.Skip("TABLES IN SCHEMA came with Postgres 15")
	}
	b.db.Exec(t, `CREATE PUBLICATION powersync FOR TABLES IN SCHEMA public, ferry`)
	want := []postgres.Publication{{Name: "powersync", SQL: "ALTER PUBLICATION powersync DROP TABLES IN SCHEMA ferry;\n"}}
	b.leaveFerryOut(t, want)
}

// The PowerSync Service reads write checkpoints, where they are on.
func TestAPublicationMayCarryWriteCheckpoints(t *testing.T) {
	t.Parallel()
	b := setupRights(t)
	b.migrator.Schemas, b.migrator.WriteCheckpoints = []string{"public"}, true
	b.db.Exec(t, `
		CREATE PUBLICATION named FOR TABLE notes, ferry.checkpoints;
		CREATE PUBLICATION powersync FOR ALL TABLES`)
	want := []postgres.Publication{{
		Name: "powersync",
		SQL:  "BEGIN;\nDROP PUBLICATION powersync;\nCREATE PUBLICATION powersync FOR TABLE ferry.checkpoints, public.notes;\nCOMMIT;\n",
	}}
	b.leaveFerryOut(t, want)
}

func TestAPublicationWithoutTablesCanBeMadeAnew(t *testing.T) {
	t.Parallel()
	b := setupRights(t)
	b.db.Exec(t, `DROP TABLE notes; CREATE PUBLICATION powersync FOR ALL TABLES`)
	b.migrator.Schemas = []string{"public"}
	got, err := b.migrator.PublicationsOfFerry(t.Context())
	if err != nil || len(got) != 1 {
		t.Fatalf("publications %v, error %v", got, err)
	}
	b.db.Exec(t, got[0].SQL)
}

func serverVersion(t *testing.T, db *postgrestest.Database) int {
	t.Helper()
	var version int
	if err := db.Pool(t).QueryRow(t.Context(), `SELECT current_setting('server_version_num')::int / 10000`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	return version
}
