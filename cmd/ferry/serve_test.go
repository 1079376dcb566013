package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"ferry/internal/identity"
	"ferry/internal/postgres/postgrestest"
)

const (
	sessionKey = "the session key of the tests, 32+ bytes"
	tokenKey   = "the token key of the tests, over 32 bytes"
)

func encoded(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

// serveEnvironment is a whole configuration for `ferry serve`.
func serveEnvironment(databaseURL string, r roles) []string {
	return []string{
		"DATABASE_URL=" + withPassword(databaseURL),
		"FERRY_UPLOAD_ROLE=" + r.upload,
		"FERRY_LISTEN=127.0.0.1:0",
		"FERRY_ADMIN_LISTEN=127.0.0.1:0",
		"FERRY_POWERSYNC_URL=https://sync.example.com",
		"FERRY_TOKEN_KID=k1",
		"FERRY_TOKEN_SECRET=" + encoded(tokenKey),
		"FERRY_SESSION_SECRET=" + encoded(sessionKey),
	}
}

// withPassword adds a password, which the tests' Postgres does not ask for, and
// which nobody is to see.
func withPassword(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		panic(err)
	}
	u.User = url.UserPassword(u.User.Username(), "the-password-of-the-login-role")
	return u.String()
}

// startServing starts `ferry serve` and returns the API's URL as well.
func startServing(t *testing.T, environ []string) (*background, string) {
	t.Helper()
	b := start(t, environ, "serve")
	return b, "http://" + b.stderr.waitFor(t, `"msg":"ferry listens".*"address":"([^"]+)"`)[1]
}

// servingProcess is `ferry serve` in a process of its own.
type servingProcess struct {
	*exec.Cmd
	stderr *output
	api    string
}

// startServingProcess returns once it answers requests.
func startServingProcess(t *testing.T, environ []string) *servingProcess {
	t.Helper()
	p := &servingProcess{Cmd: exec.Command(self(t), "serve"), stderr: newOutput()}
	p.Env = append(environ, runVariable+"=1")
	p.Stderr = p.stderr
	usesSecrets(environ)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill() // fails if it has ended
		_ = p.Wait()
		secrets.Wrote(t.Name(), p.stderr.String())
	})
	p.api = "http://" + p.stderr.waitFor(t, `"msg":"ferry listens".*"address":"([^"]+)"`)[1]
	return p
}

// ask sends a request and returns status and body.
func ask(t *testing.T, method, url, bearer, body string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	secrets.Uses(bearer)
	if response.StatusCode < http.StatusBadRequest {
		usesIssued(answer)
	} else {
		secrets.Wrote(t.Name(), string(answer))
	}
	return response.StatusCode, string(answer)
}

// usesIssued notes the token that an answer gives, if it gives one.
func usesIssued(answer []byte) {
	var issued struct {
		Token   string `json:"token"`
		Session string `json:"session_token"`
	}
	if json.Unmarshal(answer, &issued) == nil {
		secrets.Uses(issued.Token, issued.Session)
	}
}

// status asks for the status of a page.
func status(t *testing.T, url string) int {
	t.Helper()
	code, _ := ask(t, http.MethodGet, url, "", "")
	return code
}

func sessionOf(t *testing.T, user string) string {
	t.Helper()
	session, err := identity.SignSession([]byte(sessionKey), user, "", "", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// newMigrated returns a database that ferry can serve, with a table notes.
func newMigrated(t *testing.T) (*postgrestest.Database, roles) {
	t.Helper()
	db, r := newDatabase(t)
	mustRun(t, migrateEnvironment(db, r), "migrate", "up", "--grant-to", r.login)
	db.Exec(t, strings.ReplaceAll(`
		CREATE TABLE notes (id uuid PRIMARY KEY, text text);
		ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
		CREATE POLICY everybody ON notes TO $upload USING (true);
		GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO $upload`, "$upload", r.upload))
	return db, r
}

// Everything that an identity provider is asked for goes over HTTP for real.
func TestServeFindsAnIssuersKeysByDiscovery(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	provider := httptest.NewServer(mux)
	defer provider.Close()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/jwks"}`, provider.URL, provider.URL)
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1"}}})
	})
	environ := append(serveEnvironment(db.URLAs(r.login, ""), r), "FERRY_SESSION_SECRET=", "FERRY_SESSION_ISSUER="+provider.URL, "FERRY_SESSION_AUDIENCE=app")
	_, url := startServing(t, environ)

	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	session := func(audience string) string {
		token, err := jwt.Signed(signer).Claims(jwt.Claims{
			Issuer: provider.URL, Audience: jwt.Audience{audience}, Subject: "u1", Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
		}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	if code, body := ask(t, http.MethodGet, url+"/token", session("app"), ""); code != http.StatusOK || !strings.Contains(body, `"user_id":"u1"`) {
		t.Errorf("a good session: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodGet, url+"/token", session("another"), ""); code != http.StatusUnauthorized {
		t.Errorf("another audience: %d %s", code, body)
	}
}

func TestServeReportsAllMistakesOfTheConfigurationAtOnce(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("topsecret-short"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := run(t, []string{
		"DATABASE_URL=mysql://u:topsecret@h/d",
		"FERRY_LISTEN=nowhere",
		"FERRY_TOKEN_SECRET_FILE=" + secret,
		"FERRY_SESSION_SECRET_TEXT=topsecret",
		"FERRY_UPLOAD_ROLE=\"topsecret\"",
		"FERRY_SESION_SECRET=topsecret",
	}, "serve")
	if got.Code != exitError || got.Stdout != "" {
		t.Errorf("exit code %d, stdout %q", got.Code, got.Stdout)
	}
	if strings.Contains(got.Stderr, "topsecret") {
		t.Errorf("a value is shown:\n%s", got.Stderr)
	}
	lines := strings.Split(strings.TrimSpace(got.Stderr), "\n")
	var names []string
	for _, line := range lines[1:] {
		name, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		names = append(names, name)
	}
	want := []string{
		"DATABASE_URL", "FERRY_LISTEN", "FERRY_POWERSYNC_URL", "FERRY_TOKEN_KID", "FERRY_TOKEN_SECRET",
		"FERRY_SESSION_SECRET_TEXT", "FERRY_UPLOAD_ROLE", "FERRY_SESION_SECRET",
	}
	if diff := cmp.Diff(lines[0], "ferry: environment variables to set or change (ferry serve --help lists all):"); diff != "" {
		t.Errorf("first line:\n%s", diff)
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("variables (-want +got):\n%s\nin\n%s", diff, got.Stderr)
	}
}

func TestServeRefusesAnUnsafeUploadRole(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ sql, want string }{
		"superuser": {
			`ALTER ROLE $upload SUPERUSER`,
			`it is a superuser; run: ALTER ROLE $upload NOSUPERUSER`,
		},
		"BYPASSRLS": {
			`ALTER ROLE $upload BYPASSRLS`,
			`it bypasses row-level security; run: ALTER ROLE $upload NOBYPASSRLS`,
		},
		"owner of a table": {
			`ALTER TABLE notes OWNER TO $upload`,
			`it owns table public.notes, and an owner is above the policies; run: REASSIGN OWNED BY $upload TO …`,
		},
		"member of an owner": {
			`ALTER TABLE notes OWNER TO $migrator; GRANT $migrator TO $upload`,
			`it is a member of $migrator, which owns table public.notes, and an owner is above the policies; run: REVOKE $migrator FROM $upload`,
		},
		"rights on schema ferry": {
			`GRANT USAGE ON SCHEMA ferry TO $upload`,
			`it has rights on schema ferry; run: ferry migrate up`,
		},
		"member of pg_write_all_data": {
			`GRANT pg_write_all_data TO $upload`,
			`it is a member of pg_write_all_data, which goes beyond the grants on the app's tables; run: REVOKE pg_write_all_data FROM $upload`,
		},
		"missing": {
			`DROP OWNED BY $upload; DROP ROLE $upload`,
			`it does not exist; run: ferry migrate up`,
		},
		"not granted": {
			`REVOKE $upload FROM $login`,
			`the role that ferry connects as, $login, may not act as it; run: ferry migrate up --grant-to $login`,
		},
		"the login role": {
			`REVOKE ferry_service FROM $login; GRANT USAGE ON SCHEMA ferry TO $login; GRANT SELECT ON ferry.goose_db_version TO $login`,
			`it is the role that ferry connects as; set FERRY_UPLOAD_ROLE to a role for uploads alone, such as authenticated`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, r := newMigrated(t)
			named := strings.NewReplacer("$upload", r.upload, "$login", r.login, "$migrator", r.migrator).Replace
			db.Exec(t, named(test.sql))
			environ := serveEnvironment(db.URLAs(r.login, ""), r)
			if name == "the login role" {
				environ = append(environ, "FERRY_UPLOAD_ROLE="+r.login)
			}
			got := run(t, environ, "serve")
			if got.Code != exitError || !strings.Contains(got.Stderr, "must not be used for uploads") ||
				!strings.Contains(got.Stderr, named(test.want)+"\n") {
				t.Errorf("exit code %d, no %q in\n%s", got.Code, named(test.want), got.Stderr)
			}
		})
	}
}

func TestServeStartsWithoutItsDatabaseAndGetsReadyByItself(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	// A socket that nobody listens on yet.
	dir, err := os.MkdirTemp("/tmp", "ferry-away-") // t.TempDir() may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	away := fmt.Sprintf("postgres://%s:hidden-secret@/%s?host=%s&port=5432", r.login, db.Name, dir)
	b, api := startServing(t, serveEnvironment(away, r))
	if alive, ready := status(t, api+"/healthz"), status(t, api+"/readyz"); alive != 200 || ready != 503 {
		t.Errorf("without a database: /healthz %d, /readyz %d", alive, ready)
	}
	session := sessionOf(t, "u1")
	// Nobody can tell whether the user may still use the app.
	if code, _ := ask(t, http.MethodGet, api+"/token", session, ""); code != 503 {
		t.Errorf("without a database: /token %d", code)
	}
	if code, body := ask(t, http.MethodPost, api+"/upload", session, `{"crud":[]}`); code != 503 {
		t.Errorf("without a database: /upload %d %s", code, body)
	}

	forward(t, filepath.Join(dir, ".s.PGSQL.5432"), db.URL)
	if code, body := ask(t, http.MethodGet, api+"/readyz", "", ""); code != 200 {
		t.Errorf("with the database: /readyz %d %s", code, body)
	}
	if code, body := ask(t, http.MethodGet, api+"/token", session, ""); code != 200 {
		t.Errorf("with the database: /token %d %s", code, body)
	}
	b.stop()
	if code := b.wait(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if strings.Contains(b.stderr.String(), "hidden-secret") {
		t.Errorf("the log shows the password:\n%s", b.stderr)
	}
}

// forward makes a Unix socket lead to the server of a database.
func forward(t *testing.T, path, databaseURL string) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	server := filepath.Join(u.Query().Get("host"), ".s.PGSQL."+u.Query().Get("port"))
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				far, err := net.Dial("unix", server)
				if err != nil {
					return
				}
				defer far.Close()
				go func() {
					_, _ = io.Copy(far, near)
					far.Close()
				}()
				_, _ = io.Copy(near, far)
			}()
		}
	}()
}

func TestServeIsReadyOnceTheDatabaseIsMigrated(t *testing.T) {
	t.Parallel()
	db, r := newDatabase(t)
	b, api := startServing(t, serveEnvironment(db.URLAs(r.login, ""), r))
	if code, body := ask(t, http.MethodGet, api+"/readyz", "", ""); code != 503 || !strings.Contains(body, "run: ferry migrate up") {
		t.Errorf("before: /readyz %d %s", code, body)
	}
	mustRun(t, migrateEnvironment(db, r), "migrate", "up")
	if code, body := ask(t, http.MethodGet, api+"/readyz", "", ""); code != 503 || !strings.Contains(body, "--grant-to ROLE") {
		t.Errorf("without grants: /readyz %d %s", code, body)
	}
	mustRun(t, migrateEnvironment(db, r), "migrate", "up", "--grant-to", r.login)
	if code, body := ask(t, http.MethodGet, api+"/readyz", "", ""); code != 200 {
		t.Errorf("after: /readyz %d %s", code, body)
	}
	db.Exec(t, `ALTER ROLE `+r.upload+` BYPASSRLS`)
	if code := status(t, api+"/readyz"); code != 503 {
		t.Errorf("with an unsafe role: /readyz %d", code)
	}
	b.stderr.waitFor(t, `it bypasses row-level security`)
}

func TestServeFinishesRunningRequestsWhenItIsStopped(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	b, api := startServing(t, serveEnvironment(db.URLAs(r.login, ""), r))
	conn, err := net.Dial("tcp", strings.TrimPrefix(api, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	const body = `{"client_id":"c","crud":[{"op_id":1,"op":"PUT","type":"notes","id":"00000000-0000-4000-8000-000000000001","data":{"text":"t"}}]}`
	fmt.Fprintf(conn, "POST /upload HTTP/1.1\r\nHost: ferry\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", sessionOf(t, "u1"), len(body))
	in := bufio.NewReader(conn)
	// The request runs once ferry asks for its body.
	if line, err := in.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("answer %q, error %v", line, err)
	}
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.stderr.waitFor(t, "ferry stops once running requests are answered")
	if _, err := io.WriteString(conn, body); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var result struct{ Applied int }
	if err := json.NewDecoder(response.Body).Decode(&result); err != nil || response.StatusCode != 200 || result.Applied != 1 {
		t.Errorf("status %d, applied %d, error %v", response.StatusCode, result.Applied, err)
	}
	if code := b.wait(t); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, b.stderr)
	}
}

func TestServeSaysThatAnAddressIsTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	db, r := newMigrated(t)
	for _, variable := range []string{"FERRY_LISTEN", "FERRY_ADMIN_LISTEN"} {
		environ := append(serveEnvironment(db.URLAs(r.login, ""), r), variable+"="+taken.Addr().String())
		got := run(t, environ, "serve")
		want := fmt.Sprintf("ferry: another program listens on %s: stop it, or choose another address (%s)\n", taken.Addr(), variable)
		if got.Code != exitError || !strings.HasSuffix(got.Stderr, want) {
			t.Errorf("exit code %d, stderr\n%s\nwant\n%s", got.Code, got.Stderr, want)
		}
	}
}

func TestProfilesAreOnTheAdminAddressAlone(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	b, api := startServing(t, serveEnvironment(db.URLAs(r.login, ""), r))
	admin := "http://" + b.stderr.waitFor(t, `"admin":"([^"]+)"`)[1]
	const page = "/debug/pprof/cmdline"
	if inside, outside := status(t, admin+page), status(t, api+page); inside != 200 || outside != 404 {
		t.Errorf("%s: admin %d, API %d", page, inside, outside)
	}
}

func TestHealthcheckAsksARunningServer(t *testing.T) {
	t.Parallel()
	db, r := newDatabase(t)
	b, api := startServing(t, serveEnvironment(db.URLAs(r.login, ""), r))
	environ := []string{"FERRY_LISTEN=" + strings.TrimPrefix(api, "http://")}
	check := func(what string, want result, args ...string) {
		t.Helper()
		if diff := cmp.Diff(want, run(t, environ, append([]string{"healthcheck"}, args...)...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("alive", result{Stdout: "ok\n"})
	check("not ready", result{Code: exitError, Stderr: "ferry: /readyz answered 503 Service Unavailable\n"}, "--ready")
	mustRun(t, migrateEnvironment(db, r), "migrate", "up", "--grant-to", r.login)
	check("ready", result{Stdout: "ok\n"}, "--ready")
	b.stop()
	if code := b.wait(t); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	got := run(t, environ, "healthcheck")
	if got.Code != exitError || !strings.Contains(got.Stderr, "connection refused") {
		t.Errorf("stopped: exit code %d, stderr %s", got.Code, got.Stderr)
	}
}

func TestDialable(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		":6060":           "127.0.0.1:6060",
		"0.0.0.0:6060":    "127.0.0.1:6060",
		"[::]:6060":       "127.0.0.1:6060",
		"[::1]:6060":      "[::1]:6060",
		"10.0.0.1:6060":   "10.0.0.1:6060",
		"localhost:6060":  "localhost:6060",
		"not an address":  "not an address",
		"ferry.test:6060": "ferry.test:6060",
	} {
		if got := dialable(listen); got != want {
			t.Errorf("dialable(%q) = %q, want %q", listen, got, want)
		}
	}
}
