package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/doctor"
)

func TestExamineTellsWhatWasFoundWhatFailedAndWhatWasSkipped(t *testing.T) {
	t.Parallel()
	answer := func(err error, problems ...string) func(context.Context) ([]doctor.Finding, error) {
		return func(ctx context.Context) (findings []doctor.Finding, _ error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("a check may take for ever")
			}
			for _, p := range problems {
				findings = append(findings, doctor.Finding{Problem: p, Remedy: "r"})
			}
			return findings, err
		}
	}
	got := doctor.Examine(t.Context(), []doctor.Check{
		{Code: "well", Severity: doctor.Error, Find: answer(nil)},
		{Code: "ill", Severity: doctor.Error, Find: answer(nil, "a", "b", "a")},
		{Code: "skipped", Severity: doctor.Note, Find: answer(fmt.Errorf("no database: %w", doctor.ErrSkipped), "not known")},
		{Code: "broken", Severity: doctor.Note, Find: answer(errors.New("no luck"), "not known")},
	})
	want := &doctor.Report{
		Findings: []doctor.Finding{
			{Severity: doctor.Error, Code: "ill", Problem: "a", Remedy: "r"},
			{Severity: doctor.Error, Code: "ill", Problem: "b", Remedy: "r"},
			{
				Severity: doctor.Warning, Code: doctor.CheckFailed, Problem: "broken could not be checked: no luck",
				Remedy: "Run ferry doctor again; if that does not help, do what the error says.",
			},
		},
		Skipped: []string{"skipped"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	counts := []int{got.Count(doctor.Error), got.Count(doctor.Warning), got.Count(doctor.Note)}
	if diff := cmp.Diff([]int{2, 1, 0}, counts); diff != "" {
		t.Errorf("errors, warnings, notes (-want +got):\n%s", diff)
	}
}
