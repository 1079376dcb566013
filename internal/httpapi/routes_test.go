package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/identity"
	"ferry/internal/tokens"
)

// acceptSyncTokens is FERRY_UPLOAD_ACCEPTS_SYNC_TOKEN.
func acceptSyncTokens(a *api) {
	a.options.Uploaders = identity.Chain{a.sessions, identity.SyncToken(func(_ context.Context, token string) (json.RawMessage, error) {
		return a.issuer.Verify(token)
	})}
}

func withoutTokens(a *api) { a.options.Tokens = nil }

func TestToken(t *testing.T) {
	t.Parallel()
	a := setup(t)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, path := range []string{"/token", "/token/", "/token?user_id=bob"} {
			r, err := http.NewRequestWithContext(t.Context(), method, a.URL+path, strings.NewReader("{}"))
			must(t, err)
			bearer(a.session(t, time.Hour))(r)
			got, err := a.send(r)
			must(t, err)
			checkDocumented(t, method, "/token", got)
			body := decoded(t, got.body)
			token, _ := body["token"].(string)
			a.secrets = append(a.secrets, token)
			want := map[string]any{"endpoint": endpoint, "token": token, "expires_at": "2026-01-02T04:04:05Z", "user_id": alice}
			if diff := cmp.Diff(want, body); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", method, path, diff)
			}
			if got.header.Get("Cache-Control") != "no-store" || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: headers %v", method, path, got.header)
			}
			claims, err := a.issuer.Verify(token)
			if err != nil || decoded(t, string(claims))["sub"] != alice {
				t.Errorf("%s %s: token with claims %s: %v", method, path, claims, err)
			}
		}
	}
	slices.Sort(a.secrets)
	if distinct := len(slices.Compact(slices.Clone(a.secrets))); distinct < 6 {
		t.Errorf("only %d tokens and sessions are different: every call must give a fresh token", distinct)
	}
}

func TestTokensDisabled(t *testing.T) {
	t.Parallel()
	a := setup(t, withoutTokens)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		got := a.do(t, method, "/token", nil)
		want := problem(404, "tokens_disabled", "this server issues no tokens: it has no token key (FERRY_TOKEN_KEYS, or FERRY_TOKEN_KID and FERRY_TOKEN_SECRET)")
		if diff := cmp.Diff(want, decoded(t, got.body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", method, diff)
		}
	}
	if got := a.upload(t, puts(1)); got.status != http.StatusOK {
		t.Errorf("an upload is answered %d without a token key: %s", got.status, got.body)
	}
	if got := a.do(t, http.MethodGet, "/.well-known/jwks.json", nil); got.body != `{"keys":[]}` {
		t.Errorf("key set %s", got.body)
	}
}

func TestTokenThatCannotBeIssued(t *testing.T) {
	t.Parallel()
	a := setup(t, func(a *api) {
		a.options.Sessions = authenticatorFunc(func() (*identity.Principal, error) { return &identity.Principal{}, nil })
	})
	got := a.do(t, http.MethodGet, "/token", nil)
	want := problem(500, "internal", "ferry failed to serve this request; its log says why")
	if diff := cmp.Diff(want, decoded(t, got.body)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Who is refused, at both routes that ask for a session.
func TestCredentials(t *testing.T) {
	t.Parallel()
	const sendBearer = "send the session as Authorization: Bearer <session>"
	tests := []struct {
		name   string
		values func(t *testing.T, a *api) []string // of Authorization
		want   string                              // the refusal's detail; accepted if empty
	}{
		{"bearer", func(t *testing.T, a *api) []string { return []string{"Bearer " + a.session(t, time.Hour)} }, ""},
		{"lower case", func(t *testing.T, a *api) []string { return []string{"bearer " + a.session(t, time.Hour)} }, ""},
		{"upper case", func(t *testing.T, a *api) []string { return []string{"BEARER " + a.session(t, time.Hour)} }, ""},
		{"spaces", func(t *testing.T, a *api) []string { return []string{"Bearer   " + a.session(t, time.Hour)} }, ""},
		{
			"two headers",
			func(t *testing.T, a *api) []string {
				return []string{"Bearer " + a.session(t, time.Hour), "Bearer " + a.session(t, time.Hour)}
			},
			"the request has more than one Authorization header",
		},
		{
			"two sessions in one header",
			func(t *testing.T, a *api) []string {
				return []string{"Bearer " + a.session(t, time.Hour) + ", Bearer " + a.session(t, time.Hour)}
			},
			"the request has more than one Authorization header",
		},
		{"another scheme", func(*testing.T, *api) []string { return []string{"Basic YWxpY2U6c2VjcmV0"} }, sendBearer},
		{"no scheme", func(t *testing.T, a *api) []string { return []string{a.session(t, time.Hour)} }, sendBearer},
		{
			"empty header",
			func(*testing.T, *api) []string { return []string{""} },
			"no session: send the app's own session in the header `Authorization: Bearer <session>`",
		},
		{
			"scheme alone",
			func(*testing.T, *api) []string { return []string{"Bearer"} },
			"no session: send the app's own session in the header `Authorization: Bearer <session>`",
		},
		{
			"no header",
			func(*testing.T, *api) []string { return nil },
			"no session: send the app's own session in the header `Authorization: Bearer <session>`",
		},
		{
			"expired session",
			func(t *testing.T, a *api) []string { return []string{"Bearer " + a.session(t, -time.Hour)} },
			"the session has expired (exp): sign in again",
		},
		{
			"sync token",
			func(t *testing.T, a *api) []string { return []string{"Bearer " + a.syncToken(t)} },
			"this is a sync token for the PowerSync Service; send the app's own session",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := setup(t)
			for _, got := range []answer{
				a.do(t, http.MethodGet, "/token", nil, header("Authorization", tt.values(t, a)...)),
				a.upload(t, puts(1), header("Authorization", tt.values(t, a)...)),
			} {
				if tt.want == "" {
					if got.status != http.StatusOK {
						t.Errorf("refused with %d: %s", got.status, got.body)
					}
					continue
				}
				if diff := cmp.Diff(problem(401, "invalid_session", tt.want), decoded(t, got.body)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestSyncTokenIsAcceptedForUploadsOnlyAndOnlyWhereConfigured(t *testing.T) {
	t.Parallel()
	a := setup(t, acceptSyncTokens)
	if got := a.upload(t, puts(1), bearer(a.syncToken(t))); got.status != http.StatusOK {
		t.Errorf("an upload with a sync token is answered %d: %s", got.status, got.body)
	}
	if got := a.upload(t, puts(1)); got.status != http.StatusOK {
		t.Errorf("an upload with a session is answered %d: %s", got.status, got.body)
	}
	if got := a.do(t, http.MethodGet, "/token", nil, bearer(a.syncToken(t))); got.status != http.StatusUnauthorized {
		t.Errorf("a sync token gave another one: %d: %s", got.status, got.body)
	}
}

// The body of whoever is not signed in is not even looked at.
func TestTheSessionIsCheckedBeforeTheBody(t *testing.T) {
	t.Parallel()
	got := setup(t).upload(t, strings.Repeat("x", 2*testMaxBody), bearer("nonsense"), header("Content-Type", "text/plain"))
	if got.status != http.StatusUnauthorized {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	notReady := func(err error) func(*api) {
		return func(a *api) { a.options.Ready = func(context.Context) error { return err } }
	}
	migrate := fault.Retry(errors.New(cause), 5*time.Second, "the database has no schema ferry; run: ferry migrate up")
	tests := []struct {
		name, path string
		change     func(*api)
		status     int
		want       map[string]any
	}{
		{"alive", "/healthz", notReady(migrate), 200, map[string]any{"status": "ok"}},
		{"ready", "/readyz", notReady(nil), 200, map[string]any{"status": "ready"}},
		{"not ready", "/readyz", notReady(migrate), 503, problem(503, "unavailable", migrate.Detail)},
		{"defect", "/readyz", notReady(errors.New(cause)), 500, problem(500, "internal", "ferry failed to serve this request; its log says why")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := setup(t, tt.change)
			got := a.do(t, http.MethodGet, tt.path, nil, header("Authorization"))
			if diff := cmp.Diff(tt.want, decoded(t, got.body)); got.status != tt.status || diff != "" {
				t.Errorf("answered %d (-want +got):\n%s", got.status, diff)
			}
			if got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("headers %v: it may be cached", got.header)
			}
			head := a.do(t, http.MethodHead, tt.path, nil, header("Authorization"))
			if head.status != tt.status || head.body != "" {
				t.Errorf("HEAD is answered %d %q, want %d", head.status, head.body, tt.status)
			}
		})
	}
}

func TestKeySetIsPublic(t *testing.T) {
	t.Parallel()
	got := setup(t).do(t, http.MethodGet, "/.well-known/jwks.json", nil, header("Authorization"))
	if got.status != http.StatusOK || got.body != `{"keys":[]}` || got.header.Get("Cache-Control") != "public, max-age=300" {
		t.Errorf("answered %d %v: %s", got.status, got.header, got.body)
	}
}

func TestKeySetsThatAreKnownAreNotSentAgain(t *testing.T) {
	t.Parallel()
	a := setup(t)
	etag := a.do(t, http.MethodGet, "/api/auth/keys", nil).header.Get("ETag")
	for _, sent := range []string{etag, "W/" + etag, `"x", ` + etag} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/api/auth/keys", nil)
		must(t, err)
		header("If-None-Match", sent)(r)
		got, err := a.send(r)
		must(t, err)
		if got.status != http.StatusNotModified || got.body != "" || got.header.Get("ETag") != etag {
			t.Errorf("%s is answered %d %v: %s", sent, got.status, got.header, got.body)
		}
	}
	if got := a.do(t, http.MethodGet, "/api/auth/keys", nil, header("If-None-Match", `"x"`)); got.status != http.StatusOK {
		t.Errorf("another tag is answered %d", got.status)
	}
}

// The function for claims may refuse a token, or be out of reach.
func TestTokensThatTheirSourceOfClaimsRefuses(t *testing.T) {
	t.Parallel()
	for _, f := range []*fault.Error{
		fault.Wrap(errors.New(cause), fault.TokenRefused, "the trial of this team has ended"),
		fault.Retry(errors.New(cause), 2*time.Second, "try again"),
	} {
		a := setup(t, func(a *api) { a.options.Tokens = failingTokens{f} })
		for _, path := range []string{"/token", "/api/auth/token"} {
			got := a.do(t, http.MethodGet, path, nil)
			if diff := cmp.Diff(problem(statuses[f.Code], string(f.Code), f.Detail), decoded(t, got.body)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		}
	}
}

// failingTokens issues none.
type failingTokens struct{ err error }

func (f failingTokens) Issue(context.Context, string, json.RawMessage) (tokens.Token, error) {
	return tokens.Token{}, f.err
}

func (failingTokens) JWKS() []byte { return nil }

// The methods that each path has; all others are 405.
func TestMethods(t *testing.T) {
	t.Parallel()
	a := setup(t)
	paths := map[string]string{ // path: Allow
		"/token":                    "GET, HEAD, POST",
		"/upload":                   "POST",
		"/api/auth/token":           "GET, HEAD",
		"/api/auth/keys":            "GET, HEAD",
		"/api/data":                 "POST, PUT, PATCH, DELETE",
		"/api/data/checkpoint":      "PUT",
		"/checkpoint":               "PUT",
		"/checkpoint-request":       "POST",
		"/auth/sign-up":             "POST",
		"/auth/sign-in":             "POST",
		"/auth/guest":               "POST",
		"/auth/session":             "GET, HEAD",
		"/auth/password":            "POST",
		"/auth/sign-out":            "POST",
		"/auth/sign-out-everywhere": "POST",
		"/.well-known/jwks.json":    "GET, HEAD",
		"/healthz":                  "GET, HEAD",
		"/readyz":                   "GET, HEAD",
		"/openapi.yaml":             "GET, HEAD",
	}
	documented := document()["paths"].(node)
	if len(paths) != len(documented) {
		t.Fatalf("%d paths are tried, %d documented", len(paths), len(documented))
	}
	for path, allow := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"} {
			for _, slash := range []string{"", "/"} {
				r, err := http.NewRequestWithContext(t.Context(), method, a.URL+path+slash, nil)
				must(t, err)
				bearer(a.session(t, time.Hour))(r)
				got, err := a.send(r)
				must(t, err)
				checkDocumented(t, method, path, got)
				if slices.Contains(strings.Split(allow, ", "), method) {
					if got.status == http.StatusNotFound || got.status == http.StatusMethodNotAllowed {
						t.Errorf("%s %s is answered %d", method, path+slash, got.status)
					}
					continue
				}
				if got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != allow {
					t.Errorf("%s %s is answered %d, Allow %q, want 405, %q", method, path+slash, got.status, got.header.Get("Allow"), allow)
				}
				if method == http.MethodHead {
					continue
				}
				want := problem(405, "method_not_allowed", "this path takes "+allow+" only")
				if diff := cmp.Diff(want, decoded(t, got.body)); diff != "" {
					t.Errorf("%s %s (-want +got):\n%s", method, path+slash, diff)
				}
			}
		}
	}
}

func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	a := setup(t)
	want := problem(404, "not_found", "there is nothing at this path; see /openapi.yaml")
	for _, path := range []string{"/", "//", "/tokens", "/token//", "/token/x", "/Token", "/upload/1", "/metrics", "/.well-known", "/buzz"} {
		for _, method := range []string{"GET", "POST", "DELETE", "PURGE"} {
			got := a.do(t, method, path, nil)
			if diff := cmp.Diff(want, decoded(t, got.body)); got.status != http.StatusNotFound || diff != "" {
				t.Errorf("%s %s is answered %d (-want +got):\n%s", method, path, got.status, diff)
			}
		}
	}
}

func TestTrailingSlashes(t *testing.T) {
	t.Parallel()
	a := setup(t)
	for path, operations := range document()["paths"].(node) {
		for operation := range operations.(node) {
			method := strings.ToUpper(operation)
			// What every path can read.
			const body = `{"client_id":"c","checkpoint_request_id":"1","crud":[],"table":"todos","data":{"id":"1"},` +
				`"email":"ann@example.com","password":"p","current":"p","new":"q"}`
			got := a.do(t, method, path+"/", strings.NewReader(body))
			if got.status/100 != 2 {
				t.Errorf("%s %s/ is answered %d: %s", method, path, got.status, got.body)
			}
		}
	}
}
