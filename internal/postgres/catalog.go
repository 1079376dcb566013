package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// catalog is what ferry knows of the app's tables at one moment. What it knows is
// never changed: a newer one takes its place.
type catalog struct {
	loadedAt time.Time
	tables   map[string]*table // by the client's name
	shapes   shapes            // met so far
}

// table is a table, view or partitioned table that the upload role may write.
type table struct {
	oid    uint32
	schema string
	name   string
	sql    string // quoted and qualified
	kind   string // pg_class.relkind
	rls    bool
	// granted is whether the upload role may write something in it.
	granted bool
	// rules is whether it has rules (CREATE RULE), but for a view's own.
	rules bool
	// refusal says why this table takes no uploads; empty if it does.
	refusal string
	// configured is whether ferry.tables has a row for the client table, and
	// misconfigured whether that is the refusal.
	configured, misconfigured bool

	columns map[string]*column // by the client's name
	id      *column            // nil where there is no id column
	indexes []index
	// versions are those of the table and of the composite types in it: whoever
	// changes them makes this table out of date.
	versions []relationVersion

	// What ferry.tables says of this client table.
	putAbsentNull, dropUnknown bool
	stamps                     []stamp

	// idIndexed is whether rows are found by an index on the id column.
	idIndexed bool
	// idArbiter is whether ON CONFLICT (id) finds a unique index that holds all
	// rows.
	idArbiter bool
	// idIndexes are the unique indexes on the id column alone: a violation of
	// one means that the row exists.
	idIndexes []indexName
	// inherited is whether rows of the table may be in others that inherit from
	// it.
	inherited bool
	// Row triggers that run before, or instead of, a write and may suppress it,
	// of the table or of one that holds rows of it.
	insertTrigger, updateTrigger, deleteTrigger bool
	// statementTriggers is whether any trigger fires once per statement.
	statementTriggers bool
}

// index is an index whose first column is this one.
type index struct {
	column    string
	name      indexName
	own       bool // and not that of a partition or of an inheriting table
	unique    bool // on that column alone
	immediate bool // whether ON CONFLICT may use it, if it is unique
}

// indexName is how an error names an index.
type indexName struct{ schema, table, index string }

// setID makes c the id column; nil for none.
func (t *table) setID(c *column) {
	t.id, t.idIndexed, t.idArbiter, t.idIndexes = c, false, false, nil
	for _, x := range t.indexes {
		if c == nil || x.column != c.name {
			continue
		}
		t.idIndexed = t.idIndexed || x.own
		if x.unique {
			t.idIndexes = append(t.idIndexes, x.name)
			t.idArbiter = t.idArbiter || x.own && x.immediate && !t.inherited
		}
	}
}

// relationVersion is a row of pg_class and who wrote it last: an ALTER that
// changes what a value becomes writes it anew.
type relationVersion struct {
	oid  uint32
	xmin string
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
	encodingSet    bool // ferry.tables says how bytea comes
	canSelect      bool
	canUpdate      bool
	// sameBytes is whether equal texts have equal bytes, as they have not under
	// a nondeterministic collation.
	sameBytes bool
}

// catalogOptions say which tables take uploads, and as whom.
type catalogOptions struct {
	role    string
	schemas []string // in order: the first that has a name wins
	tables  []string // FERRY_UPLOAD_TABLES
	// withoutSettings leaves ferry.tables out, which may not be there yet.
	withoutSettings bool
}

// tablesSQL lists the tables of the upload schemas with the caller's rights on
// them. Partitions, and tables that inherit from one, hold its rows, so that
// their triggers fire as well. $1: schemas, $2: role.
const tablesSQL = `
WITH RECURSIVE family (root, oid) AS (
    SELECT c.oid, c.oid
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'f')
    UNION
    SELECT family.root, h.inhrelid
    FROM family
    JOIN pg_inherits h ON h.inhparent = family.oid
), triggers (root, before_insert, before_update, before_delete, per_statement) AS (
    SELECT family.root,
           bool_or(g.tgtype & 1 = 1 AND g.tgtype & (2 | 64) <> 0 AND g.tgtype & 4 <> 0),
           bool_or(g.tgtype & 1 = 1 AND g.tgtype & (2 | 64) <> 0 AND g.tgtype & 16 <> 0),
           bool_or(g.tgtype & 1 = 1 AND g.tgtype & (2 | 64) <> 0 AND g.tgtype & 8 <> 0),
           bool_or(g.tgtype & 1 = 0)
    FROM family
    JOIN pg_trigger g ON g.tgrelid = family.oid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A')
    GROUP BY family.root
)
SELECT c.oid, c.xmin::text, n.nspname, c.relname, c.relkind::text, c.relrowsecurity,
       has_schema_privilege($2, n.oid, 'USAGE')
           AND (has_any_column_privilege($2, c.oid, 'INSERT, UPDATE') OR has_table_privilege($2, c.oid, 'DELETE')),
       EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type <> '1'),
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid),
       coalesce(triggers.before_insert, false), coalesce(triggers.before_update, false),
       coalesce(triggers.before_delete, false), coalesce(triggers.per_statement, false)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN triggers ON triggers.root = c.oid
WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'f')
ORDER BY array_position($1, n.nspname), c.relname`

// columnsSQL lists the columns of tables. $1: table oids, $2: role.
const columnsSQL = `
SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated <> '', a.attidentity = 'a',
       has_column_privilege($2, a.attrelid, a.attnum, 'SELECT'),
       has_column_privilege($2, a.attrelid, a.attnum, 'UPDATE'),
       coalesce(l.collisdeterministic, true)
FROM pg_attribute a
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`

// indexesSQL lists the valid indexes of whole tables by their first column. A
// violation names the index of a partition or of an inheriting table, so theirs
// are listed as well. $1: table oids.
const indexesSQL = `
WITH RECURSIVE family (root, oid) AS (
    SELECT unnest($1::oid[]), unnest($1::oid[])
    UNION
    SELECT family.root, h.inhrelid
    FROM family
    JOIN pg_inherits h ON h.inhparent = family.oid
    JOIN pg_class c ON c.oid = h.inhrelid AND c.relkind IN ('r', 'p')
)
SELECT family.root, a.attname, n.nspname, tc.relname, ic.relname, family.oid = family.root,
       i.indisunique AND i.indnkeyatts = 1 AND i.indexprs IS NULL, i.indimmediate
FROM family
JOIN pg_index i ON i.indrelid = family.oid
JOIN pg_class ic ON ic.oid = i.indexrelid
JOIN pg_class tc ON tc.oid = i.indrelid
JOIN pg_namespace n ON n.oid = tc.relnamespace
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indisvalid AND i.indpred IS NULL`

// loadCatalog reads everything in one transaction and one snapshot.
func loadCatalog(ctx context.Context, pool *pgxpool.Pool, o catalogOptions, now time.Time) (*catalog, error) {
	var c *catalog
	err := reading(ctx, pool, func(tx pgx.Tx) error {
		if encoding := tx.Conn().PgConn().ParameterStatus("server_encoding"); encoding != requiredEncoding {
			return fmt.Errorf("the database's encoding is %s: %w", encoding, errEncoding)
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

// requiredEncoding is the only encoding that can hold what clients send.
const requiredEncoding = "UTF8"

var errEncoding = errors.New("ferry needs " + requiredEncoding)

// reading runs f in a transaction of one snapshot that changes nothing, in
// which only what stands in pg_catalog is trusted. Compiling queries of the
// catalog would take ten times as long as running them.
func reading(ctx context.Context, pool *pgxpool.Pool, f func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly},
		func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT set_config('search_path', 'pg_catalog', true), set_config('jit', 'off', true)`)
			if err != nil {
				return err
			}
			return f(tx)
		})
}

func readCatalog(ctx context.Context, tx pgx.Tx, o catalogOptions) (*catalog, error) {
	var settings []*tableSettings
	var err error
	if !o.withoutSettings {
		settings, err = readSettings(ctx, tx)
	}
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
	if err := readIndexes(ctx, tx, byOID, oids); err != nil {
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
	return c, c.guardStamps(ctx, tx, oids)
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
		var xmin string
		err := row.Scan(&t.oid, &xmin, &t.schema, &t.name, &t.kind, &t.rls, &t.granted, &t.rules, &t.inherited,
			&t.insertTrigger, &t.updateTrigger, &t.deleteTrigger, &t.statementTriggers)
		t.sql = pgx.Identifier{t.schema, t.name}.Sanitize()
		t.versions = []relationVersion{{t.oid, xmin}}
		t.refusal = whyNoUploads(t, o.tables)
		return t, err
	})
}

// whyNoUploads holds the rule of FERRY_UPLOAD_TABLES: granting a table is not
// enough, because default privileges grant every new table. It takes row-level
// security, or the operator's word.
func whyNoUploads(t *table, named []string) string {
	switch {
	case t.isNamed(named):
	case len(named) > 0:
		return "the table is not among those that take uploads (FERRY_UPLOAD_TABLES)"
	case !t.rls:
		return "the table has no row-level security, and FERRY_UPLOAD_TABLES does not name it"
	}
	switch {
	case !t.granted:
		return "the upload role may not write to this table"
	case t.rules: // a rewritten statement cannot tell which rows it touched
		return "the table has rules (CREATE RULE); triggers can do what they do, and take uploads"
	}
	return ""
}

// isNamed is whether FERRY_UPLOAD_TABLES names a table.
func (t *table) isNamed(named []string) bool {
	return slices.Contains(named, "*") || slices.Contains(named, t.name) || slices.Contains(named, t.schema+"."+t.name)
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
		[]any{&oid, &c.name, &typeOID, &modifier, &c.notNull, &c.generated, &c.identityAlways, &c.canSelect, &c.canUpdate, &c.sameBytes},
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
	for _, t := range tables {
		for _, c := range t.columns {
			t.versions = append(t.versions, c.typ.versions...)
		}
		t.versions = sorted(t.versions)
	}
	return nil
}

// sorted returns versions in order, each once.
func sorted(versions []relationVersion) []relationVersion {
	slices.SortFunc(versions, func(a, b relationVersion) int { return cmp.Compare(a.oid, b.oid) })
	return slices.Compact(versions)
}

func readIndexes(ctx context.Context, tx pgx.Tx, tables map[uint32]*table, oids []uint32) error {
	rows, err := tx.Query(ctx, indexesSQL, oids)
	if err != nil {
		return err
	}
	var oid uint32
	var x index
	_, err = pgx.ForEachRow(rows, []any{&oid, &x.column, &x.name.schema, &x.name.table, &x.name.index, &x.own, &x.unique, &x.immediate}, func() error {
		tables[oid].indexes = append(tables[oid].indexes, x)
		return nil
	})
	return err
}
