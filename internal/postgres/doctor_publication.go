package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"ferry/internal/doctor"
)

// publicationChecks look at what the PowerSync Service replicates. It reads the
// publication of this name and no other.
//
// Source: PowerSync documentation, "Source Database Setup".
func (d *Doctor) publicationChecks() []doctor.Check {
	return []doctor.Check{
		{Code: "publication-missing", Severity: doctor.Error, Find: d.asked(d.publicationMissing)},
		{Code: "publication-incomplete", Severity: doctor.Error, Find: d.asked(publicationIncomplete)},
		{Code: "publication-carries-ferry", Severity: doctor.Warning, Find: d.asked(d.publicationCarriesFerry)},
		{Code: "not-published", Severity: doctor.Warning, Find: d.tables(notPublished)},
		{Code: "checkpoints-not-published", Severity: doctor.Error, Find: d.asked(d.checkpointsNotPublished)},
		{Code: "powersync-may-not-read", Severity: doctor.Error, Find: d.asked(d.mayNotRead)},
		{Code: "powersync-sees-no-rows", Severity: doctor.Error, Find: d.asked(d.seesNoRows)},
	}
}

// publishesAllSQL has no row where there is no publication.
const publishesAllSQL = `SELECT pubinsert AND pubupdate AND pubdelete FROM pg_publication WHERE pubname = 'powersync'`

// needPublication fails with ErrSkipped where there is no publication.
func needPublication(ctx context.Context, tx pgx.Tx) (publishesAll bool, err error) {
	err = tx.QueryRow(ctx, publishesAllSQL).Scan(&publishesAll)
	if errors.Is(err, pgx.ErrNoRows) {
		err = doctor.ErrSkipped
	}
	return publishesAll, err
}

func (d *Doctor) publicationMissing(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	if _, err := needPublication(ctx, tx); !errors.Is(err, doctor.ErrSkipped) {
		return nil, err
	}
	tables := []string{}
	if d.catalog != nil {
		for _, t := range d.clientTables() {
			if t.takesUploads() && t.isPlain() {
				tables = append(tables, t.sql)
			}
		}
	}
	if len(tables) == 0 {
		tables = []string{"…"}
	}
	return found("There is no publication powersync: the PowerSync Service cannot replicate, so devices get no data.",
		"Make it, with all tables that devices sync:", fmt.Sprintf("CREATE PUBLICATION powersync FOR TABLE %s;", strings.Join(tables, ", "))), nil
}

func publicationIncomplete(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	if all, err := needPublication(ctx, tx); err != nil || all {
		return nil, err
	}
	return found("Publication powersync leaves out some of INSERT, UPDATE and DELETE: devices keep stale rows.",
		"Publish all:", "ALTER PUBLICATION powersync SET (publish = 'insert, update, delete, truncate');"), nil
}

func (d *Doctor) publicationCarriesFerry(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var p Publication
	return rowsAs(ctx, tx, carryingFerrySQL, []any{d.configured.Schemas, d.configured.WriteCheckpoints}, []any{&p.Name, &p.SQL}, func() doctor.Finding {
		return doctor.Finding{
			Problem: fmt.Sprintf("Publication %s carries schema ferry: each upload is replicated once more for nothing, and a sync rule could give devices what is in it.", p.Name),
			Remedy:  "Leave it out, and keep the tables that devices sync, for example:", Run: strings.TrimSuffix(p.SQL, "\n"),
		}
	})
}

// publishedSQL lists those tables of $1 that the publication has, by themselves
// or by their partitions.
const publishedSQL = `
WITH RECURSIVE family (root, oid) AS (
    SELECT unnest($1::oid[]), unnest($1::oid[])
    UNION
    SELECT family.root, h.inhrelid
    FROM family
    JOIN pg_inherits h ON h.inhparent = family.oid
)
SELECT DISTINCT family.root
FROM pg_publication_tables t
JOIN pg_namespace n ON n.nspname = t.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
JOIN family ON family.oid = c.oid
WHERE t.pubname = 'powersync'`

func notPublished(ctx context.Context, tx pgx.Tx, tables []clientTable) ([]doctor.Finding, error) {
	if _, err := needPublication(ctx, tx); err != nil {
		return nil, err
	}
	return unlisted(ctx, tx, publishedSQL, nil, tables, func(t clientTable) []doctor.Finding {
		if !t.takesUploads() || !t.isPlain() {
			return nil
		}
		return found(fmt.Sprintf("%s takes uploads but is not in publication powersync: what clients write to it never comes back to any device.", t),
			"Add it; ignore this where clients only write:", fmt.Sprintf("ALTER PUBLICATION powersync ADD TABLE %s;", t.sql))
	})
}

func (d *Doctor) checkpointsNotPublished(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var carried bool
	if !d.configured.WriteCheckpoints {
		return nil, nil
	}
	if _, err := needPublication(ctx, tx); err != nil {
		return nil, err
	}
	err := tx.QueryRow(ctx, `SELECT EXISTS (
		SELECT FROM pg_publication_tables WHERE pubname = 'powersync' AND schemaname = 'ferry' AND tablename = 'checkpoints')`).Scan(&carried)
	if err != nil || carried {
		return nil, err
	}
	return found("FERRY_WRITE_CHECKPOINTS is on, but publication powersync lacks ferry.checkpoints: clients wait for their checkpoints in vain.",
		"Add it:", "ALTER PUBLICATION powersync ADD TABLE ferry.checkpoints;"), nil
}

// readersSQL begins a query over what the PowerSync Service replicates, and the
// roles that it does so as: that of an active slot of its, and those that may
// replicate, are called powersync…, and may read some of it. $1: whether
// ferry.checkpoints is meant to be read; the rest of schema ferry is not.
const readersSQL = `
WITH published AS (
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, n.oid AS schema, n.nspname, c.relrowsecurity, c.relowner
    FROM pg_publication_tables t
    JOIN pg_namespace n ON n.nspname = t.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
    WHERE t.pubname = 'powersync' AND (n.nspname <> 'ferry' OR c.relname = 'checkpoints' AND $1)
), readers AS (
    SELECT r.oid, r.rolname, r.rolsuper OR r.rolbypassrls AS sees_all
    FROM pg_roles r
    WHERE r.rolreplication AND r.rolname LIKE 'powersync%'
      AND EXISTS (SELECT FROM published p WHERE has_table_privilege(r.oid, p.oid, 'SELECT'))
       OR r.oid IN (
          SELECT a.usesysid
          FROM pg_replication_slots s
          JOIN pg_stat_activity a ON a.pid = s.active_pid
          WHERE s.slot_type = 'logical' AND s.slot_name LIKE 'powersync%' AND s.database = current_database())
)`

const mayNotReadSQL = readersSQL + `
SELECT r.rolname, p.nspname, p.name
FROM readers r
JOIN published p ON NOT (has_table_privilege(r.oid, p.oid, 'SELECT') AND has_schema_privilege(r.oid, p.schema, 'USAGE'))
ORDER BY r.rolname, p.name`

func (d *Doctor) mayNotRead(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var role, schema, table string
	return rowsAs(ctx, tx, mayNotReadSQL, []any{d.configured.WriteCheckpoints}, []any{&role, &schema, &table}, func() doctor.Finding {
		return doctor.Finding{
			Problem: fmt.Sprintf("%s is in publication powersync, and the PowerSync Service's role %s may not read it: it cannot be replicated.", table, role),
			Remedy:  "Let it:", Run: fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;\nGRANT SELECT ON %s TO %[2]s;", ident(schema), ident(role), table),
		}
	})
}

// seesNoRowsSQL leaves out who is above the policies of a table as its owner.
const seesNoRowsSQL = readersSQL + `
SELECT r.rolname, string_agg(p.name, ', ' ORDER BY p.name)
FROM readers r
JOIN published p ON p.relrowsecurity AND NOT pg_has_role(r.oid, p.relowner, 'USAGE')
WHERE NOT r.sees_all
GROUP BY r.rolname
ORDER BY r.rolname`

func (d *Doctor) seesNoRows(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var role, tables string
	return rowsAs(ctx, tx, seesNoRowsSQL, []any{d.configured.WriteCheckpoints}, []any{&role, &tables}, func() doctor.Finding {
		return doctor.Finding{
			Problem: fmt.Sprintf("Row-level security of %s holds for the PowerSync Service's role %s as well: rows are missing from its first copy of these tables, and from devices.", tables, role),
			Remedy:  "Let it see all rows; sync rules decide what devices get:", Run: fmt.Sprintf("ALTER ROLE %s BYPASSRLS;", ident(role)),
		}
	})
}
