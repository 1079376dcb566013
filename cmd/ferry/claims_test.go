package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestServeGivesTokensTheClaimsOfAFunction(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	db.Exec(t, `CREATE FUNCTION token_claims(user_id text) RETURNS json LANGUAGE plpgsql STABLE AS $$
		BEGIN
			IF user_id = 'out' THEN RAISE EXCEPTION 'the trial of this team has ended'; END IF;
			IF user_id = 'odd' THEN RETURN '[]'; END IF;
			RETURN json_build_object('plan', 'pro', 'as', current_user, 'email', current_setting('request.jwt.claims')::json ->> 'sub');
		END $$`)
	environ := append(serveEnvironment(db.URLAs(r.login, ""), r), "FERRY_TOKEN_CLAIMS_FUNCTION=token_claims", "FERRY_TOKEN_CLAIMS=plan=sub,who=sub")
	b, api := startServing(t, environ)
	_, body := ask(t, http.MethodGet, api+"/token", sessionOf(t, "u1"), "")
	got := runWithInput(t, body, environ, "token", "inspect")
	_, text, _ := strings.Cut(got.Stdout, "claims ")
	text, _, _ = strings.Cut(text, "\niat ")
	var claims map[string]any
	if err := json.Unmarshal([]byte(text), &claims); err != nil || got.Code != exitOK {
		t.Fatalf("%v: %s%s", err, got.Stdout, got.Stderr)
	}
	for _, own := range []string{"aud", "iat", "exp", "jti"} {
		delete(claims, own)
	}
	want := map[string]any{"sub": "u1", "plan": "pro", "as": r.upload, "email": "u1", "who": "u1"}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}

	code, body := ask(t, http.MethodGet, api+"/token", sessionOf(t, "out"), "")
	if want := `"code":"token_refused","detail":"the trial of this team has ended"`; code != http.StatusForbidden || !strings.Contains(body, want) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := ask(t, http.MethodGet, api+"/token", sessionOf(t, "odd"), ""); code != http.StatusInternalServerError {
		t.Errorf("%d %s", code, body)
	}
	b.stderr.waitFor(t, `the claims function \\"token_claims\\" must return one JSON object`)
}

func TestServeWarnsOfAClaimsFunctionThatCannotBeCalled(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	b, api := startServing(t, append(serveEnvironment(db.URLAs(r.login, ""), r), "FERRY_TOKEN_CLAIMS_FUNCTION=app.token_claims"))
	b.stderr.waitFor(t, `"level":"WARN","msg":"tokens cannot be issued \(FERRY_TOKEN_CLAIMS_FUNCTION\)","error":"the claims function`)
	if code := status(t, api+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz %d: uploads go on", code)
	}
}
