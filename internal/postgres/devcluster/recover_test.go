package devcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAKilledServerIsRecovered(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	first := start(t, Options{Dir: dir})
	exe(t, first.URL("postgres", "", "postgres"), `CREATE TABLE kept AS SELECT 'here' AS word`)
	must(t, first.server.process.Kill())
	<-first.Ended()
	stop(t, first)

	second := start(t, Options{Dir: dir})
	if got := query(t, second.URL("postgres", "", "postgres"), `SELECT word FROM kept`); got != "here" {
		t.Errorf("row after recovery: %q, want %q", got, "here")
	}
}

func TestTheServerEndsWithItsKilledOwner(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	self, err := os.Executable()
	must(t, err)
	owner, _, url := startOwner(t, self, dir, nil)
	exe(t, url, `CREATE TABLE kept AS SELECT 'here' AS word`)
	must(t, owner.Process.Kill())
	waitServerGone(t, dir)
	if _, err := tryQuery(t.Context(), url, `SELECT 'in'`); err == nil {
		t.Error("the server still takes connections")
	}

	c := start(t, Options{Dir: dir})
	if got := query(t, c.URL("postgres", "", "postgres"), `SELECT word FROM kept`); got != "here" {
		t.Errorf("row after the owner's death: %q, want %q", got, "here")
	}
}

func TestAStartWaitsForAServerThatIsStillEnding(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	self, err := os.Executable()
	must(t, err)
	owner, _, url := startOwner(t, self, dir, nil)
	exe(t, url, `CREATE TABLE kept AS SELECT 'here' AS word`)
	must(t, owner.Process.Kill())
	_ = owner.Wait()

	c := start(t, Options{Dir: dir})
	if got := query(t, c.URL("postgres", "", "postgres"), `SELECT word FROM kept`); got != "here" {
		t.Errorf("row after the owner's death: %q, want %q", got, "here")
	}
}

func TestAClusterHasOneOwner(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	self, err := os.Executable()
	must(t, err)
	owner, _, url := startOwner(t, self, dir, nil)

	_, err = Start(t.Context(), Options{Dir: dir, Settings: fast})
	if want := fmt.Sprintf("by process %d", owner.Process.Pid); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), want) {
		t.Errorf("second start: %v, want one that says %q", err, want)
	}
	if err := Remove(t.Context(), dir); !errors.Is(err, ErrInUse) {
		t.Errorf("Remove of a cluster in use: %v", err)
	}
	if got := query(t, url, `SELECT 'unharmed'`); got != "unharmed" {
		t.Errorf("the first owner's server: %q", got)
	}
}

func TestAnOrphanIsEndedFirst(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	stop(t, start(t, Options{Dir: dir}))
	orphan := startOrphan(t, dir)

	c := start(t, Options{Dir: dir})
	must(t, orphan.Wait()) // a fast shutdown ends with status 0
	query(t, c.URL("postgres", "", "postgres"), `SELECT 'in'`)
}

// startOrphan starts the server of a cluster without an owner and a watchdog.
func startOrphan(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	h, err := openHome(dir)
	must(t, err)
	lock, err := h.takeOver(t.Context())
	must(t, err)
	b, err := h.binaries()
	must(t, err)
	must(t, h.makeFolder(h.sockets()))
	cmd := exec.Command(b.path("postgres"), arguments(h.data(), h.sockets(), Options{Settings: fast})...)
	cmd.Env = environment()
	cmd.ExtraFiles = []*os.File{lock}
	cmd.SysProcAttr = h.processAttributes()
	must(t, cmd.Start())
	lock.Close()
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
	must(t, (&server{process: cmd.Process}).waitReady(t.Context(), h.data()))
	return cmd
}

func TestTheMarkOfAKilledServerDoesNotStopTheNext(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	first := start(t, Options{Dir: dir})
	mark := filepath.Join(first.Data(), "postmaster.pid")
	text, err := os.ReadFile(mark)
	must(t, err)
	stop(t, first)

	// Its process id is now that of another process of the same account.
	other := exec.Command("cat")
	input, err := other.StdinPipe()
	must(t, err)
	other.Dir = "/"
	other.SysProcAttr = first.home.processAttributes()
	must(t, other.Start())
	defer func() {
		input.Close()
		must(t, other.Wait()) // it was not signalled
	}()
	_, rest, _ := strings.Cut(string(text), "\n")
	must(t, os.WriteFile(mark, fmt.Appendf(nil, "%d\n%s", other.Process.Pid, rest), 0o600))
	must(t, first.home.give(mark))

	second := start(t, Options{Dir: dir})
	query(t, second.URL("postgres", "", "postgres"), `SELECT 'in'`)
	stop(t, second)
}

func TestDataBelowAFolderThatPostgresCannotEnter(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root's Postgres runs as another account")
	}
	private := filepath.Join(folder(t), "private")
	must(t, os.Mkdir(private, 0o700))
	dir := filepath.Join(private, "cluster")
	first := start(t, Options{Dir: dir})
	t.Cleanup(func() { must(t, Remove(context.Background(), dir)) })
	if !strings.HasPrefix(first.Data(), sharedHomes+"/") {
		t.Errorf("data in %s, want below %s", first.Data(), sharedHomes)
	}
	exe(t, first.URL("postgres", "", "postgres"), `CREATE TABLE kept AS SELECT 'here' AS word`)
	stop(t, first)

	second := start(t, Options{Dir: dir})
	if got := query(t, second.URL("postgres", "", "postgres"), `SELECT word FROM kept`); got != "here" {
		t.Errorf("row after the second start: %q, want %q", got, "here")
	}
	stop(t, second)

	// Who removes the folder wants to begin afresh.
	must(t, os.RemoveAll(dir))
	third := start(t, Options{Dir: dir})
	if got := query(t, third.URL("postgres", "", "postgres"), `SELECT count(*)::text FROM pg_class WHERE relname = 'kept'`); got != "0" {
		t.Error("the data outlived its folder")
	}
	stop(t, third)
	must(t, Remove(t.Context(), dir))
	if _, err := os.Stat(filepath.Dir(third.Data())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data after Remove: %v, want none", err)
	}
}

func TestAnOrdinaryUserRunsACluster(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("all other tests of this package run as an ordinary user already")
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	dir := filepath.Join(folder(t), "cluster")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.Chown(dir, int(nobody.Uid), int(nobody.Gid)))
	binary := copyBinary(t)
	owner, input, url := startOwner(t, binary, dir, nobody)
	exe(t, url, `CREATE TABLE kept AS SELECT 'here' AS word`)
	input.Close()
	must(t, owner.Wait())

	// Root goes on with the same account, and so can the user after that.
	c := start(t, Options{Dir: dir})
	if got := query(t, c.URL("postgres", "", "postgres"), `SELECT word FROM kept`); got != "here" {
		t.Errorf("row that the ordinary user wrote: %q, want %q", got, "here")
	}
	stop(t, c)
	owner, input, _ = startOwner(t, binary, dir, nobody)
	input.Close()
	must(t, owner.Wait())
}

func TestAnotherUsersFolderIsRefused(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run a test as two accounts")
	}
	dir := folder(t)
	stop(t, start(t, Options{Dir: dir}))
	other := exec.Command(copyBinary(t))
	other.Env = append(os.Environ(), ownerVariable+"="+dir)
	other.Dir = "/"
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	output, err := other.Output()
	if err == nil || !strings.Contains(string(output), "belongs to another account") {
		t.Errorf("start in root's folder as nobody: %v\n%s", err, output)
	}
}
