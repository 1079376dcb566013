package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/internal/config"
	"ferry/internal/identity"
	"ferry/internal/postgres"
	"ferry/internal/postgres/devcluster"
)

// The roles and the database of the private Postgres.
const (
	devOwner     = "postgres"       // superuser: migrations, the demo tables
	devLogin     = "ferry_login"    // what ferry serves as
	devPowerSync = "powersync_role" // what a PowerSync Service replicates as
	devDatabase  = "app"
)

// sessionTTL is long enough that a pasted session works for a while.
const sessionTTL = 30 * 24 * time.Hour

//go:embed dev.sql
var devSQL string

func runDev(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "dev", "serve the API with a private Postgres, for development",
		"The variables of `ferry serve` work here as well, but for those of the database.\n")
	dir := flags.String("dir", ".ferry", "the `FOLDER` of the private Postgres and the generated keys; kept between runs")
	listen := flags.String("listen", "", "`HOST:PORT` of the API (default FERRY_LISTEN, or else 127.0.0.1:6060)")
	lan := flags.Bool("lan", false, "take requests from other machines, such as a phone on the same network")
	asJSON := flags.Bool("json", false, "print one line of JSON instead of text, once requests are answered")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.stderr, nil))
	d, err := openDevFolder(*dir)
	if err != nil {
		return err
	}
	cfg, err := d.config(a.environ, *listen, *lan)
	if err != nil {
		return err
	}
	cluster, err := startDevCluster(ctx, d)
	if err != nil {
		return err
	}
	defer stopDevCluster(ctx, cluster, log)
	if err := d.save(); err != nil {
		return err
	}
	cfg.Database.URL = config.NewSecret(cluster.URL(devLogin, d.LoginPassword, devDatabase))
	if err := d.prepareDatabase(ctx, cluster, cfg); err != nil {
		return err
	}

	// If Postgres ends by itself, so does ferry.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-cluster.Ended():
			cancel(fmt.Errorf("the private Postgres has ended; its log is %s", cluster.Log()))
		case <-ctx.Done():
		}
	}()
	err = serve(ctx, cfg, servingOptions{
		log:         log,
		demo:        &demo{userID: d.Users[0].ID},
		allowOrigin: func(origin string) bool { return isLocalOrigin(origin) || originsOf(cfg)(origin) },
		listening: func(address string) error {
			url := "http://" + reachable(address)
			notice := a.stdout
			if *asJSON {
				notice = a.stderr // scripts read one line from stdout
			}
			return errors.Join(d.announce(a.stdout, *asJSON, cfg, cluster, url), announceDemo(notice, url))
		},
	})
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// startDevCluster takes another port if a program has taken the folder's since
// it was found free: a first start works for a second before it listens.
func startDevCluster(ctx context.Context, d *devFolder) (*devcluster.Cluster, error) {
	const attempts = 3
	for attempt := 1; ; attempt++ {
		cluster, err := devcluster.Start(ctx, devcluster.Options{
			Dir:       d.dir,
			Port:      d.PostgresPort,
			Superuser: devOwner,
			Password:  d.OwnerPassword,
			// A PowerSync Service replicates from it.
			Settings: map[string]string{"wal_level": "logical", "max_wal_senders": "10", "max_replication_slots": "10"},
		})
		if err == nil || attempt == attempts {
			return cluster, err
		}
		port, portErr := freePort(d.PostgresPort)
		if portErr != nil || port == d.PostgresPort {
			return nil, err
		}
		d.PostgresPort = port
	}
}

func stopDevCluster(ctx context.Context, cluster *devcluster.Cluster, log *slog.Logger) {
	if err := cluster.Stop(context.WithoutCancel(ctx)); err != nil {
		log.Error("the private Postgres did not stop in order", slog.Any("error", err))
	}
}

// prepareDatabase makes the database, schema ferry, the roles and the demo
// tables; what is there stays as it is.
func (d *devFolder) prepareDatabase(ctx context.Context, cluster *devcluster.Cluster, cfg *config.Config) error {
	if err := createDatabase(ctx, cluster.URL(devOwner, d.OwnerPassword, "postgres")); err != nil {
		return err
	}
	owner := cluster.URL(devOwner, d.OwnerPassword, devDatabase)
	if err := d.createRoles(ctx, owner); err != nil {
		return err
	}
	m, err := postgres.NewMigrator(ctx, owner)
	if err != nil {
		return err
	}
	defer m.Close()
	m.UploadRole, m.GrantTo = cfg.Upload.Role, devLogin
	if _, err := m.Up(ctx); err != nil {
		return err
	}
	if err := execSQL(ctx, owner, createDemoRoleSQL); err != nil {
		return err
	}
	return execSQL(ctx, owner, strings.ReplaceAll(devSQL, "authenticated", pgx.Identifier{cfg.Upload.Role}.Sanitize()))
}

func createDatabase(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to the private Postgres: %w", err)
	}
	defer conn.Close(ctx)
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, devDatabase).Scan(&exists); err != nil {
		return fmt.Errorf("look for database %s: %w", devDatabase, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+devDatabase); err != nil {
		return fmt.Errorf("create database %s: %w", devDatabase, err)
	}
	return nil
}

// createRoles makes the login roles, with the passwords of the folder.
func (d *devFolder) createRoles(ctx context.Context, url string) error {
	role := func(name, attributes, password string) string {
		return fmt.Sprintf(`
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%[1]s') THEN CREATE ROLE %[1]s; END IF;
END $$;
ALTER ROLE %[1]s LOGIN %[2]s PASSWORD '%[3]s';`, name, attributes, strings.ReplaceAll(password, "'", "''"))
	}
	return execSQL(ctx, url,
		role(devLogin, "", d.LoginPassword)+role(devPowerSync, "REPLICATION BYPASSRLS", d.PowerSyncPassword))
}

func execSQL(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to the private Postgres: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("set up the private Postgres: %w", err)
	}
	return nil
}

// devIssuer is the `iss` of the demo users' sessions.
const devIssuer = "ferry dev"

// session signs in a demo user.
func (d *devFolder) session(u devUser) (string, error) {
	return identity.SignSession(d.sessionKey(), u.ID, devIssuer, "", time.Now(), sessionTTL)
}

// isLocalOrigin is whether a web app on this machine, or one in a Capacitor
// shell, is calling.
func isLocalOrigin(origin string) bool {
	if origin == "capacitor://localhost" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") {
		return false
	}
	host := u.Hostname()
	return config.IsLoopback(host) || strings.HasSuffix(host, ".localhost")
}

// reachable is the address under which others reach a listener: for one on all
// interfaces, that of this machine in its network.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || (host != "" && (ip == nil || !ip.IsUnspecified())) {
		return listen
	}
	host = "127.0.0.1"
	// Asking for a route sends nothing.
	if conn, err := net.Dial("udp", "192.0.2.1:9"); err == nil { //nolint:noctx // nothing to wait for
		host, _, _ = net.SplitHostPort(conn.LocalAddr().String())
		_ = conn.Close()
	}
	return net.JoinHostPort(host, port)
}
