// Package doctor is how ferry says what is wrong with a deployment: checks,
// each of which looks for one thing, and the findings that they make. The
// checks themselves are where what they look at is: in internal/postgres and in
// cmd/ferry.
//
// It imports only the standard library.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Severity is how bad a finding is.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // something does not work, or is not safe
	Warning Severity = "warning" // something will go wrong for some users, or some day
	Note    Severity = "note"    // good to know
)

// Finding is something that a check found. A check fills in what is wrong and
// what to do; [Examine] adds the rest.
type Finding struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"`    // of the check; stable
	Problem  string   `json:"problem"` // what is wrong, and what comes of it
	Remedy   string   `json:"remedy"`  // what to do
	// Run is the exact SQL, commands or settings to do it with; empty where
	// there is no one way. What only the operator knows stands as ….
	Run string `json:"run,omitempty"`
}

// Find returns what is wrong, and nothing where all is well. It changes nothing,
// shows no secret, and ends with ctx. It fails with ErrSkipped where something
// that another check reports keeps it from looking.
type Find func(ctx context.Context) ([]Finding, error)

// Check looks for one thing that can be wrong. To add one, put it into the list
// of its area, its code into docs/doctor.md, and what provokes it into the
// area's test.
type Check struct {
	Code     string // kebab-case
	Severity Severity
	Find     Find
}

// ErrSkipped means that a check could not look, for a reason that is reported
// already.
var ErrSkipped = errors.New("the check was skipped")

// CheckFailed is the code of a warning that a check could not look, for a
// reason that no other finding tells.
const CheckFailed = "check-failed"

// checkTimeout bounds each check.
const checkTimeout = 10 * time.Second

// Report is what an examination found.
type Report struct {
	Findings []Finding `json:"findings"`
	// Skipped are the codes of checks that could not look, because of what is
	// among the findings.
	Skipped []string `json:"skipped"`
}

// Examine makes all checks, one after the other.
func Examine(ctx context.Context, checks []Check) *Report {
	r := &Report{Findings: []Finding{}, Skipped: []string{}}
	for _, c := range checks {
		r.make(ctx, c)
	}
	return r
}

func (r *Report) make(ctx context.Context, c Check) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	found, err := c.Find(ctx)
	switch {
	case errors.Is(err, ErrSkipped):
		r.Skipped = append(r.Skipped, c.Code)
	case err != nil:
		r.Findings = append(r.Findings, Finding{
			Severity: Warning, Code: CheckFailed,
			Problem: fmt.Sprintf("%s could not be checked: %v", c.Code, err),
			Remedy:  "Run ferry doctor again; if that does not help, do what the error says.",
		})
	default:
		for _, f := range found {
			f.Severity, f.Code = c.Severity, c.Code
			if !slices.Contains(r.Findings, f) { // a table can have several names
				r.Findings = append(r.Findings, f)
			}
		}
	}
}

// Count returns how many findings have a severity.
func (r *Report) Count(s Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}
