package postgres_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"ferry/internal/identity"
	"ferry/internal/postgres"
	"ferry/internal/uploads"
)

// injections are texts that get out of wherever an unquoted string may stand in
// SQL, and then move the canary: out of text, out of an identifier, out of both
// with another statement behind it, out of dollar quotes, comments, casts,
// arrays, JSON paths and format strings. None is longer than a name may be.
var injections = []string{
	`'||nextval('canary')||'`,
	`"||nextval('canary')||"`,
	`';SELECT nextval('canary');--`,
	`";SELECT nextval('canary');--`,
	`");SELECT nextval('canary');--`,
	`\';SELECT nextval('canary');--`,
	`$$||nextval('canary')||$$`,
	`*/nextval('canary')/*`,
	`x=x OR nextval('canary')>0`,
	`x"=t."x" OR nextval('canary')>0 OR "x`,
	`text)||nextval('canary')::text||('`,
	`{(SELECT nextval('canary'))}`,
	`}',nextval('canary')::text)||('{`,
	`%s%I%L%1$s';SELECT nextval('canary')--`,
	"\n;SELECT nextval('canary');\n--",
	`ſʼ＇;SELECT nextval('canary');--`,
	`authenticated; SELECT nextval('canary')`,
	`public, pg_temp; SELECT nextval('canary')`,
	`(1,"'||nextval('canary')||'")`,
	`["'||nextval('canary')||'",1)`,
	`nextval('canary')`,
	`nextval('canary')||concat`,
}

// aviary is a database with a canary: a sequence that everybody may move, and
// that stays moved whatever becomes of the transaction.
type aviary struct {
	*bundle
	named map[string]string // a table that has an injection as its name and its columns'
}

const aviarySQL = `
CREATE SEQUENCE canary;
GRANT ALL ON SEQUENCE canary TO PUBLIC;
CREATE TYPE pair AS (a int, b text);
CREATE TABLE cage (
    id text PRIMARY KEY, t text, v varchar(80), i int, u uuid, n numeric, b bool, at timestamptz, d date,
    j json, jb jsonb, ta text[], ia int[], p pair, r int4range, o bytea, iv interval
);
CREATE TABLE caged (id int PRIMARY KEY, t text);
ALTER TABLE cage ENABLE ROW LEVEL SECURITY;
ALTER TABLE caged ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON cage TO authenticated USING (true);
CREATE POLICY everybody ON caged TO authenticated USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON cage, caged TO authenticated;`

func newAviary(t *testing.T) *aviary {
	t.Helper()
	var tables strings.Builder
	named := map[string]string{}
	for i, text := range injections {
		if i%3 > 0 { // each kind of quote is among them
			continue
		}
		name := pgx.Identifier{text}.Sanitize()
		column := pgx.Identifier{injections[(i+1)%len(injections)]}.Sanitize()
		fmt.Fprintf(&tables, `CREATE TABLE %[1]s (id text PRIMARY KEY, %[2]s text);
			ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY;
			CREATE POLICY %[1]s ON %[1]s TO authenticated USING (true);
			GRANT SELECT, INSERT, UPDATE, DELETE ON %[1]s TO authenticated;`, name, column)
		named[text] = injections[(i+1)%len(injections)]
	}
	return &aviary{setup(t, aviarySQL, tables.String()), named}
}

// unmoved fails the test if the canary was moved since.
func (a *aviary) unmoved(where, text string) {
	a.t.Helper()
	if a.text(`SELECT is_called::text FROM canary`) != "false" {
		a.t.Errorf("%s runs as SQL in %s", text, where)
		a.exec(`ALTER SEQUENCE canary RESTART`)
	}
}

// The canary must be moved by what it is to find, as each of the roles.
func TestTheCanaryTellsOfAnInjection(t *testing.T) {
	t.Parallel()
	a := newAviary(t)
	for _, role := range []string{"authenticated", loginRole} {
		tx, err := a.admin.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = tx.Exec(t.Context(), `SET LOCAL ROLE `+role+`; SELECT '`+injections[0]+`'`)
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a.text(`SELECT is_called::text FROM canary`) != "true" {
			t.Errorf("%s cannot move the canary", role)
		}
		a.exec(`ALTER SEQUENCE canary RESTART`)
	}
}

// Every string of an upload that reaches SQL: names of tables and columns, ids,
// values of columns of all kinds, names within JSON, claims, user and client.
func TestUploadsCannotInject(t *testing.T) {
	t.Parallel()
	a := newAviary(t)
	kinds := []string{"PUT", "PATCH", "DELETE"}
	for i, text := range injections {
		places := []op{
			put(0, text, "x", map[string]any{"t": 1}),
			put(0, "cage", "x", map[string]any{text: 1}),
			put(0, "cage", text, map[string]any{"t": 1}),
			put(0, "caged", text, map[string]any{"t": text}), // whose id is a number
			put(0, "cage", "x", map[string]any{
				"j": map[string]any{text: text}, "jb": []any{map[string]any{text: text}}, "ta": []any{text, []any{text}},
			}),
			put(0, "cage", "x", map[string]any{"p": map[string]any{"b": text}}),
			put(0, "cage", "x", map[string]any{"p": map[string]any{text: 1}}),
			put(0, "cage", "x", map[string]any{"r": map[string]any{"lower": text, "upper": 1}}),
		}
		for n, column := range []string{"t", "v", "i", "u", "n", "b", "at", "d", "j", "jb", "ta", "ia", "p", "r", "o", "iv"} {
			if (i+n)%3 > 0 { // each column meets every third text: what is refused takes some time
				continue
			}
			places = append(places, put(0, "cage", "x", map[string]any{column: text}))
		}
		if column := a.named[text]; column != "" {
			places = append(places, put(0, text, column, map[string]any{column: column}), patch(0, text, "gone", map[string]any{column: 1}))
		}
		for n := range places {
			places[n] = places[n].in(n + 1)
			places[n].OpID, places[n].Op = n+1, kinds[(i+n)%len(kinds)]
		}
		a.send(text, callerOf(alice), "a client", places...)
		a.send(text, callerOf(alice), text, places[1], places[2])
		claims, err := json.Marshal(map[string]any{"sub": text, "role": text, text: text, "app_metadata": map[string]any{text: text}})
		if err != nil {
			t.Fatal(err)
		}
		a.send(text, uploads.Caller{UserID: text, Claims: claims}, "a client", places[1], places[2])
	}
	a.replayed()
	a.exec(`DELETE FROM cage`)
	for i, text := range injections { // what may stand in a column stands there unchanged
		a.upload(alice, bodyOf("keeps", put(i+1, "cage", text, map[string]any{"t": text, "jb": map[string]any{text: text}, "ta": []any{text}})))
		if a.text(`SELECT (t = $1 AND jb ->> $1 = $1 AND ta = ARRAY[$1])::text FROM cage WHERE id = $1`, text) != "true" {
			t.Errorf("%s is stored as something else", text)
		}
	}
	for table, column := range a.named {
		a.upload(alice, fmt.Sprintf(`[{"op":"PUT","type":%s,"id":"kept","data":{%[2]s:%[2]s}}]`, quoted(table), quoted(column)))
		got := a.text(`SELECT ` + pgx.Identifier{column}.Sanitize() + ` FROM ` + pgx.Identifier{table}.Sanitize() + ` WHERE id = 'kept'`)
		if got != column {
			t.Errorf("table %s holds %s, want %s", table, got, column)
		}
	}
}

// send uploads operations in which text stands somewhere.
func (a *aviary) send(text string, caller uploads.Caller, client string, ops ...op) {
	a.t.Helper()
	up, err := uploads.Decode([]byte(bodyOf(client, ops...)))
	if err != nil {
		return // refused before it reaches the database
	}
	result, err := a.store.Apply(a.t.Context(), caller, up)
	if err != nil {
		a.t.Errorf("%s: %v", text, err)
		return
	}
	a.everyOperationCounts(up, result)
	a.unmoved("an upload", text)
}

// replayed replays some of what was rejected.
func (a *aviary) replayed() {
	a.t.Helper()
	rejections := &postgres.Rejections{Store: a.store}
	stored, err := rejections.List(a.t.Context(), postgres.RejectionFilter{State: uploads.Open})
	if err != nil || len(stored) < 50 {
		a.t.Fatalf("%d rejections, %v", len(stored), err)
	}
	for i := 0; i < len(stored); i += 11 {
		if _, _, err := rejections.Plan(a.t.Context(), stored[i].ID); err != nil {
			a.t.Errorf("plan %+v: %v", stored[i], err)
		}
		_ = rejections.Replay(a.t.Context(), stored[i].ID, true, func(*postgres.Replayed) {})
		a.unmoved("a replay", stored[i].RowID)
	}
}

// What an operator configures is quoted as well: whoever may set it need not be
// whoever may do everything in the database.
func TestSettingsCannotInject(t *testing.T) {
	t.Parallel()
	a := newAviary(t)
	try := func(where, text string, store *postgres.Store) {
		t.Helper()
		_ = store.Ready(t.Context()) // whatever it says of such a name
		up, err := uploads.Decode([]byte(fmt.Sprintf(`{"client_id":"c","crud":[{"op_id":1,"op":"PUT","type":%s,"id":"x","data":{"t":"x"}}]}`, quoted(text))))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = store.Apply(t.Context(), callerOf(alice), up)
		a.unmoved(where, text)
	}
	for i, text := range injections {
		if i%3 > 0 { // opening a store takes some time
			continue
		}
		try("FERRY_UPLOAD_ROLE", text, a.open(func(o *postgres.Options) { o.Role = text }))
		try("FERRY_UPLOAD_SCHEMAS", text, a.open(func(o *postgres.Options) { o.Schemas = []string{"public", text} }))
		try("FERRY_UPLOAD_TABLES", text, a.open(func(o *postgres.Options) { o.Tables = []string{text, "public." + text} }))
		for _, name := range [][]string{{text}, {"public", text}, {text, text}} {
			function := a.store.ClaimsFunction(name...)
			_ = function.Check(t.Context())
			_, _ = function.Claims(t.Context(), alice, json.RawMessage(`{"sub":"x"}`))
			a.unmoved("FERRY_TOKEN_CLAIMS_FUNCTION", text)
		}
		a.exec(`INSERT INTO ferry.tables (client_name, table_name, id_column, columns, bytea_encoding, stamp_insert, stamp_write)
			VALUES ($1, 'cage', 'id', jsonb_build_object($1::text, 't'), jsonb_build_object('o', 'hex'),
			        jsonb_build_object('v', $1::text), jsonb_build_object('n', $1::text || '.' || $1::text))`, text)
		try("a client's table and a claim in ferry.tables", text, a.open(keepOptions))
		a.exec(`UPDATE ferry.tables SET schema_name = left($1, 60), table_name = $1, id_column = $1, columns = jsonb_build_object('t', $1::text),
			bytea_encoding = jsonb_build_object($1::text, $1::text), stamp_insert = jsonb_build_object($1::text, 'sub')`, text)
		try("names in ferry.tables", text, a.open(keepOptions))
		a.exec(`DELETE FROM ferry.tables`)
	}
}

// The role that migrates may do everything. Its roles' names come from the
// configuration.
func TestMigrationsCannotInject(t *testing.T) {
	t.Parallel()
	a := newAviary(t)
	for i, text := range injections {
		if i%4 > 0 { // a migration takes some time
			continue
		}
		m, err := postgres.NewMigrator(t.Context(), a.db.URL)
		if err != nil {
			t.Fatal(err)
		}
		role := pgx.Identifier{text}.Sanitize()
		a.exec(`CREATE ROLE ` + role)
		m.Schemas = []string{text}
		for _, roles := range [][2]string{{text, loginRole}, {"authenticated", text}} {
			m.UploadRole, m.GrantTo = roles[0], roles[1]
			if _, err := m.Up(t.Context()); err != nil {
				t.Errorf("%q: %v", roles, err)
			}
		}
		if _, err := m.PublicationsOfFerry(t.Context()); err != nil {
			t.Errorf("%s as a schema: %v", text, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		a.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role)
		a.unmoved("the options of migrate up", text)
	}
}

// What operators type: ids, filters, reasons; and what anybody types to sign in.
func TestCommandsAndAccountsCannotInject(t *testing.T) {
	t.Parallel()
	a := newAviary(t)
	ctx := t.Context()
	rejections := &postgres.Rejections{Store: a.store}
	users := &postgres.Users{Store: a.store}
	accounts := a.newReplica(a.store, quickly)
	for _, text := range injections {
		// Whether anything is found does not matter, nor what is said of it.
		for _, f := range []postgres.RejectionFilter{{User: text}, {Table: text}, {Code: text}, {State: uploads.State(text)}} {
			_, _ = rejections.List(ctx, f)
		}
		_, _ = rejections.Find(ctx, text)
		_, _ = rejections.Dependents(ctx, text)
		_, _ = rejections.Discard(ctx, text)
		_, _, _ = rejections.Plan(ctx, text)
		_ = rejections.Replay(ctx, text, false, func(*postgres.Replayed) {})
		a.unmoved("ferry rejections", text)
		_, _ = users.List(ctx, postgres.UserFilter{Email: text, Kind: text})
		_, _ = users.Find(ctx, text)
		_, _ = users.Sessions(ctx, text)
		_, _ = users.EndSession(ctx, text)
		if err := users.Disable(ctx, text, text); err != nil {
			t.Errorf("disable %s: %v", text, err)
		}
		if err := users.Enable(ctx, text, true); err != nil {
			t.Errorf("enable %s: %v", text, err)
		}
		_ = users.Delete(ctx, text)
		a.unmoved("ferry users", text)
		_, _ = a.store.ReadDenylist(ctx, text)
		_, _ = a.store.RaiseCheckpoint(ctx, text, text)
		_, _ = a.store.RequestCheckpoint(ctx, text, text, 1)
		a.unmoved("a checkpoint", text)
		_, _ = accounts.SignUp(ctx, home, text, text+annSays)
		_, _ = accounts.SignUp(ctx, home, `"`+text+`"@example.com`, text+annSays)
		_, _, _ = accounts.SignIn(ctx, home, text, text)
		_ = accounts.who(ctx, text)
		_ = accounts.who(ctx, "ferry_session_"+text)
		_ = accounts.SignOut(ctx, sessionIn(text))
		_ = accounts.SignOutEverywhere(ctx, text)
		_ = accounts.ChangePassword(ctx, home, identity.Credentials{Authorization: []string{text}}, text, text)
		a.unmoved("accounts", text)
	}
}
