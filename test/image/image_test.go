// Package image_test holds what the container image promises, without an engine
// for containers: what the Dockerfile puts into it, and that ferry serves with
// nothing else, on a file system that it cannot write to, as an ordinary user.
package image_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/identity"
	"ferry/internal/postgres/postgrestest"
	"ferry/internal/secrettest"
)

var secrets secrettest.Suite // none of which may be logged

func TestMain(m *testing.M) { postgrestest.Main(m, secrets.Check) }

const (
	root     = "../.."
	patience = 30 * time.Second
	user     = "a1111111-1111-4111-8111-111111111111"
)

// dockerfile is what counts of the Dockerfile.
type dockerfile struct {
	bases []string // of its stages
	last  []string // the instructions of the last stage, which is the image
}

func readDockerfile(t *testing.T) dockerfile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	var d dockerfile
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", "")) {
		line = strings.TrimSpace(line)
		base := regexp.MustCompile(`^FROM (?:--\S+ )*(\S+)`).FindStringSubmatch(line)
		switch {
		case base != nil:
			d.bases, d.last = append(d.bases, base[1]), nil
		case line != "" && line[0] != '#':
			d.last = append(d.last, line)
		}
	}
	return d
}

// The image is one program and what it reads, and starts without a shell, as a
// user without rights.
func TestTheImageHoldsFerryAndNothingElse(t *testing.T) {
	t.Parallel()
	got := readDockerfile(t)
	want := []string{
		"COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/",
		"COPY --from=build /out/passwd /etc/passwd",
		"COPY LICENSE /LICENSE",
		"COPY --from=build /out/ferry /ferry",
		"USER 65532:65532",
		"EXPOSE 6060",
		`HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/ferry", "healthcheck"]`,
		`ENTRYPOINT ["/ferry"]`,
		`CMD ["serve"]`,
	}
	if diff := cmp.Diff(want, got.last); diff != "" {
		t.Errorf("the last stage (-want +got):\n%s", diff)
	}
	for i, base := range got.bases {
		switch last := i == len(got.bases)-1; {
		case last && base != "scratch":
			t.Errorf("the image is made of %s", base)
		case !last && !regexp.MustCompile(`:\d+\.\d+\.\d+`).MatchString(base):
			t.Errorf("the base %s has no version", base)
		}
	}
}

// TestFerryServesFromAReadOnlyFileSystem needs the right to mount, to make such a
// file system: root outside of a container.
func TestFerryServesFromAReadOnlyFileSystem(t *testing.T) {
	t.Parallel()
	if out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "mount", "--bind", "/tmp", "/tmp").CombinedOutput(); err != nil {
		t.Skipf("without the right to mount, no file system here is read-only: %v\n%s", err, out)
	}
	image := unpack(t)
	db := postgrestest.New(t)
	db.Exec(t, `DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ferry_image_login') THEN CREATE ROLE ferry_image_login LOGIN; END IF; END $$`)
	migrated := inImage(t, image, []string{"DATABASE_URL=" + overTCP(t, db.URL)}, "migrate", "up", "--grant-to", "ferry_image_login")
	if out, err := migrated.CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v\n%s", err, out)
	}
	db.Exec(t, `CREATE TABLE notes (id text PRIMARY KEY, n int); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
		CREATE POLICY everybody ON notes TO authenticated USING (true); GRANT SELECT, INSERT, UPDATE ON notes TO authenticated`)

	sessionKey := strings.Repeat("session key ", 4)
	address := postgrestest.FreeAddress(t)
	environ := []string{
		"DATABASE_URL=" + overTCP(t, db.URLAs("ferry_image_login", "")), "FERRY_LISTEN=" + address, "FERRY_ADMIN_LISTEN=127.0.0.1:0",
		"FERRY_SESSION_SECRET=" + base64.RawURLEncoding.EncodeToString([]byte(sessionKey)),
	}
	secrets.UsesEnvironment(environ)
	serving := inImage(t, image, environ, "serve")
	stderr, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	serving.Stderr = stderr
	if err := serving.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serving.Process.Kill() // fails if it has ended
		_ = serving.Wait()
		written, _ := os.ReadFile(stderr.Name())
		secrets.Wrote(t.Name(), string(written))
		t.Logf("%s", written)
	})

	healthy := func() bool {
		return inImage(t, image, []string{"FERRY_LISTEN=" + address}, "healthcheck", "--ready").Run() == nil
	}
	for deadline := time.Now().Add(patience); !healthy(); {
		if time.Now().After(deadline) {
			t.Fatal("it does not get ready")
		}
	}
	session, err := identity.SignSession([]byte(sessionKey), user, "", "", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	secrets.Uses(session)
	if status, body := upload(t, "http://"+address, session); status != http.StatusOK || !strings.Contains(body, `"applied":1`) {
		t.Errorf("an upload is answered %d: %s", status, body)
	}
	// The same file system, for what does write.
	out, err := inImage(t, image, []string{"FERRY_TOKEN_KEYS_FILE=/keys.json"}, "keys", "add").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "read-only file system") {
		t.Errorf("keys are written: %v\n%s", err, out)
	}
}

// unpack makes the image's file system.
func unpack(t *testing.T) string {
	t.Helper()
	image, build := t.TempDir(), t.TempDir()
	command := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(build, "ferry"), "ferry/cmd/ferry")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	sources := map[string]string{
		"/out/ferry": filepath.Join(build, "ferry"), "LICENSE": filepath.Join(root, "LICENSE"),
		"/etc/ssl/certs/ca-certificates.crt": "/etc/ssl/certs/ca-certificates.crt",
	}
	for _, line := range readDockerfile(t).last {
		copied := regexp.MustCompile(`^COPY (?:--from=build )?(\S+) (\S+)$`).FindStringSubmatch(line)
		if copied == nil || sources[copied[1]] == "" {
			continue
		}
		target := filepath.Join(image, copied[2])
		if strings.HasSuffix(copied[2], "/") {
			target = filepath.Join(target, filepath.Base(copied[1]))
		}
		content, err := os.ReadFile(sources[copied[1]])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, content, 0o755); err != nil { //nolint:gosec // one is a program
			t.Fatal(err)
		}
	}
	if err := os.Chmod(image, 0o777); err != nil { // not for want of rights
		t.Fatal(err)
	}
	return image
}

// inImage is a run of ferry that sees the image and nothing else, read-only, as
// the image's user.
func inImage(t *testing.T, image string, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	const script = `mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec chroot --userspec=65532:65532 --groups= "$0" /ferry "$@"`
	c := exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "sh", "-c", script, image}, args...)...)
	c.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environ...)
	return c
}

// overTCP lets the image's user, who may not open the socket of a test's
// Postgres, reach it.
func overTCP(t *testing.T, socketURL string) string {
	t.Helper()
	return postgrestest.SlowLine(t, socketURL, 0).URL
}

func upload(t *testing.T, api, session string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api+"/upload",
		strings.NewReader(`{"client_id":"c","crud":[{"op_id":1,"op":"PUT","type":"notes","id":"a","data":{"n":1}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+session)
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
	return response.StatusCode, string(answer)
}
