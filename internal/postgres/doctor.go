package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/doctor"
)

// Doctor looks for what is wrong with a database that ferry serves, or is to
// serve. All that it asks runs in transactions that can only read.
type Doctor struct {
	store      *Store // nil where the connection string is not valid
	broken     error  // why
	configured DoctorOptions

	// What earlier checks found out, for later ones.
	away    bool     // the database cannot be reached
	catalog *catalog // nil where it cannot be read
}

// DoctorOptions are what is configured. URL, Role and Schemas may be empty, where
// that is wrong: then what needs them is not checked.
type DoctorOptions struct {
	Options
	MigrateURL     string   // where migrations connect
	ClaimsFunction []string // its name, or its schema and name; none
}

// NewDoctor does not connect.
func NewDoctor(ctx context.Context, o DoctorOptions) *Doctor {
	d := &Doctor{configured: o, away: true}
	if o.URL != "" { // or else pgx would take what libpq's variables say
		o.TransactionPool = true // works whatever there is in front of the database
		d.store, d.broken = Open(ctx, o.Options)
	}
	return d
}

// Close closes all connections.
func (d *Doctor) Close() {
	if d.store != nil {
		d.store.Close()
	}
}

// Checks are to be made in this order: those behind need what those before
// found.
func (d *Doctor) Checks() []doctor.Check {
	return slices.Concat(d.serverChecks(), d.schemaChecks(), d.tableChecks(), d.publicationChecks(), d.rejectionChecks())
}

// limitCheckSQL keeps a check from waiting, and from weighing on the server.
const limitCheckSQL = `SELECT set_config('statement_timeout', '5s', true), set_config('lock_timeout', '1s', true)`

// find makes what looks in a read-only transaction a check's Find.
type find func(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error)

// asked runs f in a transaction, unless the database is away.
func (d *Doctor) asked(f find) doctor.Find {
	return func(ctx context.Context) (found []doctor.Finding, err error) {
		if d.away {
			return nil, doctor.ErrSkipped
		}
		err = reading(ctx, d.store.control, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, limitCheckSQL); err != nil {
				return err
			}
			found, err = f(ctx, tx)
			return err
		})
		if _, refused := errors.AsType[*pgconn.ConnectError](err); refused || ctx.Err() != nil {
			d.away = true // or else each further check would wait as long
		}
		return found, err
	}
}

// needsSchema is asked for what reads the tables of schema ferry.
func (d *Doctor) needsSchema(f find) doctor.Find {
	return d.asked(func(ctx context.Context, tx pgx.Tx) ([]doctor.Finding, error) {
		found, err := f(ctx, tx)
		if hasSQLState(err, "42P01", "3F000", "42501", "42883", "42703") { // as schemaChecks report
			err = errors.Join(doctor.ErrSkipped, err)
		}
		return found, err
	})
}

// advised is a finding of a text that ends in what to do, as those of Ready do.
func advised(text string) doctor.Finding {
	if problem, run, ok := strings.Cut(text, "; run: "); ok {
		return doctor.Finding{Problem: sentence(problem), Remedy: "Run:", Run: run}
	}
	problem, remedy, _ := strings.Cut(text, "; ")
	return doctor.Finding{Problem: sentence(problem), Remedy: sentence(remedy)}
}

// sentence makes a text begin with a capital letter and end with a full stop.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// found is one finding.
func found(problem, remedy, run string) []doctor.Finding {
	return []doctor.Finding{{Problem: problem, Remedy: remedy, Run: run}}
}

// rowsAs runs a query whose rows each become a finding.
func rowsAs(ctx context.Context, tx pgx.Tx, sql string, args []any, into []any, finding func() doctor.Finding) ([]doctor.Finding, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	var findings []doctor.Finding
	_, err = pgx.ForEachRow(rows, into, func() error {
		findings = append(findings, finding())
		return nil
	})
	return findings, err
}

// literal quotes text for SQL that people run.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// shellWord quotes text for a command that people run.
func shellWord(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// ident quotes a name for SQL.
func ident(parts ...string) string { return pgx.Identifier(parts).Sanitize() }
