package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"ferry/internal/postgres/devcluster"
	"ferry/internal/tokens"
)

// devDir returns a folder for `ferry dev` that every account can enter, as the
// server's must; its Postgres is removed at the end of the test.
func devDir(t *testing.T) string {
	t.Helper()
	parent, err := os.MkdirTemp("/tmp", "ferry-dev-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(parent, 0o755); err != nil { //nolint:gosec // see above
		t.Fatal(err)
	}
	dir := filepath.Join(parent, ".ferry")
	t.Cleanup(func() {
		if err := devcluster.Remove(context.Background(), dir); err != nil {
			t.Error(err)
		}
		os.RemoveAll(parent)
	})
	return dir
}

// startDev starts `ferry dev` in this process, on any free port.
func startDev(t *testing.T, dir string, environ []string, args ...string) *background {
	t.Helper()
	args = append([]string{"dev", "--dir", dir}, args...)
	if !strings.Contains(strings.Join(args, " "), "--listen") {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	return start(t, environ, args...)
}

// announced waits for the line of --json.
func announced(t *testing.T, b *background) announcement {
	t.Helper()
	return parseAnnouncement(t, b.stdout.waitFor(t, `(?m)^(\{.*\})\n`)[1])
}

func parseAnnouncement(t *testing.T, line string) announcement {
	t.Helper()
	var a announcement
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return a
}

// lasting is what a start shares with the one before.
type lasting struct {
	KID, Secret   string
	Audience      []string
	Users         []devUser
	OwnerPassword string
}

func lastingOf(t *testing.T, a announcement) lasting {
	t.Helper()
	config, err := pgx.ParseConfig(a.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	l := lasting{KID: a.KID, Secret: a.Secret, Audience: a.Audience, OwnerPassword: config.Password}
	for _, u := range a.Users {
		l.Users = append(l.Users, u.devUser)
	}
	return l
}

func (b *background) mustEnd(t *testing.T) {
	t.Helper()
	b.stop()
	if code := b.wait(t); code != exitOK {
		t.Fatalf("exit code %d:\n%s", code, b.stderr)
	}
}

const listRow = `{"client_id":"phone","crud":[{"op_id":1,"op":"PUT","type":"lists","id":"00000000-0000-4000-8000-000000000001","data":{"name":"kept"}}]}`

// uploadList uploads listRow as the first demo user.
func uploadList(t *testing.T, a announcement) (applied, duplicates int) {
	t.Helper()
	code, body := ask(t, http.MethodPost, a.URL+"/upload", a.Users[0].Session, listRow)
	var result struct{ Applied, Duplicates int }
	if err := json.Unmarshal([]byte(body), &result); err != nil || code != 200 {
		t.Fatalf("/upload: %d %s", code, body)
	}
	return result.Applied, result.Duplicates
}

// rows counts the rows of lists as the role of a connection string sees them.
func rows(t *testing.T, url string) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var n int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM lists`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDevKeepsEverythingBetweenStarts(t *testing.T) {
	t.Parallel()
	dir := devDir(t)
	// What a shell has set for the app's real database is not for this one.
	environ := []string{"DATABASE_URL=postgres://u@localhost/real?host=/nowhere", "FERRY_MIGRATE_DATABASE_URL_FILE=/nowhere"}
	first := startDev(t, dir, environ, "--json")
	a := announced(t, first)
	if code := status(t, a.URL+"/readyz"); code != 200 {
		t.Errorf("/readyz %d", code)
	}
	if applied, duplicates := uploadList(t, a); applied != 1 || duplicates != 0 {
		t.Errorf("applied %d, duplicates %d", applied, duplicates)
	}
	if owner, replication := rows(t, a.DatabaseURL), rows(t, a.ReplicationURL); owner != 1 || replication != 1 {
		t.Errorf("the owner sees %d lists, the PowerSync Service %d", owner, replication)
	}
	first.mustEnd(t)
	if conn, err := pgx.Connect(t.Context(), a.DatabaseURL); err == nil {
		conn.Close(t.Context())
		t.Error("Postgres still runs")
	}

	started := time.Now()
	second := startDev(t, dir, environ, "--json")
	b := announced(t, second)
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("the second start took %s", took)
	} else {
		t.Logf("the second start took %s", took)
	}
	if diff := cmp.Diff(lastingOf(t, a), lastingOf(t, b)); diff != "" {
		t.Errorf("what lasts (-first +second):\n%s", diff)
	}
	b.Users[0].Session = a.Users[0].Session // the old one is good for 30 days
	if applied, duplicates := uploadList(t, b); applied != 0 || duplicates != 1 {
		t.Errorf("the same again: applied %d, duplicates %d", applied, duplicates)
	}
	second.mustEnd(t)
}

func TestDevPrintsWhatWorksAsPasted(t *testing.T) {
	t.Parallel()
	dir := devDir(t)
	b := startDev(t, dir, nil)
	text := b.stdout.waitFor(t, `(?s)^\n(ferry answers at .*)\n\n$`)[1]

	var token struct {
		Endpoint string
		Token    string
		UserID   string `json:"user_id"`
	}
	curls := regexp.MustCompile(`(?m)^curl (?:.*\\\n)*.*$`).FindAllString(text, -1)
	if len(curls) != 2 {
		t.Fatalf("%d curl commands in\n%s", len(curls), text)
	}
	paste(t, curls[0], &token)
	type counts struct{ Applied, Duplicates int }
	var uploads [2]counts
	for i := range uploads {
		paste(t, curls[1], &uploads[i])
	}
	if diff := cmp.Diff([2]counts{{Applied: 1}, {Duplicates: 1}}, uploads); diff != "" {
		t.Errorf("uploads (-want +got):\n%s", diff)
	}
	if n := rows(t, find(t, text, `(?m)^psql '(.*)'$`)); n != 1 {
		t.Errorf("%d lists", n)
	}

	yaml := find(t, text, `(?s)\n(client_auth:\n.*?)\n\n`) + "\n"
	kid, secret := find(t, yaml, `kid: "(.*)"`), find(t, yaml, `k: "(.*)"`)
	audience := find(t, yaml, `audience: \["(.*)"\]`)
	if want := clientAuthYAML(hs256JWKs(t, kid, secret), []string{audience}); yaml != want {
		t.Errorf("block\n%s\nwant\n%s", yaml, want)
	}
	if token.Endpoint != audience {
		t.Errorf("endpoint %q, audience %q", token.Endpoint, audience)
	}
	verifyToken(t, token.Token, kid, secret, audience)
	for _, want := range []string{
		"alice, user id " + token.UserID + "\n",
		"base64url already: do not encode it again",
		"\n\n" + kid + "\n" + secret + "\n" + audience, // for the dashboard
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	b.mustEnd(t)
}

// paste runs a command as a person would, and decodes what it prints.
func paste(t *testing.T, command string, answer any) {
	t.Helper()
	for _, program := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("pasting needs %s: %v", program, err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "bash", "-c", command).CombinedOutput()
	if err == nil {
		err = json.Unmarshal(out, answer)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// verifyToken checks a sync token as the PowerSync Service does: by the key
// with its kid, for its audience.
func verifyToken(t *testing.T, token, kid, secret, audience string) {
	t.Helper()
	decoded, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tokens.NewHS256Key(kid, decoded)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := tokens.NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := tokens.NewIssuer(tokens.Options{
		Keys: keys, Audience: []string{audience}, TTL: time.Hour, Endpoint: audience, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(token); err != nil {
		t.Errorf("the token does not verify: %v", err)
	}
}

func TestDevTakesAnotherPortForPostgresWhereItsOwnIsTaken(t *testing.T) {
	t.Parallel()
	dir := devDir(t)
	first := startDev(t, dir, nil, "--json")
	a := announced(t, first)
	first.mustEnd(t)
	taken, err := net.Listen("tcp", hostPort(t, a.DatabaseURL))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	second := startDev(t, dir, nil, "--json")
	b := announced(t, second)
	if hostPort(t, a.DatabaseURL) == hostPort(t, b.DatabaseURL) {
		t.Errorf("Postgres is at %s again", hostPort(t, a.DatabaseURL))
	}
	if n := rows(t, b.DatabaseURL); n != 0 {
		t.Errorf("%d lists", n)
	}

	// A second `ferry dev` on the folder says so, and changes nothing there.
	saved := readFile(t, filepath.Join(dir, "dev.json"))
	got := run(t, nil, "dev", "--dir", dir, "--listen", "127.0.0.1:0")
	want := result{Code: exitError, Stderr: fmt.Sprintf(
		"ferry: the Postgres of %s is in use by process %d: stop that one first, or choose another folder\n", dir, os.Getpid())}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a second one (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(saved, readFile(t, filepath.Join(dir, "dev.json"))); diff != "" {
		t.Errorf("the second one changed dev.json:\n%s", diff)
	}

	// So does one whose own address is taken; its Postgres ends with it.
	api, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	second.mustEnd(t)
	got = run(t, nil, "dev", "--dir", dir, "--listen", api.Addr().String())
	if got.Code != exitError || !strings.Contains(got.Stderr, "another program listens on "+api.Addr().String()) {
		t.Errorf("exit code %d, stderr\n%s", got.Code, got.Stderr)
	}
}

func TestDevTakesAnotherPortIfItsOwnIsTakenMeanwhile(t *testing.T) {
	t.Parallel()
	d, err := openDevFolder(devDir(t))
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := taken.Addr().(*net.TCPAddr).Port
	d.PostgresPort = busy
	cluster, err := startDevCluster(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer stopDevCluster(t.Context(), cluster, slog.New(slog.DiscardHandler))
	if d.PostgresPort == busy {
		t.Error("Postgres is where another program listens")
	}
}

func hostPort(t *testing.T, url string) string {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s:%d", config.Host, config.Port)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for _, same := range []string{"127.0.0.1:6060", "[::1]:6060", "192.0.2.7:1", "localhost:2", "not an address"} {
		if got := reachable(same); got != same {
			t.Errorf("reachable(%q) = %q", same, got)
		}
	}
	for _, all := range []string{":6060", "0.0.0.0:6060", "[::]:6060"} {
		host, port, err := net.SplitHostPort(reachable(all))
		if ip := net.ParseIP(host); err != nil || port != "6060" || ip == nil || ip.IsUnspecified() {
			t.Errorf("reachable(%q) = %q", all, reachable(all))
		}
	}
}

func TestLocalOrigins(t *testing.T) {
	t.Parallel()
	for origin, want := range map[string]bool{
		"http://localhost": true, "http://localhost:5173": true, "https://localhost:5173": true, "http://127.0.0.1:3000": true,
		"http://[::1]:3000": true, "http://app.localhost:3000": true, "capacitor://localhost": true,
		"": false, "null": false, "http://localhost.example.com": false, "http://example.com": false, "ftp://localhost": false,
		"http://192.0.2.1": false, "capacitor://example": false, "http://%zz": false,
	} {
		if got := isLocalOrigin(origin); got != want {
			t.Errorf("isLocalOrigin(%q) = %t", origin, got)
		}
	}
}
