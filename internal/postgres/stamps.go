package postgres

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// sharedRowsSQL lists pairs of relations through which the same rows can be
// written: a view and its tables, a table and its partitions or heirs, and what
// has any of these in common. $1: oids.
const sharedRowsSQL = `
WITH RECURSIVE part (whole, oid) AS (
    SELECT w.ev_class, d.refobjid
    FROM pg_rewrite w
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class
    UNION
    SELECT h.inhparent, h.inhrelid
    FROM pg_inherits h
), reach (root, oid) AS (
    SELECT unnest($1::oid[]), unnest($1::oid[])
    UNION
    SELECT reach.root, part.oid
    FROM reach
    JOIN part ON part.whole = reach.oid
)
SELECT DISTINCT a.root, b.root
FROM reach a
JOIN reach b ON b.oid = a.oid AND b.root <> a.root`

// guardStamps refuses uploads to a table whose rows have a stamp under another
// name that it lacks: else clients could write the column after all.
func (c *catalog) guardStamps(ctx context.Context, tx pgx.Tx, oids []uint32) error {
	stamped := map[uint32][]string{} // names of client tables
	for _, name := range slices.Sorted(maps.Keys(c.tables)) {
		if t := c.tables[name]; len(t.stamps) > 0 {
			stamped[t.oid] = append(stamped[t.oid], name)
		}
	}
	if len(stamped) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, sharedRowsSQL, oids)
	if err != nil {
		return err
	}
	shared := map[uint32][]uint32{}
	var oid, other uint32
	if _, err := pgx.ForEachRow(rows, []any{&oid, &other}, func() error {
		shared[oid] = append(shared[oid], other)
		return nil
	}); err != nil {
		return err
	}
	guarded := map[string]*table{}
	for name, t := range c.tables {
		for _, oid := range slices.Concat([]uint32{t.oid}, shared[t.oid]) {
			for _, other := range stamped[oid] {
				if t.refusal == "" && !t.stampsAllOf(c.tables[other]) {
					copied := *t
					copied.refusal = "the server fills columns of these rows, which take uploads as " + other
					guarded[name] = &copied
				}
			}
		}
	}
	maps.Copy(c.tables, guarded)
	return nil
}

// stampsAllOf is whether t fills every column that another one fills.
func (t *table) stampsAllOf(other *table) bool {
	return !slices.ContainsFunc(other.stamps, func(s stamp) bool { return !t.stamped(s.column) })
}
