package devcluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMajorVersion(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n": 15,
		"postgres (PostgreSQL) 17.2\n":                           17,
		"postgres (PostgreSQL) 18beta1\n":                        18,
		"postgres (PostgreSQL) 16devel\n":                        16,
		"postgres (PostgreSQL) 9.6.24\n":                         9,
		"postgres (PostgreSQL) \n":                               0,
		"postgres (Other) 15.1\n":                                0,
		"":                                                       0,
	} {
		if got := majorVersion(line); got != want {
			t.Errorf("majorVersion(%q) = %d, want %d", line, got, want)
		}
	}
}

func TestTheNewestUsableInstallationComesFirst(t *testing.T) {
	t.Parallel()
	root, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	install := func(name, version string, programs ...string) string {
		dir := filepath.Join(root, name)
		must(t, os.Mkdir(dir, 0o755))
		for _, program := range programs {
			script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
			must(t, os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755))
		}
		return dir
	}
	all := []string{"initdb", "pg_ctl", "postgres"}
	first := install("first", "15.1", all...)
	second := install("second", "15.9", all...)
	newest := install("newest", "17.0", all...)
	linked := filepath.Join(root, "linked")
	must(t, os.Mkdir(linked, 0o755))
	for _, program := range all {
		must(t, os.Symlink(filepath.Join(newest, program), filepath.Join(linked, program)))
	}
	got := installed([]string{
		"relative", filepath.Join(root, "missing"),
		install("old", "13.9", all...),
		install("client", "18.0", "pg_ctl"),
		install("broken", "?", all...),
		first, first, linked, newest, second,
	})
	want := []Binaries{{newest, 17}, {first, 15}, {second, 15}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("installations (-want +got):\n%s", diff)
	}
}

func TestAdviceNamesWhatToInstall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ goos, manager, want string }{
		{"linux", "apt-get", "sudo apt-get install postgresql"},
		{"linux", "dnf", "postgresql-server"},
		{"linux", "apk", "apk add postgresql"},
		{"linux", "pacman", "pacman -S postgresql"},
		{"linux", "zypper", "postgresql-server"},
		{"darwin", "brew", "brew install postgresql@17"},
		{"darwin", "", "brew install postgresql@17"},
		{"linux", "", "https://www.postgresql.org/download/"},
	} {
		if got := advice(c.goos, c.manager); !strings.Contains(got, c.want) {
			t.Errorf("advice(%q, %q) = %q, which lacks %q", c.goos, c.manager, got, c.want)
		}
	}
	if err := notInstalled("Postgres %d or newer", oldestVersion); !strings.Contains(err.Error(), "Postgres 14 or newer") {
		t.Errorf("error without Postgres: %v", err)
	}
}
