//go:build linux

package faults_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ferry/internal/postgres/devcluster"
)

const password = "only-for-this-test"

// server is a private Postgres that crashes and comes back. Its data is as
// durable as Postgres makes it.
type server struct {
	options devcluster.Options
	address string
	ballast string // a file that fills the disk of the app's tables; empty where there is none

	mu      sync.Mutex
	down    bool // on purpose
	cluster *devcluster.Cluster
}

// newServer starts one; settings are name=value.
func newServer(t *testing.T, settings ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "ferry-faults-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // Postgres' account passes through it
		t.Fatal(err)
	}
	address := freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{address: address, options: devcluster.Options{
		Dir: dir, Port: number, Password: password,
		Settings: map[string]string{
			"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
			"deadlock_timeout": "200ms", "max_connections": "100", "checkpoint_timeout": "30s",
		},
	}}
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		s.options.Settings[name] = value
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s.stop(ctx)
		_ = syscall.Unmount(filepath.Join(dir, "small"), 0) // fails where smallDisk made none
		_ = os.RemoveAll(filepath.Join(dir, "small"))
		if s.ballast != "" {
			_ = os.RemoveAll(filepath.Dir(s.ballast)) // elsewhere, where smallDisk could mount nothing
		}
		if err := devcluster.Remove(ctx, dir); err != nil {
			t.Errorf("remove Postgres: %v", err)
		}
	})
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go s.supervise(ctx)
	return s
}

// supervise starts Postgres again where it has ended by itself, as service
// managers do: it gives up where a full disk keeps it from recovering.
func (s *server) supervise(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		if !s.down {
			_ = s.run(ctx) // or the next time
		}
		s.mu.Unlock()
		pause(ctx, 100*time.Millisecond)
	}
}

// run starts Postgres unless it runs.
func (s *server) run(ctx context.Context) error {
	if s.cluster != nil {
		select {
		case <-s.cluster.Ended():
			s.clear(ctx)
		default:
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cluster, err := devcluster.Start(ctx, s.options)
	if err != nil {
		return err
	}
	s.cluster = cluster
	return nil
}

func (s *server) clear(ctx context.Context) {
	if s.cluster != nil {
		_ = s.cluster.Stop(ctx)
		s.cluster = nil
	}
}

// start lets Postgres run; if it does not want to, the supervisor has to see to
// it.
func (s *server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = false
	if err := s.run(ctx); err != nil && s.ballast == "" {
		return err
	}
	return nil
}

func (s *server) stop(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
	s.clear(ctx)
}

// crash stops Postgres without a checkpoint, in the midst of whatever it does:
// an immediate shutdown. The next start recovers.
func (s *server) crash(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
	if s.cluster == nil || signalPostmaster(s.cluster.Data(), syscall.SIGQUIT) != nil {
		return nil // it is down already
	}
	select {
	case <-s.cluster.Ended():
	case <-ctx.Done():
		return ctx.Err()
	}
	s.clear(ctx)
	return nil
}

func signalPostmaster(data string, signal syscall.Signal) error {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return fmt.Errorf("read postmaster.pid: %w", err)
	}
	return syscall.Kill(pid, signal)
}

func (s *server) url(role string) string { return databaseURL(role, s.address) }

// databaseURL is where a role finds the app's database, at one of addresses.
func databaseURL(role string, addresses ...string) string {
	return fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=disable", role, password, strings.Join(addresses, ","))
}
