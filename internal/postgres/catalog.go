package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// catalog is what ferry knows of the app's tables at one moment. It is never
// changed: a newer one takes its place.
type catalog struct {
	loadedAt time.Time
	tables   map[string]*table // by the client's name
}

// table is a table, view or partitioned table that the upload role may write.
type table struct {
	oid    uint32
	schema string
	name   string
	sql    string // quoted and qualified
	rls    bool
	// refusal says why this table takes no uploads; empty if it does.
	refusal string

	columns map[string]*column // by the client's name
	id      *column            // nil where there is no id column
	uniques []uniqueIndex

	// What ferry.tables says of this client table.
	putAbsentNull, dropUnknown bool
	stamps                     []stamp

	// idArbiter is whether ON CONFLICT (id) finds a unique index.
	idArbiter bool
	// idIndexes are the unique indexes on the id column alone: a violation of
	// one means that the row exists.
	idIndexes []string
	// Row triggers that run before, or instead of, a write and may suppress it.
	insertTrigger, updateTrigger, deleteTrigger bool
	// statementTriggers is whether any trigger fires once per statement.
	statementTriggers bool
}

// uniqueIndex is a unique index on one column alone.
type uniqueIndex struct {
	column, name string
	arbiter      bool // whether ON CONFLICT may use it
}

// setID makes c the id column; nil for none.
func (t *table) setID(c *column) {
	t.id, t.idArbiter, t.idIndexes = c, false, nil
	for _, u := range t.uniques {
		if c != nil && u.column == c.name {
			t.idIndexes = append(t.idIndexes, u.name)
			t.idArbiter = t.idArbiter || u.arbiter
		}
	}
}

// column is one column of a table.
type column struct {
	name           string
	client         string // the client's name for it
	sql            string // quoted
	notNull        bool
	typ            *dataType
	generated      bool // GENERATED ALWAYS AS (…): never written
	identityAlways bool // GENERATED ALWAYS AS IDENTITY
	hexBytea       bool // bytea comes as bare hex
	canSelect      bool
	canUpdate      bool
}

// catalogOptions say which tables take uploads, and as whom.
type catalogOptions struct {
	role    string
	schemas []string // in order: the first that has a name wins
	tables  []string // FERRY_UPLOAD_TABLES
}

// tablesSQL lists the tables of the upload schemas with the caller's rights on
// them. $1: schemas, $2: role.
const tablesSQL = `
SELECT c.oid, n.nspname, c.relname, c.relrowsecurity,
       has_schema_privilege($2, n.oid, 'USAGE')
           AND (has_any_column_privilege($2, c.oid, 'INSERT, UPDATE') OR has_table_privilege($2, c.oid, 'DELETE')),
       EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A')
               AND g.tgtype & 1 = 1 AND g.tgtype & (2 | 64) <> 0 AND g.tgtype & 4 <> 0),
       EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A')
               AND g.tgtype & 1 = 1 AND g.tgtype & (2 | 64) <> 0 AND g.tgtype & 16 <> 0),
       EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A')
               AND g.tgtype & 1 = 1 AND g.tgtype & (2 | 64) <> 0 AND g.tgtype & 8 <> 0),
       EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A')
               AND g.tgtype & 1 = 0)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY ($1)
  AND c.relkind IN ('r', 'p', 'v', 'f')
ORDER BY array_position($1, n.nspname), c.relname`

// columnsSQL lists the columns of tables. $1: table oids, $2: role.
const columnsSQL = `
SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated <> '', a.attidentity = 'a',
       has_column_privilege($2, a.attrelid, a.attnum, 'SELECT'),
       has_column_privilege($2, a.attrelid, a.attnum, 'UPDATE')
FROM pg_attribute a
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`

// idIndexesSQL lists the valid unique indexes on one column alone, and whether
// ON CONFLICT may use them. A violation names the index of a partition or of an
// inheriting table, so theirs are listed as well. $1: table oids.
const idIndexesSQL = `
WITH RECURSIVE family (root, oid) AS (
    SELECT unnest($1::oid[]), unnest($1::oid[])
    UNION
    SELECT family.root, h.inhrelid
    FROM family
    JOIN pg_inherits h ON h.inhparent = family.oid
    JOIN pg_class c ON c.oid = h.inhrelid AND c.relkind IN ('r', 'p')
)
SELECT family.root, a.attname, ic.relname, i.indimmediate AND family.oid = family.root
FROM family
JOIN pg_index i ON i.indrelid = family.oid
JOIN pg_class ic ON ic.oid = i.indexrelid
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND i.indnkeyatts = 1`

// loadCatalog reads everything in one transaction and one snapshot.
func loadCatalog(ctx context.Context, pool *pgxpool.Pool, o catalogOptions, now time.Time) (*catalog, error) {
	var c *catalog
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly},
		func(tx pgx.Tx) error {
			// Only what stands in pg_catalog is trusted in the queries below, and
			// compiling them takes ten times as long as running them.
			if _, err := tx.Exec(ctx, `SELECT set_config('search_path', 'pg_catalog', true), set_config('jit', 'off', true)`); err != nil {
				return err
			}
			var err error
			c, err = readCatalog(ctx, tx, o)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	c.loadedAt = now
	return c, nil
}

func readCatalog(ctx context.Context, tx pgx.Tx, o catalogOptions) (*catalog, error) {
	settings, err := readSettings(ctx, tx)
	if err != nil {
		return nil, err
	}
	tables, err := readTables(ctx, tx, o, settings)
	if err != nil {
		return nil, err
	}
	byOID := make(map[uint32]*table, len(tables))
	oids := make([]uint32, 0, len(tables))
	for _, t := range tables {
		byOID[t.oid] = t
		oids = append(oids, t.oid)
	}
	if err := readColumns(ctx, tx, o, byOID, oids); err != nil {
		return nil, err
	}
	if err := readIDIndexes(ctx, tx, byOID, oids); err != nil {
		return nil, err
	}
	c := &catalog{tables: make(map[string]*table, len(tables))}
	for _, t := range tables {
		t.setID(t.columns["id"])
		if _, shadowed := c.tables[t.name]; !shadowed && slices.Contains(o.schemas, t.schema) {
			c.tables[t.name] = t
		}
	}
	for _, s := range settings {
		c.tables[s.ClientName] = s.apply(tables)
	}
	c.guardStamps()
	return c, nil
}

// guardStamps refuses uploads to a table under a name without stamps if it has
// some under another: else clients could write the columns after all.
func (c *catalog) guardStamps() {
	stamped := map[uint32]string{}
	for name, t := range c.tables {
		if len(t.stamps) > 0 {
			stamped[t.oid] = name
		}
	}
	for name, t := range c.tables {
		if other, ok := stamped[t.oid]; ok && len(t.stamps) == 0 && t.refusal == "" {
			guarded := *t
			guarded.refusal = "the server fills columns of this table, which takes uploads as " + other
			c.tables[name] = &guarded
		}
	}
}

func readTables(ctx context.Context, tx pgx.Tx, o catalogOptions, settings []*tableSettings) ([]*table, error) {
	schemas := slices.Clone(o.schemas)
	for _, s := range settings {
		schemas = append(schemas, s.SchemaName)
	}
	rows, err := tx.Query(ctx, tablesSQL, schemas, o.role)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*table, error) {
		t := &table{columns: map[string]*column{}}
		var granted bool
		err := row.Scan(&t.oid, &t.schema, &t.name, &t.rls, &granted,
			&t.insertTrigger, &t.updateTrigger, &t.deleteTrigger, &t.statementTriggers)
		t.sql = pgx.Identifier{t.schema, t.name}.Sanitize()
		t.refusal = whyNoUploads(t, o.tables, granted)
		return t, err
	})
}

// whyNoUploads holds the rule of FERRY_UPLOAD_TABLES: granting a table is not
// enough, because default privileges grant every new table. It takes row-level
// security, or the operator's word.
func whyNoUploads(t *table, named []string, granted bool) string {
	switch {
	case slices.Contains(named, "*"), slices.Contains(named, t.name), slices.Contains(named, t.schema+"."+t.name):
	case len(named) > 0:
		return "the table is not among those that take uploads (FERRY_UPLOAD_TABLES)"
	case !t.rls:
		return "the table has no row-level security, and FERRY_UPLOAD_TABLES does not name it"
	}
	if !granted {
		return "the upload role may not write to this table"
	}
	return ""
}

func readColumns(ctx context.Context, tx pgx.Tx, o catalogOptions, tables map[uint32]*table, oids []uint32) error {
	rows, err := tx.Query(ctx, columnsSQL, oids, o.role)
	if err != nil {
		return err
	}
	typeOf := map[*column]uint32{}
	modifierOf := map[*column]int32{}
	var oid, typeOID uint32
	var modifier int32
	var c column
	_, err = pgx.ForEachRow(rows,
		[]any{&oid, &c.name, &typeOID, &modifier, &c.notNull, &c.generated, &c.identityAlways, &c.canSelect, &c.canUpdate},
		func() error {
			added := c
			added.client, added.sql = added.name, pgx.Identifier{added.name}.Sanitize()
			tables[oid].columns[added.name] = &added
			typeOf[&added], modifierOf[&added] = typeOID, modifier
			return nil
		})
	if err != nil {
		return err
	}
	types, err := readTypes(ctx, tx, typeOf)
	if err != nil {
		return err
	}
	for c, oid := range typeOf {
		t := types[oid]
		if t == nil {
			return fmt.Errorf("column %s: no type with oid %d", c.name, oid)
		}
		c.typ = t.withModifier(modifierOf[c])
	}
	return nil
}

func readIDIndexes(ctx context.Context, tx pgx.Tx, tables map[uint32]*table, oids []uint32) error {
	rows, err := tx.Query(ctx, idIndexesSQL, oids)
	if err != nil {
		return err
	}
	var oid uint32
	var column, index string
	var immediate bool
	_, err = pgx.ForEachRow(rows, []any{&oid, &column, &index, &immediate}, func() error {
		tables[oid].uniques = append(tables[oid].uniques, uniqueIndex{column, index, immediate})
		return nil
	})
	return err
}
