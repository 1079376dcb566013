package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"ferry/internal/config"
	"ferry/internal/doctor"
	"ferry/internal/postgres"
)

const doctorMore = `It reads the same variables as ferry serve, looks at them, at the identity providers,
the PowerSync Service and the database, and changes nothing. docs/doctor.md lists all
that it can find.

It exits with 0 where it finds no error, with 1 where it does (with --strict also
for warnings), and with 2 for a mistake in the command line.
`

func runDoctor(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "doctor", "say what is wrong with a deployment, and what to do", doctorMore)
	asJSON := flags.Bool("json", false, "print one JSON object")
	strict := flags.Bool("strict", false, "fail for warnings as well")
	ignore := flags.String("ignore", "", "leave out the checks with these `CODES`, a comma list")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	cfg, wrong := config.LoadDoctor(a.environ)
	database := databaseDoctor(ctx, cfg)
	defer database.Close()
	checks, err := without(*ignore, doctorChecks(cfg, wrong, database))
	if err != nil {
		return err
	}
	report := doctor.Examine(ctx, checks)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if *asJSON {
		err = json.NewEncoder(a.stdout).Encode(report)
	} else {
		err = printReport(a.stdout, report)
	}
	if err != nil {
		return err
	}
	return verdict(report, *strict)
}

func databaseDoctor(ctx context.Context, cfg *config.Config) *postgres.Doctor {
	return postgres.NewDoctor(ctx, postgres.DoctorOptions{
		Options:        storeOptions(cfg, slog.New(slog.DiscardHandler)),
		MigrateURL:     cfg.Database.MigrateURL.Reveal(),
		ClaimsFunction: cfg.Token.ClaimsFunction,
	})
}

// doctorChecks are all checks. wrong is what is wrong with the configuration.
func doctorChecks(cfg *config.Config, wrong error, database *postgres.Doctor) []doctor.Check {
	return slices.Concat(configChecks(cfg, wrong), tokenChecks(cfg), serviceChecks(cfg), sessionChecks(cfg), database.Checks())
}

// without leaves out the checks of a comma list.
func without(codes string, checks []doctor.Check) ([]doctor.Check, error) {
	if codes == "" {
		return checks, nil
	}
	ignored := strings.Split(strings.ReplaceAll(codes, " ", ""), ",")
	for _, code := range ignored {
		if !slices.ContainsFunc(checks, func(c doctor.Check) bool { return c.Code == code }) {
			return nil, usageError{fmt.Sprintf("doctor: --ignore %q: there is no such check; docs/doctor.md lists them", code)}
		}
	}
	return slices.DeleteFunc(checks, func(c doctor.Check) bool { return slices.Contains(ignored, c.Code) }), nil
}

// printReport prints the worst first.
func printReport(w io.Writer, r *doctor.Report) error {
	var b strings.Builder
	for _, severity := range []doctor.Severity{doctor.Error, doctor.Warning, doctor.Note} {
		for _, f := range r.Findings {
			if f.Severity == severity {
				fmt.Fprintf(&b, "%-7s  %s\n  %s\n  %s\n%s\n", f.Severity, f.Code, safe(f.Problem), safe(f.Remedy), setApart(f.Run))
			}
		}
	}
	if len(r.Skipped) > 0 {
		fmt.Fprintf(&b, "Not checked, because of the above: %s\n", strings.Join(r.Skipped, ", "))
	}
	fmt.Fprintf(&b, "%s, %s, %s\n", counted(r, doctor.Error), counted(r, doctor.Warning), counted(r, doctor.Note))
	_, err := io.WriteString(w, b.String())
	return err
}

// setApart indents what is to be run.
func setApart(run string) string {
	if run == "" {
		return ""
	}
	var b strings.Builder
	for line := range strings.Lines(run) {
		fmt.Fprintf(&b, "      %s\n", safe(strings.TrimSuffix(line, "\n")))
	}
	return b.String()
}

func counted(r *doctor.Report, s doctor.Severity) string {
	n := r.Count(s)
	if n == 1 {
		return "1 " + string(s)
	}
	return fmt.Sprintf("%d %ss", n, s)
}

// verdict is an error where the deployment is not fit.
func verdict(r *doctor.Report, strict bool) error {
	switch {
	case r.Count(doctor.Error) > 0:
		return errors.New("doctor found " + counted(r, doctor.Error))
	case strict && r.Count(doctor.Warning) > 0:
		return errors.New("doctor found " + counted(r, doctor.Warning))
	}
	return nil
}
