package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"ferry/internal/postgres"
	"ferry/internal/postgres/postgrestest"
	"ferry/internal/secrettest"
	"ferry/internal/uploads"
)

// secrets are all that the tests of the database use. None may be in a log or in
// an error.
var secrets secrettest.Suite

func TestMain(m *testing.M) { postgrestest.Main(m, secrets.Check) }

// The users of the tests' app.
const (
	alice = "a1111111-1111-4111-8111-111111111111"
	bob   = "b2222222-2222-4222-8222-222222222222"
)

// loginRole is what the tests' stores connect as: no owner of anything.
const loginRole = "ferry_test_login"

// loginPassword is not asked for by the tests' Postgres, and not to be seen.
const loginPassword = "the password of the login role"

// app is a database with schema ferry and an app's tables: those of
// PowerSync's demos, one with a column of every common type, and one that
// counts how often its rows were written.
var app = postgrestest.NewTemplate(makeApp)

func makeApp(ctx context.Context, url string) error {
	if err := execSQL(ctx, url, createLoginSQL); err != nil {
		return err
	}
	m, err := postgres.NewMigrator(ctx, url)
	if err != nil {
		return err
	}
	defer m.Close()
	m.UploadRole, m.GrantTo = "authenticated", loginRole
	if _, err := m.Up(ctx); err != nil {
		return err
	}
	return execSQL(ctx, url, appSQL)
}

const createLoginSQL = `
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ferry_test_login') THEN CREATE ROLE ferry_test_login LOGIN; END IF;
END $$`

const appSQL = `
CREATE TABLE lists (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now(),
    name       text NOT NULL,
    owner_id   uuid NOT NULL DEFAULT nullif(current_setting('app.user_id', true), '')::uuid
);
CREATE TABLE todos (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    description text NOT NULL,
    completed   boolean NOT NULL DEFAULT false,
    list_id     uuid NOT NULL REFERENCES lists (id) ON DELETE CASCADE
);
ALTER TABLE lists ENABLE ROW LEVEL SECURITY;
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY owned ON lists TO authenticated USING (owner_id = nullif(current_setting('app.user_id', true), '')::uuid);
CREATE POLICY in_owned ON todos TO authenticated USING (list_id IN (SELECT id FROM lists));

-- Every write of a row is counted, whoever makes it.
CREATE TABLE counted (id text PRIMARY KEY, value int CHECK (value >= 0));
CREATE TABLE writes (id text, operation text, value int);
CREATE FUNCTION count_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO writes VALUES (coalesce(new.id, old.id), tg_op, new.value);
    RETURN NULL;
END $$;
CREATE TRIGGER count_write AFTER INSERT OR UPDATE OR DELETE ON counted FOR EACH ROW EXECUTE FUNCTION count_write();
ALTER TABLE counted ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON counted TO authenticated USING (true);

CREATE TABLE kinds (
    id text PRIMARY KEY,
    b boolean, i2 int2, i4 int4, i8 int8, n numeric, n52 numeric(5,2), f4 float4, f8 float8,
    t text, v5 varchar(5), u uuid, tz timestamptz, ts timestamp, d date, j json, jb jsonb, ta text[], ia int[], ba boolean[]
);
ALTER TABLE kinds ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON kinds TO authenticated USING (true);

CREATE TABLE unprotected (id text PRIMARY KEY, value int);

GRANT SELECT, INSERT, UPDATE, DELETE ON lists, todos, counted, kinds, unprotected TO authenticated;
`

func execSQL(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// bundle is what a test of the store needs.
type bundle struct {
	t     *testing.T
	db    *postgrestest.Database
	admin *pgxpool.Pool // as superuser: sees everything
	store *postgres.Store
}

// setup returns a store over a database of the test's own, after running sql
// in it as its owner.
func setup(t *testing.T, sql ...string) *bundle {
	t.Helper()
	db := app.Clone(t)
	b := &bundle{t: t, db: db, admin: db.Pool(t)}
	for _, s := range sql {
		b.exec(s)
	}
	b.store = b.open(func(*postgres.Options) {})
	return b
}

// open returns one more store over the same database.
func (b *bundle) open(change func(*postgres.Options)) *postgres.Store {
	b.t.Helper()
	o := postgres.Options{
		URL:  b.db.URLAs(loginRole, loginPassword),
		Role: "authenticated", Schemas: []string{"public"},
		Log: slog.New(slog.NewTextHandler(testWriter{b.t}, nil)), Now: time.Now,
	}
	change(&o)
	secrets.Uses(loginPassword)
	store, err := postgres.Open(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(store.Close)
	return store
}

// testWriter shows a store's log with its test's.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	secrets.Wrote(w.t.Name(), string(p))
	return len(p), nil
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.admin.Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatalf("%v\nin %s", err, sql)
	}
}

// text returns the one value of a query, as text; NULL is "NULL".
func (b *bundle) text(sql string, args ...any) string {
	b.t.Helper()
	var value *string
	if err := b.admin.QueryRow(b.t.Context(), sql, args...).Scan(&value); err != nil {
		b.t.Fatalf("%v\nin %s", err, sql)
	}
	if value == nil {
		return "NULL"
	}
	return *value
}

func callerOf(user string) uploads.Caller {
	claims, _ := json.Marshal(map[string]string{"sub": user, "role": "authenticated"})
	return uploads.Caller{UserID: user, Claims: claims}
}

// upload applies a body as a user and fails the test if that is not a 200.
func (b *bundle) upload(user, body string) *uploads.Result {
	b.t.Helper()
	result, err := b.try(b.store, user, body)
	if err != nil {
		b.t.Fatalf("upload: %v\nof %s", err, body)
	}
	return result
}

func (b *bundle) try(store *postgres.Store, user, body string) (*uploads.Result, error) {
	b.t.Helper()
	up, err := uploads.Decode([]byte(body))
	if err != nil {
		b.t.Fatalf("decode: %v\nof %s", err, body)
	}
	result, err := store.Apply(b.t.Context(), callerOf(user), up)
	if err == nil {
		b.everyOperationCounts(up, result)
	} else {
		secrets.Wrote(b.t.Name(), err.Error())
	}
	return result, err
}

// everyOperationCounts holds what protocol.md says of each answer.
func (b *bundle) everyOperationCounts(up *uploads.Upload, r *uploads.Result) {
	b.t.Helper()
	decided := r.Applied + r.Duplicates + r.Ignored
	if decided > up.Operations || (len(r.Rejected) == 0 && decided != up.Operations) {
		b.t.Errorf("%d operations: %d applied, %d duplicates, %d ignored, %d rejections",
			up.Operations, r.Applied, r.Duplicates, r.Ignored, len(r.Rejected))
	}
}

// counts is a Result without its rejections' details.
type counts struct {
	Applied, Duplicates, Ignored int
	Rejected                     []string // codes
}

func countsOf(r *uploads.Result) counts {
	c := counts{Applied: r.Applied, Duplicates: r.Duplicates, Ignored: r.Ignored}
	for _, rejection := range r.Rejected {
		c.Rejected = append(c.Rejected, rejection.Code)
	}
	return c
}

// op is one entry of an upload in a test.
type op struct {
	OpID int            `json:"op_id,omitempty"`
	TxID int            `json:"tx_id,omitempty"`
	Op   string         `json:"op"`
	Type string         `json:"type"`
	ID   string         `json:"id"`
	Data map[string]any `json:"data,omitempty"`
}

// body is a request of client "device" with these entries.
func body(ops ...op) string { return bodyOf("device", ops...) }

func bodyOf(client string, ops ...op) string {
	b, err := json.Marshal(map[string]any{"client_id": client, "crud": ops})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func put(opID int, table, id string, data map[string]any) op {
	return op{OpID: opID, Op: "PUT", Type: table, ID: id, Data: data}
}

func patch(opID int, table, id string, data map[string]any) op {
	return op{OpID: opID, Op: "PATCH", Type: table, ID: id, Data: data}
}

func del(opID int, table, id string) op { return op{OpID: opID, Op: "DELETE", Type: table, ID: id} }

func (o op) in(tx int) op { o.TxID = tx; return o }

// uid makes a uuid that ends in n.
func uid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }
