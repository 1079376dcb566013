//go:build linux

package faults_test

import (
	"context"
	_ "embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/internal/identity"
)

const (
	login      = "faults_login"
	sessionKey = "the session key of the tests, 32+ bytes"
	tokenKey   = "the token key of the tests, over 32 bytes"
)

//go:embed testdata/app.sql
var appSQL string

// prepare makes the app's tables and schema ferry, in an empty database.
func prepare(t *testing.T, binary, owner string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	exec1 := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	exec1("CREATE ROLE " + login + " LOGIN PASSWORD '" + password + "'")
	migrate := exec.CommandContext(t.Context(), binary, "migrate", "up", "--grant-to", login)
	migrate.Env = append(environment(owner), "FERRY_MIGRATE_DATABASE_URL="+owner)
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("ferry migrate up: %v\n%s", err, out)
	}
	exec1(appSQL)
}

// environment are ferry's variables, but for where it listens.
func environment(database string) []string {
	encoded := base64.RawURLEncoding.EncodeToString
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"DATABASE_URL=" + database,
		"FERRY_POWERSYNC_URL=https://sync.example.com",
		"FERRY_TOKEN_KID=k1",
		"FERRY_TOKEN_SECRET=" + encoded([]byte(tokenKey)),
		"FERRY_SESSION_SECRET=" + encoded([]byte(sessionKey)),
	}
}

// signIn gives a user a session that outlives every jump of a clock.
func signIn(t *testing.T, user string) string {
	t.Helper()
	const days = 24 * time.Hour
	session, err := identity.SignSession([]byte(sessionKey), user, "", "", time.Now().Add(-30*days), 60*days)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// ferry is one process of ferry.
type ferry struct {
	*process
	address string
	path    *link // to Postgres, where it is one that can be made worse
	clock   *clock
}

// newFerry starts one in front of the Postgres at an address.
func newFerry(t *testing.T, binary, name, database string) *ferry {
	t.Helper()
	path := newLink(t, database)
	f := startFerry(t, binary, name, databaseURL(login, path.address())+"&pool_max_conns=6")
	f.path = path
	return f
}

// startFerry starts one that connects to url.
func startFerry(t *testing.T, binary, name, url string) *ferry {
	t.Helper()
	f := &ferry{address: freeAddress(t), clock: newClock(t)}
	f.process = newProcess(t, name, append(
		environment(url),
		"FERRY_LISTEN="+f.address,
		"FERRY_ADMIN_LISTEN=127.0.0.1:0",
		"CLOCK_OFFSET_FILE="+f.clock.file.Name(),
	), binary, "serve")
	if err := f.start(); err != nil {
		t.Fatal(err)
	}
	return f
}

// serves is whether it answers at all: before that, a request to stop may find
// a program that does not listen to signals yet.
func (f *ferry) serves() bool {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + f.address + "/healthz") //nolint:noctx // it has a timeout
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// newProxy starts haproxy in front of ferries and returns its address. It does
// what its manual recommends for HTTP services: it asks each for its health at
// a path, and sends a request elsewhere only if it never reached its server.
func newProxy(t *testing.T, health string, ferries ...*ferry) string {
	t.Helper()
	address := freeAddress(t)
	var config strings.Builder
	fmt.Fprintf(&config, `
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout http-request 60s
  option redispatch
  retries 2
frontend api
  bind %s
  default_backend ferry
backend ferry
  balance roundrobin
  option httpchk GET %s
  timeout check 2s
`, address, health)
	for _, f := range ferries {
		fmt.Fprintf(&config, "  server %s %s check inter 250ms fall 2 rise 1\n", f.name, f.address)
	}
	startHAProxy(t, "haproxy", config.String())
	return address
}

// startHAProxy starts Debian's haproxy with a configuration.
func startHAProxy(t *testing.T, name, config string) {
	t.Helper()
	binary := need(t, "haproxy", "haproxy")
	path := filepath.Join(t.TempDir(), name+".cfg")
	write(t, path, config)
	if err := newProcess(t, name, nil, binary, "-db", "-f", path).start(); err != nil {
		t.Fatal(err)
	}
}

// awaitReady waits until an address answers /readyz with 200.
func awaitReady(ctx context.Context, address string) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		response, err := client.Get("http://" + address + "/readyz") //nolint:noctx // it has a timeout
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", address, ctx.Err())
		}
	}
}

// newAlone starts a Postgres and one ferry of usual size before it.
func newAlone(t *testing.T, settings ...string) (*server, *ferry) {
	t.Helper()
	database := newServer(t, settings...)
	binary := build(t)
	prepare(t, binary, database.url("postgres"))
	f := startFerry(t, binary, "ferry", database.url(login))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := awaitReady(ctx, f.address); err != nil {
		t.Fatal(err)
	}
	return database, f
}
