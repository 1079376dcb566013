package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/config"
	"ferry/internal/tokens"
)

// keysEnvironment is a whole configuration for `ferry serve`, with a file of
// keys.
func keysEnvironment(databaseURL string, r roles, k *keyring) []string {
	environ := append([]string{}, k.environ...)
	for _, entry := range serveEnvironment(databaseURL, r) {
		if !strings.HasPrefix(entry, "FERRY_TOKEN_") && !strings.HasPrefix(entry, "FERRY_POWERSYNC_URL") {
			environ = append(environ, entry)
		}
	}
	return environ
}

// kidOfToken fetches a token and returns the id of its key.
func kidOfToken(t *testing.T, api string) string {
	t.Helper()
	code, body := ask(t, http.MethodGet, api+"/token", sessionOf(t, "u1"), "")
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != http.StatusOK {
		t.Fatalf("/token: %d %s", code, body)
	}
	return kidOf(t, answer.Token)
}

// kidOf is the id of a token's key.
func kidOf(t *testing.T, token string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	if err != nil {
		t.Fatal(err)
	}
	var header struct{ Kid string }
	if err := json.Unmarshal(text, &header); err != nil {
		t.Fatal(err)
	}
	return header.Kid
}

// Kubernetes swaps a mounted secret by a symbolic link two levels up.
func TestServeTakesChangedKeysWithoutARestart(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	k := newKeyring(t)
	k.must("add", "--kid", "old")
	mounted := filepath.Join(t.TempDir(), "mounted")
	version := func(name, text string) {
		dir := filepath.Join(filepath.Dir(mounted), name)
		link := mounted + ".new"
		for _, err := range []error{
			os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "keys.json"), []byte(text), 0o600),
			os.Symlink(name, link), os.Rename(link, mounted),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	version("1", readFile(t, k.path))
	k.environ[0] = "FERRY_TOKEN_KEYS_FILE=" + filepath.Join(mounted, "keys.json")
	b, api := startServing(t, keysEnvironment(db.URLAs(r.login, ""), r, k))
	if kid := kidOfToken(t, api); kid != "old" {
		t.Errorf("kid %q", kid)
	}

	k.environ[0] = "FERRY_TOKEN_KEYS_FILE=" + k.path
	k.must("add", "--kid", "new")
	k.later(time.Hour)
	k.must("activate", "new")
	version("2", readFile(t, k.path))
	b.stderr.waitFor(t, `"msg":"the token keys were read again".*"kids":\["old","new"\],"active":"new"`)
	if kid := kidOfToken(t, api); kid != "new" {
		t.Errorf("kid %q", kid)
	}
}

func TestServeKeepsItsKeysWhereTheFileBreaks(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	k := newKeyring(t)
	k.must("add", "--kid", "a")
	good := readFile(t, k.path)
	b, api := startServing(t, keysEnvironment(db.URLAs(r.login, ""), r, k))
	const kept = `"level":"ERROR","msg":"the file of token keys cannot be used, and the old keys stay in use"`
	for text, why := range map[string]string{
		`{"keys":[{"kid":"b","kty":"oct","alg":"HS256","k":"dG9wc2VjcmV0"}]}`: `key 1 \(kid \\"b\\"\): its secret \(k\) has 9 bytes`,
		"": `it is empty`,
		`{"keys":[{"kid":"s","kty":"oct","alg":"HS256","k":"` + encoded(sessionKey) + `"}]}`: `token key \\"s\\" is a session secret as well`,
	} {
		k.write(text)
		b.stderr.waitFor(t, kept+`,"file":"[^"]*keys.json","error":"`+why)
		if kid := kidOfToken(t, api); kid != "a" {
			t.Errorf("kid %q", kid)
		}
	}
	if err := os.Remove(k.path); err != nil {
		t.Fatal(err)
	}
	b.stderr.waitFor(t, kept+`.*does not exist`)
	k.write(good)
	b.stderr.waitFor(t, `"msg":"the token keys were read again"`)
	if got := strings.Count(b.stderr.String(), kept); got != 4 {
		t.Errorf("%d errors, want one for each of 4", got)
	}
	if log := b.stderr.String(); strings.Contains(log, "dG9wc2VjcmV0") || strings.Contains(log, encoded(sessionKey)) {
		t.Errorf("the log shows a secret:\n%s", log)
	}
}

func TestServePublishesKeys(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	k := newKeyring(t)
	k.must("add", "--kid", "a")
	_, api := startServing(t, keysEnvironment(db.URLAs(r.login, ""), r, k))
	for _, path := range []string{"/.well-known/jwks.json", "/api/auth/keys"} {
		if code, body := ask(t, http.MethodGet, api+path, "", ""); code != http.StatusOK || body+"\n" != k.must("export") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestServeRefusesATokenKeyThatIsASessionSecret(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	k := newKeyring(t)
	k.write(`{"keys":[{"kid":"s","kty":"oct","alg":"HS256","k":"` + encoded(sessionKey) + `"}]}`)
	got := run(t, keysEnvironment(db.URLAs(r.login, ""), r, k), "serve")
	if got.Code != exitError || !strings.Contains(got.Stderr, `FERRY_SESSION_SECRET: the same key as token key "s"; whoever holds a sync token's key could sign in as anyone`) {
		t.Errorf("exit code %d, stderr %s", got.Code, got.Stderr)
	}
}

// SIGHUP would end the test itself: ferry runs in a process of its own.
func TestSIGHUPMakesServeReadItsKeysAtOnce(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	k := newKeyring(t)
	k.must("add", "--kid", "a")
	p := startServingProcess(t, keysEnvironment(db.URLAs(r.login, ""), r, k))
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.stderr.waitFor(t, `"msg":"the token keys were read again".*"kids":\["a"\]`) // though nothing has changed
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, p.stderr)
	}
}

// Keys change by SIGHUP and by themselves while clients ask for tokens: none is
// refused one, and each is signed with a key that is published then.
func TestKeysChangeUnderLoadWithoutAFailedRequest(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	k := newKeyring(t)
	k.must("add", "--kid", "a")
	p := startServingProcess(t, keysEnvironment(db.URLAs(r.login, ""), r, k))
	ctx, stop := context.WithCancel(t.Context())
	var (
		clients  sync.WaitGroup
		latest   sync.Map // kid → token
		asked    atomic.Int64
		answered = make(chan struct{}) // to whoever waits for it
	)
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				// Each for a user of its own, whose limit it does not reach.
				session := sessionOf(t, fmt.Sprint("u", asked.Add(1)))
				code, body := ask(t, http.MethodGet, p.api+"/token", session, "")
				var answer struct{ Token string }
				if err := json.Unmarshal([]byte(body), &answer); err != nil || code != http.StatusOK {
					t.Errorf("/token: %d %s", code, body)
					stop()
					return
				}
				if code, body := ask(t, http.MethodGet, p.api+"/.well-known/jwks.json", "", ""); code != http.StatusOK || !json.Valid([]byte(body)) {
					t.Errorf("the keys: %d %s", code, body)
				}
				latest.Store(kidOf(t, answer.Token), answer.Token)
				select {
				case answered <- struct{}{}:
				default:
				}
			}
		})
	}
	served := func(kids, active string, hurry bool) {
		t.Helper()
		if hurry {
			if err := p.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
		p.stderr.waitFor(t, `"msg":"the token keys were read again".*"kids":\[`+kids+`\],"active":"`+active+`"`)
		for range 8 { // whatever was under way has ended
			select {
			case <-answered:
			case <-ctx.Done():
			}
		}
	}
	k.must("add", "--kid", "b")
	served(`"a","b"`, "a", true)
	k.later(time.Hour)
	k.must("activate", "b")
	served(`"a","b"`, "b", false)
	for _, kid := range []string{"a", "b"} {
		token, found := latest.Load(kid)
		if !found {
			t.Fatalf("no token of key %q", kid)
		}
		mustRun(t, k.environ, "token", "inspect", token.(string))
	}
	k.later(24 * time.Hour)
	k.must("retire", "a")
	served(`"b"`, "b", true)
	latest.Delete("a")
	served(`"b"`, "b", true)
	stop()
	clients.Wait()
	if _, found := latest.Load("a"); found {
		t.Error("a retired key still signs")
	}
}

// What is asked for is looked at, and said, each time; what is not, once.
func TestTheWatcherSaysWhatItDoesOnce(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	k.must("add", "--kid", "a")
	log := newOutput()
	used := 0
	w := &keyWatcher{
		token:  config.Token{KeysFile: k.path, Keys: config.NewSecret(strings.TrimSuffix(readFile(t, k.path), "\n"))},
		accept: func(token config.Token) (tokens.KeySet, error) { return servingKeys(token, nil) },
		use:    func(tokens.KeySet) error { used++; return nil },
		log:    slog.New(slog.NewTextHandler(log, nil)),
	}
	ticks, signals := make(chan time.Time), make(chan os.Signal)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.watch(ctx, ticks, signals)
	}()
	type counts struct{ Used, Errors, Infos int }
	var got []counts
	note := func() { // a step is over once the next one is taken
		ticks <- time.Time{}
		ticks <- time.Time{}
		text := log.String()
		got = append(got, counts{used, strings.Count(text, "level=ERROR"), strings.Count(text, "level=INFO")})
	}
	note() // nothing has changed
	signals <- syscall.SIGHUP
	note()
	k.write("{")
	note()
	signals <- syscall.SIGHUP
	note()
	if err := os.Remove(k.path); err != nil {
		t.Fatal(err)
	}
	note()
	k.must("add", "--kid", "b")
	note()
	cancel()
	<-ended
	want := []counts{{0, 0, 0}, {1, 0, 1}, {1, 1, 1}, {1, 2, 1}, {1, 3, 1}, {2, 3, 2}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after each step (-want +got):\n%s\n%s", diff, log)
	}
}
