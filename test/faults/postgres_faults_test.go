//go:build linux

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresFaults are what a database does to its clients.
func (w *world) postgresFaults() []fault {
	faults := []fault{
		{name: "Postgres crashed", begin: w.crashPostgres, longest: 2 * time.Second},
		{name: "a server process of Postgres killed", begin: w.killBackend, longest: time.Second},
		{name: "tables locked", begin: w.lockTables, longest: 7 * time.Second},
		{name: "no connections left", begin: w.takeConnections},
		{name: "deadlocks", begin: w.deadlock},
		{name: "serialization failures", begin: w.failSerialization},
		{name: "tables altered", begin: w.alterTables},
	}
	if w.postgres.ballast != "" {
		faults = append(faults, fault{name: "disk full", begin: w.fillDisk, longest: 3 * time.Second})
	}
	return faults
}

func (w *world) crashPostgres(ctx context.Context, _ *rand.Rand) (func(context.Context) error, error) {
	return w.postgres.start, w.postgres.crash(ctx)
}

// admin runs statements as the superuser. Where Postgres is away or full, there
// is nothing to be done about it.
func (w *world) admin(ctx context.Context, statements ...string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.postgres.url("postgres"))
	if err != nil {
		return
	}
	defer closeConnection(conn)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return
		}
	}
}

// insist runs a statement that mends something until it has succeeded.
func (w *world) insist(ctx context.Context, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, w.postgres.url("postgres"))
		if err == nil {
			_, err = conn.Exec(ctx, sql)
			closeConnection(conn)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// killBackend makes Postgres end all its server processes and recover.
func (w *world) killBackend(ctx context.Context, _ *rand.Rand) (func(context.Context) error, error) {
	nothing := func(context.Context) error { return nil }
	conn, err := pgx.Connect(ctx, w.postgres.url("postgres"))
	if err != nil {
		return nothing, nil // Postgres is away
	}
	defer closeConnection(conn)
	var pid int
	if err := conn.QueryRow(ctx, "SELECT pid FROM pg_stat_activity WHERE usename = $1 LIMIT 1", login).Scan(&pid); err != nil {
		return nothing, nil // no ferry is connected
	}
	_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	return nothing, nil
}

// lockTables holds locks longer than ferry waits for them, which fills its pool
// with uploads that wait.
func (w *world) lockTables(ctx context.Context, random *rand.Rand) (func(context.Context) error, error) {
	table := []string{"entries", "registers", "counters", "effects", "ferry.progress", "ferry.rejections"}[random.IntN(6)]
	return w.whileHolding(ctx, "BEGIN; LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE")
}

// whileHolding keeps a transaction open that has run statements.
func (w *world) whileHolding(ctx context.Context, statements string) (func(context.Context) error, error) {
	ctx, cancel := context.WithCancel(ctx)
	conn, err := pgx.Connect(ctx, w.postgres.url("postgres"))
	if err != nil {
		return func(context.Context) error { cancel(); return nil }, nil // Postgres is away
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = conn.Exec(ctx, statements, pgx.QueryExecModeSimpleProtocol)
	}()
	return func(context.Context) error { cancel(); <-ended; closeConnection(conn); return nil }, nil
}

// takeConnections ends ferry's connections and lets it have only a few.
func (w *world) takeConnections(ctx context.Context, random *rand.Rand) (func(context.Context) error, error) {
	w.admin(ctx,
		fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d", login, random.IntN(6)),
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+login+"'")
	return func(ctx context.Context) error {
		return w.insist(ctx, "ALTER ROLE "+login+" CONNECTION LIMIT -1")
	}, nil
}

// deadlock locks the two rows of a register in one order, as long as it can,
// while another connection does so in the other.
func (w *world) deadlock(ctx context.Context, random *rand.Rand) (func(context.Context) error, error) {
	register := random.IntN(registers)
	loop := func(first, second string) string {
		return fmt.Sprintf(`DO $$ BEGIN LOOP
			BEGIN
				PERFORM FROM registers WHERE id = '%[1]d%[2]s' FOR UPDATE;
				PERFORM pg_sleep(0.05);
				PERFORM FROM registers WHERE id = '%[1]d%[3]s' FOR UPDATE;
			EXCEPTION WHEN deadlock_detected THEN NULL; END;
			COMMIT;
		END LOOP; END $$`, register, first, second)
	}
	ctx, cancel := context.WithCancel(ctx)
	endA, _ := w.whileHolding(ctx, loop("a", "b"))
	endB, _ := w.whileHolding(ctx, loop("b", "a"))
	return func(ctx context.Context) error { cancel(); return errors.Join(endA(ctx), endB(ctx)) }, nil
}

func (w *world) failSerialization(ctx context.Context, _ *rand.Rand) (func(context.Context) error, error) {
	w.admin(ctx, "UPDATE disturbance SET serialization_failures = true")
	return func(ctx context.Context) error {
		return w.insist(ctx, "UPDATE disturbance SET serialization_failures = false")
	}, nil
}

// alterTables changes the app's tables under a running server, which breaks its
// plans and its knowledge of them.
func (w *world) alterTables(ctx context.Context, random *rand.Rand) (func(context.Context) error, error) {
	table := []string{"entries", "registers", "increments"}[random.IntN(3)]
	w.admin(ctx, "SET lock_timeout = '2s'", "ALTER TABLE "+table+" ADD COLUMN extra int DEFAULT 1")
	return func(ctx context.Context) error {
		return w.insist(ctx, "ALTER TABLE "+table+" DROP COLUMN IF EXISTS extra")
	}, nil
}

// smallDisk gives a server a small file system for the app's tables: one of its
// own where the system lets us mount one, else the shared memory of a container
// if that is small. The file at ballast can fill it.
func (s *server) smallDisk(t *testing.T) {
	t.Helper()
	dir := filepath.Join(s.options.Dir, "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m,mode=0700"); err != nil {
		if dir = smallSharedMemory(t); dir == "" {
			t.Logf("no disk is filled: mounting a small file system needs more rights (%v), and /dev/shm is large", err)
			return
		}
	}
	space := filepath.Join(dir, "tables")
	if err := os.Mkdir(space, 0o700); err != nil {
		t.Fatal(err)
	}
	unprivileged(t, dir)
	unprivileged(t, space)
	conn, err := pgx.Connect(t.Context(), s.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeConnection(conn)
	for _, sql := range []string{"CREATE TABLESPACE small LOCATION '" + space + "'", "ALTER ROLE ALL SET default_tablespace = small"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	s.ballast = filepath.Join(dir, "ballast")
}

// smallSharedMemory makes a folder in /dev/shm where that is as small as Docker
// makes it, 64 MiB, or not much larger.
func smallSharedMemory(t *testing.T) (dir string) {
	t.Helper()
	const memory, small = "/dev/shm", 256 << 20 // bytes
	var system syscall.Statfs_t
	if err := syscall.Statfs(memory, &system); err != nil || int64(system.Blocks)*int64(system.Bsize) > small { //nolint:gosec,unconvert // types differ by architecture
		return ""
	}
	dir, err := os.MkdirTemp(memory, "ferry-faults-")
	if err != nil {
		return ""
	}
	return dir
}

func (w *world) fillDisk(context.Context, *rand.Rand) (func(context.Context) error, error) {
	file, err := os.Create(w.postgres.ballast)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	_, err = io.Copy(file, zeros{})
	if !errors.Is(err, syscall.ENOSPC) {
		return nil, fmt.Errorf("the disk did not fill: %w", err)
	}
	return func(context.Context) error { return os.Remove(w.postgres.ballast) }, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
