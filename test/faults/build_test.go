//go:build linux

package faults_test

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// built is the program that all tests here share.
var built struct {
	sync.Once
	folder, binary string
}

// build builds a ferry whose wall clock can be moved while it runs. A static Go
// program asks no library for the time, so that nothing can be put in between
// as libfaketime does, and time namespaces leave the wall clock alone. So the
// standard library's time.Now is replaced in this build: it adds what a [clock]
// says. Its monotonic clock goes on, as it does when an administrator or NTP
// sets a machine's clock.
func build(t *testing.T) (binary string) {
	t.Helper()
	built.Do(func() {
		var err error
		if built.folder, err = os.MkdirTemp("", "ferry-build-"); err != nil {
			t.Fatal(err)
		}
		built.binary = buildWithClock(t, built.folder)
	})
	if built.binary == "" {
		t.Fatal("there is no program to test")
	}
	return built.binary
}

func buildWithClock(t *testing.T, folder string) (binary string) {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("go env GOROOT: %v", err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if !strings.Contains(string(text), now) {
		t.Fatal("time.Now of this version of Go is another one: adapt buildWithClock")
	}
	moved := filepath.Join(folder, "time.go")
	write(t, moved, strings.Replace(string(text), now, now+"\tsec += clockOffset()\n", 1))
	offset, err := filepath.Abs("testdata/clock.go")
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(source, "time.go"):        moved,
		filepath.Join(source, "clockoffset.go"): offset,
	}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "overlay.json")
	write(t, path, string(overlay))
	binary = filepath.Join(folder, "ferry")
	c := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-overlay", path, "-o", binary, "ferry/cmd/ferry")
	c.Env = os.Environ()
	if !strings.Contains(os.Getenv("GOFLAGS"), "-race") {
		c.Env = append(c.Env, "CGO_ENABLED=0") // as it ships
	}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build ferry: %v\n%s", err, out)
	}
	return binary
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // another account reads it
		t.Fatal(err)
	}
}

// clock is the wall clock of one ferry.
type clock struct{ file *os.File }

func newClock(t *testing.T) *clock {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "clock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	c := &clock{file}
	if err := c.set(0); err != nil {
		t.Fatal(err)
	}
	return c
}

// set makes the clock wrong by whole seconds, at once.
func (c *clock) set(off time.Duration) error {
	_, err := c.file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(off/time.Second)), 0) //nolint:gosec // its bits are an int64's
	return err
}
