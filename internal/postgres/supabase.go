package postgres

import (
	"context"
	"fmt"
)

// supabaseSQL makes the functions that policies written for Supabase call.
// They read the settings that PostgREST, and ferry, make.
//
// Source: Supabase documentation, "Row Level Security", helper functions.
const supabaseSQL = `
CREATE SCHEMA auth;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT nullif(current_setting('request.jwt.claim.sub', true), '')::uuid
$$;
CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT auth.jwt() ->> 'role'
$$;
CREATE FUNCTION auth.email() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT auth.jwt() ->> 'email'
$$;
GRANT USAGE ON SCHEMA auth TO PUBLIC;`

// AddSupabaseHelpers makes auth.uid(), auth.jwt(), auth.role() and
// auth.email() where there is no schema auth. It reports whether it did: on
// Supabase itself, and after a first run, they are there.
func (m *Migrator) AddSupabaseHelpers(ctx context.Context) (bool, error) {
	_, err := m.db.ExecContext(ctx, supabaseSQL)
	if hasSQLState(err, "42P06", "23505") { // the schema is there, or another replica makes it
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make the functions in schema auth: %w", err)
	}
	return true, nil
}
