package postgres_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/postgres"
	"ferry/internal/postgres/postgrestest"
	"ferry/migrations"
)

// rightsBundle is a migrated database whose roles are this test's alone.
type rightsBundle struct {
	db            *postgrestest.Database
	upload, login string // roles
	migrator      *postgres.Migrator
	store         *postgres.Store
}

func setupRights(t *testing.T) *rightsBundle {
	t.Helper()
	db := postgrestest.New(t)
	b := &rightsBundle{db: db, upload: "upload_" + db.Name, login: "login_" + db.Name}
	db.Exec(t, `CREATE ROLE `+b.login+` LOGIN; CREATE TABLE public.notes (id uuid PRIMARY KEY)`)
	b.migrator = newMigrator(t, db.URL)
	b.migrator.UploadRole, b.migrator.GrantTo = b.upload, b.login
	if _, err := b.migrator.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.store = openStoreAs(t, db.URLAs(b.login, ""), b.upload)
	return b
}

func newMigrator(t *testing.T, url string) *postgres.Migrator {
	t.Helper()
	m, err := postgres.NewMigrator(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func openStoreAs(t *testing.T, url, upload string) *postgres.Store {
	t.Helper()
	store, err := postgres.Open(t.Context(), postgres.Options{
		URL: url, Role: upload, Schemas: []string{"public"}, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

// problems are why the store may not use its upload role.
func problems(t *testing.T, store *postgres.Store) []string {
	t.Helper()
	err := store.Ready(t.Context())
	if err == nil {
		return nil
	}
	unsafe, ok := errors.AsType[*postgres.UnsafeRoleError](err)
	if !ok {
		t.Fatalf("error %v, want an UnsafeRoleError", err)
	}
	return unsafe.Problems
}

func TestAnUploadRoleThatCouldGetAroundThePoliciesIsRefused(t *testing.T) {
	t.Parallel()
	// $upload, $login, $other and $third stand for roles of the test's own.
	// After the remedies that the problems name, the role is fine.
	for name, test := range map[string]struct {
		sql  string
		want []string
	}{
		"superuser": {
			`ALTER ROLE $upload SUPERUSER`,
			[]string{"it is a superuser; run: ALTER ROLE $upload NOSUPERUSER"},
		},
		"bypasses row-level security": {
			`ALTER ROLE $upload BYPASSRLS`,
			[]string{"it bypasses row-level security; run: ALTER ROLE $upload NOBYPASSRLS"},
		},
		"may create roles": {
			`ALTER ROLE $upload CREATEROLE`,
			[]string{"it may make itself a member of other roles; run: ALTER ROLE $upload NOCREATEROLE"},
		},
		"owns a table": {
			`ALTER TABLE notes OWNER TO $upload`,
			[]string{"it owns table public.notes, and an owner is above the policies; run: REASSIGN OWNED BY $upload TO …"},
		},
		"owns several things": {
			`ALTER TABLE notes OWNER TO $upload; CREATE SCHEMA s AUTHORIZATION $upload`,
			[]string{"it owns table public.notes, and an owner is above the policies; run: REASSIGN OWNED BY $upload TO …"},
		},
		"owns a table of another schema": {
			`CREATE SCHEMA s; CREATE TABLE s.t (); ALTER TABLE s.t OWNER TO $upload`,
			[]string{"it owns table s.t, and an owner is above the policies; run: REASSIGN OWNED BY $upload TO …"},
		},
		"owns a view": {
			`CREATE VIEW v AS SELECT id FROM notes; ALTER VIEW v OWNER TO $upload`,
			[]string{"it owns view public.v, and an owner is above the policies; run: REASSIGN OWNED BY $upload TO …"},
		},
		"owns a sequence": {
			`CREATE SEQUENCE s; ALTER SEQUENCE s OWNER TO $upload`,
			[]string{"it owns sequence public.s, and an owner is above the policies; run: REASSIGN OWNED BY $upload TO …"},
		},
		"owns a function": {
			`CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION f() OWNER TO $upload`,
			[]string{"it owns function public.f(), and an owner is above the policies; run: REASSIGN OWNED BY $upload TO …"},
		},
		"owns a schema": {
			`CREATE SCHEMA s AUTHORIZATION $upload`,
			[]string{"it owns schema s, and an owner is above the policies; run: REASSIGN OWNED BY $upload TO …"},
		},
		"owns the database": {
			`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO $upload', current_database()); END $$`,
			[]string{"it owns database $database, and an owner is above the policies; run: REASSIGN OWNED BY $upload TO …"},
		},
		"member of a superuser": {
			`CREATE ROLE $other SUPERUSER; GRANT $other TO $upload`,
			[]string{"it is a member of $other, which is a superuser; run: REVOKE $other FROM $upload"},
		},
		"member of an owner": {
			`CREATE ROLE $other; ALTER TABLE notes OWNER TO $other; GRANT $other TO $upload`,
			[]string{"it is a member of $other, which owns table public.notes, and an owner is above the policies; run: REVOKE $other FROM $upload"},
		},
		"member of an owner through another role": {
			`CREATE ROLE $other; CREATE ROLE $third; ALTER TABLE notes OWNER TO $third; GRANT $third TO $other; GRANT $other TO $upload`,
			[]string{"it is a member of $third by way of $other, which owns table public.notes, and an owner is above the policies; run: REVOKE $other FROM $upload"},
		},
		"member without inheriting": {
			`CREATE ROLE $other; ALTER TABLE notes OWNER TO $other; ALTER ROLE $upload NOINHERIT; GRANT $other TO $upload`,
			[]string{"it is a member of $other, which owns table public.notes, and an owner is above the policies; run: REVOKE $other FROM $upload"},
		},
		"member of a role that bypasses, without inheriting, through another role": {
			`CREATE ROLE $other NOINHERIT; CREATE ROLE $third BYPASSRLS; GRANT $third TO $other; GRANT $other TO $upload`,
			[]string{"it is a member of $third by way of $other, which bypasses row-level security; run: REVOKE $other FROM $upload"},
		},
		"member of pg_write_all_data": {
			`GRANT pg_write_all_data TO $upload`,
			[]string{"it is a member of pg_write_all_data, which goes beyond the grants on the app's tables; run: REVOKE pg_write_all_data FROM $upload"},
		},
		"member of pg_read_all_data": {
			`GRANT pg_read_all_data TO $upload`,
			[]string{"it is a member of pg_read_all_data, which goes beyond the grants on the app's tables; run: REVOKE pg_read_all_data FROM $upload"},
		},
		"member of pg_execute_server_program": {
			`GRANT pg_execute_server_program TO $upload`,
			[]string{"it is a member of pg_execute_server_program, which goes beyond the grants on the app's tables; run: REVOKE pg_execute_server_program FROM $upload"},
		},
		"member of ferry_service": {
			`GRANT ferry_service TO $upload`,
			[]string{"it is a member of ferry_service, which has rights on schema ferry; run: REVOKE ferry_service FROM $upload"},
		},
		"may use schema ferry": {
			`GRANT USAGE ON SCHEMA ferry TO $upload`,
			[]string{"it has rights on schema ferry; run: ferry migrate up"},
		},
		"may read one of ferry's tables": {
			`GRANT SELECT ON ferry.rejections TO $upload`,
			[]string{"it has rights on schema ferry; run: ferry migrate up"},
		},
		"may read one of ferry's columns": {
			`GRANT SELECT (operations) ON ferry.rejections TO $upload`,
			[]string{"it has rights on schema ferry; run: ferry migrate up"},
		},
		"may call one of ferry's functions": {
			`GRANT EXECUTE ON FUNCTION ferry.existing_rows TO $upload`,
			[]string{"it has rights on schema ferry; run: ferry migrate up"},
		},
		"everybody may use schema ferry": {
			`GRANT USAGE ON SCHEMA ferry TO PUBLIC`,
			[]string{"every role (PUBLIC) has rights on schema ferry; run: ferry migrate up"},
		},
		"everybody may read one of ferry's tables": {
			`GRANT SELECT ON ferry.rejections TO PUBLIC`,
			[]string{"every role (PUBLIC) has rights on schema ferry; run: ferry migrate up"},
		},
		"missing": {
			`DROP OWNED BY $upload; DROP ROLE $upload`,
			[]string{"it does not exist; run: ferry migrate up"},
		},
		"the login role may not act as it": {
			`REVOKE $upload FROM $login`,
			[]string{"the role that ferry connects as, $login, may not act as it; run: ferry migrate up --grant-to $login"},
		},
		"several problems": {
			`ALTER ROLE $upload BYPASSRLS; GRANT USAGE ON SCHEMA ferry TO PUBLIC`,
			[]string{
				"it bypasses row-level security; run: ALTER ROLE $upload NOBYPASSRLS",
				"every role (PUBLIC) has rights on schema ferry; run: ferry migrate up",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupRights(t)
			named := strings.NewReplacer("$upload", b.upload, "$login", b.login,
				"$other", "other_"+b.db.Name, "$third", "third_"+b.db.Name, "$database", b.db.Name).Replace
			if got := problems(t, b.store); got != nil {
				t.Fatalf("problems at first: %q", got)
			}
			b.db.Exec(t, named(test.sql))

			var want []string
			for _, problem := range test.want {
				want = append(want, named(problem))
			}
			got := problems(t, b.store)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("problems (-want +got):\n%s", diff)
			}
			for _, problem := range got {
				b.follow(t, problem)
			}
			if got := problems(t, b.store); got != nil {
				t.Errorf("problems after their remedies: %q", got)
			}
		})
	}
}

// follow does what a problem says.
func (b *rightsBundle) follow(t *testing.T, problem string) {
	t.Helper()
	_, remedy, ok := strings.Cut(problem, "; run: ")
	if !ok {
		t.Fatalf("no remedy in %q", problem)
	}
	if strings.HasPrefix(remedy, "ferry migrate up") {
		if _, err := b.migrator.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		return
	}
	b.db.Exec(t, strings.ReplaceAll(remedy, "…", "postgres"))
}

func TestTheLoginRoleMustNotBeTheUploadRole(t *testing.T) {
	t.Parallel()
	b := setupRights(t)
	store := openStoreAs(t, b.db.URLAs(b.login, ""), b.login)
	want := []string{
		"it is a member of ferry_service, which has rights on schema ferry; run: REVOKE ferry_service FROM " + b.login,
		"it is the role that ferry connects as; set FERRY_UPLOAD_ROLE to a role for uploads alone, such as authenticated",
	}
	if diff := cmp.Diff(want, problems(t, store)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestRightsThatDoNoHarmAreNotProblems(t *testing.T) {
	t.Parallel()
	b := setupRights(t)
	// What others own and may do, the upload role's ordinary grants, objects
	// of its own in another database, and a role that is a member of it.
	other := postgrestest.New(t)
	other.Exec(t, `CREATE TABLE public.theirs (id int); ALTER TABLE public.theirs OWNER TO `+b.upload)
	b.db.Exec(t, strings.ReplaceAll(`
		CREATE ROLE owner_of_$upload BYPASSRLS CREATEROLE;
		ALTER TABLE notes OWNER TO owner_of_$upload;
		GRANT $upload TO owner_of_$upload;
		CREATE ROLE group_of_$upload;
		GRANT ALL ON notes TO $upload, group_of_$upload;
		GRANT ALL ON SCHEMA public TO $upload;
		GRANT group_of_$upload TO $upload;
		ALTER ROLE $upload LOGIN;
		ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO $upload`, "$upload", b.upload))
	if got := problems(t, b.store); got != nil {
		t.Errorf("problems: %q", got)
	}
}

func TestTheSearchPathCannotHideProblems(t *testing.T) {
	t.Parallel()
	b := setupRights(t)
	b.db.Exec(t, `
		ALTER ROLE `+b.upload+` BYPASSRLS;
		CREATE SCHEMA lies; GRANT USAGE ON SCHEMA lies TO PUBLIC;
		CREATE VIEW lies.pg_roles AS SELECT oid, rolname, false AS rolsuper, false AS rolbypassrls, false AS rolcreaterole FROM pg_catalog.pg_roles;
		GRANT SELECT ON lies.pg_roles TO PUBLIC;
		ALTER ROLE `+b.login+` SET search_path = lies, pg_catalog`)
	want := []string{"it bypasses row-level security; run: ALTER ROLE " + b.upload + " NOBYPASSRLS"}
	if diff := cmp.Diff(want, problems(t, openStoreAs(t, b.db.URLAs(b.login, ""), b.upload))); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestReadySaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	files, err := migrations.FS.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	newest := len(files) // they are numbered without gaps
	for name, test := range map[string]struct {
		prepare func(t *testing.T, b *rightsBundle)
		want    string
	}{
		"no schema": {
			func(t *testing.T, b *rightsBundle) { b.db.Exec(t, `DROP SCHEMA ferry CASCADE`) },
			"the database has no schema ferry; run: ferry migrate up",
		},
		"no rights": {
			func(t *testing.T, b *rightsBundle) { b.db.Exec(t, `REVOKE ferry_service FROM `+b.login) },
			"ferry's role has no rights on schema ferry; run: ferry migrate up --grant-to ROLE",
		},
		"older schema": {
			func(t *testing.T, b *rightsBundle) {
				if _, err := b.migrator.Down(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
			fmt.Sprintf("schema ferry is at version %d, this ferry needs %d; run: ferry migrate up", newest-1, newest),
		},
		"unsafe role": {
			func(t *testing.T, b *rightsBundle) { b.db.Exec(t, `ALTER ROLE `+b.upload+` BYPASSRLS`) },
			"the upload role cannot be used; ferry's log says why",
		},
		"nobody there": {
			func(t *testing.T, b *rightsBundle) {
				b.store = openStoreAs(t, "postgres://nobody@localhost/none?host=/nowhere", b.upload)
			},
			"the database does not answer",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupRights(t)
			test.prepare(t, b)
			err := b.store.Ready(t.Context())
			f, ok := errors.AsType[*fault.Error](err)
			if !ok {
				t.Fatalf("error %v, want a fault", err)
			}
			got := fault.Error{Code: f.Code, Detail: f.Detail, RetryAfter: f.RetryAfter}
			want := fault.Error{Code: fault.Unavailable, Detail: test.want, RetryAfter: 5 * time.Second}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("fault (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnUnsafeRoleIsExplainedInOneOrMoreLines(t *testing.T) {
	t.Parallel()
	one := &postgres.UnsafeRoleError{Role: "r", Problems: []string{"it is a; run: b"}}
	two := &postgres.UnsafeRoleError{Role: "r", Problems: []string{"it is a; run: b", "it is c; run: d"}}
	got := []string{one.Error(), two.Error()}
	want := []string{
		`role "r" must not be used for uploads: it is a; run: b`,
		"role \"r\" must not be used for uploads:\n- it is a; run: b\n- it is c; run: d",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("texts (-want +got):\n%s", diff)
	}
}
