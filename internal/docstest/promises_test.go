package docstest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// levelTwo are the items of the OWASP ASVS 4.0.3 up to level 2, by section, in
// the chapters that docs/security.md is about. Deleted items are left out.
var levelTwo = map[string][]int{
	"2.1": upTo(12), "2.2": upTo(3), "2.3": upTo(3), "2.4": upTo(6), "2.5": upTo(7),
	"2.6": upTo(3), "2.7": upTo(6), "2.8": upTo(7), "2.9": upTo(3), "2.10": upTo(4),
	"3.1": upTo(1), "3.2": upTo(4), "3.3": upTo(4), "3.4": upTo(5), "3.5": upTo(3), "3.7": upTo(1),
	"4.1": {1, 2, 3, 5}, "4.2": upTo(2), "4.3": upTo(3),
	"5.1": upTo(5), "5.2": upTo(8), "5.3": upTo(10), "5.4": upTo(3), "5.5": upTo(4),
	"6.1": upTo(3), "6.2": upTo(6), "6.3": upTo(2), "6.4": upTo(2),
	"7.1": upTo(4), "7.2": upTo(2), "7.3": {1, 3, 4}, "7.4": upTo(3),
	"9.1": upTo(3), "9.2": upTo(4),
	"13.1": {1, 3, 4, 5}, "13.2": {1, 2, 3, 5, 6}, "13.3": upTo(2), "13.4": upTo(2),
	"14.1": upTo(4), "14.2": upTo(6), "14.3": {2, 3}, "14.4": upTo(7), "14.5": upTo(4),
}

func upTo(n int) []int {
	items := make([]int, n)
	for i := range items {
		items[i] = i + 1
	}
	return items
}

// untested are how a row begins that needs no test.
var untested = []string{"**Not met**", "**Left to the operator**", "**Left to the app**", "**By review**", "**Does not apply**"}

// Each item stands in docs/security.md once, and is shown by a test or says why
// none can.
func TestEveryItemOfTheASVSIsAnswered(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	answered := map[string]int{}
	item := regexp.MustCompile(`^(\d+\.\d+)\.(\d+)(?:–(\d+\.\d+)\.(\d+))?$`)
	for _, row := range tableRows(string(page), item) {
		match := item.FindStringSubmatch(row[0])
		first, _ := strconv.Atoi(match[2])
		last := first
		if match[3] != "" {
			last, _ = strconv.Atoi(match[4])
		}
		if match[3] != "" && match[3] != match[1] || last < first {
			t.Errorf("%s is no range", row[0])
		}
		for n := first; n <= last; n++ {
			answered[fmt.Sprintf("%s.%d", match[1], n)]++
		}
		why := slices.ContainsFunc(untested, func(s string) bool { return strings.HasPrefix(row[1], s) })
		if !why && (len(row) < 3 || !namedTest.MatchString(row[2])) {
			t.Errorf("%s names no test, and does not say why", row[0])
		}
	}
	for section, items := range levelTwo {
		for _, n := range items {
			name := fmt.Sprintf("%s.%d", section, n)
			if answered[name] != 1 {
				t.Errorf("%s stands there %d times", name, answered[name])
			}
			delete(answered, name)
		}
	}
	for name := range answered {
		t.Errorf("%s is no item of level 2", name)
	}
}

// Each promise is shown by a test.
func TestEveryGuaranteeIsShownByATest(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs", "guarantees.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := tableRows(string(page), regexp.MustCompile(`^[A-Z]`))
	if len(rows) < 20 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		if len(row) != 2 || !namedTest.MatchString(row[1]) {
			t.Errorf("no test shows %q", row[0])
		}
	}
}
