package docstest

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTheTimeoutsNest holds the table of docs/timeouts.md against the code, and
// each limit below those that surround it.
func TestTheTimeoutsNest(t *testing.T) {
	t.Parallel()
	page := filepath.Join(root, "docs", "timeouts.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	limit := regexp.MustCompile("^\\[`(\\w+)`\\]\\((.+)\\)$")
	rows := tableRows(string(text), limit)
	limits := map[string]time.Duration{}
	for _, row := range rows {
		match := limit.FindStringSubmatch(row[0])
		name, file := match[1], filepath.Join(filepath.Dir(page), match[2])
		stated, err := time.ParseDuration(strings.ReplaceAll(row[1], " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if actual := limitIn(t, file, name); actual != stated {
			t.Errorf("%s is %s in the table and %s in the code", name, stated, actual)
		}
		limits[name] = stated
	}
	nested := 0
	for _, row := range rows {
		name := limit.FindStringSubmatch(row[0])[1]
		for _, match := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[2], -1) {
			nested++
			if outer, there := limits[match[1]]; !there || limits[name] >= outer {
				t.Errorf("%s is %s, within %s of %s", name, limits[name], match[1], outer)
			}
		}
	}
	if nested < len(rows)/2 {
		t.Errorf("%d rows say what surrounds them %d times", len(rows), nested)
	}
}

// limitIn returns the limit of a name in a Go file: a constant or a field that
// is set to so many milliseconds, seconds or minutes, or a setting of Postgres.
func limitIn(t *testing.T, file, name string) time.Duration {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set := regexp.MustCompile(`\b` + name + `(?:\s*[=:]\s*|', ')(\d+)(?: \* time\.(Millisecond|Second|Minute)|s')`)
	found := set.FindAllStringSubmatch(string(text), -1)
	if len(found) != 1 {
		t.Fatalf("%s sets %s %d times", file, name, len(found))
	}
	n, err := strconv.Atoi(found[0][1])
	if err != nil {
		t.Fatal(err)
	}
	switch found[0][2] {
	case "Millisecond":
		return time.Duration(n) * time.Millisecond
	case "Minute":
		return time.Duration(n) * time.Minute
	}
	return time.Duration(n) * time.Second
}
