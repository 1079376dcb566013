package devcluster

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// oldestVersion is the oldest major version of Postgres that ferry supports.
const oldestVersion = 14

// ErrNotInstalled says that this machine has no Postgres that can be used.
// The error around it says what to install.
var ErrNotInstalled = errors.New("no Postgres found")

// Binaries is one installed version of Postgres.
type Binaries struct {
	Dir     string // holds initdb, pg_ctl and postgres
	Version int    // major version, 14 or higher
}

func (b Binaries) path(program string) string { return filepath.Join(b.Dir, program) }

// Find returns the newest installed Postgres, version 14 or higher: from PATH,
// the folders of Debian's, Red Hat's and Homebrew's packages, and pg_config.
// Without one the error is [ErrNotInstalled] and says what to install.
func Find() (Binaries, error) {
	found := installed(folders())
	if len(found) == 0 {
		return Binaries{}, notInstalled("Postgres %d or newer", oldestVersion)
	}
	return found[0], nil
}

// findVersion returns the installed Postgres of a major version, which is the
// only one that can open a data folder of that version.
func findVersion(version int) (Binaries, error) {
	for _, b := range installed(folders()) {
		if b.Version == version {
			return b, nil
		}
	}
	return Binaries{}, notInstalled("Postgres %d, which made the data folder,", version)
}

// folders lists where Postgres may be, the nearest to the user's wish first.
func folders() []string {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",                       // Debian, Ubuntu
		"/usr/pgsql-*/bin",                                // Red Hat, from postgresql.org
		"/opt/homebrew/opt/postgresql@*/bin",              // Homebrew, Apple silicon
		"/usr/local/opt/postgresql@*/bin",                 // Homebrew, Intel
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin", // Homebrew on Linux
	} {
		matches, err := filepath.Glob(pattern)
		if err == nil {
			dirs = append(dirs, matches...)
		}
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	return dirs
}

// installed returns the usable installations in dirs, newest first; of the
// same version, the one that comes first in dirs.
func installed(dirs []string) []Binaries {
	var found []Binaries
	seen := map[string]bool{}
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			continue // a relative folder in PATH is nothing to run a server from
		}
		b, ok := inspect(dir)
		if ok && !seen[b.Dir] {
			seen[b.Dir] = true
			found = append(found, b)
		}
	}
	slices.SortStableFunc(found, func(a, b Binaries) int { return cmp.Compare(b.Version, a.Version) })
	return found
}

// inspect looks for a usable Postgres in a folder, or where the links in the
// folder lead.
func inspect(dir string) (Binaries, bool) {
	postgres, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		return Binaries{}, false
	}
	b := Binaries{Dir: filepath.Dir(postgres)}
	for _, program := range []string{"initdb", "pg_ctl", "postgres"} {
		if _, err := exec.LookPath(b.path(program)); err != nil {
			return Binaries{}, false
		}
	}
	out, err := exec.Command(b.path("postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, false
	}
	b.Version = majorVersion(string(out))
	return b, b.Version >= oldestVersion
}

// majorVersion reads what `postgres --version` prints, such as
// "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)" or "… 18beta1";
// 0 if it is something else.
func majorVersion(line string) int {
	_, rest, ok := strings.Cut(line, "(PostgreSQL) ")
	if !ok {
		return 0
	}
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	version, err := strconv.Atoi(rest[:digits])
	if err != nil {
		return 0
	}
	return version
}

func notInstalled(format string, args ...any) error {
	return fmt.Errorf("%w: ferry needs the server programs of %s on this machine; %s",
		ErrNotInstalled, fmt.Sprintf(format, args...), advice(runtime.GOOS, packageManager()))
}

// packageManager names the system's package manager, "" for one that is not known.
func packageManager() string {
	for _, name := range []string{"apt-get", "dnf", "apk", "pacman", "zypper", "brew"} {
		if _, err := exec.LookPath(name); err == nil {
			return name
		}
	}
	return ""
}

func advice(goos, manager string) string {
	switch {
	case goos == "darwin":
		return "install them with `brew install postgresql@17`"
	case manager == "apt-get":
		return "install them with `sudo apt-get install postgresql`"
	case manager == "dnf":
		return "install them with `sudo dnf install postgresql-server postgresql-contrib`"
	case manager == "apk":
		return "install them with `apk add postgresql postgresql-contrib`"
	case manager == "pacman":
		return "install them with `sudo pacman -S postgresql`"
	case manager == "zypper":
		return "install them with `sudo zypper install postgresql-server`"
	case manager == "brew":
		return "install them with `brew install postgresql@17`"
	default:
		return "see https://www.postgresql.org/download/, then put the folder that holds initdb and postgres on PATH"
	}
}
