// Package devcluster runs a private Postgres on this machine, for `ferry dev`
// and for tests. It finds or installs the server programs, makes the data
// folder once, and starts a server that ends with the process that owns it,
// even if that process is killed. It is not for production: nothing here backs
// up, upgrades or replicates.
//
// It may import nothing of ferry.
package devcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

const (
	loopback   = "127.0.0.1"
	socketPort = 5432 // only names the socket file of a server without TCP
)

// Options describe a cluster. Only Dir is needed.
type Options struct {
	// Dir is the folder of the cluster: its data, its log, and the locks that
	// give it one owner. It is made if missing. For root, where the account
	// that Postgres runs as cannot enter it, the cluster is in a folder below
	// /var/lib/ferry, to which a link in Dir leads; see [Cluster.Data].
	Dir string
	// Port is the TCP port on 127.0.0.1; 0 for the Unix socket alone.
	Port int
	// Settings are settings of postgresql.conf, for this start.
	Settings map[string]string
	// Superuser is the role that owns the cluster; postgres if empty. It is
	// made with the data: a later start must give the same.
	Superuser string
	// Password is the superuser's from this start on, and needed with Port:
	// TCP asks for it (SCRAM), the socket, which only the owner of the cluster
	// can reach, does not.
	Password string
}

// Cluster is a running private Postgres, owned by this process.
type Cluster struct {
	home      home
	port      int
	superuser string
	server    *server
	release   func() // gives up the ownership, once
}

// Start starts the Postgres of a folder, after making its data folder if this
// is the first start, and returns when it takes connections. ctx limits the
// start alone. A server that a killed owner left behind is ended first. The
// error is [ErrInUse] while another process owns the cluster, and
// [ErrNotInstalled] without server programs; if Postgres does not start, it
// holds the end of its log.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	if opts.Superuser == "" {
		opts.Superuser = "postgres"
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	home, err := openHome(opts.Dir)
	if err != nil {
		return nil, err
	}
	owner, err := home.own()
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		home: home, port: opts.Port, superuser: opts.Superuser,
		release: sync.OnceFunc(func() {
			_ = os.RemoveAll(home.sockets()) // or else by the next start
			release(owner)
		}),
	}
	if err := c.start(ctx, opts); err != nil {
		c.release()
		return nil, err
	}
	return c, nil
}

func (o Options) check() error {
	if o.Port < 0 || o.Port > 65535 {
		return fmt.Errorf("port %d for Postgres: want 1 to 65535, or 0 for no TCP", o.Port)
	}
	if o.Port != 0 && o.Password == "" {
		return errors.New("a Postgres with a TCP port needs a password for its superuser")
	}
	if strings.ContainsRune(o.Password, 0) {
		return errors.New("the password for Postgres holds a zero byte, which Postgres cannot take")
	}
	return nil
}

// start runs under the ownership of the cluster.
func (c *Cluster) start(ctx context.Context, opts Options) error {
	lock, err := c.home.takeOver(ctx)
	if err != nil {
		return err
	}
	defer lock.Close() // the server has its own copy by then
	if err := c.home.adopt(); err != nil {
		return err
	}
	binaries, err := c.home.binaries()
	if err != nil {
		return err
	}
	if err := c.home.initdb(ctx, binaries, opts, lock); err != nil {
		return err
	}
	if err := c.home.makeFolder(c.home.sockets()); err != nil {
		return fmt.Errorf("make the folder for the socket of Postgres: %w", err)
	}
	if err := checkPort(opts.Port); err != nil {
		return err
	}
	return c.run(ctx, binaries, opts, lock)
}

// checkPort finds a port in use before Postgres does, to say it in plain words.
func checkPort(port int) error {
	if port == 0 {
		return nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("port %d for Postgres cannot be used, probably because another program listens on it: "+
			"stop that program or choose another port: %w", port, err)
	}
	return l.Close()
}

func (c *Cluster) run(ctx context.Context, binaries Binaries, opts Options, lock *os.File) error {
	logStart := fileSize(c.home.log())
	s, err := c.home.launchServer(binaries, arguments(c.home.data(), c.home.sockets(), opts), lock)
	if err != nil {
		return err
	}
	c.server = s
	err = s.waitReady(ctx, c.home.data())
	if err == nil {
		err = c.setPassword(ctx, opts.Password)
	}
	if err == nil {
		return nil
	}
	if stopErr := s.stop(context.WithoutCancel(ctx)); stopErr != nil {
		err = errors.Join(err, stopErr)
	}
	return fmt.Errorf("start Postgres: %w; the end of its log %s:\n%s", err, c.home.log(), logTail(c.home.log(), logStart))
}

// setPassword gives the superuser its password over the socket: it never is
// on a command line, in the server's log or in an error.
func (c *Cluster) setPassword(ctx context.Context, password string) error {
	if password == "" {
		return nil
	}
	conn, err := pgx.Connect(ctx, c.socketURL(c.superuser, "", "postgres"))
	if err != nil {
		return fmt.Errorf("connect as %s: %w", c.superuser, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const quiet = `
		SELECT set_config('log_statement', 'none', false),
		       set_config('log_min_error_statement', 'panic', false),
		       set_config('log_min_duration_statement', '-1', false),
		       set_config('log_min_duration_sample', '-1', false),
		       set_config('log_transaction_sample_rate', '0', false),
		       set_config('standard_conforming_strings', 'on', false)`
	if _, err := conn.Exec(ctx, quiet); err != nil {
		return fmt.Errorf("keep the password out of the log: %w", err)
	}
	// ALTER ROLE takes no parameters.
	alter := "ALTER ROLE " + pgx.Identifier{c.superuser}.Sanitize() +
		" PASSWORD '" + strings.ReplaceAll(password, "'", "''") + "'"
	if _, err := conn.Exec(ctx, alter); err != nil {
		return errors.New("the superuser's password was refused") // its message could quote it
	}
	return nil
}

// Stop ends the server with a fast shutdown, which rolls open transactions
// back, and gives up the ownership. When ctx ends, or after 20 s, the server
// is ended at once: the next start then recovers. Stopping again does nothing.
func (c *Cluster) Stop(ctx context.Context) error {
	defer c.release()
	return c.server.stop(ctx)
}

// Ended is closed when the server has ended, by Stop or by itself; its log
// then says why, and Stop still has to be called.
func (c *Cluster) Ended() <-chan struct{} { return c.server.ended }

// Data is the data folder of Postgres.
func (c *Cluster) Data() string { return c.home.data() }

// Log is the file with the server's log.
func (c *Cluster) Log() string { return c.home.log() }

// URL returns the address of a database for a role: over TCP if the cluster
// has a port, else over its socket. It holds the password.
func (c *Cluster) URL(role, password, database string) string {
	if c.port == 0 {
		return c.socketURL(role, password, database)
	}
	u := url.URL{
		Scheme: "postgres", User: userinfo(role, password),
		Host: net.JoinHostPort(loopback, strconv.Itoa(c.port)), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (c *Cluster) socketURL(role, password, database string) string {
	port := c.port
	if port == 0 {
		port = socketPort
	}
	query := url.Values{"host": {c.home.sockets()}, "port": {strconv.Itoa(port)}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: userinfo(role, password), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

func userinfo(role, password string) *url.Userinfo {
	if password == "" {
		return url.User(role)
	}
	return url.UserPassword(role, password)
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// logTail returns the last lines of a log that come after an offset.
func logTail(path string, offset int64) string {
	const lines = 20
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if int64(len(text)) >= offset {
		text = text[offset:]
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Remove deletes the cluster of a folder, its data with it, and the folder if
// it holds nothing else. The error is [ErrInUse] while a process owns it.
func Remove(ctx context.Context, dir string) error {
	home, err := openHome(dir)
	if err != nil {
		return err
	}
	owner, err := home.own()
	if err != nil {
		return err
	}
	defer release(owner)
	lock, err := home.takeOver(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	return home.remove()
}
