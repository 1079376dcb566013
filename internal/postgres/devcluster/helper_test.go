package devcluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// ownerVariable makes this test binary the owner of the cluster in the folder
// that it names, until its input ends.
const ownerVariable = "FERRY_TEST_OWN_CLUSTER"

func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv(ownerVariable); ok {
		os.Exit(ownCluster(dir))
	}
	goleak.VerifyTestMain(m)
}

func ownCluster(dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := Start(ctx, Options{Dir: dir, Settings: fast})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(c.URL("postgres", "", "postgres"))
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := c.Stop(ctx); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// startOwner runs this test binary, or a copy of it, as the owner of a cluster
// and returns when the cluster is ready.
func startOwner(t *testing.T, binary, dir string, account *syscall.Credential) (owner *exec.Cmd, input io.Closer, url string) {
	t.Helper()
	owner = exec.Command(binary)
	owner.Env = append(os.Environ(), ownerVariable+"="+dir)
	owner.Dir = "/"
	owner.Stderr = os.Stderr
	owner.SysProcAttr = &syscall.SysProcAttr{Credential: account}
	input, err := owner.StdinPipe()
	must(t, err)
	output, err := owner.StdoutPipe()
	must(t, err)
	must(t, owner.Start())
	t.Cleanup(func() {
		input.Close()
		_ = owner.Process.Kill()
		_ = owner.Wait()
	})
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "postgres://") {
		t.Fatalf("the owner did not start its cluster: %s %v", line, err)
	}
	return owner, input, strings.TrimSpace(line)
}

// fast settings are for data that may be lost.
var fast = map[string]string{"fsync": "off", "full_page_writes": "off"}

// folder returns an empty folder that every account can enter, for a cluster
// that is removed at the end of the test.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ferry-cluster-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() {
		must(t, Remove(context.Background(), dir))
		must(t, os.RemoveAll(dir)) // what the test put there itself
	})
	return dir
}

// start starts a cluster that is stopped at the end of the test.
func start(t *testing.T, opts Options) *Cluster {
	t.Helper()
	if opts.Settings == nil {
		opts.Settings = fast
	}
	c, err := Start(t.Context(), opts)
	must(t, err)
	t.Cleanup(func() { stop(t, c) })
	return c
}

func stop(t *testing.T, c *Cluster) {
	t.Helper()
	must(t, c.Stop(context.Background()))
}

// query runs SQL and returns the text of its one value.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	text, err := tryQuery(t.Context(), url, sql)
	must(t, err)
	return text
}

func tryQuery(ctx context.Context, url, sql string) (string, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var text string
	err = conn.QueryRow(ctx, sql).Scan(&text)
	return text, err
}

func exe(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), sql)
	must(t, err)
}

// waitServerGone waits until no process of the cluster's server lives.
func waitServerGone(t *testing.T, dir string) {
	t.Helper()
	h, err := openHome(dir)
	must(t, err)
	lock, err := h.waitServer(t.Context(), 20*time.Second)
	must(t, err)
	lock.Close()
}

// copyBinary puts this test binary where every account can run it.
func copyBinary(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	dir, err := os.MkdirTemp("/tmp", "ferry-cluster-binary-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "devcluster.test")
	// Another process writes it: a file that this one has open for writing at
	// the moment of a fork, of any test, could not be run ("text file busy").
	must(t, exec.Command("cp", self, path).Run())
	must(t, os.Chmod(path, 0o755))
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
