package main

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/postgres/postgrestest"
)

const (
	annEmail = "ann@example.com"
	annSays  = "correct horse battery"
)

// usersOf is a database whose users the operator looks after.
type usersOf struct {
	t       *testing.T
	db      *postgrestest.Database
	roles   roles
	environ []string
}

func newUsers(t *testing.T) *usersOf {
	t.Helper()
	db, r := newMigrated(t)
	return &usersOf{t, db, r, []string{"DATABASE_URL=" + withPassword(db.URLAs(r.login, "")), "FERRY_UPLOAD_ROLE=" + r.upload}}
}

func (u *usersOf) serveEnvironment() []string {
	return append(serveEnvironment(u.db.URLAs(u.roles.login, ""), u.roles),
		"FERRY_ACCOUNTS=true", "FERRY_ACCOUNTS_GUESTS=true", "FERRY_UPLOAD_ACCEPTS_SYNC_TOKEN=true")
}

// serve starts a server that keeps accounts and takes session JWTs.
func (u *usersOf) serve() string {
	u.t.Helper()
	_, api := startServing(u.t, u.serveEnvironment())
	return api
}

// replica is serve in a process of its own.
func (u *usersOf) replica() string {
	u.t.Helper()
	return startServingProcess(u.t, u.serveEnvironment()).api
}

// ferry runs `ferry users`.
func (u *usersOf) ferry(input, command string) result {
	u.t.Helper()
	secrets.Uses(strings.Split(input, "\n")...) // passwords
	return runWithInput(u.t, input, u.environ, append([]string{"users"}, strings.Fields(command)...)...)
}

// must runs `ferry users` and wants what it says, and what it logs: the audited
// event and user.
func (u *usersOf) must(command, says, audited, user string) {
	u.t.Helper()
	got := u.ferry("", command)
	if got.Code != exitOK || got.Stdout != says {
		u.t.Errorf("%s: exit code %d, it says %q, want %q\n%s", command, got.Code, got.Stdout, says, got.Stderr)
	}
	u.audited(got, audited, user)
}

func (u *usersOf) audited(got result, event, user string) {
	u.t.Helper()
	var record map[string]any
	if err := json.Unmarshal([]byte(got.Stderr), &record); err != nil {
		u.t.Fatalf("%v in %q", err, got.Stderr)
	}
	delete(record, "time")
	want := map[string]any{"level": "INFO", "msg": "users", "audit": event, "user": user}
	if diff := cmp.Diff(want, record); diff != "" {
		u.t.Errorf("record (-want +got):\n%s", diff)
	}
}

// add makes an account with annSays as its password and returns its user id.
func (u *usersOf) add(email string) string {
	u.t.Helper()
	got := u.ferry(annSays+"\n", "add "+email)
	match := regexp.MustCompile(`^user id ([0-9a-f-]{36})\n$`).FindStringSubmatch(got.Stdout)
	if got.Code != exitOK || match == nil {
		u.t.Fatalf("%+v", got)
	}
	u.audited(got, "user_add", match[1])
	return match[1]
}

// signIn returns the session that a replica gives.
func signIn(t *testing.T, api, email, password string) (int, string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"email": email, "password": password})
	if err != nil {
		t.Fatal(err)
	}
	secrets.Uses(password)
	code, answer := ask(t, http.MethodPost, api+"/auth/sign-in", "", string(body))
	var started struct {
		Token string `json:"session_token"`
	}
	if err := json.Unmarshal([]byte(answer), &started); err != nil {
		t.Fatal(err)
	}
	return code, started.Token
}

func TestUsersAreAddedAndSignIn(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	api := u.serve()
	id := u.add("Ann@Example.com")
	code, session := signIn(t, api, annEmail, annSays)
	if code != 200 {
		t.Fatalf("sign-in: %d", code)
	}
	want := `{"user_id":"` + id + `","email":"Ann@Example.com","guest":false,`
	if code, body := ask(t, http.MethodGet, api+"/auth/session", session, ""); code != 200 || !strings.HasPrefix(body, want) {
		t.Errorf("session: %d %s, want %s…", code, body, want)
	}
	if code, body := ask(t, http.MethodGet, api+"/token", session, ""); code != 200 || !strings.Contains(body, id) {
		t.Errorf("token: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodPost, api+"/upload", session, `{"crud":[{"op":"PUT","type":"notes","id":"`+note(1)+`","data":{"text":"a"}}]}`); code != 200 || !strings.Contains(body, `"applied":1`) {
		t.Errorf("upload: %d %s", code, body)
	}

	got := u.ferry("", "add bob@example.com --generate")
	match := regexp.MustCompile(`^user id \S+\npassword (\S{26})\n$`).FindStringSubmatch(got.Stdout)
	if match == nil {
		t.Fatalf("%+v", got)
	}
	if code, _ := signIn(t, api, "bob@example.com", match[1]); code != 200 {
		t.Errorf("with the password that was made: %d", code)
	}
}

func TestSessionsLastAsConfigured(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	u.add(annEmail)
	for setting, want := range map[string]time.Duration{
		"": 90 * 24 * time.Hour, "FERRY_ACCOUNTS_SESSION_IDLE=30m": 30 * time.Minute, "FERRY_ACCOUNTS_SESSION_MAX=12h": 12 * time.Hour,
	} {
		_, api := startServing(t, append(u.serveEnvironment(), setting))
		_, session := signIn(t, api, annEmail, annSays)
		_, body := ask(t, http.MethodGet, api+"/auth/session", session, "")
		var found struct {
			ExpiresAt time.Time `json:"expires_at"`
		}
		if err := json.Unmarshal([]byte(body), &found); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(found.ExpiresAt); left > want || left < want-time.Minute {
			t.Errorf("%q: it ends in %s, want %s", setting, left, want)
		}
	}
}

func TestUsersAddSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	u.add(annEmail)
	for _, c := range []struct{ input, command, want string }{
		{annSays, "add ann", "users add: the e-mail address is not of the form name@example.com"},
		{annSays, "add ANN@example.com", "users add: there is an account with this e-mail address already"},
		{"short\n", "add bob@example.com", "users add: the password has under 12 characters"},
		{"Unbelievable\n", "add bob@example.com", "users add: the password is one of the most common ones, which are guessed first: choose another"},
		{"BOB@example.com\r\n", "add bob@example.com", "users add: the password is the e-mail address"},
		{"", "add bob@example.com", "give the password in a line of standard input, or add --generate"},
		{annSays, "passwd bob@example.com", "bob@example.com: no account has this e-mail address; if it is a user id of another sign-in, add --id"},
		{annSays, "passwd u1", "u1: ferry has no such account; see: ferry users list"},
		{"short", "passwd " + annEmail, "users passwd: the password has under 12 characters"},
		{"", "sessions u1", "u1: ferry has no such account; see: ferry users list"},
		{"", "revoke --session " + note(1), note(1) + ": there is no such session; see: ferry users sessions"},
		{"", "revoke --session x", "x: there is no such session; see: ferry users sessions"},
		{"", "disable ann@example.co", "ann@example.co: no account has this e-mail address; if it is a user id of another sign-in, add --id"},
		{"", "disable a@b@c", "a@b@c: the e-mail address is not of the form name@example.com"},
		{"", "disable " + strings.Repeat("u", 1025), strings.Repeat("u", 79) + "…: the user id is over 1024 bytes"},
	} {
		got := u.ferry(c.input, c.command)
		if diff := cmp.Diff(result{Code: exitError, Stderr: "ferry: " + c.want + "\n"}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.command, diff)
		}
	}
	if got := u.ferry("", "list"); strings.Count(got.Stdout, "\n") != 1 {
		t.Errorf("users: %s", got.Stdout)
	}
}

func TestUsersPasswdEndsTheSessions(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	api := u.serve()
	id := u.add(annEmail)
	_, session := signIn(t, api, annEmail, annSays)
	got := u.ferry("a new password\n", "passwd "+id)
	if got.Stdout != "set the password of "+id+" (ann@example.com), and ended 1 session\n" {
		t.Errorf("%+v", got)
	}
	u.audited(got, "user_passwd", id)
	refusedWithinASecond(t, api, session, 401)
	if code, _ := signIn(t, api, annEmail, annSays); code != 401 {
		t.Errorf("with the old password: %d", code)
	}
	if code, _ := signIn(t, api, annEmail, "a new password"); code != 200 {
		t.Errorf("with the new password: %d", code)
	}
}

// refusedWithinASecond wants a replica to refuse a session, for tokens and for
// uploads, from a second after now on.
func refusedWithinASecond(t *testing.T, api, session string, want int) {
	t.Helper()
	changed := time.Now()
	for {
		asked := time.Now()
		token, _ := ask(t, http.MethodGet, api+"/token", session, "")
		upload, _ := ask(t, http.MethodPost, api+"/upload", session, `{"crud":[]}`)
		if token == want && upload == want {
			return
		}
		if after := asked.Sub(changed); after > time.Second {
			t.Fatalf("asked %s later: /token %d, /upload %d, want %d", after, token, upload, want)
		}
		time.Sleep(10 * time.Millisecond) // or the user has too many tokens
	}
}

// Two replicas, each a process of its own, and every way of signing in.
func TestUsersAreKeptOutEverywhereWithinASecond(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	replicas := []string{u.replica(), u.replica()}
	ann := u.add(annEmail)
	_, account := signIn(t, replicas[0], annEmail, annSays)
	jwt := sessionOf(t, "u1@example.com")
	accepted := func(step, session string) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for i := 0; i < len(replicas); {
			if code, _ := ask(t, http.MethodGet, replicas[i]+"/token", session, ""); code == 200 {
				i++
			} else if time.Now().After(deadline) {
				t.Fatalf("%s: replica %d answers %d", step, i, code)
			}
		}
	}
	refused := func(session string, code int) {
		t.Helper()
		for _, api := range replicas {
			refusedWithinASecond(t, api, session, code)
		}
	}
	accepted("account", account)
	accepted("JWT", jwt)
	_, answer := ask(t, http.MethodGet, replicas[0]+"/token", account, "")
	var issued struct{ Token string }
	if err := json.Unmarshal([]byte(answer), &issued); err != nil {
		t.Fatal(err)
	}

	u.must("disable --reason spam "+annEmail, "disabled "+ann+" (ann@example.com)\n", "user_disable", ann)
	u.must("disable --id u1@example.com", "disabled u1@example.com (no account of ferry's)\n", "user_disable", "u1@example.com")
	refused(account, 403)
	refused(jwt, 403)
	if code, _ := ask(t, http.MethodPost, replicas[1]+"/upload", issued.Token, `{"crud":[]}`); code != 403 {
		t.Errorf("an upload with a sync token: %d", code)
	}
	if code, _ := signIn(t, replicas[0], annEmail, annSays); code != 403 {
		t.Errorf("sign-in: %d", code)
	}

	u.must("enable "+strings.ToUpper(ann), "enabled "+ann+" (ann@example.com)\n", "user_enable", ann)
	u.must("enable --id u1@example.com", "enabled u1@example.com (no account of ferry's)\n", "user_enable", "u1@example.com")
	accepted("account, enabled", account)
	accepted("JWT, enabled", jwt)

	u.must("revoke "+ann, "signed out "+ann+" (ann@example.com)\n", "user_revoke", ann)
	u.must("revoke u1@example.com --id", "signed out u1@example.com (no account of ferry's)\n", "user_revoke", "u1@example.com")
	refused(account, 401)
	refused(jwt, 401)
	if code, _ := ask(t, http.MethodPost, replicas[1]+"/upload", issued.Token, `{"crud":[]}`); code != 401 {
		t.Errorf("an upload with a sync token: %d", code)
	}
	_, again := signIn(t, replicas[0], annEmail, annSays)
	accepted("account, signed in again", again)
	u.must("enable --id u1@example.com --sessions", "enabled u1@example.com (no account of ferry's)\n", "user_enable", "u1@example.com")
	accepted("JWT, with its sessions", jwt)
}

func TestUsersSessionsAreListedAndEndOneByOne(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	api := u.serve()
	ann := u.add(annEmail)
	_, first := signIn(t, api, annEmail, annSays)
	_, second := signIn(t, api, annEmail, annSays)
	list := func() []string {
		t.Helper()
		var sessions []struct {
			ID      string    `json:"session_id"`
			Created time.Time `json:"created_at"`
			Used    time.Time `json:"used_at"`
			Expires time.Time `json:"expires_at"`
		}
		got := u.ferry("", "sessions --json "+annEmail)
		if err := json.Unmarshal([]byte(got.Stdout), &sessions); err != nil {
			t.Fatalf("%v in %+v", err, got)
		}
		ids := []string{}
		for _, s := range sessions {
			if s.Created.IsZero() || s.Used.IsZero() || s.Expires.Before(s.Created) {
				t.Errorf("%+v", s)
			}
			ids = append(ids, s.ID)
		}
		return ids
	}
	ids := list()
	if len(ids) != 2 {
		t.Fatalf("sessions %v", ids)
	}
	if got := u.ferry("", "sessions "+ann); strings.Count(got.Stdout, "\n") != 2 || !strings.HasPrefix(got.Stdout, ids[0]+"  begun 20") {
		t.Errorf("%+v", got)
	}
	u.must("revoke --session "+ids[1], "signed out one session of "+ann+"\n", "session_revoke", ann)
	refusedWithinASecond(t, api, first, 401)
	if code, _ := ask(t, http.MethodGet, api+"/token", second, ""); code != 200 {
		t.Errorf("the other session: %d", code)
	}
	if diff := cmp.Diff(ids[:1], list()); diff != "" {
		t.Error(diff)
	}
}

func TestUsersAreDeletedWithTheirSessions(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	api := u.serve()
	ann, bob := u.add(annEmail), u.add("bob@example.com")
	_, session := signIn(t, api, annEmail, annSays)
	_, other := signIn(t, api, "bob@example.com", annSays)
	_, answer := ask(t, http.MethodGet, api+"/token", session, "")
	var issued struct{ Token string }
	if err := json.Unmarshal([]byte(answer), &issued); err != nil {
		t.Fatal(err)
	}

	for input, want := range map[string]string{"no\n": "users delete: nothing was done", "": "users delete: nothing was done"} {
		if got := u.ferry(input, "delete "+annEmail); got.Code != exitError || got.Stderr != "ferry: "+want+"\n" {
			t.Errorf("%q: %+v", input, got)
		}
	}
	if got := u.ferry("yes\n", "delete u1 "+annEmail); got.Code != exitError || !strings.Contains(got.Stderr, "ferry has no account u1") {
		t.Errorf("who has no account: %+v", got)
	}
	if code, _ := ask(t, http.MethodGet, api+"/token", session, ""); code != 200 {
		t.Errorf("before it: /token %d", code)
	}

	got := u.ferry("yes\n", "delete "+annEmail)
	if got.Code != exitOK || !strings.HasSuffix(got.Stdout, "deleted "+ann+" (ann@example.com)\n") {
		t.Errorf("%+v", got)
	}
	u.audited(got, "user_delete", ann)
	refusedWithinASecond(t, api, session, 401)
	refusedWithinASecond(t, api, issued.Token, 401)
	if code, _ := signIn(t, api, annEmail, annSays); code != 401 {
		t.Errorf("sign-in: %d", code)
	}
	if code, _ := ask(t, http.MethodGet, api+"/token", other, ""); code != 200 {
		t.Errorf("another user: /token %d", code)
	}
	if again := u.add(annEmail); again == ann || again == bob {
		t.Errorf("a new account with the address has the user id %s", again)
	}
	if got := u.ferry("", "delete --yes "+ann); got.Code != exitError || !strings.Contains(got.Stderr, "ferry has no account "+ann) {
		t.Errorf("a second time: %+v", got)
	}
}

func TestUsersAreListed(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	api := u.serve()
	ann, bob := u.add(annEmail), u.add("bob@example.org")
	if code, body := ask(t, http.MethodPost, api+"/auth/guest", "", ""); code != 201 {
		t.Fatalf("guest: %d %s", code, body)
	}
	for _, command := range []string{"disable u1\u202e --reason spam", "revoke u2", "disable " + bob} {
		if got := u.ferry("", command); got.Code != exitOK || strings.Contains(got.Stdout, "\u202e") {
			t.Fatalf("%+v", got)
		}
	}
	for filters, want := range map[string]string{
		"":                           "guest  -, account  bob@example.org, account  ann@example.com, other  -, other  -",
		"--kind account":             "account  bob@example.org, account  ann@example.com",
		"--kind guest":               "guest  -",
		"--kind other":               "other  -, other  -",
		"--email EXAMPLE.org":        "account  bob@example.org",
		"--email nobody":             "",
		"--disabled":                 "account  bob@example.org, other  -",
		"--since 1h":                 "guest  -, account  bob@example.org, account  ann@example.com",
		"--since 1h --kind other":    "",
		"--limit 2":                  "guest  -, account  bob@example.org",
		"--limit 0 --email ann@exam": "account  ann@example.com",
	} {
		got := u.ferry("", "list "+filters)
		kinds := regexp.MustCompile(`(?m)^\S+  (\S+  \S+)  .*$`).FindAllStringSubmatch(got.Stdout, -1)
		listed := make([]string, len(kinds))
		for i := range kinds {
			listed[i] = kinds[i][1]
		}
		if diff := cmp.Diff(want, strings.Join(listed, ", ")); got.Code != exitOK || diff != "" {
			t.Errorf("list %s: %s\n%+v", filters, diff, got)
		}
	}
	got := u.ferry("", "list").Stdout
	for _, part := range []string{
		ann + "  account  ann@example.com  made 20", "0 sessions\n", "guest  -  made 20", "  1 session\n",
		"u1\ufffd  other  -  made -  0 sessions  DISABLED (spam)\n", "u2  other  -  made -  0 sessions  none from before 20",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in\n%s", part, got)
		}
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(u.ferry("", "list --json --email bob").Stdout), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v: %v", list, err)
	}
	delete(list[0], "created_at")
	want := map[string]any{"user_id": bob, "kind": "account", "email": "bob@example.org", "sessions": 0.0, "disabled": true}
	if diff := cmp.Diff(want, list[0]); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	if got := u.ferry("", "list --json --email nobody").Stdout; got != "[]\n" {
		t.Errorf("an empty list: %q", got)
	}
}

func TestUsersSayWhatIsWrongWithTheCommand(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"":                         "users: say add, list, disable, enable, passwd, sessions, revoke or delete; see: ferry users --help",
		"sideways":                 "users: say add, list, disable, enable, passwd, sessions, revoke or delete; see: ferry users --help",
		"add":                      "users add: say who, by e-mail address or user id; see: ferry users list",
		"add a@b hunter2hunter2":   "users add: it takes one argument; see: ferry users add --help",
		"passwd a@b hunter2hunter": "users passwd: it takes one argument; see: ferry users passwd --help",
		"list x":                   `users list: unexpected argument "x"; see: ferry users list --help`,
		"list --kind x":            `users list: invalid value "x" for flag -kind: say account, guest or other; see: ferry users list --help`,
		"list --limit -1":          "users list: --limit takes a number from 0",
		"disable":                  "users disable: say who, by e-mail address or user id; see: ferry users list",
		"enable --sessions":        "users enable: say who, by e-mail address or user id; see: ferry users list",
		"revoke":                   "users revoke: say who, by e-mail address or user id; see: ferry users list",
		"revoke u1 --session x":    "users revoke: give USERs or --session, not both",
		"sessions":                 "users sessions: say who, by e-mail address or user id; see: ferry users list",
	} {
		got := run(t, nil, append([]string{"users"}, strings.Fields(command)...)...)
		if diff := cmp.Diff(result{Code: exitUsage, Stderr: "ferry: " + want + "\n"}, got); diff != "" {
			t.Errorf("ferry users %s (-want +got):\n%s", command, diff)
		}
	}
}

func TestUsersSayWhatIsWrongWithTheDatabase(t *testing.T) {
	t.Parallel()
	db, r := newDatabase(t)
	environ := []string{"DATABASE_URL=" + db.URLAs(r.login, ""), "FERRY_UPLOAD_ROLE=" + r.upload}
	commands := []string{"list", "add a@b.c --generate", "passwd a@b.c --generate", "disable u1", "enable u1", "revoke u1", "sessions u1", "revoke --session " + note(1)}
	tryAll := func(want string) {
		t.Helper()
		for _, command := range commands {
			got := run(t, environ, append([]string{"users"}, strings.Fields(command)...)...)
			if got.Code != exitError || !strings.Contains(got.Stderr, want) || got.Stdout != "" {
				t.Errorf("%s: no %q in %+v", command, want, got)
			}
		}
	}
	tryAll("run: ferry migrate up (")
	mustRun(t, migrateEnvironment(db, r), "migrate", "up")
	tryAll("run: ferry migrate up --grant-to ROLE")
	environ = nil
	tryAll("DATABASE_URL is not set")
}

func TestServeWithAccountsAlone(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	environ := []string{"FERRY_ACCOUNTS=true"}
	for _, entry := range serveEnvironment(u.db.URLAs(u.roles.login, ""), u.roles) {
		if !strings.HasPrefix(entry, "FERRY_SESSION_SECRET=") {
			environ = append(environ, entry)
		}
	}
	_, api := startServing(t, environ)
	code, answer := ask(t, http.MethodPost, api+"/auth/sign-up", "", `{"email":"`+annEmail+`","password":"`+annSays+`"}`)
	var started struct {
		Token string `json:"session_token"`
		User  string `json:"user_id"`
	}
	if err := json.Unmarshal([]byte(answer), &started); err != nil || code != 201 {
		t.Fatalf("sign-up: %d %s", code, answer)
	}
	if code, body := ask(t, http.MethodGet, api+"/token", started.Token, ""); code != 200 || !strings.Contains(body, started.User) {
		t.Errorf("token: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodGet, api+"/token", sessionOf(t, "u1"), ""); code != 401 || !strings.Contains(body, "the session is not one that /auth/sign-in gave") {
		t.Errorf("a session JWT: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodPost, api+"/auth/guest", "", ""); code != 403 || !strings.Contains(body, "guests_disabled") {
		t.Errorf("a guest: %d %s", code, body)
	}
}
