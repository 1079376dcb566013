package devcluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// binaries returns the Postgres to run: the one that made the data, else the
// newest.
func (h home) binaries() (Binaries, error) {
	text, err := os.ReadFile(filepath.Join(h.data(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return Find()
	}
	if err != nil {
		return Binaries{}, fmt.Errorf("read the version of the data: %w", err)
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return Binaries{}, fmt.Errorf("%s holds no data of Postgres: its PG_VERSION reads %q", h.data(), text)
	}
	b, err := findVersion(version)
	if err != nil {
		return Binaries{}, fmt.Errorf("%w; or remove %s to begin with an empty database", err, h.asked)
	}
	return b, nil
}

// initdb makes the data folder unless it is there. It works in another folder
// and renames it at the end, so that data is whole or missing.
func (h home) initdb(ctx context.Context, b Binaries, opts Options, lock *os.File) error {
	if _, err := os.Stat(h.data()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := h.path("data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove half-made data: %w", err)
	}
	if err := h.makeFolder(fresh); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	out, err := h.runInitdb(ctx, b, "C.UTF-8", fresh, opts.Superuser, lock)
	if err != nil && strings.Contains(out, "invalid locale") {
		// Some systems have no C.UTF-8. All have C, whose upper() and lower()
		// know ASCII only.
		out, err = h.runInitdb(ctx, b, "C", fresh, opts.Superuser, lock)
	}
	if err != nil {
		return fmt.Errorf("initdb: %w:\n%s", err, strings.TrimSpace(out))
	}
	if err := os.Rename(fresh, h.data()); err != nil {
		return fmt.Errorf("put the new data folder in place: %w", err)
	}
	return nil
}

func (h home) runInitdb(ctx context.Context, b Binaries, locale, dir, superuser string, lock *os.File) (string, error) {
	args := []string{
		"--pgdata", dir, "--username", superuser,
		"--encoding", "UTF8", "--locale", locale,
		"--auth-local", "trust", "--auth-host", "scram-sha-256",
		"--no-instructions",
		// Syncing a thousand files takes seconds on a busy disk. Without, only a
		// machine that loses power right after the first start loses the cluster.
		"--no-sync",
	}
	cmd := exec.CommandContext(ctx, b.path("initdb"), args...)
	cmd.Env = environment()
	cmd.Dir = h.dir
	cmd.SysProcAttr = h.processAttributes()
	cmd.ExtraFiles = []*os.File{lock} // a killed owner's initdb is waited for too
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return string(out), err
}

// processAttributes takes a process out of the terminal's process group, so
// that Ctrl-C reaches ferry alone, and gives it the server's account.
func (h home) processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: h.account}
}

// environment holds what Postgres needs and nothing else of this process's
// environment: SQL can read a server's environment.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "TZ", "LD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
