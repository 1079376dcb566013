package postgrestest

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PgBouncer is an installed PgBouncer.
type PgBouncer struct {
	path         string
	major, minor int
}

// FindPgBouncer returns the installed PgBouncer, and skips the test where there
// is none.
func FindPgBouncer(t testing.TB) *PgBouncer {
	t.Helper()
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} { // Debian's folder is on root's PATH only
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.Command(path, "--version").Output()
		p := &PgBouncer{path: path}
		if _, scanErr := fmt.Sscanf(string(out), "PgBouncer %d.%d", &p.major, &p.minor); err != nil || scanErr != nil {
			t.Fatalf("%s --version: %q, %v, %v", path, out, err, scanErr)
		}
		return p
	}
	t.Skip("no PgBouncer here; install it with `apt-get install pgbouncer`")
	return nil
}

// KeepsStatements is whether this version knows max_prepared_statements.
//
// Source: PgBouncer's changelog, 1.21.
func (p *PgBouncer) KeepsStatements() bool { return p.major > 1 || p.minor >= 21 }

// bouncerPassword is what PgBouncer asks of clients; Postgres itself trusts all.
const bouncerPassword = "let me through"

// poolSize is how many connections to Postgres it shares out.
const poolSize = 3

// leashed runs a program that ends when its owner's end of the pipe is closed,
// however the owner ends. Nothing but the program holds on to its log.
const leashed = `"$@" & exec 2>/dev/null; read -r end; kill "$!"; wait "$!"`

// InFrontOf starts PgBouncer in transaction mode before d, until the end of the
// test, and returns the address that leads role through it. It has a few
// connections to Postgres and takes them in turn, so that what one transaction
// leaves behind meets a stranger. settings are those of its section [pgbouncer].
func (p *PgBouncer) InFrontOf(t testing.TB, d *Database, role string, settings map[string]string) string {
	t.Helper()
	server, err := url.Parse(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(parentFolder(), "ferry-pgbouncer-") // t.TempDir's name may be too long for a socket's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cmd := exec.Command("/bin/sh", "-c", leashed, "ferry-pgbouncer", p.path, filepath.Join(dir, "pgbouncer.ini"))
	if os.Geteuid() == 0 { // which PgBouncer refuses to run as
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: runsAs(t, dir, server.Query().Get("host"))}
	}

	const port = "6432" // names the socket: nothing listens on TCP
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { //nolint:gosec // another account reads it
			t.Fatal(err)
		}
	}
	write("users.txt", fmt.Sprintf("%q %q\n", role, bouncerPassword))
	config := fmt.Sprintf("[databases]\n%s = host=%s port=%s\n", d.Name, server.Query().Get("host"), server.Query().Get("port"))
	config += "[pgbouncer]\npool_mode = transaction\nserver_round_robin = 1\n" +
		"default_pool_size = " + strconv.Itoa(poolSize) + "\n" +
		"listen_port = " + port + "\nunix_socket_dir = " + dir + "\n" +
		"auth_type = scram-sha-256\nauth_file = " + filepath.Join(dir, "users.txt") + "\n"
	for name, value := range settings {
		config += name + " = " + value + "\n"
	}
	write("pgbouncer.ini", config)

	startLeashed(t, cmd)
	address := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, bouncerPassword), Path: "/" + d.Name,
		RawQuery: url.Values{"host": {dir}, "port": {port}, "sslmode": {"disable"}}.Encode(),
	}
	connectAll(t, address.String())
	return address.String()
}

// connectAll makes PgBouncer open all its connections to Postgres: it has as many
// as there were transactions at the same time.
func connectAll(t testing.TB, address string) {
	t.Helper()
	ctx := t.Context()
	var open []*pgx.Conn
	for range poolSize {
		conn, err := pgx.Connect(ctx, address)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
		if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
			t.Fatal(err)
		}
	}
	for _, conn := range open {
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// runsAs returns the account of Postgres, which may enter the folder of its
// sockets, and gives dir to it.
func runsAs(t testing.TB, dir, sockets string) *syscall.Credential {
	t.Helper()
	info, err := os.Stat(sockets)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // on every system that has accounts
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
}

// startLeashed returns once PgBouncer says that it is up.
func startLeashed(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	leash, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	up, ended := make(chan bool, 1), make(chan struct{})
	var said strings.Builder
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			fmt.Fprintln(&said, lines.Text())
			if strings.Contains(lines.Text(), "process up") {
				up <- true
			}
		}
		close(up)
	}()
	t.Cleanup(func() {
		leash.Close()
		<-ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("PgBouncer's log:\n%s", said.String())
		}
	})
	if !<-up {
		t.Error("PgBouncer did not start")
		t.FailNow()
	}
}
