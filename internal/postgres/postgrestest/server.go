// Package postgrestest gives tests a real Postgres: one private cluster per
// test binary, and in it a database of its own for each test, cloned from a
// template in some ten milliseconds.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { postgrestest.Main(m) }
//
//	var migrated = postgrestest.NewTemplate(func(ctx context.Context, url string) error { … })
//
// and each test begins with db := migrated.Clone(t).
//
// Roles belong to the cluster, not to a database: tests that run in parallel
// share them. Make in the template what all tests need, with CREATE ROLE
// guarded against a role that exists, and give a role that one test needs a
// name of its own, such as one that holds Database.Name. A test that must not
// share, or that stops or breaks Postgres, takes a cluster of its own with Own.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"ferry/internal/postgres/devcluster"
)

// superuser owns every database that tests get.
const superuser = "postgres"

// startTimeout is ample: a first start takes about a second.
const startTimeout = time.Minute

// shared is the cluster of this test binary. It is the one thing here that
// outlives a test, which is why it is a variable of the package.
var shared sharedServer

type sharedServer struct {
	databases atomic.Int64 // made so far, which gives each a name

	mu      sync.Mutex
	open    bool // between Main's beginning and its end
	cluster *ownedCluster
	admin   *pgxpool.Pool // makes and drops databases
	err     error         // why it did not start
}

// Main runs the tests of a package with a private Postgres, started when the
// first test asks for a database and stopped at the end. If all tests passed,
// goroutines that are still running fail the package, and so does an error of a
// check. It exits the process.
//
// The cluster runs with fsync and full_page_writes off and
// max_connections = 200.
func Main(m *testing.M, checks ...func() error) { os.Exit(run(m, checks)) }

func run(m *testing.M, checks []func() error) int {
	shared.setOpen(true)
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "postgrestest:", err)
		code = max(code, 1)
	}
	for _, check := range checks {
		if err := check(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "postgrestest:", err)
		return 1
	}
	return 0
}

func (s *sharedServer) setOpen(open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = open
}

// start returns the shared cluster, started by the first caller.
func (s *sharedServer) start() (*devcluster.Cluster, *pgxpool.Pool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return nil, nil, errors.New("call postgrestest.Main(m) in TestMain of this package")
	}
	if s.cluster == nil && s.err == nil {
		s.err = s.launch()
	}
	if s.err != nil {
		return nil, nil, s.err
	}
	return s.cluster.Cluster, s.admin, nil
}

func (s *sharedServer) launch() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	sweep(ctx)
	cluster, err := startOwned(ctx, nil)
	if err != nil {
		return err
	}
	admin, err := pgxpool.New(ctx, cluster.URL(superuser, "", "postgres"))
	if err != nil {
		return errors.Join(err, cluster.remove())
	}
	s.cluster, s.admin = cluster, admin
	return nil
}

func (s *sharedServer) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = false
	if s.cluster == nil {
		return nil
	}
	s.admin.Close()
	return s.cluster.remove()
}

// Own starts a cluster for this test alone, which may stop or break it; it has
// no TCP port. settings are added to those of [Main]'s cluster. Its superuser
// is postgres, without a password. It is removed at the end of the test.
func Own(t testing.TB, settings map[string]string) *devcluster.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	cluster, err := startOwned(ctx, settings)
	if err != nil {
		t.Fatalf("start a Postgres for this test: %v", err)
	}
	t.Cleanup(func() {
		if err := cluster.remove(); err != nil {
			t.Errorf("remove the Postgres of this test: %v", err)
		}
	})
	return cluster.Cluster
}

// ownedCluster is a cluster in a temporary folder that goes with it.
type ownedCluster struct {
	*devcluster.Cluster
	dir string
}

const folderPrefix = "ferry-postgrestest-"

// parentFolder is where temporary folders go: TMPDIR if it is set, else memory
// if the system offers enough, where a clone takes a fraction of its time on a
// disk, else the usual folder.
func parentFolder() string {
	const memory, enough = "/dev/shm", 1 << 30 // bytes; Docker's default is 64 MiB
	var free syscall.Statfs_t
	if os.Getenv("TMPDIR") == "" && syscall.Statfs(memory, &free) == nil &&
		int64(free.Bavail)*int64(free.Bsize) >= enough {
		return memory
	}
	return os.TempDir()
}

func startOwned(ctx context.Context, settings map[string]string) (*ownedCluster, error) {
	dir, err := os.MkdirTemp(parentFolder(), folderPrefix)
	if err != nil {
		return nil, err
	}
	// For root, the account that Postgres runs as must be able to enter.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	all := map[string]string{"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
	maps.Copy(all, settings)
	cluster, err := devcluster.Start(ctx, devcluster.Options{Dir: dir, Settings: all, Superuser: superuser})
	if err != nil {
		return nil, errors.Join(err, devcluster.Remove(context.WithoutCancel(ctx), dir))
	}
	return &ownedCluster{Cluster: cluster, dir: dir}, nil
}

func (c *ownedCluster) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return errors.Join(c.Stop(ctx), devcluster.Remove(ctx, c.dir))
}

// sweep removes the clusters of test binaries that ended without Main's end:
// by a panic, a timeout or a signal. Their servers have ended by themselves.
func sweep(ctx context.Context) {
	const young = 10 * time.Minute // may be about to start
	dirs, err := filepath.Glob(filepath.Join(parentFolder(), folderPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > young {
			_ = devcluster.Remove(ctx, dir) // fails if it is in use or another user's
		}
	}
}
