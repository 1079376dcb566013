// Package docstest holds the documentation against the code: what it names is
// there, and what it promises is shown by a test.
package docstest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the repository, as this package's tests see it.
const root = "../.."

// readFiles returns the repository's files with an extension, by their paths.
func readFiles(t *testing.T, extension string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch name := filepath.Base(path); {
		case err != nil:
			return err
		case entry.IsDir() && (name == "node_modules" || path != root && strings.HasPrefix(name, ".") || name == "bin"):
			return filepath.SkipDir
		case filepath.Ext(path) != extension:
			return nil
		}
		text, err := os.ReadFile(path)
		found[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// testsOf returns the names of all tests and fuzz targets.
func testsOf(t *testing.T) map[string]bool {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	names := map[string]bool{}
	for path, text := range readFiles(t, ".go") {
		if !strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, match := range declared.FindAllStringSubmatch(text, -1) {
			names[match[1]] = true
		}
	}
	return names
}

var (
	namedTest = regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`")
	// namedFile is a path in back quotes, such as `test/e2e/run`.
	namedFile = regexp.MustCompile("`((?:cmd|docs|internal|migrations|test|tools|\\.ci)/[\\w./-]+)`")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// What documentation says is shown by a test is shown by one that is there, and
// what it points to is there as well.
func TestDocumentationNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	tests := testsOf(t)
	pages := readFiles(t, ".md")
	named := 0
	for page, text := range pages {
		for _, match := range namedTest.FindAllStringSubmatch(text, -1) {
			named++
			if !tests[match[1]] {
				t.Errorf("%s names the test %s, which is not there", page, match[1])
			}
		}
		for _, match := range namedFile.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, match[1])); err != nil {
				t.Errorf("%s names a file: %v", page, err)
			}
		}
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			checkLink(t, pages, page, match[1])
		}
	}
	if named == 0 {
		t.Error("no page names a test")
	}
}

func checkLink(t *testing.T, pages map[string]string, page, target string) {
	t.Helper()
	if strings.Contains(target, "://") {
		return
	}
	path, anchor, _ := strings.Cut(target, "#")
	to := page
	if path != "" {
		to = filepath.Join(filepath.Dir(page), path)
	}
	if _, err := os.Stat(to); err != nil {
		t.Errorf("%s links to %s: %v", page, target, err)
		return
	}
	if anchor != "" && !slices.Contains(anchorsOf(pages[to]), anchor) {
		t.Errorf("%s links to %s, which has no such heading", page, target)
	}
}

// anchorsOf returns what links to a page's headings end with, as GitHub makes it
// of each.
func anchorsOf(page string) []string {
	heading := regexp.MustCompile(`(?m)^#+ (.+)$`)
	dropped := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	var anchors []string
	for _, match := range heading.FindAllStringSubmatch(page, -1) {
		text := dropped.ReplaceAllString(strings.ToLower(match[1]), "")
		anchors = append(anchors, strings.ReplaceAll(text, " ", "-"))
	}
	return anchors
}

// tableRows returns the cells of the rows of a page's tables whose first cell
// matches.
func tableRows(page string, first *regexp.Regexp) [][]string {
	var rows [][]string
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if strings.HasPrefix(line, "|") && first.MatchString(cells[0]) {
			rows = append(rows, cells)
		}
	}
	return rows
}
