package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// keyring is a file of keys, and the environment of who changes it.
type keyring struct {
	t       *testing.T
	path    string
	environ []string
	audited []string // event and key of each audited change, and whether it was forced
}

func newKeyring(t *testing.T) *keyring {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	return &keyring{t, path, []string{"FERRY_TOKEN_KEYS_FILE=" + path, "FERRY_POWERSYNC_URL=https://sync.example.com", "FERRY_TOKEN_TTL=1h"}, nil}
}

// must runs `ferry keys`, which may say nothing on stderr but what it audits.
func (k *keyring) must(args ...string) string {
	k.t.Helper()
	got := run(k.t, k.environ, append([]string{"keys"}, args...)...)
	if said := k.audit(got); got.Code != exitOK || said != "" {
		k.t.Fatalf("ferry keys %q: exit code %d\n%s", args, got.Code, got.Stderr)
	}
	return got.Stdout
}

// audit takes note of the audited change of a run, if there is one, and returns
// what else stands on stderr.
func (k *keyring) audit(r result) string {
	k.t.Helper()
	line, rest, _ := strings.Cut(r.Stderr, "\n")
	var record struct {
		Audit, Kid, Alg string
		Forced          bool
	}
	if json.Unmarshal([]byte(line), &record) != nil {
		return r.Stderr
	}
	k.audited = append(k.audited, fmt.Sprintf("%s %s %s %t", record.Audit, record.Kid, record.Alg, record.Forced))
	return rest
}

// refused fails the test unless a command fails with a message that matches,
// and leaves the file as it is.
func (k *keyring) refused(pattern string, args ...string) {
	k.t.Helper()
	before, _ := os.ReadFile(k.path)
	got := run(k.t, k.environ, append([]string{"keys"}, args...)...)
	if got.Code != exitError || !regexp.MustCompile(pattern).MatchString(got.Stderr) {
		k.t.Errorf("ferry keys %q: exit code %d, no %s in\n%s", args, got.Code, pattern, got.Stderr)
	}
	if after, _ := os.ReadFile(k.path); string(after) != string(before) {
		k.t.Errorf("ferry keys %q changed the file", args)
	}
}

// states are the keys and their states, in the file's order.
func (k *keyring) states() []string {
	k.t.Helper()
	var list []listedKey
	if err := json.Unmarshal([]byte(k.must("list", "--json")), &list); err != nil {
		k.t.Fatal(err)
	}
	var states []string
	for _, key := range list {
		states = append(states, key.KID+" "+key.Algorithm+" "+key.State)
	}
	return states
}

// later makes everything that the file notes so much older.
func (k *keyring) later(d time.Duration) {
	k.t.Helper()
	text := readFile(k.t, k.path)
	moved := regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`).ReplaceAllStringFunc(text, func(old string) string {
		at, err := time.Parse(`"`+time.RFC3339+`"`, old)
		if err != nil {
			k.t.Fatal(err)
		}
		return at.Add(-d).Format(`"` + time.RFC3339 + `"`)
	})
	k.write(moved)
}

// write replaces the file at once: what watches it never sees half of it.
func (k *keyring) write(text string) {
	k.t.Helper()
	draft := k.path + ".new"
	if err := errors.Join(os.WriteFile(draft, []byte(text), 0o600), os.Rename(draft, k.path)); err != nil {
		k.t.Fatal(err)
	}
}

func TestRotatingKeysThatArePublished(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	if out := k.must("add", "--kid", "old"); !strings.Contains(out, `added key "old" (EdDSA) to `+k.path+"\nIt signs at once.") {
		t.Errorf("output %s", out)
	}
	if out := k.must("add", "--kid", "new", "--alg", "ES256"); !regexp.MustCompile(`sign with it from \S+Z on \(in \S+\): ferry keys activate new\n`).MatchString(out) {
		t.Errorf("output %s", out)
	}
	k.refused(`there is a key "new" already`, "add", "--kid", "new")
	k.refused(`may not have fetched it yet: wait until \S+Z \(in (10m0s|9m5\ds)\); in an emergency, --force`, "activate", "new")
	k.refused(`key "old" signs the tokens: activate another one first`, "retire", "old")
	k.later(10 * time.Minute)
	if out := k.must("activate", "new"); !regexp.MustCompile(`^key "new" signs from now on\nNext: keep key "old" for its last tokens; it can be retired from \S+Z on \(in 1h(10m0s|9m5\ds)\): ferry keys retire old\n$`).MatchString(out) {
		t.Errorf("output %s", out)
	}
	if out := k.must("activate", "new"); out != "key \"new\" signs already\n" {
		t.Errorf("output %s", out)
	}
	if diff := cmp.Diff([]string{"old EdDSA retiring", "new ES256 active"}, k.states()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	k.refused(`its last tokens have not expired: wait until \S+Z \(in 1h(10m0s|9m5\ds)\); in an emergency, --force`, "retire", "old")
	k.later(time.Hour + 10*time.Minute)
	if out := k.must("retire", "old"); out != "removed key \"old\"\n" {
		t.Errorf("output %s", out)
	}
	if diff := cmp.Diff([]string{"new ES256 active"}, k.states()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	audited := []string{"key_add old EdDSA false", "key_add new ES256 false", "key_activate new ES256 false", "key_retire old EdDSA false"}
	if diff := cmp.Diff(audited, k.audited); diff != "" {
		t.Errorf("audited (-want +got):\n%s", diff)
	}
}

func TestWithoutATTLTokensMayLiveForADay(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	k.environ = k.environ[:1]
	k.must("add", "--kid", "old")
	k.must("add", "--kid", "new")
	k.later(time.Hour)
	k.must("activate", "new")
	k.refused(`\(in 24h(10m0s|9m5\ds)\)`, "retire", "old")
}

func TestOnlyTheOperatorKnowsWhetherTheServiceHasASecret(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	k.must("add", "--kid", "old", "--alg", "HS256")
	k.must("add", "--kid", "new", "--alg", "HS512")
	k.later(time.Hour)
	k.refused(`nothing was done; where the service has the key, say --published`, "activate", "new")
	got := runWithInput(t, "yes\n", k.environ, "keys", "activate", "new")
	if got.Code != exitOK || !strings.Contains(got.Stdout, "Does the running service have it?") {
		t.Errorf("exit code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	k.must("add", "--kid", "third", "--alg", "HS384")
	k.must("activate", "--published", "third")
	if diff := cmp.Diff([]string{"old HS256 retiring", "new HS512 retiring", "third HS384 active"}, k.states()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	k.later(2 * time.Hour)
	if out := k.must("retire", "old"); !strings.Contains(out, "remove it from the PowerSync Service's configuration as well") {
		t.Errorf("output %s", out)
	}
}

func TestALeakedKeyIsReplacedAtOnceByForceWithAWarning(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	k.must("add", "--kid", "leaked")
	k.must("add", "--kid", "new")
	for _, step := range []struct{ args, warning string }{
		{"activate new --force", `warning: the PowerSync Service refuses tokens of key "new" until it has it`},
		{"retire leaked --force", `warning: tokens that key "leaked" signed are refused from now on`},
	} {
		got := run(t, k.environ, append([]string{"keys"}, strings.Fields(step.args)...)...)
		if said := k.audit(got); got.Code != exitOK || !strings.HasPrefix(said, step.warning) {
			t.Errorf("%s: exit code %d, stderr %s", step.args, got.Code, got.Stderr)
		}
	}
	audited := []string{"key_activate new EdDSA true", "key_retire leaked EdDSA true"}
	if diff := cmp.Diff(audited, k.audited[2:]); diff != "" {
		t.Errorf("audited (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"new EdDSA active"}, k.states()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestTheSingleKeyMovesIntoAFile(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	single := []string{"FERRY_TOKEN_KID=k1", "FERRY_TOKEN_SECRET=" + encoded(tokenKey), "FERRY_POWERSYNC_URL=https://sync.example.com"}
	before := strings.TrimSpace(mustRun(t, single, "token", "--user", "u1"))
	got := run(t, append(k.environ, single...), "keys", "add", "--from-env")
	if said := k.audit(got); got.Code != exitOK || said != "" || !strings.Contains(got.Stdout, `moved key "k1" (HS256)`) {
		t.Errorf("%+v", got)
	}
	if strings.Contains(got.Stdout+got.Stderr, encoded(tokenKey)) {
		t.Errorf("the secret is printed: %+v", got)
	}
	k.must("add", "--kid", "k2")
	k.later(time.Hour)
	k.must("activate", "k2")
	mustRun(t, k.environ, "token", "inspect", before) // tokens in use still verify
	k.refused("are not set, so that there is no key to move", "add", "--from-env")
	k.environ = append(k.environ, single...)
	k.refused("has keys already: --from-env begins a file", "add", "--from-env")
}

func TestKeysList(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	if out := k.must("list"); out != "" {
		t.Errorf("without a file: %s", out)
	}
	k.must("add", "--kid", "old")
	k.must("add", "--kid", "hs", "--alg", "HS256")
	k.must("add", "--kid", "new")
	k.later(24 * time.Hour)
	k.must("activate", "new")
	const at = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`
	want := `^old  EdDSA  retiring  can be retired from ` + at + ` on \(in 1h(10m0s|9m5\ds)\)
hs   HS256  waiting   can be activated once the PowerSync Service's configuration has it
new  EdDSA  active    signs since ` + at + `
$`
	if out := k.must("list"); !regexp.MustCompile(want).MatchString(out) {
		t.Errorf("output\n%s\nwant\n%s", out, want)
	}
	if got := run(t, append(k.environ, "FERRY_TOKEN_KID=old"), "keys", "list"); got.Code != exitOK || got.Stderr != "FERRY_TOKEN_KID is set: \"old\" signs, whatever the file says\n" {
		t.Errorf("with FERRY_TOKEN_KID: %+v", got)
	}
	k.environ = append(k.environ, "FERRY_TOKEN_KID=old")
	k.refused(`FERRY_TOKEN_KID says that "old" signs`, "activate", "hs")
	k.refused(`FERRY_TOKEN_KID says that "old" signs`, "retire", "old", "--force")
}

func TestKeysExport(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	k.must("add", "--kid", "hs", "--alg", "HS256")
	k.must("add", "--kid", "ec", "--alg", "ES256")
	var file struct{ Keys []map[string]string }
	if err := json.Unmarshal([]byte(readFile(t, k.path)), &file); err != nil {
		t.Fatal(err)
	}
	hs, ec := file.Keys[0], file.Keys[1]
	want := fmt.Sprintf(`client_auth:
  # ferry publishes its public keys (OKP, EC, RSA). With this instead of them, the
  # service fetches new ones by itself; the address is ferry's, as the service
  # reaches it. Secrets (oct) are never published, and stay below.
  # jwks_uri: https://ferry.example.com/.well-known/jwks.json
  jwks:
    keys:
      - kty: oct
        alg: HS256
        kid: "hs"
        k: "%s"
      - kty: EC
        alg: ES256
        kid: "ec"
        crv: "P-256"
        x: "%s"
        y: "%s"
  audience: ["https://sync.example.com"]
`, hs["k"], ec["x"], ec["y"])
	if diff := cmp.Diff(want, k.must("export", "--powersync")); diff != "" {
		t.Errorf("block (-want +got):\n%s", diff)
	}
	published := fmt.Sprintf(`{"keys":[{"kty":"EC","kid":"ec","crv":"P-256","alg":"ES256","x":"%s","y":"%s"}]}`+"\n", ec["x"], ec["y"])
	if diff := cmp.Diff(published, k.must("export")); diff != "" {
		t.Errorf("set (-want +got):\n%s", diff)
	}
	// The single key has the block of keygen.
	single := []string{"FERRY_TOKEN_KID=k1", "FERRY_TOKEN_SECRET=" + encoded(tokenKey), "FERRY_TOKEN_AUDIENCE=a"}
	if diff := cmp.Diff(clientAuthYAML(hs256JWKs(t, "k1", encoded(tokenKey)), []string{"a"}), mustRun(t, single, "keys", "export", "--powersync")); diff != "" {
		t.Errorf("block (-want +got):\n%s", diff)
	}
}

func TestKeysWriteTheFileWholeWithItsRights(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	k.must("add", "--kid", "a")
	mode := func() os.FileMode {
		info, err := os.Stat(k.path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	if mode() != 0o600 {
		t.Errorf("mode %o of a new file", mode())
	}
	target := k.path + ".real"
	for _, err := range []error{os.Chmod(k.path, 0o640), os.Rename(k.path, target), os.Symlink(filepath.Base(target), k.path)} { //nolint:gosec // as an operator might
		if err != nil {
			t.Fatal(err)
		}
	}
	k.must("add", "--kid", "b")
	if link, err := os.Readlink(k.path); err != nil || mode() != 0o640 {
		t.Errorf("link %q (%v), mode %o", link, err, mode())
	}
	if entries, err := os.ReadDir(filepath.Dir(k.path)); err != nil || len(entries) != 2 {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
}

func TestTwoWhoChangeTheKeysAtOnceDoNotLoseOne(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	k.must("add", "--kid", "first")
	var group sync.WaitGroup
	codes := make([]int, 8)
	for i := range codes {
		group.Go(func() {
			codes[i] = run(t, k.environ, "keys", "add", "--kid", fmt.Sprintf("k%d", i)).Code
		})
	}
	group.Wait()
	added := 1
	for _, code := range codes {
		if code == exitOK {
			added++
		}
	}
	if states := k.states(); len(states) != added || added < 2 {
		t.Errorf("%d say that they added a key, the file has %v", added, states)
	}
}

func TestKeysRefuseFilesThatTheyCannotRead(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	k.write(`{"keys":[{"kid":"b","kty":"oct","alg":"HS256","k":"topsecre"}]}`)
	k.refused(`keys.json: key 1 \(kid "b"\): its secret \(k\) has 6 bytes`, "add")
	k.environ[0] = "FERRY_TOKEN_KEYS_FILE=" + filepath.Dir(k.path)
	k.refused(`is not a regular file`, "list")
	k.environ[0] = "FERRY_TOKEN_KEYS_FILE=/nowhere/keys.json"
	k.refused(`write the keys: open /nowhere: no such file or directory`, "add")
	k.refused(`/nowhere/keys.json: there is no key in the set: make one with: ferry keys add`, "export")
	k.environ = nil
	k.refused(`keys list: say which file, in FERRY_TOKEN_KEYS_FILE or with --file PATH`, "list")
	k.refused(`there is no key "x" in the file`, "retire", "x", "--file", filepath.Join(t.TempDir(), "none"))
}
