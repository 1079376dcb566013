package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/identity"
)

// fakeAccounts does what it is asked, unless err is set, and notes what that
// was.
type fakeAccounts struct {
	err    error
	guest  bool   // of Session
	failed string // whom SignIn names beside an error
	asked  string
}

const newToken = "ferry_session_MARKER-OF-A-TOKEN"

func (a *fakeAccounts) start(asked string) (*identity.StartedSession, error) {
	a.asked = asked
	if a.err != nil {
		return nil, a.err
	}
	return &identity.StartedSession{Token: newToken, AccountSession: identity.AccountSession{
		UserID: "u1", Email: "ann@example.com", ExpiresAt: testNow.Add(time.Hour + time.Millisecond).In(time.FixedZone("", 3600)),
	}}, nil
}

func (a *fakeAccounts) done(asked string) error {
	a.asked = asked
	return a.err
}

func (a *fakeAccounts) SignUp(_ context.Context, from netip.Addr, email, password string) (*identity.StartedSession, error) {
	return a.start(fmt.Sprint("sign-up ", from, " ", email, " ", password))
}

func (a *fakeAccounts) Upgrade(_ context.Context, from netip.Addr, c identity.Credentials, email, password string) (*identity.StartedSession, error) {
	return a.start(fmt.Sprint("upgrade ", from, " ", len(c.Authorization) > 0, " ", email, " ", password))
}

func (a *fakeAccounts) Guest(_ context.Context, from netip.Addr) (*identity.StartedSession, error) {
	return a.start(fmt.Sprint("guest ", from))
}

func (a *fakeAccounts) SignIn(_ context.Context, from netip.Addr, email, password string) (*identity.StartedSession, string, error) {
	s, err := a.start(fmt.Sprint("sign-in ", from, " ", email, " ", password))
	return s, a.failed, err
}

func (a *fakeAccounts) Session(_ context.Context, c identity.Credentials) (*identity.AccountSession, error) {
	s, err := a.start(fmt.Sprint("session ", len(c.Authorization) > 0))
	if err != nil {
		return nil, err
	}
	if a.guest {
		s.Email = ""
	}
	return &s.AccountSession, nil
}

func (a *fakeAccounts) ChangePassword(_ context.Context, from netip.Addr, c identity.Credentials, current, next string) error {
	return a.done(fmt.Sprint("password ", from, " ", len(c.Authorization) > 0, " ", current, " ", next))
}

func (a *fakeAccounts) SignOut(_ context.Context, c identity.Credentials) error {
	return a.done(fmt.Sprint("sign-out ", len(c.Authorization) > 0))
}

func (a *fakeAccounts) SignOutEverywhere(_ context.Context, userID string) error {
	return a.done("sign-out-everywhere " + userID)
}

const (
	testPassword = "MARKER-OF-A-PASSWORD"
	testEmail    = "marker@example.com"
	testAccount  = `{"email":"` + testEmail + `","password":"` + testPassword + `","more":[1]}`
)

// accountRequest is one to each path of accounts.
type accountRequest struct {
	method, path, body string
	noSession          bool
}

func accountRequests() map[string]accountRequest {
	return map[string]accountRequest{
		"sign_up":             {"POST", "/auth/sign-up", testAccount, true},
		"upgrade":             {"POST", "/auth/sign-up", testAccount, false},
		"sign_in":             {"POST", "/auth/sign-in", testAccount, true},
		"guest":               {"POST", "/auth/guest", "", true},
		"session":             {"GET", "/auth/session", "", false},
		"password_change":     {"POST", "/auth/password", `{"current":"` + testPassword + `","new":"other ` + testPassword + `"}`, false},
		"sign_out":            {"POST", "/auth/sign-out", "", false},
		"sign_out_everywhere": {"POST", "/auth/sign-out-everywhere", "", false},
	}
}

func (r accountRequest) send(t *testing.T, a *api, edits ...edit) answer {
	t.Helper()
	if r.noSession {
		edits = append([]edit{func(r *http.Request) { r.Header.Del("Authorization") }}, edits...)
	}
	return a.do(t, r.method, r.path, strings.NewReader(r.body), edits...)
}

// setupAccounts is setup with what must never be logged.
func setupAccounts(t *testing.T, accounts *fakeAccounts) *api {
	t.Helper()
	return setup(t, func(a *api) {
		a.options.Accounts = accounts
		a.secrets = append(a.secrets, newToken, testPassword, testEmail)
	})
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	started := `{"session_token":"` + newToken + `","expires_at":"2026-01-02T04:04:05Z","user_id":"u1"}` + "\n"
	want := map[string]struct {
		asked, body, user string
		status            int
	}{
		"sign_up":             {"sign-up 127.0.0.1 " + testEmail + " " + testPassword, started, "u1", 201},
		"upgrade":             {"upgrade 127.0.0.1 true " + testEmail + " " + testPassword, started, alice, 201},
		"sign_in":             {"sign-in 127.0.0.1 " + testEmail + " " + testPassword, started, "u1", 200},
		"guest":               {"guest 127.0.0.1", started, "u1", 201},
		"session":             {"session true", `{"user_id":"u1","email":"ann@example.com","guest":false,"expires_at":"2026-01-02T04:04:05Z"}` + "\n", alice, 200},
		"password_change":     {"password 127.0.0.1 true " + testPassword + " other " + testPassword, "", alice, 204},
		"sign_out":            {"sign-out true", "", alice, 204},
		"sign_out_everywhere": {"sign-out-everywhere alice", "", alice, 204},
	}
	for event, request := range accountRequests() {
		t.Run(event, func(t *testing.T) {
			t.Parallel()
			accounts := &fakeAccounts{}
			a := setupAccounts(t, accounts)
			got := request.send(t, a)
			w := want[event]
			if got.status != w.status || got.body != w.body || accounts.asked != w.asked {
				t.Errorf("asked %q, answered %d %s, want %+v", accounts.asked, got.status, got.body, w)
			}
			if got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("headers %v: it may be cached", got.header)
			}
			record := a.records(t)[0]
			audit := any(event)
			if event == "session" {
				audit = nil // nothing happened
			}
			if record["audit"] != audit || record["user"] != w.user {
				t.Errorf("record %v, want audit %v, user %s", record, audit, w.user)
			}
			if strings.Count(a.written.String(), `"user"`) != 1 {
				t.Errorf("the user stands twice in %s", a.written)
			}
		})
	}
}

func TestASessionOfAGuestHasNoEmail(t *testing.T) {
	t.Parallel()
	got := setupAccounts(t, &fakeAccounts{guest: true}).do(t, "GET", "/auth/session", nil)
	const want = `{"user_id":"u1","email":null,"guest":true,"expires_at":"2026-01-02T04:04:05Z"}` + "\n"
	if got.status != http.StatusOK || got.body != want {
		t.Errorf("answered %d %s", got.status, got.body)
	}
}

// Each fault that accounts may answer with, on a path that documents it.
func TestFailuresOfAccounts(t *testing.T) {
	t.Parallel()
	cases := []struct {
		event  string
		err    *fault.Error
		status int
	}{
		{"sign_up", fault.New(fault.InvalidEmail, "d"), 400},
		{"sign_up", fault.New(fault.WeakPassword, "d"), 400},
		{"sign_up", fault.New(fault.SignUpDisabled, "d"), 403},
		{"sign_up", fault.New(fault.EmailTaken, "d"), 409},
		{"sign_up", fault.New(fault.TooManyRequests, "d"), 429},
		{"upgrade", fault.New(fault.AlreadySignedUp, "d"), 409},
		{"upgrade", fault.New(fault.InvalidSession, "d"), 401},
		{"sign_in", fault.New(fault.InvalidCredentials, "d"), 401},
		{"sign_in", fault.New(fault.UserDisabled, "d"), 403},
		{"sign_in", &fault.Error{Code: fault.TooManyRequests, Detail: "d", RetryAfter: 14*time.Minute + time.Millisecond}, 429},
		{"sign_in", fault.Retry(errors.New(cause), time.Second, "d"), 503},
		{"guest", fault.New(fault.GuestsDisabled, "d"), 403},
		{"password_change", fault.New(fault.InvalidCredentials, "d"), 401},
		{"password_change", fault.New(fault.WeakPassword, "d"), 400},
		{"password_change", fault.New(fault.InvalidRequest, "d"), 400},
		{"sign_out", fault.Retry(errors.New(cause), time.Second, "d"), 503},
		{"sign_out_everywhere", fault.Retry(errors.New(cause), time.Second, "d"), 503},
	}
	for _, c := range cases {
		t.Run(c.event+" "+string(c.err.Code), func(t *testing.T) {
			t.Parallel()
			a := setupAccounts(t, &fakeAccounts{err: c.err, failed: "u7"})
			got := accountRequests()[c.event].send(t, a)
			if diff := cmp.Diff(problem(c.status, string(c.err.Code), "d"), decoded(t, got.body)); diff != "" {
				t.Errorf("problem (-want +got):\n%s", diff)
			}
			if c.err.RetryAfter > time.Minute && got.header.Get("Retry-After") != "841" {
				t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
			}
			record := a.records(t)[0]
			if record["audit"] != c.event+"_failed" || (c.event == "sign_in" && record["user"] != "u7") {
				t.Errorf("record %v", record)
			}
		})
	}
}

func TestAccountsThatAreOffAreNotThere(t *testing.T) {
	t.Parallel()
	a := setup(t, func(a *api) { a.options.Accounts, a.options.AccountSessions = nil, nil })
	want := problem(404, "not_found", "this server keeps no accounts (FERRY_ACCOUNTS)")
	for event, request := range accountRequests() {
		if diff := cmp.Diff(want, decoded(t, request.send(t, a).body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", event, diff)
		}
	}
}

func TestWhatNeedsASessionOfAnAccount(t *testing.T) {
	t.Parallel()
	accounts := &fakeAccounts{}
	a := setupAccounts(t, accounts)
	for event, request := range accountRequests() {
		if request.noSession {
			continue
		}
		for _, value := range []string{"Bearer x", "Bearer", "Basic YTpi", ""} {
			if got := request.send(t, a, header("Authorization", value)); got.status != http.StatusUnauthorized {
				t.Errorf("%s with %q is answered %d %s", event, value, got.status, got.body)
			}
		}
	}
	if accounts.asked != "" {
		t.Errorf("asked %s", accounts.asked)
	}
}

func TestBodiesOfAccounts(t *testing.T) {
	t.Parallel()
	const malformed = `the body must be one JSON object in UTF-8, with the strings "email" and "password" in it, each once`
	cases := map[string]struct {
		body   string
		edits  []edit
		status int
		detail string
	}{
		"nothing":           {"", nil, 400, malformed},
		"no object":         {`["a","b"]`, nil, 400, malformed},
		"no password":       {`{"email":"a@b"}`, nil, 400, malformed},
		"null":              {`{"email":"a@b","password":null}`, nil, 400, malformed},
		"a number":          {`{"email":"a@b","password":1234567890}`, nil, 400, malformed},
		"other case":        {`{"email":"a@b","Password":"1234567890"}`, nil, 400, malformed},
		"twice":             {`{"email":"a@b","password":"1234567890","email":"c@d"}`, nil, 400, malformed},
		"two objects":       {testAccount + testAccount, nil, 400, malformed},
		"not UTF-8":         {"{\"email\":\"a@b\",\"password\":\"123456789\xff\"}", nil, 400, malformed},
		"a lone surrogate":  {`{"email":"a@b","password":"123456789\ud800"}`, nil, 400, malformed},
		"cut off":           {testAccount[:20], nil, 400, malformed},
		"a form":            {"email=a@b&password=1234567890", []edit{header("Content-Type", "application/x-www-form-urlencoded")}, 415, "the body must be JSON: send Content-Type: application/json"},
		"too long":          {`{"email":"a@b","password":"` + strings.Repeat("a", maxAccountBody) + `"}`, nil, 413, "the body is over 16384 bytes"},
		"too long unzipped": {string(gzipped(t, []byte(`{"email":"`+strings.Repeat("a", maxAccountBody)+`"}`), 9)), []edit{header("Content-Encoding", "gzip")}, 413, "the body is over 16384 bytes"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			accounts := &fakeAccounts{}
			for _, event := range []string{"sign_up", "sign_in"} {
				request := accountRequests()[event]
				request.body = c.body
				got := request.send(t, setup(t, func(a *api) { a.options.Accounts = accounts }), c.edits...)
				if got.status != c.status || decoded(t, got.body)["detail"] != c.detail {
					t.Errorf("%s is answered %d %s", event, got.status, got.body)
				}
			}
			if accounts.asked != "" {
				t.Errorf("asked %s", accounts.asked)
			}
		})
	}
}

func FuzzDecodeStrings(f *testing.F) {
	for _, body := range []string{testAccount, `{"current":"a","new":"b"}`, `{"email":1,"password":{}}`, `{`, "\xff", `{"a":"\ud800"}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		values, err := decodeStrings(body, "email", "password")
		if err != nil {
			if got := fault.From(err); got.Code != fault.InvalidRequest || len(got.Detail) > 110 {
				t.Fatalf("error %v", err)
			}
			return
		}
		var members map[string]any // as a reader sees them that is less strict
		if err := json.Unmarshal(body, &members); err != nil || members["email"] != values[0] || members["password"] != values[1] {
			t.Fatalf("values %q of %q, %v", values, body, err)
		}
	})
}
