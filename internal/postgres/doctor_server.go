package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"ferry/internal/doctor"
)

// serverChecks look at the server, and at the way to it.
func (d *Doctor) serverChecks() []doctor.Check {
	return []doctor.Check{
		{Code: codeUnreachable, Severity: doctor.Error, Find: d.reach},
		{Code: "postgres-version", Severity: doctor.Error, Find: d.asked(tooOld)},
		{Code: "postgres-untested", Severity: doctor.Warning, Find: d.asked(tooNew)},
		{Code: "read-only-database", Severity: doctor.Error, Find: d.asked(readOnly)},
		{Code: "wal-level", Severity: doctor.Error, Find: d.asked(walLevel)},
		{Code: "crash-unsafe", Severity: doctor.Error, Find: d.asked(crashUnsafe)},
		{Code: "synchronous-commit", Severity: doctor.Warning, Find: d.asked(asynchronous)},
		{Code: "few-connections", Severity: doctor.Warning, Find: d.asked(d.fewConnections)},
		{Code: "replication-slot", Severity: doctor.Warning, Find: d.asked(replicationSlots)},
		{Code: "clock-skew", Severity: doctor.Warning, Find: d.asked(d.clockSkew)},
		{Code: "behind-transaction-pooler", Severity: doctor.Error, Find: d.behindPooler},
		{Code: "not-behind-pooler", Severity: doctor.Note, Find: d.asked(d.notBehindPooler)},
		{Code: "migrations-behind-pooler", Severity: doctor.Warning, Find: d.migrationsBehindPooler},
	}
}

// reach is the first check: without the database there are no others.
func (d *Doctor) reach(ctx context.Context) ([]doctor.Finding, error) {
	if d.configured.URL == "" {
		return nil, doctor.ErrSkipped
	}
	err := d.broken
	if err == nil {
		err = d.store.control.Ping(ctx)
	}
	if d.away = err != nil; !d.away {
		return nil, nil
	}
	return found(fmt.Sprintf("The database in DATABASE_URL cannot be reached: %v.", err),
		"Check host, port, user, password, TLS (sslmode) and firewall of DATABASE_URL, and try it from this machine:",
		`psql "$DATABASE_URL" -c 'SELECT 1'`), nil
}

// The major versions of Postgres that ferry supports.
const oldestPostgres, newestPostgres = 14, 18

func tooOld(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	major, err := majorVersion(ctx, tx)
	return findTooOld(major), err
}

func findTooOld(major int) []doctor.Finding {
	if major >= oldestPostgres {
		return nil
	}
	return found(fmt.Sprintf("This is Postgres %d: ferry needs %d or later.", major, oldestPostgres), "Upgrade Postgres.", "")
}

func tooNew(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	major, err := majorVersion(ctx, tx)
	return findTooNew(major), err
}

func findTooNew(major int) []doctor.Finding {
	if major <= newestPostgres {
		return nil
	}
	return found(fmt.Sprintf("This is Postgres %d: this version of ferry was tested with %d to %d.", major, oldestPostgres, newestPostgres),
		"Look for a newer ferry.", "")
}

func majorVersion(ctx context.Context, tx pgx.Tx) (major int, err error) {
	err = tx.QueryRow(ctx, `SELECT current_setting('server_version_num')::int / 10000`).Scan(&major)
	return major, err
}

// setting is a server setting, and how to go back to its default.
type setting struct {
	name, value string
	reset       string // SQL or settings; undoes what stands nearest
}

// settingsOfSQL lists settings as ferry's connections have them, with where
// they come from. $1: names.
const settingsOfSQL = `
SELECT name, setting,
       CASE source
           WHEN 'user' THEN format('ALTER ROLE %I RESET %I;', session_user, name)
           WHEN 'database' THEN format('ALTER DATABASE %I RESET %I;', current_database(), name)
           WHEN 'database user' THEN format('ALTER ROLE %I IN DATABASE %I RESET %I;', session_user, current_database(), name)
           WHEN 'client' THEN format('DATABASE_URL: leave %s out of its parameters', name)
           ELSE format(E'ALTER SYSTEM SET %I = %L;\nSELECT pg_reload_conf();', name, boot_val)
       END
FROM pg_settings
WHERE name = ANY ($1)
ORDER BY name`

func settingsOf(ctx context.Context, tx pgx.Tx, names ...string) (map[string]setting, error) {
	rows, err := tx.Query(ctx, settingsOfSQL, names)
	if err != nil {
		return nil, err
	}
	settings := map[string]setting{}
	var s setting
	_, err = pgx.ForEachRow(rows, []any{&s.name, &s.value, &s.reset}, func() error {
		settings[s.name] = s
		return nil
	})
	return settings, err
}

func readOnly(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var standby bool
	if err := tx.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&standby); err != nil {
		return nil, err
	}
	if standby {
		return found("This is a standby: it takes no uploads.", "Let DATABASE_URL lead to the primary; with several hosts add:", "target_session_attrs=read-write"), nil
	}
	const name = "default_transaction_read_only"
	settings, err := settingsOf(ctx, tx, name)
	if s := settings[name]; s.value == "on" {
		reset := s.reset
		if !strings.HasPrefix(reset, "ALTER SYSTEM") {
			reset = "BEGIN READ WRITE;\n" + reset + "\nCOMMIT;"
		}
		return found(name+" is on for ferry's connections: accounts and sessions cannot be written.", "Turn it off:", reset), err
	}
	return nil, err
}

func walLevel(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	const name = "wal_level"
	settings, err := settingsOf(ctx, tx, name)
	if err != nil || settings[name].value == "logical" {
		return nil, err
	}
	return found(fmt.Sprintf("wal_level is %s: the PowerSync Service cannot replicate from this server, so devices get no data.", settings[name].value),
		"Set it and restart Postgres; a managed one has it among its parameters (rds.logical_replication and the like):",
		"ALTER SYSTEM SET wal_level = logical;"), nil
}

func crashUnsafe(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var findings []doctor.Finding
	settings, err := settingsOf(ctx, tx, "fsync", "full_page_writes")
	for _, name := range []string{"fsync", "full_page_writes"} {
		if s := settings[name]; s.value == "off" {
			findings = append(findings, found(name+" is off: a crash can lose or corrupt what was answered with 200.", "Turn it on:", s.reset)...)
		}
	}
	return findings, err
}

func asynchronous(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	const name, standbys = "synchronous_commit", "synchronous_standby_names"
	settings, err := settingsOf(ctx, tx, name, standbys)
	switch s := settings[name]; {
	case s.value == "off":
		return found("synchronous_commit is off for ferry's connections. Uploads raise it to on; but sign-ups, changed passwords, "+
			"revoked sessions and what the app writes by other ways can be lost in a crash after they were answered.",
			"Go back to the default:", s.reset), err
	case s.value == "local" && settings[standbys].value != "":
		return found("synchronous_commit is local, though there are synchronous standbys: a failover can lose what was answered with 200.",
			"Go back to the default:", s.reset), err
	}
	return nil, err
}

// connectionsSQL says how many connections ferry's role can have, and what to
// run where that is too few: for its database, itself, or the server.
const connectionsSQL = `
SELECT allowed, remedy
FROM (
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
           E'ALTER SYSTEM SET max_connections = 100;\n-- and restart Postgres'
    UNION ALL
    SELECT datconnlimit, format('ALTER DATABASE %I CONNECTION LIMIT -1;', datname)
    FROM pg_database
    WHERE datname = current_database() AND datconnlimit >= 0
    UNION ALL
    SELECT rolconnlimit, format('ALTER ROLE %I CONNECTION LIMIT -1;', rolname)
    FROM pg_roles
    WHERE rolname = session_user AND rolconnlimit >= 0
) AS limits (allowed, remedy)
ORDER BY allowed
LIMIT 1`

func (d *Doctor) fewConnections(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	if d.configured.TransactionPool { // the pooler shares them out
		return nil, nil
	}
	var allowed int32
	var remedy string
	if err := tx.QueryRow(ctx, connectionsSQL).Scan(&allowed, &remedy); err != nil {
		return nil, err
	}
	var used int32
	for _, pool := range []*pgxpool.Pool{d.store.pool, d.store.control, d.store.accounts} {
		used += pool.Config().MaxConns
	}
	if used <= allowed {
		return nil, nil
	}
	return found(fmt.Sprintf("Each ferry process takes up to %d connections, and its role can have %d: under load, requests are answered 503.", used, allowed),
		"Allow more, for all processes together, or let DATABASE_URL ask for less (pool_max_conns=8):", remedy), nil
}

// slotsSQL lists the logical slots of this database that nobody reads from, or
// that can no longer be read.
const slotsSQL = `
SELECT slot_name, coalesce(wal_status, '') = 'lost', coalesce(pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), '?')
FROM pg_replication_slots
WHERE slot_type = 'logical' AND database = current_database() AND NOT pg_is_in_recovery()
  AND (NOT active OR wal_status = 'lost')
ORDER BY slot_name`

func replicationSlots(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var slot, size string
	var lost bool
	return rowsAs(ctx, tx, slotsSQL, nil, []any{&slot, &lost, &size}, func() doctor.Finding {
		problem := fmt.Sprintf("Nobody reads from the replication slot %s, and Postgres keeps %s of WAL for it, until the disk is full.", slot, size)
		if lost {
			problem = fmt.Sprintf("The replication slot %s has lost WAL that it needs: the PowerSync Service must replicate anew.", slot)
		}
		return doctor.Finding{
			Problem: problem,
			Remedy:  "Let the PowerSync Service run; drop a slot that nobody needs any more:",
			Run:     fmt.Sprintf("SELECT pg_drop_replication_slot(%s);", literal(slot)),
		}
	})
}

// maxClockSkew is far below the 60 s by which the PowerSync Service, and ferry
// for sessions, let clocks differ, and far above what a clock that is kept
// right is off.
const maxClockSkew = 10 * time.Second

func (d *Doctor) clockSkew(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var there time.Time
	before := d.configured.Now()
	if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&there); err != nil {
		return nil, err
	}
	after := d.configured.Now()
	// The database read its clock at some time between.
	var skew time.Duration
	switch {
	case there.Before(before):
		skew = before.Sub(there)
	case there.After(after):
		skew = there.Sub(after)
	}
	if skew <= maxClockSkew {
		return nil, nil
	}
	return found(fmt.Sprintf("The clocks of this machine and of the database differ by %s: tokens and sessions are refused as expired or not yet valid when a clock is 60 s off.",
		skew.Round(time.Second)), "Run this on both, and let NTP keep the clock:", "timedatectl"), nil
}

func (d *Doctor) behindPooler(ctx context.Context) ([]doctor.Finding, error) {
	if d.away || d.configured.TransactionPool {
		return nil, d.skippedIfAway()
	}
	shared, err := sharesConnections(ctx, d.configured.URL)
	if err != nil || !shared {
		return nil, err
	}
	return found("DATABASE_URL leads through a pooler in transaction mode (PgBouncer, Supavisor or the like), "+
		"where prepared statements are gone with the next transaction: uploads fail.",
		"Set this, or connect without the pooler:", "FERRY_DATABASE_POOL=transaction"), nil
}

func (d *Doctor) notBehindPooler(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var backend uint32
	if !d.configured.TransactionPool {
		return nil, nil
	}
	if err := tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil || backend != tx.Conn().PgConn().PID() {
		return nil, err // a pooler tells clients process ids of its own
	}
	return found("FERRY_DATABASE_POOL is transaction, but DATABASE_URL leads to Postgres itself: uploads would be faster with prepared statements.",
		"Set:", "FERRY_DATABASE_POOL=session"), nil
}

func (d *Doctor) migrationsBehindPooler(ctx context.Context) ([]doctor.Finding, error) {
	if d.away || d.configured.MigrateURL == "" {
		return nil, d.skippedIfAway()
	}
	shared, err := sharesConnections(ctx, d.configured.MigrateURL)
	if err != nil || !shared {
		return nil, err
	}
	return found("ferry migrate would connect through a pooler in transaction mode, where the lock that lets replicas migrate one by one does not hold.",
		"Give the address of Postgres itself:", "FERRY_MIGRATE_DATABASE_URL=postgres://…"), nil
}

func (d *Doctor) skippedIfAway() error {
	if d.away {
		return doctor.ErrSkipped
	}
	return nil
}

// sharesConnections is whether a pooler in transaction mode is behind url: of
// two connections, the second one's transaction runs where the first one's
// did, or the first one's next transaction runs elsewhere.
func sharesConnections(ctx context.Context, url string) (bool, error) {
	pool, err := openPool(ctx, url, 2, true)
	if err != nil {
		return false, err
	}
	defer pool.Close()
	first, err := pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer first.Release()
	second, err := pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer second.Release()
	// find runs then while the transaction is open.
	in := func(conn interface {
		BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error)
	}, then func(backend uint32) error,
	) error {
		return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			var backend uint32
			if err := tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
				return err
			}
			return then(backend)
		})
	}
	var one uint32
	if err := in(first, func(backend uint32) error { one = backend; return nil }); err != nil {
		return false, err
	}
	shared := false
	err = in(second, func(two uint32) error {
		if shared = two == one; shared {
			return nil // a pool of one connection would have no other to give
		}
		return in(first, func(again uint32) error { shared = again != one; return nil })
	})
	return shared, err
}
