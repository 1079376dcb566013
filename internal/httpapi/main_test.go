package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ferry/internal/identity"
	"ferry/internal/secrettest"
	"ferry/internal/tokens"
	"ferry/internal/uploads"
)

// secrets are all that the tests of the API use. None may be in a log or in a
// problem.
var secrets secrettest.Suite

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := secrets.Check(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		os.Exit(code)
	}))
}

const (
	alice = "alice"
	// endpoint is a PowerSync Service.
	endpoint = "https://sync.example.com"
	// appOrigin is the one web origin that may call the API.
	appOrigin = "https://app.example.com"

	testMaxBody       = 64 << 10
	testMaxOperations = 5
)

var (
	testNow    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	sessionKey = bytes.Repeat([]byte("session key "), 4)
	tokenKey   = bytes.Repeat([]byte("token key "), 4)
)

// storeFunc is a store that does what a test needs.
type storeFunc func(ctx context.Context, caller uploads.Caller, u *uploads.Upload) (*uploads.Result, error)

var _ uploads.Store = storeFunc(nil)

func (f storeFunc) Apply(ctx context.Context, caller uploads.Caller, u *uploads.Upload) (*uploads.Result, error) {
	return f(ctx, caller, u)
}

// applyAll applies everything.
func applyAll(_ context.Context, _ uploads.Caller, u *uploads.Upload) (*uploads.Result, error) {
	return &uploads.Result{ExactlyOnce: u.ExactlyOnce, Applied: u.Operations, Rejected: []uploads.Rejection{}}, nil
}

// fakeCheckpoints keeps checkpoints by user and client, unless err is set.
type fakeCheckpoints struct {
	mu     sync.Mutex
	stored map[[2]string]int64
	err    error
}

func (c *fakeCheckpoints) change(userID, clientID string, to func(int64) int64) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	key := [2]string{userID, clientID}
	c.stored[key] = to(c.stored[key])
	return c.stored[key], nil
}

func (c *fakeCheckpoints) RaiseCheckpoint(_ context.Context, userID, clientID string) (int64, error) {
	return c.change(userID, clientID, func(n int64) int64 { return n + 1 })
}

func (c *fakeCheckpoints) RequestCheckpoint(_ context.Context, userID, clientID string, id int64) (int64, error) {
	return c.change(userID, clientID, func(n int64) int64 { return max(n, id) })
}

// authenticatorFunc stands for ways of signing in that are yet to come.
type authenticatorFunc func() (*identity.Principal, error)

func (f authenticatorFunc) Authenticate(context.Context, identity.Credentials) (*identity.Principal, error) {
	return f()
}

// logBuffer is a log that is written while it is read.
type logBuffer struct {
	mu      sync.Mutex
	content bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.content.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.content.String()
}

// api is a served API.
type api struct {
	*httptest.Server
	options  Options
	sessions *identity.SessionJWT
	issuer   *tokens.Issuer
	state    *server
	written  *logBuffer
	secrets  []string // none of which may be logged
	test     string   // its name
}

// setup serves an API that issues tokens, and whose store applies everything,
// apart from what change does to it. When the test ends, no secret stands in
// its log, and no memory is left reserved.
func setup(t *testing.T, change ...func(*api)) *api {
	t.Helper()
	a := &api{test: t.Name(), written: &logBuffer{}, secrets: []string{string(sessionKey), string(tokenKey)}}
	now := func() time.Time { return testNow }

	key, err := tokens.NewHS256Key("key1", tokenKey)
	must(t, err)
	keys, err := tokens.NewKeySet(key)
	must(t, err)
	a.issuer, err = tokens.NewIssuer(tokens.Options{
		Keys: keys, Audience: []string{endpoint}, TTL: time.Hour, Endpoint: endpoint, Now: now,
	})
	must(t, err)
	a.sessions, err = identity.NewSessionJWT(identity.SessionJWTOptions{
		Issuers: []identity.SessionIssuer{{Secret: sessionKey}}, IsSyncToken: a.issuer.Signed, Now: now,
	})
	must(t, err)

	a.options = Options{
		Sessions:    a.sessions,
		Uploaders:   a.sessions,
		Allowed:     func(context.Context, *identity.Principal) error { return nil },
		Room:        func(string) error { return nil },
		Tokens:      a.issuer,
		Store:       storeFunc(applyAll),
		Checkpoints: &fakeCheckpoints{stored: map[[2]string]int64{}},
		Accounts:    &fakeAccounts{},
		// So that alice's session is one of an account.
		AccountSessions: a.sessions,
		Ready:           func(context.Context) error { return nil },
		AllowOrigin:     func(origin string) bool { return origin == appOrigin },
		MaxBodyBytes:    testMaxBody,
		MaxOperations:   testMaxOperations,
		Log:             slog.New(slog.NewJSONHandler(a.written, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	a.Server = httptest.NewUnstartedServer(nil)
	a.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	for _, f := range change {
		f(a)
	}
	a.state = newServer(a.options)
	a.Config.Handler = a.state.routes()
	a.Start()
	t.Cleanup(func() {
		a.Close()
		secrets.Uses(a.secrets...)
		secrets.Wrote(t.Name(), a.written.String())
		if left := a.state.memory; left.used != 0 || len(left.byUser) != 0 {
			t.Errorf("memory of bodies is still reserved: %d bytes, by user %v", left.used, left.byUser)
		}
	})
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// session returns alice's session, valid for ttl.
func (a *api) session(t *testing.T, ttl time.Duration) string {
	t.Helper()
	return a.sessionOf(t, alice, ttl)
}

func (a *api) sessionOf(t *testing.T, user string, ttl time.Duration) string {
	t.Helper()
	session, err := identity.SignSession(sessionKey, user, "", "", testNow, ttl)
	must(t, err)
	a.secrets = append(a.secrets, session)
	return session
}

// syncToken returns alice's sync token.
func (a *api) syncToken(t *testing.T) string {
	t.Helper()
	token, err := a.issuer.Issue(t.Context(), alice, nil)
	must(t, err)
	a.secrets = append(a.secrets, token.JWT)
	return token.JWT
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	body   string
}

type edit func(*http.Request)

// header sets a header, or several of the same name.
func header(name string, values ...string) edit {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

func bearer(token string) edit { return header("Authorization", "Bearer "+token) }

// do sends a request as alice, apart from what the edits do to it, and holds
// the answer against openapi.yaml.
func (a *api) do(t *testing.T, method, path string, body io.Reader, edits ...edit) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, a.URL+path, body)
	must(t, err)
	bearer(a.session(t, time.Hour))(r)
	if body != nil {
		header("Content-Type", "application/json")(r)
	}
	for _, e := range edits {
		e(r)
	}
	got, err := a.send(r)
	must(t, err)
	if route := strings.TrimSuffix(path, "/"); r.Method != http.MethodOptions {
		checkDocumented(t, r.Method, route, got)
	}
	return got
}

// send sends a request without a helper's assumptions. It may be called from
// any goroutine.
func (a *api) send(r *http.Request) (answer, error) {
	response, err := a.Client().Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if response.StatusCode >= http.StatusBadRequest {
		secrets.Wrote(a.test, string(body))
	}
	return answer{response.StatusCode, response.Header, string(body)}, err
}

func (a *api) upload(t *testing.T, body string, edits ...edit) answer {
	t.Helper()
	return a.do(t, http.MethodPost, "/upload", strings.NewReader(body), edits...)
}

// records stops serving and returns what was logged.
func (a *api) records(t *testing.T) []map[string]any {
	t.Helper()
	a.Close() // waits for running requests, whose records come last
	var records []map[string]any
	for line := range strings.Lines(a.written.String()) {
		records = append(records, decoded(t, line))
	}
	return records
}

func decoded(t *testing.T, text string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return object
}

// problem is a whole problem body.
func problem(status int, code, detail string) map[string]any {
	return map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": float64(status),
		"code": code, "detail": detail, "message": detail,
	}
}

// puts is an upload of n operations in as many transactions.
func puts(n int) string {
	entries := strings.Repeat(`{"op":"PUT","type":"todos","id":"1","data":{}},`, n)
	return `{"crud":[` + strings.TrimSuffix(entries, ",") + `]}`
}
