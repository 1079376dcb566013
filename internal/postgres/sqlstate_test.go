package postgres

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/postgres/postgrestest"
)

// Each class of PostgreSQL's error codes, and each code that is not judged as its
// class is. code is what a client is told; empty where the error is no verdict.
var sqlstates = []struct{ state, code string }{
	{"02000", "internal_error"}, // no data
	{"03000", "internal_error"}, // SQL statement not yet complete
	{"08000", ""},               // connection exception
	{"08006", ""},
	{"08P01", ""},               // PgBouncer's own errors among them
	{"09000", "internal_error"}, // triggered action exception
	{"0A000", "internal_error"}, // feature not supported
	{"0B000", "internal_error"}, // invalid transaction initiation
	{"0F000", "internal_error"}, // locator exception
	{"0L000", "internal_error"}, // invalid grantor
	{"0P000", "internal_error"}, // invalid role specification
	{"0Z000", "internal_error"}, // diagnostics exception
	{"10608", "internal_error"}, // invalid argument for XQuery
	{"20000", "internal_error"}, // case not found
	{"21000", "internal_error"}, // cardinality violation
	{"22000", "data_exception"},
	{"22003", "numeric_value_out_of_range"},
	{"22P02", "invalid_text_representation"},
	{"22XYZ", "data_exception"}, // of a version to come
	{"23000", "integrity_constraint_violation"},
	{"23502", "not_null_violation"},
	{"23503", "foreign_key_violation"},
	{"23505", "unique_violation"},
	{"23514", "check_violation"},
	{"23P01", "exclusion_violation"},
	{"23XYZ", "integrity_constraint_violation"},
	{"24000", "internal_error"}, // invalid cursor state
	{"25000", ""},               // invalid transaction state
	{"25006", ""},               // a standby
	{"25P02", ""},
	{"25P03", ""},               // idle_in_transaction_session_timeout
	{"26000", ""},               // a prepared statement that a pooler lost
	{"27000", "internal_error"}, // triggered data change violation
	{"28000", ""},               // ferry's own login
	{"28P01", ""},
	{"2B000", "internal_error"}, // dependent privilege descriptors still exist
	{"2D000", "internal_error"}, // invalid transaction termination
	{"2F005", "internal_error"}, // SQL routine exception
	{"34000", "internal_error"}, // invalid cursor name
	{"38000", "internal_error"}, // external routine exception
	{"39P01", "internal_error"}, // external routine invocation exception
	{"3B001", "internal_error"}, // savepoint exception
	{"3D000", "internal_error"}, // invalid catalog name
	{"3F000", "internal_error"}, // invalid schema name
	{"40000", ""},               // transaction rollback
	{"40001", ""},               // serialization failure
	{"40P01", ""},               // deadlock
	{"42501", "forbidden"},
	{"42601", "internal_error"},
	{"42703", "unknown_column"},
	{"42804", "internal_error"},
	{"42P01", "unknown_table"},
	{"42P05", ""}, // a prepared statement that a pooler brought
	{"42P10", "internal_error"},
	{"44000", "internal_error"}, // WITH CHECK OPTION
	{"53000", ""},               // insufficient resources
	{"53100", ""},               // disk full
	{"53200", ""},
	{"53300", ""},
	{"54000", "too_large"}, // program limit exceeded
	{"54001", "too_large"},
	{"55000", "internal_error"}, // object not in prerequisite state
	{"55006", "internal_error"},
	{"55P03", ""}, // lock not available
	{"57000", ""}, // operator intervention
	{"57014", ""}, // statement_timeout
	{"57P01", ""}, // shutdown
	{"57P03", ""},
	{"58000", ""}, // system error
	{"58030", ""},
	{"72000", "internal_error"}, // snapshot too old
	{"F0000", "internal_error"}, // configuration file error
	{"HV000", "internal_error"}, // foreign data wrapper
	{"P0001", "raise_exception"},
	{"P0002", "internal_error"}, // no data found
	{"XX000", "internal_error"},
	{"XX001", ""}, // data corrupted
	{"XX002", ""},
	{"ABCDE", "internal_error"},
	{"", "internal_error"},
}

func TestEachClassOfSQLStates(t *testing.T) {
	t.Parallel()
	for _, c := range sqlstates {
		err := &pgconn.PgError{Code: c.state}
		if got := isTransient(fmt.Errorf("wrapped: %w", err)); got != (c.code == "") {
			t.Errorf("%s is transient: %v", c.state, got)
		}
		if got := codeOf(err); c.code != "" && got != c.code {
			t.Errorf("%s is %s, want %s", c.state, got, c.code)
		}
		// What the app raises on purpose is its verdict, but for class 40.
		raised := &pgconn.PgError{Code: c.state, Routine: "exec_stmt_raise"}
		if got, want := isTransient(raised), len(c.state) == 5 && c.state[:2] == "40"; got != want {
			t.Errorf("%s, raised by the app, is transient: %v", c.state, got)
		}
		if codeOf(raised) == "" {
			t.Errorf("%s, raised by the app, has no code", c.state)
		}
	}
}

func TestErrorsThatAreNotOfTheServerAreTransient(t *testing.T) {
	t.Parallel()
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF, errors.New("anything"), &pgconn.ConnectError{}} {
		if !isTransient(err) {
			t.Errorf("%v is a verdict", err)
		}
	}
	if err := (&pgconn.PgError{Code: "0A000", Message: "cached plan must not change result type"}); !isTransient(err) || !isWorthRepeating(err) {
		t.Error("a cached plan that no longer fits is a verdict")
	}
	if err := (&pgconn.PgError{Code: "42P01", Where: "PL/pgSQL function f() line 1 at SQL statement"}); codeOf(err) != "internal_error" {
		t.Error("a table that the app's function misses is the client's")
	}
}

// The names are PostgreSQL's own: PL/pgSQL knows them.
func TestConditionNamesArePostgres(t *testing.T) {
	t.Parallel()
	conn, err := postgrestest.New(t).Pool(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for state, name := range conditionNames {
		_, err := conn.Exec(t.Context(), fmt.Sprintf(
			`DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '%s'; EXCEPTION WHEN %s THEN NULL; END $$`, state, name))
		if err != nil {
			t.Errorf("%s is not %s: %v", state, name, err)
		}
	}
}
