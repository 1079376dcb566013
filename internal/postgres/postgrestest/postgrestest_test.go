package postgrestest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/postgres/devcluster"
	"ferry/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

var greeted = postgrestest.NewTemplate(func(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `
		CREATE TABLE greetings (id int PRIMARY KEY, text text);
		CREATE ROLE greeter LOGIN;
		GRANT SELECT ON greetings TO greeter`)
	return err
})

func TestEachCloneHasItsOwnRows(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			db := greeted.Clone(t)
			db.Exec(t, `INSERT INTO greetings VALUES (1, $1)`, "hello")
			var rows int
			if err := db.Pool(t).QueryRow(t.Context(), `SELECT count(*) FROM greetings`).Scan(&rows); err != nil {
				t.Fatal(err)
			}
			if rows != 1 {
				t.Errorf("rows in this clone: %d, want 1", rows)
			}
		})
	}
}

func TestPoolAsConnectsAsTheRole(t *testing.T) {
	t.Parallel()
	pool := greeted.Clone(t).PoolAs(t, "greeter")
	var user string
	if err := pool.QueryRow(t.Context(), `SELECT current_user::text FROM (SELECT count(*) FROM greetings) g`).Scan(&user); err != nil {
		t.Fatal(err)
	}
	if user != "greeter" {
		t.Errorf("connected as %s, want greeter", user)
	}
}

func TestADatabaseIsDroppedAtTheEndOfItsTest(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("user", func(t *testing.T) {
		db := postgrestest.New(t)
		name = db.Name
		// A connection that is left open does not keep the database.
		conn, err := pgx.Connect(t.Context(), db.URL)
		if err != nil {
			t.Fatal(err)
		}
		runtime.KeepAlive(conn)
	})
	var rows int
	err := postgrestest.New(t).Pool(t).
		QueryRow(t.Context(), `SELECT count(*) FROM pg_database WHERE datname = $1`, name).Scan(&rows)
	if err != nil {
		t.Fatal(err)
	}
	if rows != 0 {
		t.Errorf("database %s is still there", name)
	}
}

func TestABrokenTemplateFailsEveryTestThatClonesIt(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(context.Context, string) error{
		"it returns an error": func(context.Context, string) error { return errors.New("did not return") },
		"it never returns":    func(context.Context, string) error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := postgrestest.NewTemplate(prepare)
			clone := func(t testing.TB) { broken.Clone(t) }
			failure(t, clone)
			if second := failure(t, clone); !strings.Contains(second, "did not return") {
				t.Errorf("the second test failed with %q", second)
			}
		})
	}
}

// failure runs f as a test of its own and returns what it failed with.
func failure(t *testing.T, f func(testing.TB)) string {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.message
}

type recorder struct {
	testing.TB
	message string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestOwnMayBeStoppedWithoutHarmToOthers(t *testing.T) {
	t.Parallel()
	other := postgrestest.New(t)
	own := postgrestest.Own(t, map[string]string{"wal_level": "logical"})
	conn, err := pgx.Connect(t.Context(), own.URL("postgres", "", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var level string
	if err := conn.QueryRow(t.Context(), `SHOW wal_level`).Scan(&level); err != nil {
		t.Fatal(err)
	}
	if level != "logical" {
		t.Errorf("wal_level = %s, want logical", level)
	}
	if err := own.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	other.Exec(t, `SELECT 1`)
}

// panicVariable makes this test binary panic while it has a database.
const panicVariable = "FERRY_TEST_PANIC"

func TestPostgresEndsWithATestBinaryThatPanics(t *testing.T) {
	t.Parallel()
	if os.Getenv(panicVariable) != "" {
		fmt.Println("address:", postgrestest.New(t).URL)
		panic("as asked")
	}
	temp := tempDir(t)
	binary := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	binary.Env = append(os.Environ(), panicVariable+"=1", "TMPDIR="+temp)
	output, err := binary.Output()
	_, rest, _ := strings.Cut(string(output), "address: ")
	url, _, _ := strings.Cut(rest, "\n")
	if err == nil || url == "" {
		t.Fatalf("the test binary did not panic with a database: %v\n%s", err, output)
	}
	for { // each attempt is refused until the server has ended, then fails to connect
		conn, err := pgx.Connect(t.Context(), url)
		var refused *pgconn.PgError
		if err != nil && !errors.As(err, &refused) {
			return
		}
		if err == nil {
			conn.Close(t.Context())
		}
	}
}

// tempDir returns a folder for temporary files that the account of Postgres
// can enter, removed at the end of the test with the clusters in it.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ferry-temp-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		clusters, err := filepath.Glob(filepath.Join(dir, "*"))
		for _, cluster := range clusters {
			err = errors.Join(err, devcluster.Remove(context.Background(), cluster))
		}
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func BenchmarkClone(b *testing.B) {
	greeted.Clone(b) // makes the template
	for b.Loop() {
		greeted.Clone(b)
	}
}
