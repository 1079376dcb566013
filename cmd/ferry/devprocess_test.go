package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// process is `ferry dev --json` in a process of its own.
type process struct {
	*exec.Cmd
	announced announcement
	stderr    *bytes.Buffer
}

// startProcess runs a binary of ferry, or a test binary as ferry.
func startProcess(t *testing.T, binary, dir string, account *syscall.Credential) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(binary, "dev", "--dir", dir, "--listen", "127.0.0.1:0", "--json"), stderr: &bytes.Buffer{}}
	p.Env = []string{runVariable + "=1", "PATH=" + os.Getenv("PATH")}
	p.Dir = filepath.Dir(dir)
	p.Stderr = p.stderr
	p.SysProcAttr = &syscall.SysProcAttr{Credential: account}
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill() // fails if it has ended
		_ = p.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		_ = p.Wait()
		t.Fatalf("ferry dev does not start: %v\n%s", err, p.stderr)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	p.announced = parseAnnouncement(t, line)
	return p
}

func (p *process) mustEndBy(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatalf("after %s: %v\n%s", sig, err, p.stderr)
	}
}

func TestDevSurvivesItsOwnKilling(t *testing.T) {
	t.Parallel()
	dir, binary := devDir(t), self(t)
	first := startProcess(t, binary, dir, nil)
	if applied, _ := uploadList(t, first.announced); applied != 1 {
		t.Errorf("applied %d", applied)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // killed

	second := startProcess(t, binary, dir, nil)
	if diff := cmp.Diff(lastingOf(t, first.announced), lastingOf(t, second.announced)); diff != "" {
		t.Errorf("what lasts (-first +second):\n%s", diff)
	}
	if _, duplicates := uploadList(t, second.announced); duplicates != 1 {
		t.Errorf("duplicates %d", duplicates)
	}
	// Ctrl-C, and what an init system sends.
	second.mustEndBy(t, os.Interrupt)
	third := startProcess(t, binary, dir, nil)
	third.mustEndBy(t, syscall.SIGTERM)
	if conn, err := pgx.Connect(t.Context(), third.announced.DatabaseURL); err == nil {
		conn.Close(t.Context())
		t.Error("Postgres still runs")
	}
}

func TestDevEndsWithItsPostgres(t *testing.T) {
	t.Parallel()
	dir := devDir(t)
	p := startProcess(t, self(t), dir, nil)
	pid, err := strconv.Atoi(strings.Fields(readFile(t, filepath.Join(dir, "data", "postmaster.pid")))[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil || p.ProcessState.ExitCode() != exitError {
		t.Errorf("it ended with %v", err)
	}
	if want := "ferry: the private Postgres has ended; its log is " + filepath.Join(dir, "log") + "\n"; !strings.HasSuffix(p.stderr.String(), want) {
		t.Errorf("stderr\n%s\nwant at its end\n%s", p.stderr, want)
	}
}

func TestDevRunsAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("this test changes the user, which takes root; all the others run as an ordinary user here")
	}
	nobody := credential(t, "nobody")
	dir := devDir(t)
	if err := os.Chown(filepath.Dir(dir), int(nobody.Uid), int(nobody.Gid)); err != nil {
		t.Fatal(err)
	}
	// Where every account can run it, which the folder of `go test` does not
	// allow. Another process writes it: a file that this one has open at the
	// moment of a fork, of any test, could not be run ("text file busy").
	binary := filepath.Join(filepath.Dir(dir), "ferry")
	if out, err := exec.CommandContext(t.Context(), "cp", self(t), binary).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(binary, 0o755); err != nil { //nolint:gosec // see above
		t.Fatal(err)
	}
	p := startProcess(t, binary, dir, nobody)
	if applied, _ := uploadList(t, p.announced); applied != 1 {
		t.Errorf("applied %d", applied)
	}
	p.mustEndBy(t, os.Interrupt)
}

// self is this test binary.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func credential(t *testing.T, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
