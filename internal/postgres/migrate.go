package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"ferry/migrations"
)

const (
	versionTable = "ferry.goose_db_version"

	// connectTimeout bounds each attempt to connect where the connection
	// string does not: a host that drops packets would be waited for without
	// end.
	connectTimeout = 15 * time.Second
)

// Migrator changes schema ferry. Any number of replicas may run one at once:
// goose's session lock lets them through one by one.
type Migrator struct {
	db       *sql.DB
	provider *goose.Provider
	// UploadRole is the role that uploads act as; it is made if missing.
	UploadRole string
	// GrantTo is a login role to be made a member of ServiceRole and
	// UploadRole; empty for none.
	GrantTo string
	// Schemas are where the app's tables are.
	Schemas []string
	// WriteCheckpoints is whether the PowerSync Service reads those of ferry.
	WriteCheckpoints bool
}

// NewMigrator connects to url as a role that may create schemas and roles.
// Behind PgBouncer the pool must be in session mode: goose's lock is a session
// lock.
func NewMigrator(ctx context.Context, url string) (*Migrator, error) {
	config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	db := stdlib.OpenDB(*config.ConnConfig)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the database: %w", err), db.Close())
	}
	m := &Migrator{db: db}
	if m.provider, err = newProvider(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return m, nil
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	// Asking every second, for as long as another replica may take.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, fmt.Errorf("migration lock: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS,
		goose.WithTableName(versionTable),
		goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return provider, nil
}

// Close closes the connection.
func (m *Migrator) Close() error { return m.db.Close() }

// Up applies what is missing, makes the roles and grants them their rights. It
// returns the names of the migrations that it applied. The error is a
// *RolesError where only the roles are left to do.
func (m *Migrator) Up(ctx context.Context) ([]string, error) {
	if err := m.createSchema(ctx); err != nil {
		return nil, err
	}
	results, err := m.provider.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate up: %w", err)
	}
	applied := make([]string, len(results))
	for i, r := range results {
		applied[i] = r.Source.Path
	}
	return applied, m.grant(ctx)
}

// createSchema needs no right to create schemas where an administrator has
// made this one.
func (m *Migrator) createSchema(ctx context.Context) error {
	if there, err := m.exists(ctx, `SELECT pg_catalog.to_regnamespace('ferry') IS NOT NULL`); err != nil || there {
		return err
	}
	_, err := m.db.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS ferry`)
	switch {
	case err == nil, hasSQLState(err, "23505", "42P06"): // another replica made it just now
		return nil
	case hasSQLState(err, "42501"):
		return fmt.Errorf("create schema ferry: %w; let the owner of the database run, with this role's name: "+
			"CREATE SCHEMA ferry AUTHORIZATION …", err)
	}
	return fmt.Errorf("create schema ferry: %w", err)
}

// migrated is whether there is a record of migrations.
func (m *Migrator) migrated(ctx context.Context) (bool, error) {
	return m.exists(ctx, `SELECT pg_catalog.to_regclass('`+versionTable+`') IS NOT NULL`)
}

func (m *Migrator) exists(ctx context.Context, query string) (bool, error) {
	var yes bool
	if err := m.db.QueryRowContext(ctx, query).Scan(&yes); err != nil {
		return false, fmt.Errorf("look for schema ferry: %w", err)
	}
	return yes, nil
}

// Down takes back the newest migration, and with it the data of its tables.
// Roles stay. It returns the migration's name, empty if there was none.
func (m *Migrator) Down(ctx context.Context) (string, error) {
	if there, err := m.migrated(ctx); err != nil || !there {
		return "", err
	}
	result, err := m.provider.Down(ctx)
	switch {
	case errors.Is(err, goose.ErrNoNextVersion):
		return "", nil
	case errors.Is(err, goose.ErrVersionNotFound):
		return "", fmt.Errorf("migrate down: the newest migration is one of a newer ferry; take it back with that one: %w", err)
	case err != nil:
		return "", fmt.Errorf("migrate down: %w", err)
	}
	return result.Source.Path, nil
}

// MigrationStatus is one migration and whether the database has it.
type MigrationStatus struct {
	Name    string
	Applied bool
}

// Status lists all migrations that this version of ferry knows. It changes
// nothing.
func (m *Migrator) Status(ctx context.Context) ([]MigrationStatus, error) {
	list := []MigrationStatus{}
	there, err := m.migrated(ctx)
	if err != nil {
		return nil, err
	}
	if !there {
		for _, s := range m.provider.ListSources() {
			list = append(list, MigrationStatus{Name: s.Path})
		}
		return list, nil
	}
	statuses, err := m.provider.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate status: %w", err)
	}
	for _, s := range statuses {
		list = append(list, MigrationStatus{Name: s.Source.Path, Applied: s.State == goose.StateApplied})
	}
	return list, nil
}

// Publication is one that carries schema ferry to whoever replicates from it.
type Publication struct {
	Name string
	// SQL leaves schema ferry out of it, and the app's tables in it.
	SQL string
}

// carryingFerrySQL lists the publications that carry more of schema ferry than
// is meant, each with the statements that leave it out. One FOR ALL TABLES is
// made anew with the app's tables by name, which works from Postgres 14 on,
// unlike TABLES IN SCHEMA. $1: the app's schemas, $2: whether
// ferry.checkpoints is meant.
const carryingFerrySQL = `
WITH app (tables) AS (
    SELECT pg_catalog.string_agg(pg_catalog.format('%I.%I', n.nspname, c.relname), ', ' ORDER BY n.nspname, c.relname)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE (n.nspname = ANY ($1) OR n.nspname = 'ferry' AND c.relname = 'checkpoints' AND $2)
      AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
), carried (pubname, tables, by_name) AS (
    SELECT t.pubname, pg_catalog.string_agg(pg_catalog.format('%I.%I', t.schemaname, t.tablename), ', ' ORDER BY t.tablename),
           pg_catalog.bool_and(EXISTS (
               SELECT
               FROM pg_catalog.pg_publication_rel r
               JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
               WHERE p.pubname = t.pubname
                 AND r.prrelid = pg_catalog.format('%I.%I', t.schemaname, t.tablename)::pg_catalog.regclass))
    FROM pg_catalog.pg_publication_tables t
    WHERE t.schemaname = 'ferry' AND NOT (t.tablename = 'checkpoints' AND $2)
    GROUP BY t.pubname
)
SELECT p.pubname, pg_catalog.format(
           CASE WHEN p.puballtables THEN E'BEGIN;\nDROP PUBLICATION %1$I;\nCREATE PUBLICATION %1$I%2$s;\nCOMMIT;\n'
                WHEN carried.by_name THEN E'ALTER PUBLICATION %1$I DROP TABLE %3$s;\n'
                ELSE E'ALTER PUBLICATION %1$I DROP TABLES IN SCHEMA ferry;\n' END,
           p.pubname, ' FOR TABLE ' || app.tables, carried.tables)
FROM app
CROSS JOIN pg_catalog.pg_publication p
JOIN carried ON carried.pubname = p.pubname
ORDER BY p.pubname`

// PublicationsOfFerry lists the publications that carry more of schema ferry
// than is meant.
func (m *Migrator) PublicationsOfFerry(ctx context.Context) ([]Publication, error) {
	rows, err := m.db.QueryContext(ctx, carryingFerrySQL, m.Schemas, m.WriteCheckpoints)
	if err != nil {
		return nil, fmt.Errorf("list publications: %w", err)
	}
	defer rows.Close()
	var list []Publication
	for rows.Next() {
		var p Publication
		if err := rows.Scan(&p.Name, &p.SQL); err != nil {
			return nil, fmt.Errorf("list publications: %w", err)
		}
		list = append(list, p)
	}
	return list, rows.Err()
}

func hasSQLState(err error, states ...string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	for _, s := range states {
		if pgErr.Code == s {
			return true
		}
	}
	return false
}

// latestVersion is the newest migration that this version of ferry knows.
func latestVersion() (int64, error) {
	entries, err := migrations.FS.ReadDir(".")
	if err != nil {
		return 0, fmt.Errorf("read migrations: %w", err)
	}
	var latest int64
	for _, e := range entries {
		version, err := goose.NumericComponent(e.Name())
		if err != nil {
			return 0, fmt.Errorf("migration %s: %w", e.Name(), err)
		}
		latest = max(latest, version)
	}
	return latest, nil
}
