package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"ferry/internal/identity"
	"ferry/internal/postgres/devcluster"
)

// bench is a private Postgres and a ferry in front of it.
type bench struct {
	folder     string
	ferry      string
	cluster    *devcluster.Cluster
	pool       *pgxpool.Pool // as the owner, for the bare side
	environ    []string
	process    *exec.Cmd
	url        string
	admin      string // its pprof is asked
	sessionKey []byte
	session    string
	client     *http.Client
	pairs      int
	phase      time.Duration
	opID       int64
}

const userID = "a1111111-1111-4111-8111-111111111111"

// tables are what both sides write: under row-level security for ferry.
const tables = `
DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bench_login') THEN CREATE ROLE bench_login LOGIN PASSWORD 'bench'; END IF; END $$;
CREATE TABLE bench_a (id uuid PRIMARY KEY, owner_id uuid NOT NULL, description text NOT NULL, completed boolean NOT NULL, amount bigint, at timestamptz);
CREATE TABLE bench_b (LIKE bench_a INCLUDING ALL);
CREATE TABLE bench_c (LIKE bench_a INCLUDING ALL);`

const policies = `
ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON %[1]s TO authenticated USING (owner_id = (SELECT nullif(current_setting('app.user_id', true), '')::uuid));
GRANT SELECT, INSERT, UPDATE, DELETE ON %[1]s TO authenticated;`

func start(ctx context.Context, ferry string) (b *bench, err error) {
	ferry, err = filepath.Abs(ferry)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "ferry-bench-")
	if err != nil {
		return nil, err
	}
	b = &bench{folder: folder, ferry: ferry}
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // Postgres' account passes through it
		return b, err
	}
	port, err := freePort()
	if err != nil {
		return b, err
	}
	if b.cluster, err = devcluster.Start(ctx, devcluster.Options{
		Dir: folder, Port: port, Password: "bench",
		Settings: map[string]string{"shared_buffers": "512MB", "max_wal_size": "4GB", "max_connections": "200"},
	}); err != nil {
		return b, err
	}
	return b, b.prepare(ctx)
}

func (b *bench) prepare(ctx context.Context) (err error) {
	owner := b.cluster.URL("postgres", "bench", "postgres")
	if b.pool, err = pgxpool.New(ctx, owner+"&pool_max_conns=64"); err != nil {
		return err
	}
	if _, err := b.pool.Exec(ctx, tables, pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	b.sessionKey = make([]byte, 32)
	rand.Read(b.sessionKey)
	token := make([]byte, 32)
	rand.Read(token)
	port, err := freePort()
	if err != nil {
		return err
	}
	admin, err := freePort()
	if err != nil {
		return err
	}
	b.url = fmt.Sprintf("http://127.0.0.1:%d", port)
	b.admin = fmt.Sprintf("http://127.0.0.1:%d", admin)
	b.environ = []string{
		"DATABASE_URL=" + b.cluster.URL("bench_login", "bench", "postgres"),
		"FERRY_MIGRATE_DATABASE_URL=" + owner,
		fmt.Sprintf("FERRY_LISTEN=127.0.0.1:%d", port),
		fmt.Sprintf("FERRY_ADMIN_LISTEN=127.0.0.1:%d", admin),
		"FERRY_POWERSYNC_URL=http://localhost:8080",
		"FERRY_TOKEN_KID=bench",
		"FERRY_TOKEN_SECRET=" + base64.RawURLEncoding.EncodeToString(token),
		"FERRY_SESSION_SECRET=" + base64.RawURLEncoding.EncodeToString(b.sessionKey),
		"PATH=" + os.Getenv("PATH"),
	}
	migrate := exec.CommandContext(ctx, b.ferry, "migrate", "up", "--grant-to", "bench_login")
	migrate.Env = b.environ
	if output, err := migrate.CombinedOutput(); err != nil {
		return fmt.Errorf("migrate: %w: %s", err, output)
	}
	for _, table := range []string{"bench_a", "bench_b", "bench_c"} {
		if _, err := b.pool.Exec(ctx, fmt.Sprintf(policies, table)); err != nil {
			return err
		}
	}
	if b.session, err = identity.SignSession(b.sessionKey, userID, "", "", time.Now(), time.Hour); err != nil {
		return err
	}
	b.client = &http.Client{Transport: &http.Transport{MaxIdleConns: 512, MaxIdleConnsPerHost: 512, WriteBufferSize: 64 << 10}}
	_, err = b.serve(ctx)
	return err
}

// serve starts ferry and returns how long it took to be ready.
func (b *bench) serve(ctx context.Context) (time.Duration, error) {
	log, err := os.Create(filepath.Join(b.folder, "ferry.log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	b.process = exec.CommandContext(ctx, b.ferry, "serve")
	b.process.Env, b.process.Stderr = b.environ, log
	started := time.Now()
	if err := b.process.Start(); err != nil {
		return 0, err
	}
	for time.Since(started) < 10*time.Second {
		response, err := b.client.Get(b.url + "/readyz") //nolint:noctx // answered at once
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return time.Since(started), nil
			}
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return 0, errors.New("ferry was not ready within 10 s")
}

func (b *bench) endFerry() error {
	if err := b.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_ = b.process.Wait() // killed by our own signal
	b.client.CloseIdleConnections()
	return nil
}

func (b *bench) stop() {
	if b.process != nil {
		_ = b.endFerry()
	}
	if b.pool != nil {
		b.pool.Close()
	}
	if b.cluster != nil {
		_ = b.cluster.Stop(context.Background())
	}
	_ = os.RemoveAll(b.folder)
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // returns at once
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil //nolint:forcetypeassert // a TCP listener's address
}

// memoryMiB reads a field of ferry's /proc status, such as VmHWM.
func (b *bench) memoryMiB(field string) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in the process's status", field)
}

// send posts a body and insists on a 200.
func (b *bench) send(ctx context.Context, path string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+b.session)
	request.Header.Set("Content-Type", "application/json")
	response, err := b.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", path, response.Status, answer)
	}
	if err == nil && strings.Contains(string(answer), `"rejection_id"`) {
		err = fmt.Errorf("%s rejected: %s", path, answer)
	}
	return err
}
