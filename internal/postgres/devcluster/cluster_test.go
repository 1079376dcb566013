package devcluster

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestASecondStartKeepsTheData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), strings.Repeat("a-long-name/", 12), "it's %41 space")
	first := start(t, Options{Dir: dir})
	url := first.URL("postgres", "", "postgres")
	exe(t, url, `CREATE TABLE kept AS SELECT 'here' AS word`)
	stop(t, first)
	stop(t, first) // does nothing

	second := start(t, Options{Dir: dir})
	if got := query(t, second.URL("postgres", "", "postgres"), `SELECT word FROM kept`); got != "here" {
		t.Errorf("row after the second start: %q, want %q", got, "here")
	}
	must(t, second.Stop(t.Context()))
	must(t, Remove(t.Context(), dir))
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder after Remove: %v, want none", err)
	}
}

func TestSettingsReachTheServer(t *testing.T) {
	t.Parallel()
	c := start(t, Options{Dir: folder(t), Settings: map[string]string{
		"fsync": "off", "wal_level": "logical", "listen_addresses": "*", "application_name": "it's ours",
	}})
	url := c.URL("postgres", "", "postgres")
	for name, want := range map[string]string{
		"wal_level":        "logical",
		"listen_addresses": "", // the server stays private, whatever the settings
		"server_encoding":  "UTF8",
	} {
		if got := query(t, url, `SELECT current_setting('`+name+`')`); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestTheServerIsNotInTheTerminalsProcessGroup(t *testing.T) {
	t.Parallel()
	c := start(t, Options{Dir: folder(t)})
	group, err := syscall.Getpgid(c.server.process.Pid)
	must(t, err)
	if group == syscall.Getpgrp() {
		t.Error("Postgres is in the process group of its owner: Ctrl-C would end it first")
	}
}

func TestTCPTakesOnlyTheCurrentPassword(t *testing.T) {
	t.Parallel()
	dir, port := folder(t), freePort(t)
	const oldPassword, newPassword = `one's "old" \ pass:word/?#é`, `new%41 $$`
	settings := map[string]string{"fsync": "off", "log_statement": "all", "log_min_duration_statement": "0"}
	log := func(c *Cluster) string {
		text, err := os.ReadFile(c.Log())
		must(t, err)
		return string(text)
	}
	first := start(t, Options{Dir: dir, Port: port, Password: oldPassword, Superuser: "the owner", Settings: settings})
	if got := query(t, first.URL("the owner", oldPassword, "postgres"), `SELECT current_user::text`); got != "the owner" {
		t.Errorf("connected as %q", got)
	}
	stop(t, first)
	second := start(t, Options{Dir: dir, Port: port, Password: newPassword, Superuser: "the owner", Settings: settings})
	query(t, second.URL("the owner", newPassword, "postgres"), `SELECT inet_server_addr()::text`)
	for _, wrong := range []string{oldPassword, ""} {
		if _, err := tryQuery(t.Context(), second.URL("the owner", wrong, "postgres"), `SELECT 'in'`); err == nil {
			t.Error("a wrong password was taken over TCP")
		}
	}
	if text := log(second); strings.Contains(text, "old") || strings.Contains(text, "new%41") {
		t.Errorf("the log holds a password:\n%s", text)
	}
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { taken.Close() })
	port := taken.Addr().(*net.TCPAddr).Port
	file := filepath.Join(folder(t), "file")
	must(t, os.WriteFile(file, nil, 0o644))

	for name, c := range map[string]struct {
		opts Options
		want []string
	}{
		"port in use": {
			Options{Dir: folder(t), Port: port, Password: "secret"},
			[]string{"port " + strconv.Itoa(port), "choose another port"},
		},
		"bad port":         {Options{Dir: "x", Port: 70000}, []string{"1 to 65535"}},
		"no password":      {Options{Dir: "x", Port: port}, []string{"needs a password"}},
		"no folder":        {Options{}, []string{"folder"}},
		"folder is a file": {Options{Dir: file}, []string{file, "not a directory"}},
		"zero byte":        {Options{Dir: "x", Port: port, Password: "secret\x00"}, []string{"zero byte"}},
		"unknown setting": {
			Options{Dir: folder(t), Settings: map[string]string{"fsync": "off", "no_such_setting": "1"}},
			[]string{"unrecognized configuration parameter \"no_such_setting\"", "/log"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c1, err := Start(t.Context(), c.opts)
			if err == nil {
				stop(t, c1)
				t.Fatal("it started")
			}
			for _, want := range append(c.want, "") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error holds the password: %v", err)
			}
		})
	}
}

func TestDataOfAMissingVersionIsRefused(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	must(t, os.Mkdir(filepath.Join(dir, "data"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("9\n"), 0o644))
	_, err := Start(t.Context(), Options{Dir: dir})
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "Postgres 9, which made the data folder") {
		t.Errorf("error for data of version 9: %v", err)
	}
}

func TestACancelledStartLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Options{Dir: dir, Settings: fast}); !errors.Is(err, context.Canceled) {
		t.Errorf("error of a cancelled start: %v", err)
	}
	start(t, Options{Dir: dir})
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
