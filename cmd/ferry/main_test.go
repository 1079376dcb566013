package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/postgres/postgrestest"
	"ferry/internal/secrettest"
)

// runVariable makes this test binary ferry itself, for tests that kill it or
// run it as another user.
const runVariable = "RUN_AS_FERRY"

// secrets are all that the tests of ferry's commands use. None may reach what
// ferry writes to standard error, where its logs and errors go, or an answer that
// is a problem.
var secrets secrettest.Suite

func TestMain(m *testing.M) {
	if os.Getenv(runVariable) != "" {
		main()
	}
	postgrestest.Main(m, secrets.Check)
}

// result is what a run of ferry left behind.
type result struct {
	Code           int
	Stdout, Stderr string
}

// run runs ferry to its end, with nothing to read.
func run(t *testing.T, environ []string, args ...string) result {
	t.Helper()
	return runWithInput(t, "", environ, args...)
}

func runWithInput(t *testing.T, input string, environ []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	usesSecrets(environ)
	code := Run(ctx, args, environ, strings.NewReader(input), &stdout, &stderr)
	secrets.Wrote(t.Name(), stderr.String())
	if ctx.Err() != nil {
		t.Fatalf("ferry %q did not end; it said\n%s%s", args, stdout.String(), stderr.String())
	}
	return result{code, stdout.String(), stderr.String()}
}

// usesSecrets notes the secrets of an environment, and those in the files that
// it names.
func usesSecrets(environ []string) {
	secrets.UsesEnvironment(environ)
	for _, entry := range environ {
		if name, path, _ := strings.Cut(entry, "="); strings.HasSuffix(name, "_FILE") {
			if content, err := os.ReadFile(path); err == nil {
				secrets.UsesEnvironment([]string{strings.TrimSuffix(name, "_FILE") + "=" + strings.TrimSpace(string(content))})
			}
		}
	}
}

// mustRun is run for what has to succeed; it returns the output.
func mustRun(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	r := run(t, environ, args...)
	if r.Code != exitOK || r.Stderr != "" {
		t.Fatalf("ferry %q: exit code %d\n%s", args, r.Code, r.Stderr)
	}
	return r.Stdout
}

// patience is far more than anything here takes.
const patience = 30 * time.Second

// background is ferry running beside the test.
type background struct {
	stop           context.CancelFunc // as SIGTERM does
	stdout, stderr *output
	code           chan int
}

// start runs ferry until stop is called, at the latest at the end of the test.
func start(t *testing.T, environ []string, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	usesSecrets(environ)
	b := &background{stop: cancel, stdout: newOutput(), stderr: newOutput(), code: make(chan int, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.code <- Run(ctx, args, environ, strings.NewReader(""), b.stdout, b.stderr)
		b.stdout.end()
		b.stderr.end()
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		secrets.Wrote(t.Name(), b.stderr.String())
	})
	return b
}

// wait returns the exit code.
func (b *background) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-b.code:
		return code
	case <-time.After(patience):
		t.Fatalf("ferry does not end; it said\n%s", b.stderr)
		return 0
	}
}

// output is what a running ferry writes, and lets a test wait for it.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	ended   bool
	changed chan struct{}
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tell()
	return o.text.Write(p)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.tell()
}

func (o *output) tell() {
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *output) state() (text string, ended bool, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.ended, o.changed
}

func (o *output) String() string {
	text, _, _ := o.state()
	return text
}

// waitFor waits until the output matches, and returns the pattern's groups.
func (o *output) waitFor(t *testing.T, pattern string) []string {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	timeout := time.After(patience)
	for {
		text, ended, changed := o.state()
		if match := expression.FindStringSubmatch(text); match != nil {
			return match
		}
		if ended {
			t.Fatalf("ferry ended without saying %s; it said\n%s", pattern, text)
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("ferry does not say %s; it said\n%s", pattern, text)
		}
	}
}

func TestHelpGoesToStdout(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"help":                "Usage: ferry COMMAND",
		"--help":              "Usage: ferry COMMAND",
		"-h":                  "Usage: ferry COMMAND",
		"serve --help":        "DATABASE_URL (secret)",
		"serve -h":            "Usage: ferry serve",
		"help serve":          "Usage: ferry serve",
		"dev --help":          "--lan\n",
		"migrate --help":      "status  list the migrations",
		"migrate help":        "Usage: ferry migrate up|down|status",
		"help migrate":        "Usage: ferry migrate up|down|status",
		"migrate up --help":   "--grant-to ROLE\n",
		"migrate down --help": "--yes\n",
		"migrate status -h":   "Usage: ferry migrate status",
		"users --help":        "Usage: ferry users add|list|disable|enable|passwd|sessions|revoke|delete",
		"users delete --help": "--yes\n",
		"users add --help":    "--generate\n",
		"users revoke --help": "--session ID\n",
		"keygen --help":       "--kid ID\n",
		"keys --help":         "Usage: ferry keys list|add",
		"keys add --help":     "--alg ALGORITHM\n",
		"keys list --help":    "--json\n",
		"keys activate -h":    "--published\n",
		"keys retire -h":      "--force\n",
		"keys export --help":  "--powersync\n",
		"token --help":        "--user ID\n",
		"token inspect -h":    "Usage: ferry token inspect",
		"healthcheck --help":  "--ready\n",
		"doctor --help":       "--ignore CODES\n",
		"version --help":      "Usage: ferry version",
		"version":             "ferry development (go",
		"--version":           "ferry development (go",
	} {
		r := run(t, nil, strings.Fields(command)...)
		if r.Code != exitOK || r.Stderr != "" || !strings.Contains(r.Stdout, want) {
			t.Errorf("ferry %s: exit code %d, stderr %q; no %q in\n%s", command, r.Code, r.Stderr, want, r.Stdout)
		}
	}
}

func TestMistakesInTheCommandLineGoToStderr(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"serve --nope":           "ferry: serve: flag provided but not defined: -nope; see: ferry serve --help\n",
		"serve extra":            "ferry: serve: unexpected argument \"extra\"; see: ferry serve --help\n",
		"nope":                   "ferry: there is no command \"nope\"; see: ferry --help\n",
		"help nope":              "ferry: there is no command \"nope\"; see: ferry --help\n",
		"--nope":                 "ferry: there is no command \"--nope\"; see: ferry --help\n",
		"dev --lan=maybe":        "ferry: dev: invalid boolean value \"maybe\" for -lan: parse error; see: ferry dev --help\n",
		"dev --dir":              "ferry: dev: flag needs an argument: -dir; see: ferry dev --help\n",
		"migrate":                "ferry: migrate: say up, down or status; see: ferry migrate --help\n",
		"migrate sideways":       "ferry: migrate: say up, down or status; see: ferry migrate --help\n",
		"migrate --yes":          "ferry: migrate: say up, down or status; see: ferry migrate --help\n",
		"migrate up up":          "ferry: migrate up: unexpected argument \"up\"; see: ferry migrate up --help\n",
		"migrate down --no":      "ferry: migrate down: flag provided but not defined: -no; see: ferry migrate down --help\n",
		"keygen --kid a%b":       "ferry: --kid takes 1 to 128 letters, digits, and the characters - _ . :\n",
		"keys":                   "ferry: keys: say list, add, activate, retire or export; see: ferry keys --help\n",
		"keys add k":             "ferry: keys add: unexpected argument \"k\"; see: ferry keys add --help\n",
		"keys add --kid a%b":     "ferry: --kid takes 1 to 128 letters, digits, and the characters - _ . :\n",
		"keys add --alg none":    "ferry: keys add: the algorithm must be one of EdDSA, ES256, RS256, HS256, HS384, HS512\n",
		"keys activate":          "ferry: keys activate: say which key, by its KID; see: ferry keys list\n",
		"keys retire a b":        "ferry: keys retire: say which key, by its KID; see: ferry keys list\n",
		"token":                  "ferry: token: say whose, with --user ID; see: ferry token --help\n",
		"token inspect a b":      "ferry: token inspect: give one token, or - for stdin; see: ferry token inspect --help\n",
		"healthcheck --ready=no": "ferry: healthcheck: invalid boolean value \"no\" for -ready: parse error; see: ferry healthcheck --help\n",
		"doctor all":             "ferry: doctor: unexpected argument \"all\"; see: ferry doctor --help\n",
		"version 2":              "ferry: version: unexpected argument \"2\"; see: ferry version --help\n",
	} {
		got := run(t, nil, strings.Fields(command)...)
		if diff := cmp.Diff(result{Code: exitUsage, Stderr: want}, got); diff != "" {
			t.Errorf("ferry %s (-want +got):\n%s", command, diff)
		}
	}
	r := run(t, nil)
	if r.Code != exitUsage || r.Stdout != "" || !strings.HasPrefix(r.Stderr, "ferry is the app backend") {
		t.Errorf("ferry: exit code %d, stdout %q, stderr %q", r.Code, r.Stdout, r.Stderr)
	}
}

func TestNoInputMakesFerryPanic(t *testing.T) {
	t.Parallel()
	environments := [][]string{
		nil,
		{""},
		{"=", "DATABASE_URL", "FERRY_LISTEN=", "\x00=\xff"},
		{"DATABASE_URL=\xff\x00", "FERRY_LISTEN=:::", "FERRY_MAX_BODY_BYTES=-1", "FERRY_UPLOAD_ROLE=\x01", "FERRY_SESSION_SECRET=="},
	}
	words := []string{"", " ", "-", "--", "---", "-=", "--=x", "--help=x", "\x00", "\xff", "%s%n", "--dir=\x00", "--listen=::", "--kid=\x00", "--grant-to=\x00", "--file=\x00", "--user=\x00", "--claims=\x00", "--ignore=\x00", "a.b.c"}
	for _, environ := range environments {
		for _, word := range words {
			for _, command := range [][]string{{}, {"serve"}, {"dev"}, {"migrate"}, {"migrate", "up"}, {"migrate", "down"}, {"migrate", "status"}, {"users"}, {"users", "list"}, {"users", "add"}, {"users", "disable"}, {"keygen"}, {"keys"}, {"keys", "list"}, {"keys", "add"}, {"keys", "activate"}, {"keys", "retire"}, {"keys", "export"}, {"token"}, {"token", "inspect"}, {"healthcheck"}, {"doctor"}, {"version"}, {"help"}} {
				args := append(append([]string{}, command...), word)
				if len(command) > 0 && command[0] == "dev" {
					args = append(args, "--lan=?") // or else it might start
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				var stdout, stderr bytes.Buffer
				code := Run(ctx, args, environ, strings.NewReader("\x00"), &stdout, &stderr)
				if code != exitOK && !strings.HasPrefix(stderr.String(), "ferry") {
					t.Errorf("%q: exit code %d without a word: %q", args, code, stderr.String())
				}
			}
		}
	}
}
