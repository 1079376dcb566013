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
