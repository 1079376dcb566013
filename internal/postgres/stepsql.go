package postgres

import (
	"slices"

	"ferry/internal/uploads"
)

// Which statement a step is written as. What these are is in statements.go.

// upsertRefused are what INSERT … ON CONFLICT may raise where an UPDATE, or an
// INSERT, would not.
var upsertRefused = []string{"42501", "23502"}

// upserts is whether a step is written as INSERT … ON CONFLICT.
func (r *run) upserts(s *step) bool {
	return s.kind == uploads.Put && s.takesUpdate() && s.shape.upsertable() && !r.noUpserts && !(r.splits && r.alone)
}

// fastSQL is the step's statement where COMMIT is on its way by the time that an
// answer could be read: it raises by itself if it does not touch every row.
func (s *step) fastSQL(upsert bool) string {
	switch {
	case s.kind == uploads.Patch:
		return s.shape.updateAllSQL()
	case s.kind == uploads.Delete:
		return s.shape.deleteAllSQL()
	case upsert:
		return s.shape.upsertSQL()
	case s.takesUpdate() && !s.shape.table.updateTrigger:
		return s.shape.updateThenInsertAllSQL()
	}
	return s.carefulSQL()
}

// carefulSQL is the step's statement where the answer is read before COMMIT. A
// PATCH or DELETE returns the positions of the rows that it touched, a PUT of those that it
// could not.
func (s *step) carefulSQL() string {
	switch {
	case s.kind == uploads.Patch:
		return s.shape.updateSQL()
	case s.kind == uploads.Delete:
		return s.shape.deleteSQL()
	case s.takesUpdate():
		return s.shape.updateThenInsertSQL()
	case s.shape.table.id.canSelect && !s.shape.changesRows():
		return s.shape.insertUnseenSQL()
	}
	return s.shape.insertSQL()
}

// takesUpdate is whether a PUT can update the row that is there: it has
// something to change, and the caller the rights to find and change rows.
func (s *step) takesUpdate() bool {
	for _, c := range s.shape.columns {
		if !c.canUpdate {
			return false
		}
	}
	return s.shape.changesRows() && s.shape.table.id.canSelect
}

// upsertable is whether INSERT … ON CONFLICT does what a PUT means. It fires
// BEFORE INSERT triggers for existing rows as well, and statement triggers of
// both kinds; and reading EXCLUDED takes the right to read the column.
func (s *shape) upsertable() bool {
	for _, c := range s.columns {
		if !c.canSelect {
			return false
		}
	}
	t := s.table
	return t.idArbiter && !t.insertTrigger && !t.updateTrigger && !t.statementTriggers
}

// changesRows is whether a PUT has anything to change in a row that is there.
func (s *shape) changesRows() bool {
	return len(s.columns) > 0 || len(s.absent) > 0 ||
		slices.ContainsFunc(s.table.stamps, func(st stamp) bool { return st.updates })
}
