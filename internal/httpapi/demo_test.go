package httpapi

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/uploads"
)

const demoUserID = "5b0f7b8e-6a51-4c39-8f5a-0b8b7a0e7a11"

// withDemo is the demo mode, with a store that is known by its answer.
func withDemo(a *api) {
	a.options.Demo = &Demo{UserID: demoUserID, Store: storeFunc(func(context.Context, uploads.Caller, *uploads.Upload) (*uploads.Result, error) {
		return &uploads.Result{Ignored: 99, Rejected: []uploads.Rejection{}}, nil
	})}
}

const noSession = "no session: send the app's own session in the header `Authorization: Bearer <session>`"

func TestDemoTokens(t *testing.T) {
	t.Parallel()
	const path = "/api/auth/token"
	anonymous := header("Authorization")
	tests := []struct {
		name, query string
		change      func(*api)
		edit        func(t *testing.T, a *api) edit
		want        string         // the token's user
		refused     map[string]any // or the problem
	}{
		{name: "the demo user", change: withDemo, want: demoUserID},
		{name: "a named user", query: "?user_id=bob%20%C3%A4", change: withDemo, want: "bob ä"},
		{name: "an empty user", query: "?user_id=", change: withDemo, refused: problem(400, "invalid_request", "user_id is empty")},
		{name: "a control character", query: "?user_id=%00", change: withDemo, refused: problem(400, "invalid_request", "user_id holds a control character")},
		{name: "not UTF-8", query: "?user_id=%ff", change: withDemo, refused: problem(400, "invalid_request", "user_id is not valid UTF-8")},
		{name: "too long", query: "?user_id=" + strings.Repeat("x", 1025), change: withDemo, refused: problem(400, "invalid_request", "user_id is over 1024 bytes")},
		{
			name: "a session is checked", query: "?user_id=bob", change: withDemo,
			edit: func(t *testing.T, a *api) edit { return bearer(a.session(t, time.Hour)) }, want: alice,
		},
		{
			name: "an expired session is checked", query: "?user_id=bob", change: withDemo,
			edit:    func(t *testing.T, a *api) edit { return bearer(a.session(t, -time.Hour)) },
			refused: problem(401, "invalid_session", "the session has expired (exp): sign in again"),
		},
		{
			name: "an empty Bearer is checked", query: "?user_id=bob", change: withDemo,
			edit: func(*testing.T, *api) edit { return header("Authorization", "Bearer ") }, refused: problem(401, "invalid_session", noSession),
		},
		{
			name: "a page of another origin", change: withDemo,
			edit: func(*testing.T, *api) edit {
				return func(r *http.Request) { anonymous(r); r.Header.Set("Origin", "https://evil.example.com") }
			},
			refused: problem(401, "invalid_session", noSession),
		},
		{
			name: "a page of an allowed origin", change: withDemo,
			edit: func(*testing.T, *api) edit {
				return func(r *http.Request) { anonymous(r); r.Header.Set("Origin", appOrigin) }
			},
			want: demoUserID,
		},
		{name: "no demo mode", query: "?user_id=bob", change: func(*api) {}, refused: problem(401, "invalid_session", noSession)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := setup(t, tt.change)
			e := anonymous
			if tt.edit != nil {
				e = tt.edit(t, a)
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+path+tt.query, nil)
			must(t, err)
			e(r)
			got, err := a.send(r)
			must(t, err)
			checkDocumented(t, http.MethodGet, path, got)
			body := decoded(t, got.body)
			if tt.refused != nil {
				if diff := cmp.Diff(tt.refused, body); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				return
			}
			token, _ := body["token"].(string)
			if diff := cmp.Diff(map[string]any{"token": token, "powersync_url": endpoint}, body); diff != "" {
				t.Fatalf("answered %d (-want +got):\n%s", got.status, diff)
			}
			claims, err := a.issuer.Verify(token)
			must(t, err)
			if sub := decoded(t, string(claims))["sub"]; sub != tt.want {
				t.Errorf("token for %v, want %s", sub, tt.want)
			}
		})
	}
}

// Without a session the demo's store is written, with one the app's.
func TestDemoData(t *testing.T) {
	t.Parallel()
	const (
		demo = `{"message":"applied 0, applied before 0, ignored 99"}` + "\n"
		app  = `{"message":"applied 1, applied before 0, ignored 0"}` + "\n"
	)
	anonymous := header("Authorization")
	requests := map[string]string{
		http.MethodPost:   `{"batch":[{"op":"PUT","table":"todos","id":"1","data":{}}]}`,
		http.MethodPut:    `{"table":"todos","data":{"id":"1"}}`,
		http.MethodPatch:  `{"table":"todos","data":{"id":"1"}}`,
		http.MethodDelete: `{"table":"todos","data":{"id":"1"}}`,
	}
	for method, body := range requests {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			a := setup(t, withDemo)
			do := func(edits ...edit) answer { return a.do(t, method, "/api/data", strings.NewReader(body), edits...) }
			if got := do(anonymous); got.status != 200 || got.body != demo {
				t.Errorf("without a session: %d %s", got.status, got.body)
			}
			if got := do(); got.status != 200 || got.body != app {
				t.Errorf("with a session: %d %s", got.status, got.body)
			}
			if got := do(bearer("nonsense")); got.status != 401 {
				t.Errorf("with nonsense: %d %s", got.status, got.body)
			}
			if got := do(anonymous, header("Origin", "https://evil.example.com")); got.status != 401 {
				t.Errorf("from a page of another origin: %d %s", got.status, got.body)
			}
			off := setup(t)
			if got := off.do(t, method, "/api/data", strings.NewReader(body), anonymous); got.status != 401 {
				t.Errorf("without the demo mode: %d %s", got.status, got.body)
			}
		})
	}
}

// No other route is served without a session, not even in the demo mode.
func TestDemoModeEndsAtItsTwoPaths(t *testing.T) {
	t.Parallel()
	a := setup(t, withDemo)
	for _, route := range []string{"GET /token", "POST /token", "POST /upload", "PUT /checkpoint", "PUT /api/data/checkpoint", "POST /checkpoint-request"} {
		method, path, _ := strings.Cut(route, " ")
		got := a.do(t, method, path, strings.NewReader(puts(1)), header("Authorization"))
		if diff := cmp.Diff(problem(401, "invalid_session", noSession), decoded(t, got.body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", route, diff)
		}
	}
}
