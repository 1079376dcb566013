// Package archtest holds the directions of ferry's imports:
//
//	cmd → httpapi, postgres → tokens, uploads, identity → fault
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rule says what a package must not depend on, directly or by way of another.
// A pattern is an import path; with /... at its end it takes what is below as
// well; thirdParty is whatever is neither ferry's nor the standard library's.
type rule struct {
	packages []string // patterns; tests are free to import what they like
	except   []string // patterns of packages that are left out
	never    []string // patterns
	allow    []string // patterns of imports that are allowed all the same
	because  string
}

const thirdParty = "third-party"

func rules() []rule {
	domain := []string{"ferry/internal/tokens", "ferry/internal/uploads", "ferry/internal/identity"}
	return []rule{
		{
			packages: []string{"ferry/internal/fault"},
			never:    []string{"ferry/...", thirdParty},
			because:  "every package hands its errors on as faults, so fault can depend on none of them",
		},
		{
			packages: []string{"ferry/internal/doctor"},
			never:    []string{"ferry/...", thirdParty},
			because:  "checks are where what they look at is, so what a check and a finding are can depend on none of it",
		},
		{
			packages: domain,
			never:    []string{"net/http"},
			because:  "what a token, an upload or a caller is does not depend on how a request travels",
		},
		{
			packages: domain,
			never:    []string{"database/sql", "github.com/jackc/pgx/..."},
			because:  "what a token, an upload or a caller is does not depend on where it is stored",
		},
		{
			packages: domain,
			never:    []string{"ferry/..."},
			allow:    []string{"ferry/internal/fault"},
			because:  "each domain package is understood and tested by itself; what joins two of them is wired in cmd/ferry",
		},
		{
			packages: []string{"ferry/internal/httpapi/..."},
			never:    []string{"ferry/internal/postgres/...", "database/sql", "github.com/jackc/pgx/..."},
			because:  "handlers speak to stores through the domain's interfaces, so that they stay testable without a database",
		},
		{
			packages: []string{"ferry/internal/postgres/..."},
			never:    []string{"ferry/internal/httpapi/...", "github.com/go-chi/..."},
			because:  "adapters do not know each other: a store says what happened, not which status that is",
		},
		{
			packages: []string{"ferry/..."},
			except:   []string{"ferry/cmd/ferry"},
			never:    []string{"ferry/internal/config"},
			because:  "only cmd/ferry reads the configuration; everything else is handed values",
		},
		{
			packages: []string{"ferry/..."},
			except:   []string{"ferry/internal/postgres/postgrestest", "ferry/internal/secrettest"},
			never:    []string{"ferry/internal/postgres/postgrestest", "ferry/internal/secrettest"},
			because:  "they are for tests, and must not ship",
		},
	}
}

func TestImportDirections(t *testing.T) {
	t.Parallel()
	packages := listPackages(t)
	for _, r := range rules() {
		for _, v := range r.violations(packages) {
			t.Errorf("%s: %s", v, r.because)
		}
	}
}

// A rule that names a package which was renamed or removed holds nothing.
func TestEveryRuleHoldsSomething(t *testing.T) {
	t.Parallel()
	packages := listPackages(t)
	for _, r := range rules() {
		for _, pattern := range slices.Concat(r.packages, r.except) {
			if !slices.ContainsFunc(packages, func(p goPackage) bool { return matches(pattern, p.ImportPath) }) {
				t.Errorf("no package is %s, of the rule that %s", pattern, r.because)
			}
		}
	}
}

// The rules must find what they forbid: each is tried on a package that breaks
// it in each way.
func TestEveryRuleFindsItsViolations(t *testing.T) {
	t.Parallel()
	for _, r := range rules() {
		for _, from := range r.packages {
			for _, to := range r.never {
				broken := goPackage{ImportPath: example(from), Deps: []string{"fmt", example(to)}}
				if got := r.violations([]goPackage{broken}); len(got) != 1 {
					t.Errorf("%s depends on %s: %d violations found, want 1, of the rule that %s", example(from), example(to), len(got), r.because)
				}
			}
		}
	}
}

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	ImportPath string
	Imports    []string // of its code, without its tests
	Deps       []string // these and theirs
}

// listPackages returns all packages of the module.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	// go test caches a result by what the test itself reads: what go list reads
	// would go unnoticed.
	if err := filepath.WalkDir("../..", func(string, fs.DirEntry, error) error { return nil }); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,Deps", "ferry/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("output of %v: %v", cmd, err)
		}
		packages = append(packages, p)
	}
}

// violations returns "package depends on import" for each that breaks r.
func (r rule) violations(packages []goPackage) []string {
	var found []string
	for _, p := range packages {
		if !anyMatches(r.packages, p.ImportPath) || anyMatches(r.except, p.ImportPath) {
			continue
		}
		for _, dep := range p.Deps {
			if anyMatches(r.never, dep) && !anyMatches(r.allow, dep) {
				found = append(found, p.ImportPath+" depends on "+dep)
			}
		}
	}
	return found
}

func anyMatches(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, path) })
}

func matches(pattern, path string) bool {
	if pattern == thirdParty {
		host, _, _ := strings.Cut(path, "/")
		return strings.Contains(host, ".")
	}
	parent, below := strings.CutSuffix(pattern, "/...")
	return path == parent || below && strings.HasPrefix(path, parent+"/")
}

// example is a path that the pattern takes.
func example(pattern string) string {
	if pattern == thirdParty {
		return "example.com/module"
	}
	return strings.TrimSuffix(pattern, "/...") + strings.Repeat("/below", strings.Count(pattern, "/..."))
}
