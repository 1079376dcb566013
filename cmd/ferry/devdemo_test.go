package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

const (
	demoList  = "00000000-0000-4000-8000-0000000000d1"
	demoOwner = "22222222-2222-4222-8222-222222222222"
)

// A demo app of PowerSync's Node backend: it fetches a token for a user, and
// uploads without a session.
func TestDemoAppsWorkWithoutASession(t *testing.T) {
	t.Parallel()
	b := startDev(t, devDir(t), nil, "--json")
	a := announced(t, b)
	b.stderr.waitFor(t, `(?m)^DEMO MODE: whoever reaches `+a.URL+` gets a token for any user, and may write$`)

	var token struct{ Token string }
	code, body := ask(t, http.MethodGet, a.URL+"/api/auth/token?user_id="+demoOwner, "", "")
	if err := json.Unmarshal([]byte(body), &token); err != nil || code != 200 {
		t.Fatalf("token: %d %s", code, body)
	}
	verifyToken(t, token.Token, a.KID, a.Secret, a.Audience[0])
	const applied = `{"message":"applied 1, applied before 0, ignored 0"}` + "\n"
	steps := []struct{ method, body, want string }{
		{"POST", `{"batch":[{"op":"PUT","table":"lists","id":"` + demoList + `","data":{"name":"a","owner_id":"` + demoOwner + `"}}]}`, applied},
		{"PUT", `{"table":"todos","data":{"id":"` + demoList + `","description":"milk","list_id":"` + demoList + `"}}`, applied},
		{"PATCH", `{"table":"todos","data":{"id":"` + demoList + `","completed":1}}`, applied},
		{"DELETE", `{"table":"todos","data":{"id":"` + demoList + `"}}`, applied},
		{"POST", `{"transactions":[{"crud":[{"op":"PATCH","table":"lists","id":"` + demoList + `","op_data":{"name":"b"}}]}]}`, `{"results":[{"status":"success"}]}` + "\n"},
	}
	for _, s := range steps {
		if code, body := ask(t, s.method, a.URL+"/api/data", "", s.body); code != 200 || body != s.want {
			t.Errorf("%s %s: %d %s", s.method, s.body, code, body)
		}
	}

	// With the token the same request is that of its user, under the policies.
	code, body = ask(t, http.MethodPost, a.URL+"/api/data", token.Token, steps[4].body)
	if code != 200 || body != steps[4].want {
		t.Errorf("the owner: %d %s", code, body)
	}
	code, body = ask(t, http.MethodPost, a.URL+"/api/data", a.Users[0].Session, steps[4].body)
	if code != 200 || !strings.Contains(body, `"error_code":"UNAUTHORIZED"`) {
		t.Errorf("another user: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodPost, a.URL+"/upload", "", `{"crud":[]}`); code != 401 {
		t.Errorf("/upload without a session: %d %s", code, body)
	}
	b.mustEnd(t)
}

// With a client id and op ids, what is sent again has no second effect, in any of
// the older shapes either, and gets the same answer.
func TestTheReferenceAPIAppliesOnceWhatItCanRecognise(t *testing.T) {
	t.Parallel()
	b := startDev(t, devDir(t), nil, "--json")
	a := announced(t, b)
	conn, err := pgx.Connect(t.Context(), a.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	session := a.Users[0].Session
	const entry = `"op":"PATCH","table":"lists","id":"` + demoList + `"`
	steps := []struct{ method, first, name string }{
		{"POST", `{"client_id":"c","transactions":[{"transaction_id":1,"crud":[{"op_id":1,"op":"PUT","table":"lists","id":"` + demoList + `","op_data":{"name":"one"}}]}]}`, "one"},
		{"POST", `{"client_id":"c","transactions":[{"transaction_id":2,"crud":[{"op_id":2,` + entry + `,"op_data":{"name":"two"}}]},
			{"transaction_id":3,"crud":[{"op_id":3,` + entry + `,"op_data":{"name":null}}]}]}`, "two"},
		{"POST", `{"client_id":"c","batch":[{"op_id":4,` + entry + `,"data":{"name":"three"}}]}`, "three"},
		{"PATCH", `{"client_id":"c","op_id":5,"table":"lists","data":{"id":"` + demoList + `","name":"four"}}`, "four"},
	}
	name := func() (name string) {
		if err := conn.QueryRow(t.Context(), `SELECT name FROM lists`).Scan(&name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, s := range steps {
		code, first := ask(t, s.method, a.URL+"/api/data", session, s.first)
		if code != 200 || name() != s.name {
			t.Errorf("%s: %d %s; the name is %s", s.first, code, first, name())
		}
		if _, err := conn.Exec(t.Context(), `UPDATE lists SET name = 'of another client'`); err != nil {
			t.Fatal(err)
		}
		code, again := ask(t, s.method, a.URL+"/api/data", session, s.first)
		if code != 200 || name() != "of another client" {
			t.Errorf("%s again: %d %s; the name is %s", s.first, code, again, name())
		}
		if strings.Contains(first, "results") && again != first {
			t.Errorf("answered %s, and then %s", first, again)
		}
	}
	var stored int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM ferry.rejections`).Scan(&stored); err != nil || stored != 1 {
		t.Errorf("%d rejections are stored, %v", stored, err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mustEnd(t)
}

// Whatever else the demo role may have been granted.
func TestTheDemoRoleWritesTheDemoTablesAlone(t *testing.T) {
	t.Parallel()
	b := startDev(t, devDir(t), nil, "--json")
	a := announced(t, b)
	conn, err := pgx.Connect(t.Context(), a.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), `
		CREATE TABLE secrets (id text PRIMARY KEY);
		ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
		CREATE POLICY everybody ON secrets USING (true);
		GRANT ALL ON secrets TO PUBLIC`)
	if err != nil {
		t.Fatal(err)
	}
	const request = `{"transactions":[{"crud":[{"op":"PUT","table":"secrets","id":"1"}]},{"crud":[{"op":"PUT","table":"ferry.progress","id":"1"}]}]}`
	_, body := ask(t, http.MethodPost, a.URL+"/api/data", "", request)
	var got struct{ Results []struct{ Status string } }
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Results) != 2 || got.Results[0].Status != "fatal_error" || got.Results[1].Status != "fatal_error" {
		t.Errorf("answered %s", body)
	}
	var n int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM secrets`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d secrets, %v", n, err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mustEnd(t)
}

func TestServeHasNoDemoMode(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	// What the demo mode of an earlier `ferry dev` on the database would leave.
	db.Exec(t, createListsSQL)
	_, url := startServing(t, serveEnvironment(db.URLAs(r.login, ""), r))
	for _, s := range []struct{ method, path, body string }{
		{"GET", "/api/auth/token", ""},
		{"GET", "/api/auth/token?user_id=" + demoOwner, ""},
		{"POST", "/api/data", `{"batch":[{"op":"PUT","table":"lists","id":"` + demoList + `","data":{"name":"a"}}]}`},
		{"PUT", "/api/data", `{"table":"lists","data":{"id":"` + demoList + `","name":"a"}}`},
		{"PATCH", "/api/data", `{"table":"lists","data":{"id":"` + demoList + `","name":"a"}}`},
		{"DELETE", "/api/data", `{"table":"lists","data":{"id":"` + demoList + `"}}`},
	} {
		if code, body := ask(t, s.method, url+s.path, "", s.body); code != 401 {
			t.Errorf("%s %s: %d %s", s.method, s.path, code, body)
		}
	}
}

const createListsSQL = `
CREATE TABLE lists (id uuid PRIMARY KEY, name text);
ALTER TABLE lists ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON lists USING (true);
GRANT ALL ON lists TO PUBLIC`

func TestDemoNoticeIsRedOnlyOnATerminal(t *testing.T) {
	t.Parallel()
	const want = "DEMO MODE: whoever reaches http://h gets a token for any user, and may write\n" +
		"every row of lists and todos, without signing in. Never use ferry dev for real data.\n\n"
	var buffer bytes.Buffer
	if err := announceDemo(&buffer, "http://h"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, buffer.String()); diff != "" {
		t.Errorf("to a buffer (-want +got):\n%s", diff)
	}
	if got := demoNotice("http://h", true); got != red+strings.TrimSuffix(want, "\n\n")+endOfRed+"\n\n" {
		t.Errorf("to a terminal: %q", got)
	}
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if isTerminal(file) {
		t.Error("a file is taken for a terminal")
	}
	// The nearest to a terminal that every machine has.
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if !isTerminal(device) {
		t.Error("a character device is not taken for a terminal")
	}
}
