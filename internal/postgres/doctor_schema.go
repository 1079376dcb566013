package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ferry/internal/doctor"
)

// schemaChecks look at schema ferry, and at the roles.
func (d *Doctor) schemaChecks() []doctor.Check {
	return []doctor.Check{
		{Code: codeEncoding, Severity: doctor.Error, Find: d.asked(encoding)},
		{Code: codeSchemaMissing, Severity: doctor.Error, Find: d.asked(schemaProblem(codeSchemaMissing))},
		{Code: codeSchemaOutdated, Severity: doctor.Error, Find: d.asked(schemaProblem(codeSchemaOutdated))},
		{Code: "schema-newer", Severity: doctor.Warning, Find: d.asked(schemaNewer)},
		{Code: codeServiceRights, Severity: doctor.Error, Find: d.needsSchema(serviceRights)},
		{Code: "unsafe-upload-role", Severity: doctor.Error, Find: d.unsafeRole},
		{Code: "superuser-login", Severity: doctor.Warning, Find: d.asked(superuserLogin)},
		{Code: "claims-function", Severity: doctor.Error, Find: d.claimsFunction},
	}
}

func encoding(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var name string
	if err := tx.QueryRow(ctx, `SELECT current_setting('server_encoding')`).Scan(&name); err != nil || name == requiredEncoding {
		return nil, err
	}
	return found(sentence(unfitEncoding(name)), "Make a database with that encoding and move the data there with pg_dump:",
		"CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;"), nil
}

// schemaStateIn leaves the transaction usable where there is no schema.
func schemaStateIn(ctx context.Context, tx pgx.Tx) (s schemaState, err error) {
	nested, err := tx.Begin(ctx)
	if err != nil {
		return s, err
	}
	s, err = readSchemaState(ctx, nested)
	return s, errors.Join(err, nested.Rollback(ctx))
}

// schemaProblem finds what keeps ferry from being ready, if it has this code.
func schemaProblem(code string) find {
	return func(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
		schema, err := schemaStateIn(ctx, tx)
		if found, detail := schema.problem(); err == nil && found == code {
			return []doctor.Finding{advised(detail)}, nil
		}
		return nil, err
	}
}

func schemaNewer(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	schema, err := schemaStateIn(ctx, tx)
	if err != nil || schema.version <= schema.latest {
		return nil, err
	}
	return found(fmt.Sprintf("Schema ferry is at version %d, this ferry knows %d: a newer ferry has migrated it.", schema.version, schema.latest),
		"This one goes on serving; let the new version take its place soon.", ""), nil
}

// missingGrantsSQL lists what ferry's own role lacks of the rights in $1 (tables)
// and $2 (privileges) and to call schema ferry's functions, and names that role.
const missingGrantsSQL = `
SELECT session_user::text, coalesce(string_agg(missing.text, ', '), '')
FROM (
    SELECT g.privilege || ' on ' || g.name
    FROM unnest($1::text[], $2::text[]) AS g (name, privilege)
    WHERE NOT has_table_privilege(to_regclass(g.name), g.privilege)
    UNION ALL
    SELECT 'EXECUTE on ' || p.oid::regprocedure
    FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'ferry' AND NOT has_function_privilege(p.oid, 'EXECUTE')
) AS missing (text)`

func serviceRights(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var tables, privileges []string
	for _, g := range serviceGrants() {
		for _, p := range g.privileges {
			tables, privileges = append(tables, g.table), append(privileges, p)
		}
	}
	var login, missing string
	err := tx.QueryRow(ctx, missingGrantsSQL, tables, privileges).Scan(&login, &missing)
	switch {
	case hasSQLState(err, "42501"):
		_, detail := schemaState{err: err}.problem()
		return []doctor.Finding{advised(detail)}, nil
	case err != nil || missing == "":
		return nil, err
	}
	return found(fmt.Sprintf("The role in DATABASE_URL, %s, lacks rights that serving needs: %s.", login, missing),
		"Run as a role that may, with FERRY_MIGRATE_DATABASE_URL or DATABASE_URL:", "ferry migrate up --grant-to "+ident(login)), nil
}

func (d *Doctor) unsafeRole(ctx context.Context) ([]doctor.Finding, error) {
	if d.away || d.configured.Role == "" {
		return nil, doctor.ErrSkipped
	}
	err := d.store.checkRights(ctx)
	if hasSQLState(err, "22P05") { // the encoding cannot hold the question, as encoding reports
		return nil, doctor.ErrSkipped
	}
	unsafe, ok := errors.AsType[*UnsafeRoleError](err)
	if !ok {
		return nil, err
	}
	var findings []doctor.Finding
	for _, problem := range unsafe.Problems {
		findings = append(findings, advised(fmt.Sprintf("the upload role %s could get around the app's policies, or cannot be used, so that ferry does not serve: %s", unsafe.Role, problem)))
	}
	return findings, nil
}

func superuserLogin(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
	var login string
	var super bool
	err := tx.QueryRow(ctx, `SELECT rolname, rolsuper FROM pg_roles WHERE rolname = session_user`).Scan(&login, &super)
	if err != nil || !super {
		return nil, err
	}
	return found(fmt.Sprintf("DATABASE_URL connects as the superuser %s: a trigger or function that resets its role has every right.", login),
		"Serve as a role that only has what serving needs, made like this:",
		"psql -c \"CREATE ROLE ferry_login LOGIN PASSWORD '…'\"\nferry migrate up --grant-to ferry_login"), nil
}

func (d *Doctor) claimsFunction(ctx context.Context) ([]doctor.Finding, error) {
	switch {
	case d.configured.ClaimsFunction == nil:
		return nil, nil
	case d.away, d.configured.Role == "":
		return nil, doctor.ErrSkipped
	}
	f := d.store.ClaimsFunction(d.configured.ClaimsFunction...)
	if err := f.Check(ctx); err != nil {
		return found(sentence(err.Error())+" No sync token can be issued.", "Make the function, or grant it to the upload role:",
			fmt.Sprintf("GRANT EXECUTE ON FUNCTION %s(text) TO %s;", f.name, ident(d.configured.Role))), nil
	}
	return nil, nil
}
