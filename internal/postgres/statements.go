package postgres

import (
	"strconv"
	"strings"
)

// shape is what the operations of one statement have in common.
type shape struct {
	table   *table
	columns []*column
	// keepInfinity marks the columns in which some value may stand for a
	// stored infinity (see isFarFuture).
	keepInfinity []bool
}

// Every statement takes one text[] per column, the ids first, and has one
// source of rows: d(k, c1, c2, …). Casting in the select list keeps the
// assignment to the column as the place where lengths and domains are checked.

// source is the FROM item that all values come from.
func (s *shape) source(withOrdinality bool) string {
	var b strings.Builder
	b.WriteString("unnest($1::text[]")
	for i := range s.columns {
		b.WriteString(", $" + strconv.Itoa(i+2) + "::text[]")
	}
	b.WriteString(")")
	if withOrdinality {
		b.WriteString(" WITH ORDINALITY")
	}
	b.WriteString(" AS d(k")
	for i := range s.columns {
		b.WriteString(", " + value(i))
	}
	if withOrdinality {
		b.WriteString(", ord")
	}
	b.WriteString(")")
	return b.String()
}

// value names the i-th column's value in the source.
func value(i int) string { return "c" + strconv.Itoa(i+1) }

func (s *shape) idValue() string { return "d.k::" + s.table.id.typ.cast }

// isRow joins the table, as t, with the source.
func (s *shape) isRow() string { return "t." + s.table.id.sql + " = " + s.idValue() }

// targets is the column list of an INSERT.
func (s *shape) targets() string {
	names := make([]string, 0, len(s.columns)+1)
	names = append(names, s.table.id.sql)
	for _, c := range s.columns {
		names = append(names, c.sql)
	}
	list := "(" + strings.Join(names, ", ") + ")"
	if s.table.id.identityAlways {
		list += " OVERRIDING SYSTEM VALUE" // or each retry would make a new row
	}
	return list
}

// values is the select list of an INSERT.
func (s *shape) values() string {
	list := make([]string, 0, len(s.columns)+1)
	list = append(list, s.idValue())
	for i, c := range s.columns {
		list = append(list, "d."+value(i)+"::"+c.typ.cast)
	}
	return strings.Join(list, ", ")
}

// assignments is the SET list of an UPDATE. from gives a column's new value.
func (s *shape) assignments(from func(i int, c *column) string) string {
	list := make([]string, len(s.columns))
	for i, c := range s.columns {
		v := from(i, c)
		if s.keepInfinity[i] {
			v = "CASE WHEN " + v + " >= '9999-12-31' AND " + v + " < '10000-01-01' AND t." + c.sql + " = 'infinity'" +
				" THEN t." + c.sql + " ELSE " + v + " END"
		}
		list[i] = c.sql + " = " + v
	}
	return strings.Join(list, ", ")
}

func sourceValue(i int, c *column) string { return "d." + value(i) + "::" + c.typ.cast }

func excludedValue(_ int, c *column) string { return "EXCLUDED." + c.sql }

// upsertSQL is a PUT on a table where ON CONFLICT does what a PUT means.
func (s *shape) upsertSQL() string {
	return "INSERT INTO " + s.table.sql + " AS t " + s.targets() +
		" SELECT " + s.values() + " FROM " + s.source(false) +
		" ON CONFLICT (" + s.table.id.sql + ") DO UPDATE SET " + s.assignments(excludedValue)
}

// updateThenInsertSQL is a PUT on any other table: it updates the rows that
// the caller sees and inserts the others. A row that exists unseen raises
// 23505; one that a trigger suppressed raises through the count.
func (s *shape) updateThenInsertSQL() string {
	return "WITH u AS (UPDATE " + s.table.sql + " AS t SET " + s.assignments(sourceValue) +
		" FROM " + s.source(true) + " WHERE " + s.isRow() + " RETURNING d.ord)," +
		" i AS (INSERT INTO " + s.table.sql + " " + s.targets() +
		" SELECT " + s.values() + " FROM " + s.source(true) +
		" WHERE NOT EXISTS (SELECT FROM u WHERE u.ord = d.ord) RETURNING 1)" +
		" SELECT 1 / (CASE WHEN (SELECT count(*) FROM u) + (SELECT count(*) FROM i) = cardinality($1::text[]) THEN 1 ELSE 0 END)"
}

// insertUnseenSQL is a PUT without any column: nothing can change in a row
// that is there.
func (s *shape) insertUnseenSQL() string {
	return "INSERT INTO " + s.table.sql + " " + s.targets() +
		" SELECT " + s.values() + " FROM " + s.source(false) +
		" WHERE NOT EXISTS (SELECT FROM " + s.table.sql + " AS t WHERE " + s.isRow() + ")"
}

// insertSQL is a PUT where the caller may insert only.
func (s *shape) insertSQL() string {
	return "INSERT INTO " + s.table.sql + " " + s.targets() +
		" SELECT " + s.values() + " FROM " + s.source(false)
}

// updateSQL is a PATCH. It returns the positions of the rows that it touched.
func (s *shape) updateSQL() string {
	return "UPDATE " + s.table.sql + " AS t SET " + s.assignments(sourceValue) +
		" FROM " + s.source(true) + " WHERE " + s.isRow() + " RETURNING d.ord"
}

// deleteSQL is a DELETE. It returns the positions of the rows that it touched.
func (s *shape) deleteSQL() string {
	return "DELETE FROM " + s.table.sql + " AS t USING " + s.source(true) + " WHERE " + s.isRow() + " RETURNING d.ord"
}

// allTouchedSQL makes an updateSQL or deleteSQL raise if it touches fewer rows
// than asked: in a pipeline COMMIT is already on its way by the time a count
// could be read.
func allTouchedSQL(statement string) string {
	return "WITH touched AS (" + statement + ")" +
		" SELECT 1 / (CASE WHEN count(*) = cardinality($1::text[]) THEN 1 ELSE 0 END) FROM touched"
}

// visibleSQL returns the positions of the rows that the caller sees.
func (s *shape) visibleSQL() string {
	return "SELECT d.ord FROM " + s.source(true) +
		" WHERE EXISTS (SELECT FROM " + s.table.sql + " AS t WHERE " + s.isRow() + ")"
}
