package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"ferry/internal/fault"
)

// UnsafeRoleError means that the upload role could get around the app's
// row-level security, so that ferry must not serve.
type UnsafeRoleError struct {
	Role     string
	Problems []string // each says what is wrong and what to do
}

func (e *UnsafeRoleError) Error() string {
	if len(e.Problems) == 1 {
		return fmt.Sprintf("role %q must not be used for uploads: %s", e.Role, e.Problems[0])
	}
	return fmt.Sprintf("role %q must not be used for uploads:\n- %s", e.Role, strings.Join(e.Problems, "\n- "))
}

// roleProblemsSQL lists the ways in which a role could do more than the
// policies allow, or in which ferry could not use it. $1: the role's name.
//
// What a role is a member of counts like the role itself, through any number
// of levels and whether rights are inherited or not: SET ROLE reaches them
// all. via is the membership of the role itself that leads there, which is the
// one to end.
const roleProblemsSQL = `
WITH RECURSIVE role AS (
    SELECT oid, rolname FROM pg_roles WHERE rolname = $1
), reach (oid, via) AS (
    SELECT oid, oid FROM role
    UNION
    SELECT a.roleid, CASE WHEN reach.oid = role.oid THEN a.roleid ELSE reach.via END
    FROM role, reach
    JOIN pg_auth_members a ON a.member = reach.oid
), owned AS (
    -- One object of each owner, a table if there is one. pg_shdepend has the
    -- owner of everything but what initdb made, which is a superuser's. What a
    -- session makes for itself, or a large object, is above no policy.
    SELECT DISTINCT ON (d.refobjid) d.refobjid AS owner, pg_describe_object(d.classid, d.objid, d.objsubid) AS what
    FROM reach
    JOIN pg_shdepend d ON d.refclassid = 'pg_authid'::regclass AND d.refobjid = reach.oid AND d.deptype = 'o'
    JOIN pg_database db ON db.datname = current_database()
    LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
    WHERE (d.dbid = db.oid OR (d.classid = 'pg_database'::regclass AND d.objid = db.oid))
      AND d.classid <> 'pg_largeobject'::regclass
      AND c.relpersistence IS DISTINCT FROM 't'
    ORDER BY d.refobjid, d.classid <> 'pg_class'::regclass, d.classid, d.objid
), ferry_grants (grantee, owner) AS (
    SELECT a.grantee, n.nspowner
    FROM pg_namespace n, aclexplode(n.nspacl) a
    WHERE n.nspname = 'ferry'
    UNION
    SELECT a.grantee, c.relowner
    FROM pg_namespace n
    JOIN pg_class c ON c.relnamespace = n.oid, aclexplode(c.relacl) a
    WHERE n.nspname = 'ferry'
    UNION
    SELECT a.grantee, c.relowner
    FROM pg_namespace n
    JOIN pg_class c ON c.relnamespace = n.oid
    JOIN pg_attribute col ON col.attrelid = c.oid, aclexplode(col.attacl) a
    WHERE n.nspname = 'ferry'
    UNION
    SELECT a.grantee, p.proowner
    FROM pg_namespace n
    JOIN pg_proc p ON p.pronamespace = n.oid, aclexplode(p.proacl) a
    WHERE n.nspname = 'ferry'
), powers (oid, power, remedy) AS (
    SELECT oid, 'is a superuser', format('ALTER ROLE %I NOSUPERUSER', rolname)
    FROM pg_roles WHERE rolsuper
    UNION ALL
    SELECT oid, 'bypasses row-level security', format('ALTER ROLE %I NOBYPASSRLS', rolname)
    FROM pg_roles WHERE rolbypassrls AND NOT rolsuper
    UNION ALL
    SELECT oid, 'may make itself a member of other roles', format('ALTER ROLE %I NOCREATEROLE', rolname)
    FROM pg_roles WHERE rolcreaterole AND NOT rolsuper
    UNION ALL
    SELECT oid, 'goes beyond the grants on the app''s tables', NULL
    FROM pg_roles
    WHERE rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_database_owner',
                      'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
    UNION ALL
    SELECT owner, format('owns %s, and an owner is above the policies', what),
           format('REASSIGN OWNED BY %I TO …', rolname)
    FROM owned JOIN pg_roles ON oid = owner
    UNION ALL
    SELECT DISTINCT grantee, 'has rights on schema ferry', 'ferry migrate up'
    FROM ferry_grants WHERE grantee <> owner
)
SELECT 'it does not exist; run: ferry migrate up'
WHERE NOT EXISTS (SELECT FROM role)
UNION ALL
SELECT CASE WHEN reach.oid = role.oid THEN format('it %s; run: %s', power, remedy)
            ELSE format('it is a member of %s%s, which %s; run: REVOKE %I FROM %I',
                        reach.oid::regrole, ' by way of ' || nullif(via, reach.oid)::regrole, power, via_role.rolname, role.rolname) END
FROM role, reach
JOIN powers USING (oid)
JOIN pg_roles via_role ON via_role.oid = reach.via
UNION ALL
SELECT format('every role (PUBLIC) %s; run: %s', power, remedy)
FROM powers WHERE oid = 0
UNION ALL
SELECT format('the role that ferry connects as, %I, may not act as it; run: ferry migrate up --grant-to %1$I', session_user)
FROM role
WHERE NOT pg_has_role(session_user, role.oid,
    -- A membership may lack SET from Postgres 16 on, which knows that word.
    CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
UNION ALL
SELECT format('it cannot read the catalog; run: GRANT SELECT ON pg_catalog.pg_class TO %I', role.rolname)
FROM role
WHERE NOT has_table_privilege(role.oid, 'pg_catalog.pg_class', 'SELECT')
UNION ALL
SELECT 'it is the role that ferry connects as; set FERRY_UPLOAD_ROLE to a role for uploads alone, such as authenticated'
FROM role
WHERE role.rolname IN (session_user, current_user)
LIMIT 20`

// roleProblems returns the answers of roleProblemsSQL. Nothing is prepared for
// it: it works behind any pooler.
func roleProblems(ctx context.Context, pool *pgxpool.Pool, role string) ([]string, error) {
	var problems []string
	err := reading(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, roleProblemsSQL, pgx.QueryExecModeExec, role)
		if err != nil {
			return err
		}
		problems, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("check the rights of the upload role: %w", err)
	}
	return problems, nil
}

// checkRights returns an *UnsafeRoleError if uploads could do more than their
// users may.
func (s *Store) checkRights(ctx context.Context) error {
	problems, err := roleProblems(ctx, s.control, s.options.Role)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return &UnsafeRoleError{Role: s.options.Role, Problems: problems}
	}
	return nil
}

// Ready returns nil if uploads can be taken: the database answers, schema
// ferry is at this version or a newer one, and the upload role is safe. Its
// errors are *fault.Error with code fault.Unavailable; an *UnsafeRoleError is
// the cause where the operator must act first.
func (s *Store) Ready(ctx context.Context) error {
	schema, err := readSchemaState(ctx, s.control)
	if err != nil {
		return err
	}
	if schema.standby {
		s.leaveStandby()
		return notReady(nil, "the database is a standby, which takes no writes: ferry looks for the primary")
	}
	if _, detail := schema.problem(); detail != "" {
		return notReady(schema.err, detail)
	}
	if err := s.checkRights(ctx); err != nil {
		return notReady(err, "the upload role cannot be used; ferry's log says why")
	}
	return nil
}

// schemaState is what ferry finds of itself in the database.
type schemaState struct {
	version, latest int64 // of schema ferry, and the newest that this ferry knows
	encoding        string
	standby         bool
	err             error // of looking for these
}

// readSchemaState prepares nothing: it works behind any pooler.
func readSchemaState(ctx context.Context, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
},
) (s schemaState, err error) {
	if s.latest, err = latestVersion(); err != nil {
		return s, err
	}
	s.err = db.QueryRow(ctx,
		`SELECT coalesce(max(version_id), 0), current_setting('server_encoding'), pg_is_in_recovery() FROM `+versionTable+` WHERE is_applied`,
		pgx.QueryExecModeExec).Scan(&s.version, &s.encoding, &s.standby)
	return s, nil
}

// The codes of doctor's checks of what keeps ferry from being ready.
const (
	codeUnreachable    = "database-unreachable"
	codeEncoding       = "encoding"
	codeSchemaMissing  = "schema-missing"
	codeSchemaOutdated = "schema-outdated"
	codeServiceRights  = "service-rights"
)

// problem says why ferry cannot serve, and what to run, with the code that
// doctor has for it. Both are empty where it can.
func (s schemaState) problem() (code, detail string) {
	switch {
	case hasSQLState(s.err, "42P01", "3F000"):
		return codeSchemaMissing, "the database has no schema ferry; run: ferry migrate up"
	case hasSQLState(s.err, "42501"):
		return codeServiceRights, "ferry's role has no rights on schema ferry; run: ferry migrate up --grant-to ROLE"
	case s.err != nil:
		return codeUnreachable, "the database does not answer"
	case s.encoding != requiredEncoding:
		return codeEncoding, unfitEncoding(s.encoding)
	case s.version < s.latest:
		return codeSchemaOutdated, fmt.Sprintf("schema ferry is at version %d, this ferry needs %d; run: ferry migrate up", s.version, s.latest)
	}
	return "", ""
}

func unfitEncoding(encoding string) string {
	return fmt.Sprintf("the database's encoding is %s, which cannot hold every text that clients send; ferry needs UTF8", encoding)
}

func notReady(cause error, detail string) error { return fault.Retry(cause, 5*time.Second, detail) }
