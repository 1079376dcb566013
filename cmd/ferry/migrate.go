package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"ferry/internal/config"
	"ferry/internal/postgres"
)

func runMigrate(ctx context.Context, a *app, args []string) error {
	const say = "migrate: say up, down or status; see: ferry migrate --help"
	if len(args) == 0 {
		return usageError{say}
	}
	switch name, rest := args[0], args[1:]; {
	case isHelp(name):
		fmt.Fprint(a.stdout, migrateHelp)
		return nil
	case name == "up":
		return runMigrateUp(ctx, a, rest)
	case name == "down":
		return runMigrateDown(ctx, a, rest)
	case name == "status":
		return runMigrateStatus(ctx, a, rest)
	}
	return usageError{say}
}

const migrateMore = "It connects with FERRY_MIGRATE_DATABASE_URL, else DATABASE_URL.\n"

const migrateHelp = `ferry migrate: create or change schema ferry

Usage: ferry migrate up|down|status [FLAGS]

  up      bring schema ferry up to this version; make the roles that serving needs
  down    take back the newest migration, with the data of its tables
  status  list the migrations and which of them are applied

` + migrateMore

func runMigrateUp(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "migrate up", "bring schema ferry up to this version; make the roles that serving needs", migrateMore)
	grantTo := flags.String("grant-to", "", "let this login `ROLE`, the one in DATABASE_URL, serve: make it a member of ferry_service and of the upload role")
	supabase := flags.Bool("supabase-helpers", false, "make auth.uid(), auth.jwt(), auth.role() and auth.email(), for policies written for Supabase, where there is no schema auth")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	m, err := openMigrator(ctx, a)
	if err != nil {
		return err
	}
	defer m.Close()
	m.GrantTo = *grantTo
	applied, err := m.Up(ctx)
	for _, name := range applied {
		fmt.Fprintf(a.stdout, "applied %s\n", name)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "schema ferry is up to date")
	if *supabase {
		if err := addSupabaseHelpers(ctx, a, m); err != nil {
			return err
		}
	}
	return warnOfPublications(ctx, a, m)
}

func addSupabaseHelpers(ctx context.Context, a *app, m *postgres.Migrator) error {
	made, err := m.AddSupabaseHelpers(ctx)
	if err != nil {
		return err
	}
	if !made {
		fmt.Fprintln(a.stdout, "schema auth is there already: its functions stay as they are")
		return nil
	}
	fmt.Fprintln(a.stdout, "made auth.uid(), auth.jwt(), auth.role() and auth.email()")
	return nil
}

// warnOfPublications shows what keeps schema ferry from being replicated.
func warnOfPublications(ctx context.Context, a *app, m *postgres.Migrator) error {
	publications, err := m.PublicationsOfFerry(ctx)
	if err != nil {
		return err
	}
	for _, p := range publications {
		fmt.Fprintf(a.stdout, "\npublication %s carries schema ferry, too, which no device needs. To leave that\n"+
			"out, keep the tables that devices sync, for example:\n\n%s\n", p.Name, p.SQL)
	}
	return nil
}

func runMigrateDown(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "migrate down", "take back the newest migration, with the data of its tables", migrateMore)
	yes := flags.Bool("yes", false, "do not ask")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	m, err := openMigrator(ctx, a)
	if err != nil {
		return err
	}
	defer m.Close()
	if !*yes && !confirmed(a, "This drops tables of schema ferry: accounts and stored rejections are lost, and redelivered operations apply again. Roles stay.") {
		return errors.New("migrate down: nothing was done")
	}
	name, err := m.Down(ctx)
	if err != nil {
		return err
	}
	if name == "" {
		name = "nothing: schema ferry has no migrations"
	}
	_, err = fmt.Fprintf(a.stdout, "took back %s\n", name)
	return err
}

func confirmed(a *app, what string) bool {
	fmt.Fprintf(a.stdout, "%s\nType yes to go on: ", what)
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	return strings.TrimSpace(answer) == "yes"
}

func runMigrateStatus(ctx context.Context, a *app, args []string) error {
	if err := parseFlags(newFlags(a, "migrate status", "list the migrations and which of them are applied", migrateMore), args); err != nil {
		return err
	}
	m, err := openMigrator(ctx, a)
	if err != nil {
		return err
	}
	defer m.Close()
	statuses, err := m.Status(ctx)
	if err != nil {
		return err
	}
	for _, s := range statuses {
		state := "pending"
		if s.Applied {
			state = "applied"
		}
		fmt.Fprintf(a.stdout, "%-8s %s\n", state, s.Name)
	}
	return nil
}

func openMigrator(ctx context.Context, a *app) (*postgres.Migrator, error) {
	cfg, err := config.LoadMigrate(a.environ)
	if err != nil {
		return nil, err
	}
	m, err := postgres.NewMigrator(ctx, cfg.Database.MigrateURL.Reveal())
	if err != nil {
		return nil, err
	}
	m.UploadRole, m.Schemas, m.WriteCheckpoints = cfg.Upload.Role, cfg.Upload.Schemas, cfg.Upload.WriteCheckpoints
	return m, nil
}
