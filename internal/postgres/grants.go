package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ServiceRole has exactly the rights that serving needs on schema ferry. It
// cannot log in: the role in DATABASE_URL is made a member of it.
const ServiceRole = "ferry_service"

// RolesError means that the connected role may not make roles or grant them,
// as on some managed Postgres. SQL is what somebody who may must run in the
// same database.
type RolesError struct {
	SQL   string
	Cause error
}

func (e *RolesError) Error() string {
	return fmt.Sprintf("schema ferry is migrated, but this role may not set up the roles that serving needs (%v). "+
		"Let one that may, such as a superuser, run the following in the same database, and then migrate up again:\n\n%s",
		e.Cause, e.SQL)
}

// Unwrap returns Postgres' refusal.
func (e *RolesError) Unwrap() error { return e.Cause }

// grant gives the roles exactly their rights, anew on each run.
func (m *Migrator) grant(ctx context.Context) error {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		err := m.tryGrant(ctx)
		// Roles belong to all databases of the server. Another one's migration
		// may have made the same role or membership, or be changing it: XX000
		// is "tuple concurrently updated".
		if attempt < attempts && hasSQLState(err, "42710", "23505", "XX000") {
			continue
		}
		return err
	}
}

// tryGrant does everything or nothing, one replica at a time: concurrent
// grants on the same object fail.
func (m *Migrator) tryGrant(ctx context.Context) error {
	tx, err := m.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("grant rights: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('ferry: grant rights'))`); err != nil {
		return fmt.Errorf("grant rights: wait for another migration: %w", err)
	}
	statements, err := m.roleStatements(ctx, tx)
	if err != nil {
		return err
	}
	for _, statement := range statements {
		_, err := tx.ExecContext(ctx, statement)
		if hasSQLState(err, "42501") {
			return &RolesError{SQL: strings.Join(statements, ";\n") + ";", Cause: err}
		}
		if err != nil {
			return fmt.Errorf("grant rights: %s: %w", statement, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("grant rights: %w", err)
	}
	return nil
}

// serviceGrant is what ServiceRole may do with a table.
type serviceGrant struct {
	table      string
	privileges []string
}

func serviceGrants() []serviceGrant {
	return []serviceGrant{
		{versionTable, []string{"SELECT"}},
		{"ferry.progress", []string{"SELECT", "INSERT", "UPDATE"}},
		{"ferry.history", []string{"SELECT", "INSERT", "DELETE"}},
		{"ferry.rejections", []string{"SELECT", "INSERT", "UPDATE"}},
		{"ferry.timeouts", []string{"SELECT", "INSERT", "UPDATE", "DELETE"}},
		{"ferry.tables", []string{"SELECT"}},
		{"ferry.checkpoints", []string{"SELECT", "INSERT", "UPDATE"}},
		{"ferry.accounts", []string{"SELECT", "INSERT", "UPDATE", "DELETE"}},
		{"ferry.sessions", []string{"SELECT", "INSERT", "UPDATE", "DELETE"}},
		{"ferry.attempts", []string{"SELECT", "INSERT", "UPDATE", "DELETE"}},
		{"ferry.denylist", []string{"SELECT", "INSERT", "UPDATE", "DELETE"}},
		{"ferry.denylist_version", []string{"SELECT"}},
		{"ferry.open_rejections", []string{"SELECT"}},
	}
}

// roleStatements leaves out the roles and memberships that are there: only who
// has ADMIN OPTION on a role may grant it, even to a member, and an
// administrator may have done so already.
func (m *Migrator) roleStatements(ctx context.Context, tx *sql.Tx) ([]string, error) {
	var statements []string
	for _, role := range []string{ServiceRole, m.UploadRole} {
		there, err := roleExists(ctx, tx, role)
		if err != nil {
			return nil, err
		}
		if !there {
			statements = append(statements, `CREATE ROLE `+quoteName(role)+` NOLOGIN`)
		}
	}
	others := `PUBLIC, ` + quoteName(m.UploadRole)
	statements = append(statements,
		// Default privileges may have granted what nobody meant to grant.
		`REVOKE ALL ON SCHEMA ferry FROM `+others,
		`REVOKE ALL ON ALL TABLES IN SCHEMA ferry FROM `+others,
		`REVOKE ALL ON ALL ROUTINES IN SCHEMA ferry FROM `+others,
		`GRANT USAGE ON SCHEMA ferry TO `+ServiceRole,
		`GRANT EXECUTE ON ALL ROUTINES IN SCHEMA ferry TO `+ServiceRole,
	)
	for _, g := range serviceGrants() {
		statements = append(statements, `GRANT `+strings.Join(g.privileges, ", ")+` ON `+g.table+` TO `+ServiceRole)
	}
	if m.GrantTo == "" {
		return statements, nil
	}
	memberships, err := m.membershipStatements(ctx, tx)
	return append(statements, memberships...), err
}

// membershipStatements make GrantTo a member of both roles. It must inherit
// what ServiceRole may, and be able to SET ROLE to the upload role. From
// Postgres 16 on each membership says whether it allows these; before, all
// allow SET ROLE, and whether rights are inherited is an attribute of the
// member.
func (m *Migrator) membershipStatements(ctx context.Context, tx *sql.Tx) ([]string, error) {
	there, err := roleExists(ctx, tx, m.GrantTo)
	if err != nil {
		return nil, err
	}
	member := quoteName(m.GrantTo)
	if !there {
		return nil, fmt.Errorf("there is no role %s to grant to; make it first, with a password: CREATE ROLE %[1]s LOGIN", member)
	}
	var perMembership, inherits bool
	if err := tx.QueryRowContext(ctx,
		`SELECT current_setting('server_version_num')::int >= 160000, rolinherit FROM pg_catalog.pg_roles WHERE rolname = $1`,
		m.GrantTo).Scan(&perMembership, &inherits); err != nil {
		return nil, fmt.Errorf("look for role %s: %w", member, err)
	}
	if !perMembership && !inherits {
		return nil, fmt.Errorf("role %s is NOINHERIT and would not get the rights of %s; run: ALTER ROLE %[1]s INHERIT", member, ServiceRole)
	}
	wanted := []struct{ role, privilege, option string }{
		{ServiceRole, "MEMBER", ""},
		{m.UploadRole, "MEMBER", ""},
	}
	if perMembership {
		wanted[0].privilege, wanted[0].option = "USAGE", " WITH INHERIT TRUE"
		wanted[1].privilege, wanted[1].option = "SET", " WITH SET TRUE"
	}
	var statements []string
	for _, w := range wanted {
		has, err := hasMembership(ctx, tx, m.GrantTo, w.role, w.privilege)
		if err != nil {
			return nil, err
		}
		if !has {
			statements = append(statements, `GRANT `+quoteName(w.role)+` TO `+member+w.option)
		}
	}
	return statements, nil
}

func roleExists(ctx context.Context, tx *sql.Tx, role string) (bool, error) {
	var there bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)`, role).Scan(&there)
	if err != nil {
		return false, fmt.Errorf("look for role %s: %w", role, err)
	}
	return there, nil
}

// hasMembership is false as well where role does not exist.
func hasMembership(ctx context.Context, tx *sql.Tx, member, role, privilege string) (bool, error) {
	var has bool
	err := tx.QueryRowContext(ctx, `
		SELECT coalesce(bool_or(pg_has_role(m.oid, r.oid, $3)), false)
		FROM pg_catalog.pg_roles m, pg_catalog.pg_roles r
		WHERE m.rolname = $1 AND r.rolname = $2`, member, role, privilege).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("look for memberships of %s: %w", member, err)
	}
	return has, nil
}

func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }
