package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"ferry/internal/doctor"
)

// tableChecks look at the app's tables, as uploads see them.
func (d *Doctor) tableChecks() []doctor.Check {
	return []doctor.Check{
		{Code: "tables-unreadable", Severity: doctor.Error, Find: d.readTables},
		{Code: "upload-schemas", Severity: doctor.Error, Find: d.tables(d.schemasInVain)},
		{Code: "no-upload-tables", Severity: doctor.Warning, Find: d.tables(d.noTables)},
		{Code: "upload-tables", Severity: doctor.Error, Find: d.tables(d.namedInVain)},
		{Code: "table-settings", Severity: doctor.Error, Find: d.eachTable(badSettings)},
		{Code: "table-with-rules", Severity: doctor.Error, Find: d.eachTable(d.withRules)},
		{Code: "granted-without-rls", Severity: doctor.Warning, Find: d.eachTable(d.grantedWithoutRLS)},
		{Code: "uploads-without-rls", Severity: doctor.Warning, Find: d.eachUnlisted(invokersSQL, d.uploadsWithoutRLS)},
		{Code: "no-policy", Severity: doctor.Warning, Find: d.eachUnlisted(policiesSQL, d.noPolicy, d.configured.Role)},
		{Code: "no-id-column", Severity: doctor.Error, Find: d.eachTable(noID)},
		{Code: "unreadable-id", Severity: doctor.Warning, Find: d.eachTable(d.unreadableID)},
		{Code: "id-not-unique", Severity: doctor.Warning, Find: d.eachTable(idNotUnique)},
		{Code: "no-primary-key", Severity: doctor.Warning, Find: d.eachUnlisted(keyedSQL, noPrimaryKey)},
		{Code: "hidden-rows", Severity: doctor.Warning, Find: d.tables(hiddenRows)},
		{Code: "bytea-encoding", Severity: doctor.Warning, Find: d.eachTable(byteaEncoding)},
		{Code: "put-absent-null", Severity: doctor.Warning, Find: d.eachTable(putAbsentNull)},
	}
}

// readTables reads the catalog for the checks behind it, without ferry.tables
// if need be.
func (d *Doctor) readTables(ctx context.Context) ([]doctor.Finding, error) {
	if d.away || d.configured.Role == "" || len(d.configured.Schemas) == 0 {
		return nil, doctor.ErrSkipped
	}
	o := catalogOptions{role: d.configured.Role, schemas: d.configured.Schemas, tables: d.configured.Tables}
	c, err := loadCatalog(ctx, d.store.control, o, d.configured.Now())
	if hasSQLState(err, "42P01", "3F000", "42501", "42703") { // as schemaChecks report
		o.withoutSettings = true
		c, err = loadCatalog(ctx, d.store.control, o, d.configured.Now())
	}
	switch {
	case errors.Is(err, errEncoding), hasSQLState(err, "42704"): // as encoding and unsafe-upload-role report
		return nil, doctor.ErrSkipped
	case err != nil:
		return found(fmt.Sprintf("Uploads cannot read what tables there are: %v.", err), "Do what the error says.", ""), nil
	}
	d.catalog = c
	return nil, nil
}

// clientTable is a table by the name that clients call it.
type clientTable struct {
	*table
	client string
}

// clientTables are in the order of their names. One that ferry.tables has under
// another name is listed by that alone.
func (d *Doctor) clientTables() []clientTable {
	var tables []clientTable
	renamed := map[uint32]bool{}
	for _, name := range slices.Sorted(maps.Keys(d.catalog.tables)) {
		t := d.catalog.tables[name]
		tables, renamed[t.oid] = append(tables, clientTable{t, name}), renamed[t.oid] || t.configured
	}
	return slices.DeleteFunc(tables, func(t clientTable) bool { return renamed[t.oid] && !t.configured })
}

// tables asks f, unless the catalog could not be read.
func (d *Doctor) tables(f func(ctx context.Context, tx pgx.Tx, tables []clientTable) ([]doctor.Finding, error)) doctor.Find {
	return func(ctx context.Context) ([]doctor.Finding, error) {
		if d.catalog == nil {
			return nil, doctor.ErrSkipped
		}
		tables := d.clientTables()
		return d.asked(func(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
			findings, err := f(ctx, tx, tables)
			if hasSQLState(err, "42704") { // there is no such role, as unsafe-upload-role reports
				err = doctor.ErrSkipped
			}
			return findings, err
		})(ctx)
	}
}

// eachTable is tables for what the catalog alone tells of one table.
func (d *Doctor) eachTable(f func(t clientTable) []doctor.Finding) doctor.Find {
	return d.tables(func(_ context.Context, _ pgx.Tx, tables []clientTable) (findings []doctor.Finding, _ error) {
		for _, t := range tables {
			findings = append(findings, f(t)...)
		}
		return findings, nil
	})
}

// eachUnlisted is eachTable without the tables that a query lists.
func (d *Doctor) eachUnlisted(sql string, f func(t clientTable) []doctor.Finding, args ...any) doctor.Find {
	return d.tables(func(ctx context.Context, tx pgx.Tx, tables []clientTable) ([]doctor.Finding, error) {
		return unlisted(ctx, tx, sql, args, tables, f)
	})
}

// unlisted asks f for each table whose oid a query does not list. $1 of it are
// the oids of all, args the rest.
func unlisted(ctx context.Context, tx pgx.Tx, sql string, args []any, tables []clientTable, f func(t clientTable) []doctor.Finding) ([]doctor.Finding, error) {
	oids := make([]uint32, len(tables))
	for i, t := range tables {
		oids[i] = t.oid
	}
	rows, err := tx.Query(ctx, sql, append([]any{oids}, args...)...)
	if err != nil {
		return nil, err
	}
	listed, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil {
		return nil, err
	}
	var findings []doctor.Finding
	for _, t := range tables {
		if !slices.Contains(listed, t.oid) {
			findings = append(findings, f(t)...)
		}
	}
	return findings, nil
}

// String is for people; sql is for SQL.
func (t clientTable) String() string { return t.schema + "." + t.table.name }

func (t clientTable) takesUploads() bool { return t.refusal == "" }

// isPlain is whether it is a table or a partitioned table, and no view.
func (t clientTable) isPlain() bool { return t.kind == "r" || t.kind == "p" }

// uselessSchemasSQL lists those schemas of $1 that are not there, or that the role
// $2 may not use.
const uselessSchemasSQL = `
SELECT wanted.name, n.oid IS NULL
FROM unnest($1::text[]) AS wanted (name)
LEFT JOIN pg_namespace n ON n.nspname = wanted.name
WHERE n.oid IS NULL OR NOT has_schema_privilege($2, n.oid, 'USAGE')`

func (d *Doctor) schemasInVain(ctx context.Context, tx pgx.Tx, _ []clientTable) ([]doctor.Finding, error) {
	var name string
	var missing bool
	return rowsAs(ctx, tx, uselessSchemasSQL, []any{d.configured.Schemas, d.configured.Role}, []any{&name, &missing}, func() doctor.Finding {
		if missing {
			return doctor.Finding{
				Problem: fmt.Sprintf("FERRY_UPLOAD_SCHEMAS names %s, and there is no such schema.", name),
				Remedy:  "Correct the name; it is taken exactly, upper and lower case apart.",
			}
		}
		return doctor.Finding{
			Problem: fmt.Sprintf("The upload role may not use schema %s: its tables take no uploads, whatever is granted on them.", name),
			Remedy:  "Let it:", Run: fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;", ident(name), ident(d.configured.Role)),
		}
	})
}

func (d *Doctor) noTables(_ context.Context, _ pgx.Tx, tables []clientTable) ([]doctor.Finding, error) {
	if slices.ContainsFunc(tables, clientTable.takesUploads) {
		return nil, nil
	}
	return found(fmt.Sprintf("No table in %s takes uploads: everything that clients write is rejected.", strings.Join(d.configured.Schemas, ", ")),
		"Grant the app's tables to the upload role, with row-level security on them; or name other schemas in FERRY_UPLOAD_SCHEMAS:",
		fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON … TO %s;\nALTER TABLE … ENABLE ROW LEVEL SECURITY;\nCREATE POLICY … ON … TO %[1]s USING (…);", ident(d.configured.Role))), nil
}

func (d *Doctor) namedInVain(_ context.Context, _ pgx.Tx, tables []clientTable) (findings []doctor.Finding, _ error) {
	for _, name := range d.configured.Tables {
		i := slices.IndexFunc(tables, func(t clientTable) bool { return t.table.name == name || t.schema+"."+t.table.name == name })
		switch {
		case name == "*":
		case i < 0:
			findings = append(findings, found(fmt.Sprintf("FERRY_UPLOAD_TABLES names %s, which is not in %s.", name, strings.Join(d.configured.Schemas, ", ")),
				"Correct the name; it is taken exactly, upper and lower case apart.", "")...)
		case !tables[i].granted:
			findings = append(findings, found(fmt.Sprintf("FERRY_UPLOAD_TABLES names %s, which the upload role may not write.", name),
				"Grant it:", d.grant(tables[i]))...)
		}
	}
	return findings, nil
}

// grant is the SQL that lets the upload role write a table.
func (d *Doctor) grant(t clientTable) string {
	return fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;\nGRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %[2]s;", ident(t.schema), ident(d.configured.Role), t.sql)
}

func badSettings(t clientTable) []doctor.Finding {
	if !t.misconfigured {
		return nil
	}
	return found(fmt.Sprintf("Uploads to %s are rejected: %s.", t.client, t.refusal), "Correct the row, or delete it:",
		fmt.Sprintf("SELECT * FROM ferry.tables WHERE client_name = %s;", literal(t.client)))
}

func (d *Doctor) withRules(t clientTable) []doctor.Finding {
	wanted := t.isNamed(d.configured.Tables) || t.rls && len(d.configured.Tables) == 0
	if !t.rules || !t.granted || !wanted || t.misconfigured {
		return nil
	}
	return found(fmt.Sprintf("Uploads to %s are rejected: %s.", t.client, t.refusal), "Put triggers in the place of the rules, and drop them:",
		fmt.Sprintf("DROP RULE … ON %s;", t.sql))
}

func (d *Doctor) grantedWithoutRLS(t clientTable) []doctor.Finding {
	if !t.isPlain() || !t.granted || t.rls || t.misconfigured || len(d.configured.Tables) > 0 {
		return nil
	}
	return found(fmt.Sprintf("%s is granted to the upload role but has no row-level security: it takes no uploads, and what clients write to it is rejected.", t),
		"If clients should write to it, give it policies, or name it in FERRY_UPLOAD_TABLES; otherwise take the grant back (REVOKE INSERT, UPDATE, DELETE):",
		d.protect(t))
}

func (d *Doctor) protect(t clientTable) string {
	return fmt.Sprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY;\nCREATE POLICY own_rows ON %[1]s TO %s USING (… = nullif(current_setting('app.user_id', true), ''));",
		t.sql, ident(d.configured.Role))
}

// invokersSQL lists those views of $1 that run with the rights of their user.
const invokersSQL = `
SELECT c.oid
FROM pg_class c, pg_options_to_table(c.reloptions) o
WHERE c.oid = ANY ($1) AND o.option_name = 'security_invoker' AND o.option_value::boolean`

func (d *Doctor) uploadsWithoutRLS(t clientTable) []doctor.Finding {
	switch {
	case !t.takesUploads(), t.rls:
		return nil
	case t.kind == "v":
		return found(fmt.Sprintf("View %s takes uploads with the rights of its owner: whoever writes to it is held by the owner's policies, not by the user's.", t),
			"From Postgres 15 on, let it run with the rights of its user; otherwise make sure that the view itself keeps users apart:",
			fmt.Sprintf("ALTER VIEW %s SET (security_invoker = true);", t.sql))
	}
	return found(fmt.Sprintf("%s takes uploads and has no row-level security: every signed-in user can change every row.", t),
		"Give it policies; ignore this where all users are meant to:", d.protect(t))
}

// policiesSQL lists those tables of $1 that have a policy for writing which
// applies to the role $2.
const policiesSQL = `
SELECT DISTINCT p.polrelid
FROM pg_policy p, unnest(p.polroles) AS applies (role)
WHERE p.polrelid = ANY ($1) AND p.polpermissive AND p.polcmd <> 'r'
  AND (applies.role = 0 OR pg_has_role($2, applies.role, 'USAGE'))`

func (d *Doctor) noPolicy(t clientTable) []doctor.Finding {
	if !t.takesUploads() || !t.rls {
		return nil
	}
	return found(fmt.Sprintf("%s has row-level security, and no policy that lets %s write: every upload to it is rejected.", t, d.configured.Role),
		"Make a policy; where clients are to stay out, take the grant back (REVOKE INSERT, UPDATE, DELETE):", d.protect(t))
}

func noID(t clientTable) []doctor.Finding {
	if !t.takesUploads() || t.id != nil {
		return nil
	}
	return found(fmt.Sprintf("%s has no column \"id\": every upload to it is rejected.", t),
		"Name the column that identifies a row, as clients have it in id:",
		fmt.Sprintf("INSERT INTO ferry.tables (client_name, schema_name, table_name, id_column)\nVALUES (%s, %s, %s, '…');",
			literal(t.client), literal(t.schema), literal(t.table.name)))
}

func (d *Doctor) unreadableID(t clientTable) []doctor.Finding {
	canUpdate := func(c *column) bool { return c.canUpdate }
	if !t.takesUploads() || t.id == nil || t.id.canSelect || !slices.ContainsFunc(slices.Collect(maps.Values(t.columns)), canUpdate) {
		return nil
	}
	return found(fmt.Sprintf("The upload role may update %s but not read its id: Postgres cannot find the rows to change.", t),
		"Grant SELECT as well:", fmt.Sprintf("GRANT SELECT ON %s TO %s;", t.sql, ident(d.configured.Role)))
}

// idNotUnique leaves partitioned tables alone, whose keys must have more columns.
func idNotUnique(t clientTable) []doctor.Finding {
	if !t.takesUploads() || t.id == nil || t.kind != "r" || len(t.idIndexes) > 0 {
		return nil
	}
	return found(fmt.Sprintf("%s has no unique index on %s alone: two devices can make the same row twice, and without any index each upload reads the whole table.", t, t.id.name),
		"Make one:", fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s);", t.sql, t.id.sql))
}

// keyedSQL lists those tables of $1 that replication can name rows of.
const keyedSQL = `
SELECT c.oid
FROM pg_class c
WHERE c.oid = ANY ($1)
  AND (c.relreplident IN ('f', 'i') OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid))`

func noPrimaryKey(t clientTable) []doctor.Finding {
	if !t.takesUploads() || !t.isPlain() || t.id == nil {
		return nil
	}
	return found(fmt.Sprintf("%s has no primary key: once it is in a publication, Postgres refuses every UPDATE and DELETE of it.", t),
		"Make one:", fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (%s);", t.sql, t.id.sql))
}

// ownersSQL names the owners of ferry.existing_rows and of a table, and says
// whether the former may do what the latter may. $1: table.
const ownersSQL = `
SELECT f.proowner::regrole::text, c.relowner::regrole::text, pg_has_role(f.proowner, c.relowner, 'USAGE')
FROM pg_proc f, pg_class c
WHERE f.oid = 'ferry.existing_rows'::regproc AND c.oid = $1`

// lookPastPoliciesSQL is what uploads do to tell hidden rows from missing ones,
// for no row. $1: table, $2: its id column.
const lookPastPoliciesSQL = `SELECT ferry.existing_rows($1::oid::regclass, $2, '{}')`

// mayLookSQL is whether ferry may ask so at all, of which service-rights tells.
const mayLookSQL = `SELECT has_function_privilege('ferry.existing_rows(regclass, name, text[])', 'EXECUTE')`

// hiddenRows tries on each table whether its hidden rows can be told from
// missing ones.
func hiddenRows(ctx context.Context, tx pgx.Tx, tables []clientTable) (findings []doctor.Finding, _ error) {
	var may bool
	if err := tx.QueryRow(ctx, mayLookSQL).Scan(&may); err != nil || !may {
		return nil, errors.Join(doctor.ErrSkipped, err) // as schemaChecks report
	}
	for _, t := range tables {
		if !t.takesUploads() || t.id == nil {
			continue
		}
		err := pgx.BeginFunc(ctx, tx, func(nested pgx.Tx) error {
			_, err := nested.Exec(ctx, lookPastPoliciesSQL, t.oid, t.id.name)
			return err
		})
		if err == nil {
			continue
		}
		if !hasSQLState(err, "42501") {
			return nil, err
		}
		f, err := whyHidden(ctx, tx, t)
		if err != nil {
			return nil, err
		}
		findings = append(findings, f...)
	}
	return findings, nil
}

func whyHidden(ctx context.Context, tx pgx.Tx, t clientTable) ([]doctor.Finding, error) {
	var function, owner string
	var member bool
	if err := tx.QueryRow(ctx, ownersSQL, t.oid).Scan(&function, &owner, &member); err != nil {
		return nil, err
	}
	problem := fmt.Sprintf("Rows of %s that a user cannot see count as missing: changing one is ignored, where it should be rejected.", t)
	if !member {
		return found(problem, "Let the owner of ferry.existing_rows be a member of the table's owner:", fmt.Sprintf("GRANT %s TO %s;", owner, function)), nil
	}
	return found(problem, fmt.Sprintf("ferry looks past the policies of tables, not of views, whose id is of a built-in type (it is %s), "+
		"and which do not force row-level security on their owner. Ignore this where that cannot be.", t.id.typ.name), ""), nil
}

func byteaEncoding(t clientTable) []doctor.Finding {
	if !t.takesUploads() {
		return nil
	}
	encodings := map[string]string{}
	for _, c := range t.columns {
		if c.typ.class == classBytea && !c.encodingSet && !c.generated {
			encodings[c.name] = "base64"
		}
	}
	if len(encodings) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(encodings))
	settings, _ := json.Marshal(encodings) // text always marshals
	return found(fmt.Sprintf("Nothing says how clients write bytea in %s (%s). It is read as base64; but hex is often legal base64 too, and would be stored as other bytes.", t.client, strings.Join(names, ", ")),
		"Say base64 or hex:",
		fmt.Sprintf("INSERT INTO ferry.tables (client_name, schema_name, table_name, bytea_encoding)\nVALUES (%s, %s, %s, %s)\n"+
			"ON CONFLICT (client_name) DO UPDATE SET bytea_encoding = tables.bytea_encoding || excluded.bytea_encoding;",
			literal(t.client), literal(t.schema), literal(t.table.name), literal(string(settings))))
}

func putAbsentNull(t clientTable) []doctor.Finding {
	if !t.putAbsentNull {
		return nil
	}
	return found(fmt.Sprintf("put_absent is null for %s: a PUT erases columns that it lacks, also values that the client cannot hold, such as timestamps after the year 9999.", t.client),
		"Keep them; ignore this where the client's NULLs must arrive:",
		fmt.Sprintf("UPDATE ferry.tables SET put_absent = 'keep' WHERE client_name = %s;", literal(t.client)))
}
