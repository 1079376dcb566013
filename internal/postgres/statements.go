package postgres

import (
	"fmt"
	"strconv"
	"strings"
)

// Every statement takes one parameter per column, the ids first, and has one
// source of rows, d(k, c1, c2, …, ord), in which they have the columns' types.
// The types are those without modifiers: the assignment to the column stays
// the place where lengths and domains are checked.

// parameters is what came, as d: arrays, or the values of one row. The latter
// spare Postgres an array, and a scan of it, for each column; OFFSET keeps them
// from being cast before isCurrent is asked.
func (s *shape) parameters() string {
	suffix := "[]"
	if s.oneRow {
		suffix = ""
	}
	values, names := "$1::"+s.table.id.typ.wire().name+suffix, "k"
	for i, c := range s.columns {
		values += ", $" + strconv.Itoa(i+2) + "::" + c.typ.wire().name + suffix
		names += ", " + columnName(i)
	}
	if s.oneRow {
		return "(SELECT " + values + ", 1::int8 OFFSET 0) AS d(" + names + ", ord)"
	}
	return "unnest(" + values + ") WITH ORDINALITY AS d(" + names + ", ord)"
}

// rows is the source as a query. Where it is joined with a table it must be
// materialised (see joined): Postgres does not look an id up in an index under
// row-level security if finding out the id takes a cast that might leak.
func (s *shape) rows() string {
	var values strings.Builder
	for i, c := range s.columns {
		name := columnName(i)
		values.WriteString(", " + c.typ.wire().cast("d."+name, c.typ) + " AS " + name)
	}
	id := s.table.id.typ
	return "SELECT " + id.wire().cast("d.k", id) + " AS k" + values.String() + ", d.ord" +
		" FROM " + s.parameters() +
		" WHERE " + s.table.isCurrent()
}

// ids is the parameter with the ids of several rows.
func (s *shape) ids() string { return "$1::" + s.table.id.typ.wire().name + "[]" }

// outOfDate is what isCurrent raises (the logarithm of zero). The app's own
// expressions may do so as well: see run.outOfDate.
const outOfDate = "2201E"

// isCurrent is a condition that is true, or raises where the table, or a type in
// it, is no longer what the catalog was read as: the casts would lose what the
// new type could hold. The statement has locked the table before it is asked, and
// it costs one look into an index for each statement.
func (t *table) isCurrent() string {
	versions := make([]string, len(t.versions))
	for i, v := range t.versions {
		versions[i] = fmt.Sprintf("(SELECT c.xmin FROM pg_catalog.pg_class AS c WHERE c.oid = %d) = '%s'", v.oid, v.xmin)
	}
	return "ln(CASE WHEN " + strings.Join(versions, " AND ") + " THEN 1 ELSE 0 END::float8) = 0"
}

// joined is the source as a CTE whose columns are plain values.
//
// Source: PostgreSQL documentation, "Rules and Privileges" (leakproof
// functions); measured on 200,000 rows: 118 ms without it, 0.1 ms with it.
//
// Where the id has an index, the source is made to look like one row, by a
// condition that is always true. Postgres then looks each id up. From a better
// guess it reads whole tables, policies and all, for a few rows, or keeps a plan
// that was good when the table was empty.
func (s *shape) joined() string {
	source := s.rows()
	if s.table.idIndexed {
		source += " AND d.ord = d.ord + 0"
	}
	return "WITH d AS MATERIALIZED (" + source + ")"
}

// columnName names the i-th column's value in the source.
func columnName(i int) string { return "c" + strconv.Itoa(i+1) }

// isRow joins the table, as t, with the source.
func (s *shape) isRow() string { return "t." + s.table.id.sql + " = d.k" }

// targets is the column list of an INSERT.
func (s *shape) targets() string {
	names := make([]string, 0, len(s.columns)+1)
	names = append(names, s.table.id.sql)
	for _, c := range s.columns {
		names = append(names, c.sql)
	}
	for _, st := range s.table.stamps {
		names = append(names, st.column.sql)
	}
	list := "(" + strings.Join(names, ", ") + ")"
	if s.table.id.identityAlways {
		list += " OVERRIDING SYSTEM VALUE" // or each retry would make a new row
	}
	return list
}

// values is the select list of an INSERT.
func (s *shape) values() string {
	list := "d.k"
	for i := range s.columns {
		list += ", d." + columnName(i)
	}
	for _, st := range s.table.stamps {
		list += ", " + st.value
	}
	return list
}

// assignments is the SET list of an UPDATE. from gives a column's new value.
func (s *shape) assignments(from func(i int, c *column) string) string {
	list := make([]string, len(s.columns))
	for _, c := range s.absent {
		list = append(list, c.sql+" = NULL")
	}
	for _, st := range s.table.stamps {
		if st.updates {
			list = append(list, st.column.sql+" = "+st.value)
		}
	}
	for i, c := range s.columns {
		v := from(i, c)
		if s.keepsInfinity(i) {
			v = keepInfinitySQL(c, v)
		}
		list[i] = c.sql + " = " + v
	}
	return strings.Join(list, ", ")
}

func sourceValue(i int, _ *column) string { return "d." + columnName(i) }

func excludedValue(_ int, c *column) string { return "EXCLUDED." + c.sql }

// upsertSQL is a PUT on a table where ON CONFLICT does what a PUT means.
func (s *shape) upsertSQL() string {
	return "INSERT INTO " + s.table.sql + " AS t " + s.targets() +
		" SELECT " + s.values() + " FROM (" + s.rows() + ") AS d" +
		" ON CONFLICT (" + s.table.id.sql + ") DO UPDATE SET " + s.assignments(excludedValue)
}

// insertSQL is a PUT where the caller may insert only.
func (s *shape) insertSQL() string {
	return "INSERT INTO " + s.table.sql + " " + s.targets() +
		" SELECT " + s.values() + " FROM (" + s.rows() + ") AS d"
}

// updateThenInsertSQL is a PUT on any other table: it updates the rows that
// the caller may update and inserts those that the caller does not see. It
// returns the positions of rows that were seen and yet not updated. A row that
// exists unseen raises 23505.
func (s *shape) updateThenInsertSQL() string {
	return s.updateThenInsert() + " SELECT ord FROM stuck"
}

// updateThenInsertAllSQL raises if it would return a position.
func (s *shape) updateThenInsertAllSQL() string {
	return s.updateThenInsert() + " SELECT 1 / (CASE WHEN count(*) = 0 THEN 1 ELSE 0 END) FROM stuck"
}

func (s *shape) updateThenInsert() string {
	return s.joined() + ", updated AS (" + s.update() + ")," +
		// NOT IN is hashed, whatever Postgres thinks of the number of rows.
		" others AS (SELECT d.* FROM d WHERE d.ord NOT IN (SELECT ord FROM updated))," +
		" stuck AS (SELECT d.ord FROM others AS d" +
		" WHERE EXISTS (SELECT FROM " + s.table.sql + " AS t WHERE " + s.isRow() + "))," +
		" inserted AS (INSERT INTO " + s.table.sql + " " + s.targets() +
		" SELECT " + s.values() + " FROM others AS d WHERE d.ord NOT IN (SELECT ord FROM stuck))"
}

// insertUnseenSQL is a PUT without any column: nothing can change in a row
// that is there.
func (s *shape) insertUnseenSQL() string {
	return s.joined() + " INSERT INTO " + s.table.sql + " " + s.targets() +
		" SELECT " + s.values() + " FROM d" +
		" WHERE NOT EXISTS (SELECT FROM " + s.table.sql + " AS t WHERE " + s.isRow() + ")"
}

// updateSQL is a PATCH. It returns the positions of the rows that it touched.
func (s *shape) updateSQL() string { return s.joined() + " " + s.update() }

func (s *shape) update() string {
	return "UPDATE " + s.table.sql + " AS t SET " + s.assignments(sourceValue) +
		" FROM d WHERE " + s.isRow() + " RETURNING d.ord"
}

// deleteSQL is a DELETE. It returns the positions of the rows that it touched.
func (s *shape) deleteSQL() string { return s.joined() + " " + s.delete() }

func (s *shape) delete() string {
	return "DELETE FROM " + s.table.sql + " AS t USING d WHERE " + s.isRow() + " RETURNING d.ord"
}

// updateAllSQL and deleteAllSQL raise if they touch fewer rows than asked: in
// a pipeline COMMIT is already on its way by the time a count could be read.
func (s *shape) updateAllSQL() string { return s.all(s.update()) }

func (s *shape) deleteAllSQL() string { return s.all(s.delete()) }

func (s *shape) all(change string) string {
	asked := "cardinality(" + s.ids() + ")"
	if s.oneRow {
		asked = "1"
	}
	return s.joined() + ", touched AS (" + change + ")" +
		" SELECT 1 / (CASE WHEN count(*) = " + asked + " THEN 1 ELSE 0 END) FROM touched"
}

// visibleSQL returns the positions of the rows that the caller sees.
func (s *shape) visibleSQL() string {
	return s.joined() + " SELECT d.ord FROM d" +
		" WHERE EXISTS (SELECT FROM " + s.table.sql + " AS t WHERE " + s.isRow() + ")"
}

// quoteLiteral quotes text for SQL, whatever standard_conforming_strings says.
func quoteLiteral(s string) string {
	return " E'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
}
