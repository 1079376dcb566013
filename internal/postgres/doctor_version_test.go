package postgres

import (
	"testing"
)

func TestDoctorJudgesVersionsOfPostgres(t *testing.T) {
	t.Parallel()
	for major, want := range map[int]struct{ old, new int }{
		13: {old: 1}, 14: {}, 18: {}, 19: {new: 1},
	} {
		if old, newer := len(findTooOld(major)), len(findTooNew(major)); old != want.old || newer != want.new {
			t.Errorf("Postgres %d: %d findings that it is too old, %d that it is too new, want %+v", major, old, newer, want)
		}
	}
}
