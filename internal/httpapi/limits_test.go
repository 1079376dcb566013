package httpapi

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/identity"
)

func TestTokensAreLimitedForEachUser(t *testing.T) {
	t.Parallel()
	a := setup(t)
	ask := func(path, user string) answer {
		t.Helper()
		session, err := identity.SignSession(sessionKey, user, "", "", testNow, time.Hour)
		must(t, err)
		return a.do(t, "GET", path, nil, bearer(session))
	}
	for n := range tokensPerMinute {
		path := "/token"
		if n%2 == 1 {
			path = "/api/auth/token" // one limit for both
		}
		if got := ask(path, alice); got.status != http.StatusOK {
			t.Fatalf("token %d: %d %s", n+1, got.status, got.body)
		}
	}
	got := ask("/token", alice)
	want := problem(429, "too_many_requests", "this user asks for too many tokens: keep one until shortly before it expires")
	if diff := cmp.Diff(want, decoded(t, got.body)); diff != "" || got.header.Get("Retry-After") != "60" {
		t.Errorf("one more: Retry-After %q, body (-want +got):\n%s", got.header.Get("Retry-After"), diff)
	}
	if got := ask("/token", "bob"); got.status != http.StatusOK {
		t.Errorf("another user: %d %s", got.status, got.body)
	}
	if got := a.upload(t, puts(1)); got.status != http.StatusOK {
		t.Errorf("an upload: %d %s", got.status, got.body)
	}
}

// unreadBody fails the test if anything of it is read.
type unreadBody struct{ t *testing.T }

func (b unreadBody) Read([]byte) (int, error) {
	b.t.Error("the body was read")
	return 0, io.EOF
}

func (unreadBody) Close() error { return nil }

// Under more load than the database takes, refusing must cost next to nothing.
func TestFullQueueRefusesUploadsBeforeTheirBodies(t *testing.T) {
	t.Parallel()
	full := fault.Retry(errors.New("full"), 2*time.Second, "too many uploads wait for the database; it is safe to try again")
	a := setup(t, func(a *api) { a.options.Room = func(string) error { return full } })
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/upload", nil)
	r.Body, r.ContentLength = unreadBody{t}, 1000
	bearer(a.session(t, time.Hour))(r)
	w := httptest.NewRecorder()
	a.Config.Handler.ServeHTTP(w, r)
	want := problem(503, "unavailable", full.Detail)
	if diff := cmp.Diff(want, decoded(t, w.Body.String())); diff != "" || w.Header().Get("Retry-After") != "2" {
		t.Errorf("Retry-After %q, body (-want +got):\n%s", w.Header().Get("Retry-After"), diff)
	}
	if got := a.do(t, "GET", "/token", nil); got.status != http.StatusOK {
		t.Errorf("a token meanwhile: %d %s", got.status, got.body)
	}
}

func TestEveryAnswerIsOnlyData(t *testing.T) {
	t.Parallel()
	a := setup(t)
	want := http.Header{
		"X-Content-Type-Options":  {"nosniff"},
		"Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'"},
		"Referrer-Policy":         {"no-referrer"},
		"Content-Disposition":     {"attachment"},
	}
	for _, path := range []string{"/healthz", "/token", "/nothing", "/openapi.yaml", "/.well-known/jwks.json"} {
		answered := a.do(t, "GET", path, nil).header
		got := http.Header{}
		for name := range want {
			got[name] = answered.Values(name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}
