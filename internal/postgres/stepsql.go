package postgres

import (
	"slices"

	"ferry/internal/uploads"
)

// Which statement a shape is written as. What these are is in statements.go.

// upsertRefused are what INSERT … ON CONFLICT may raise where an UPDATE, or an
// INSERT, would not.
var upsertRefused = []string{"42501", "23502"}

// upserts is whether a step is written as INSERT … ON CONFLICT.
func (r *run) upserts(s *shape) bool {
	return s.kind == uploads.Put && s.takesUpdate() && s.upsertable() && !r.noUpserts && !(r.splits && r.alone)
}

// fastSQL is the statement where COMMIT is on its way by the time that an answer
// could be read: it raises by itself if it does not touch every row.
func (s *shape) fastSQL(upsert bool) string {
	if upsert {
		return s.written(asUpsert, s.upsertSQL)
	}
	return s.written(asFast, func() string {
		switch {
		case s.kind == uploads.Patch:
			return s.updateAllSQL()
		case s.kind == uploads.Delete:
			return s.deleteAllSQL()
		case s.takesUpdate() && !s.table.updateTrigger:
			return s.updateThenInsertAllSQL()
		}
		return s.carefulSQL()
	})
}

// carefulSQL is the statement where the answer is read before COMMIT. A PATCH or
// DELETE returns the positions of the rows that it touched, a PUT of those that it
// could not.
func (s *shape) carefulSQL() string {
	return s.written(asCareful, func() string {
		switch {
		case s.kind == uploads.Patch:
			return s.updateSQL()
		case s.kind == uploads.Delete:
			return s.deleteSQL()
		case s.takesUpdate():
			return s.updateThenInsertSQL()
		case s.table.id.canSelect && !s.changesRows():
			return s.insertUnseenSQL()
		}
		return s.insertSQL()
	})
}

// takesUpdate is whether a PUT can update the row that is there: it has
// something to change, and the caller the rights to find and change rows.
func (s *shape) takesUpdate() bool {
	for _, c := range s.columns {
		if !c.canUpdate {
			return false
		}
	}
	return s.changesRows() && s.table.id.canSelect
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
