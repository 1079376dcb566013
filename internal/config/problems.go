package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is what is wrong with one variable: what was expected, and how to
// make a good value. It holds no value of any variable.
type Problem struct {
	Variable string
	Text     string
}

// Error is everything that is wrong with the configuration, in the order of
// the list of variables, unknown names last.
type Error struct {
	Problems []Problem
}

// Error returns one line per problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Variable + ": " + p.Text
	}
	return strings.Join(lines, "\n")
}

// problems gathers what is wrong.
type problems []Problem

func (p *problems) add(variable, format string, args ...any) {
	*p = append(*p, Problem{Variable: variable, Text: fmt.Sprintf(format, args...)})
}

// err returns everything gathered, or nil.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	list := variables()
	place := func(q Problem) int {
		name := strings.TrimSuffix(q.Variable, fileSuffix)
		if i := slices.IndexFunc(list, func(v variable) bool { return v.name == name }); i >= 0 {
			return i
		}
		return len(list)
	}
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a.Variable, b.Variable))
	})
	return &Error{Problems: p}
}
