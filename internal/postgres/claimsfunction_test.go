package postgres_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/postgres"
)

// claimsOf calls a function as a user with a session.
func (b *bundle) claimsOf(user string, name ...string) (string, error) {
	b.t.Helper()
	claims, err := b.store.ClaimsFunction(name...).Claims(b.t.Context(), user, callerOf(user).Claims)
	return string(claims), err
}

const memberClaims = `
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO authenticated;
CREATE TABLE app.members (user_id text, org bigint);
ALTER TABLE app.members ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.members USING (user_id = current_setting('request.jwt.claims')::json ->> 'sub');
GRANT SELECT ON app.members TO authenticated;
INSERT INTO app.members VALUES ('` + alice + `', 9007199254740993), ('` + alice + `', 2), ('` + bob + `', 3);
CREATE FUNCTION app.claims(user_id text) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('orgs', json_agg(org), 'as', current_user, 'user', $1, 'app_user', current_setting('app.user_id'),
                             'read_only', current_setting('transaction_read_only'), 'timeout', current_setting('statement_timeout'))
    FROM app.members
$$;`

func TestTheClaimsFunctionReadsAsTheCaller(t *testing.T) {
	t.Parallel()
	setup(t, memberClaims).readsAsTheCaller()
}

func TestTheClaimsFunctionBehindPgBouncer(t *testing.T) {
	t.Parallel()
	b := setup(t, memberClaims)
	b.store = b.behindPgBouncer()
	b.readsAsTheCaller()
}

func (b *bundle) readsAsTheCaller() {
	b.t.Helper()
	if err := b.store.ClaimsFunction("app", "claims").Check(b.t.Context()); err != nil {
		b.t.Errorf("check: %v", err)
	}
	for range 2 { // the second call finds its statements prepared
		got, err := b.claimsOf(alice, "app", "claims")
		want := `{"orgs" : [9007199254740993, 2], "as" : "authenticated", "user" : "` + alice + `", "app_user" : "` + alice + `", "read_only" : "on", "timeout" : "5s"}`
		if err != nil || got != want {
			b.t.Errorf("claims %s, error %v, want %s", got, err, want)
		}
	}
}

func TestTheClaimsFunctionIsFoundWhereTablesAre(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE FUNCTION "My Claims"(text) RETURNS text LANGUAGE sql AS $$ SELECT '{"a": 1.10}' $$`)
	if got, err := b.claimsOf(alice, "My Claims"); err != nil || got != `{"a": 1.10}` {
		t.Errorf("claims %s, error %v", got, err)
	}
}

// What a function returns, each of its own type.
func TestResultsOfTheClaimsFunction(t *testing.T) {
	t.Parallel()
	const must = "the claims function \"f\" must return one JSON object (as json, jsonb or text) in which no name stands twice, or NULL"
	cases := []struct{ name, returns, body, from, want, err string }{
		{"json", "json", `'{"b":1.10, "a":9007199254740993}'`, "", `{"b":1.10, "a":9007199254740993}`, ""},
		{"jsonb", "jsonb", `'{"b":1.10,"a":9007199254740993}'`, "", `{"a": 9007199254740993, "b": 1.10}`, ""},
		{"NULL", "json", `NULL`, "", "", ""},
		{"no row", "SETOF json", `'{}'`, "WHERE false", "", ""},
		{"two rows", "SETOF json", `'{}'`, "FROM generate_series(1, 2)", "", must},
		{"a list", "json", `'[{}]'`, "", "", must},
		{"JSON's null", "json", `'null'`, "", "", must},
		{"a name twice", "json", `'{"a":1,"a":2}'`, "", "", must},
		{"a lone surrogate", "json", `'{"a":"\ud800"}'`, "", "", must},
		{"no JSON", "text", `'{a}'`, "", "", must},
		{"empty text", "text", `''`, "", "", must},
		{"a row", "wide", `(1, 2)`, "", "", must},
	}
	b := setup(t, `CREATE TYPE wide AS (a int, b int)`)
	for _, c := range cases {
		b.exec(`DROP FUNCTION IF EXISTS f(text)`)
		b.exec(`CREATE FUNCTION f(text) RETURNS ` + c.returns + ` LANGUAGE sql AS $$ SELECT (` + c.body + `)::` + strings.TrimPrefix(c.returns, "SETOF ") + ` ` + c.from + ` $$`)
		got, err := b.claimsOf(alice, "f")
		if got != c.want || (err == nil) != (c.err == "") || (err != nil && err.Error() != c.err) {
			t.Errorf("%s: claims %s, error %v; want %s, %s", c.name, got, err, c.want, c.err)
		}
		if err != nil && fault.From(err).Code != fault.Internal {
			t.Errorf("%s: code %s", c.name, fault.From(err).Code)
		}
	}
}

func TestFailuresOfTheClaimsFunction(t *testing.T) {
	t.Parallel()
	const bare = "ferry failed to serve this request; its log says why"
	const wait = "the database cannot tell this token's claims right now; it is safe to try again"
	cases := []struct {
		name, body string // of a PL/pgSQL function
		want       fault.Error
		log        string
	}{
		{"an exception", `RAISE EXCEPTION 'no plan'`, fault.Error{Code: fault.TokenRefused, Detail: "no plan"}, ""},
		{"one with a hint", `RAISE EXCEPTION 'no plan' USING HINT = 'buy one', DETAIL = 'row 7'`, fault.Error{Code: fault.TokenRefused, Detail: "no plan (buy one)"}, ""},
		{"one with its own SQLSTATE", `RAISE EXCEPTION 'no plan' USING ERRCODE = 'PLAN1'`, fault.Error{Code: fault.TokenRefused, Detail: "no plan"}, ""},
		{"one with Postgres' SQLSTATE", `RAISE insufficient_privilege USING MESSAGE = 'no plan'`, fault.Error{Code: fault.TokenRefused, Detail: "no plan"}, ""},
		{"one without a message", `RAISE EXCEPTION ''`, fault.Error{Code: fault.TokenRefused, Detail: "the app gives this user no token"}, ""},
		{"one that asks for a repetition", `RAISE serialization_failure`, fault.Error{Code: fault.Unavailable, Detail: wait, RetryAfter: 2 * time.Second}, ""},
		{"cancelled", `PERFORM give_up(); PERFORM pg_sleep(5)`, fault.Error{Code: fault.Unavailable, Detail: wait, RetryAfter: 2 * time.Second}, "57014"},
		{"a write", `INSERT INTO counted VALUES ('a', 1)`, fault.Error{Code: fault.Internal, Detail: bare}, `the claims function "f" may read but not write`},
		{"out of the transaction", `SET TRANSACTION READ WRITE; INSERT INTO counted VALUES ('a', 1)`, fault.Error{Code: fault.Internal, Detail: bare}, `read-write mode`},
		{"a mistake", `PERFORM 1/0`, fault.Error{Code: fault.Internal, Detail: bare}, `the claims function "f" failed: statement 4: ERROR: division by zero`},
		{"a table that it may not read", `PERFORM 1 FROM ferry.progress`, fault.Error{Code: fault.Internal, Detail: bare}, `may not be called by the upload role, or may not read what it reads`},
		{"a function that it lacks", `PERFORM nowhere()`, fault.Error{Code: fault.Internal, Detail: bare}, `or calls one that does not`},
	}
	b := setup(t, `CREATE FUNCTION give_up() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$ SELECT pg_cancel_backend(pg_backend_pid()) $$`)
	for _, c := range cases {
		b.exec(`CREATE OR REPLACE FUNCTION f(text) RETURNS json LANGUAGE plpgsql AS $$ BEGIN ` + c.body + `; RETURN '{}'; END $$`)
		claims, err := b.claimsOf(alice, "f")
		if err == nil || claims != "" {
			t.Errorf("%s: claims %s, error %v", c.name, claims, err)
			continue
		}
		got := *fault.From(err)
		if !strings.Contains(got.Error(), c.log) {
			t.Errorf("%s: no %q in %v", c.name, c.log, err)
		}
		got.Cause = nil
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s\n%v", c.name, diff, err)
		}
		if c.name == "a write" && b.text(`SELECT count(*)::text FROM counted`) != "0" {
			t.Error("it wrote")
		}
	}
	// The connection serves on.
	b.exec(`CREATE OR REPLACE FUNCTION f(text) RETURNS json LANGUAGE sql AS $$ SELECT '{}'::json $$`)
	if claims, err := b.claimsOf(alice, "f"); err != nil || claims != "{}" {
		t.Errorf("claims %s, error %v", claims, err)
	}
}

func TestClaimsFunctionsThatCannotBeCalledAreFoundAtTheStart(t *testing.T) {
	t.Parallel()
	b := setup(t, `
		CREATE FUNCTION raises(text) RETURNS json IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'always'; END $$;
		CREATE FUNCTION other(uuid) RETURNS json LANGUAGE sql AS $$ SELECT '{}'::json $$;
		CREATE FUNCTION revoked(text) RETURNS json LANGUAGE sql STABLE AS $$ SELECT '{}'::json $$;
		REVOKE EXECUTE ON FUNCTION revoked FROM PUBLIC;
		CREATE SCHEMA hidden;
		CREATE FUNCTION hidden.f(text) RETURNS json LANGUAGE sql AS $$ SELECT '{}'::json $$;`)
	for name, want := range map[string]string{
		"raises":   "",
		"missing":  `the claims function "missing" does not exist, or not with one argument of type text`,
		"other":    `the claims function "other" does not exist, or not with one argument of type text`,
		"revoked":  `the claims function "revoked" may not be called by the upload role`,
		"hidden.f": `the claims function "hidden"."f" may not be called by the upload role`,
		"gone.f":   `the claims function "gone"."f" failed`,
	} {
		err := b.store.ClaimsFunction(strings.Split(name, ".")...).Check(t.Context())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v, want %s", name, err, want)
		}
	}
}

func TestWhatAClaimsFunctionSetsIsGoneForTheNextUser(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE FUNCTION f(text) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE seen text := coalesce(current_setting('app.seen', true), '');
		BEGIN PERFORM set_config('app.seen', 'yes', false); RETURN json_build_object('seen', seen); END $$`)
	b.store = b.open(func(o *postgres.Options) { o.URL += "&pool_max_conns=1" })
	for range 3 {
		if got, err := b.claimsOf(alice, "f"); err != nil || got != `{"seen" : ""}` {
			t.Errorf("claims %s, error %v", got, err)
		}
	}
	b.upload(alice, body(put(1, "counted", "a", map[string]any{"value": 1})))
}

func TestADatabaseThatIsAwayGivesNoClaims(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.store = b.open(func(o *postgres.Options) { o.URL = "postgres://u@/db?host=/nowhere" })
	f := b.store.ClaimsFunction("f")
	_, err := f.Claims(t.Context(), alice, json.RawMessage(`{}`))
	if got := fault.From(err); got.Code != fault.Unavailable || got.RetryAfter == 0 {
		t.Errorf("error %v", err)
	}
	if err := f.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
}
