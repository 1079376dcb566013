package devcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The server must not outlive its owner, so it starts on a leash: a watchdog
// that reads from the owner. When the owner dies, however it dies, the system
// closes the owner's end; read then fails, and the watchdog asks the server for
// a fast shutdown. It asks twice, because a server that is only just starting
// may not listen yet. An owner that has seen the server end writes a line, so
// that no signal goes to a process id that may be another's by now.
//
// The server itself waits at a gate until its watchdog is there. If the owner
// dies before it opens the gate, read fails and nothing starts.
const (
	gated    = `read -r go && exec "$@" </dev/null`
	watchdog = `read -r ended || { kill -INT "$1" && sleep 1 && kill -INT "$1"; } 2>/dev/null`
)

// server is a running Postgres.
type server struct {
	process *os.Process
	ended   chan struct{} // closed when the server has ended
}

// launchServer starts Postgres and returns without waiting for it to be ready.
// The server keeps the lock for as long as one of its processes lives.
func (h home) launchServer(b Binaries, args []string, lock *os.File) (*server, error) {
	log, err := h.openLog()
	if err != nil {
		return nil, err
	}
	defer log.Close()

	postgres, gate, err := h.shell(gated, append([]string{b.path("postgres")}, args...)...)
	if err != nil {
		return nil, err
	}
	postgres.Stdout, postgres.Stderr = log, log
	postgres.ExtraFiles = []*os.File{lock}
	if err := postgres.Start(); err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	abandon := func() { gate.Close(); _ = postgres.Wait() }
	dog, leash, err := h.shell(watchdog, strconv.Itoa(postgres.Process.Pid))
	if err != nil {
		abandon()
		return nil, err
	}
	if err := dog.Start(); err != nil {
		abandon()
		return nil, fmt.Errorf("start the watchdog of postgres: %w", err)
	}
	_, _ = io.WriteString(gate, "go\n") // if it has ended already, that shows below
	gate.Close()

	s := &server{process: postgres.Process, ended: make(chan struct{})}
	go func() {
		_ = postgres.Wait() // how it ended is in its log
		_, _ = io.WriteString(leash, "ended\n")
		_ = dog.Wait()
		close(s.ended)
	}()
	return s, nil
}

// shell returns a script to run with the server's rights, and its input.
func (h home) shell(script string, args ...string) (*exec.Cmd, io.WriteCloser, error) {
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "ferry-postgres"}, args...)...)
	cmd.Env = environment()
	cmd.Dir = h.data()
	cmd.SysProcAttr = h.processAttributes()
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make a pipe for postgres: %w", err)
	}
	return cmd, input, nil
}

// maxLog is the size in bytes beyond which a log is set aside at a start.
const maxLog = 16 << 20

func (h home) openLog() (*os.File, error) {
	if info, err := os.Stat(h.log()); err == nil && info.Size() > maxLog {
		if err := os.Rename(h.log(), h.log()+".old"); err != nil {
			return nil, fmt.Errorf("set the old log aside: %w", err)
		}
	}
	log, err := os.OpenFile(h.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of Postgres: %w", err)
	}
	if err := h.give(h.log()); err != nil {
		log.Close()
		return nil, fmt.Errorf("give the log to the account of Postgres: %w", err)
	}
	return log, nil
}

// arguments are the server's. A later one wins, so what keeps the server
// private cannot be undone by a setting.
func arguments(data, sockets string, opts Options) []string {
	args := []string{"-D", data}
	set := func(name, value string) { args = append(args, "-c", name+"="+value) }
	for _, name := range slices.Sorted(maps.Keys(opts.Settings)) {
		set(name, opts.Settings[name])
	}
	set("logging_collector", "off")
	set("log_destination", "stderr")
	set("unix_socket_directories", sockets)
	set("unix_socket_permissions", "0700")
	set("listen_addresses", "")
	set("port", strconv.Itoa(socketPort))
	if opts.Port != 0 {
		set("listen_addresses", loopback)
		set("port", strconv.Itoa(opts.Port))
	}
	return args
}

// waitReady waits until the server takes connections. Recovery after a crash
// may take long; only ctx limits it.
func (s *server) waitReady(ctx context.Context, data string) error {
	return poll(ctx, func() (bool, error) {
		select {
		case <-s.ended:
			return false, errors.New("postgres ended while it was starting")
		default:
		}
		state, err := readState(data)
		taking := state.status == "ready" || state.status == "standby" // the latter where somebody made it one
		return err == nil && state.pid == s.process.Pid && taking, nil
	})
}

// stop shuts the server down: in a fast way, which rolls open transactions
// back, until ctx ends or patience is at its end; then at once, after which
// the next start recovers.
func (s *server) stop(ctx context.Context) error {
	const patience = 20 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if s.signalled(ctx, syscall.SIGINT) {
		return nil
	}
	// Postgres itself kills a process that has not ended after 5 s of this.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if s.signalled(last, syscall.SIGQUIT) {
		return nil
	}
	return fmt.Errorf("postgres (process %d) does not stop", s.process.Pid)
}

// signalled sends a signal and reports whether the server ended before ctx.
func (s *server) signalled(ctx context.Context, sig os.Signal) bool {
	_ = s.process.Signal(sig) // it fails only where the process has ended
	select {
	case <-s.ended:
		return true
	case <-ctx.Done():
		return false
	}
}

// state is what a server writes into postmaster.pid about itself.
// Source: src/include/utils/pidfile.h of Postgres.
type state struct {
	pid     int
	sockets string // the folder of its Unix socket
	status  string // starting, stopping, ready or standby
}

func readState(data string) (state, error) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return state{}, err
	}
	lines := append(strings.Split(string(text), "\n"), make([]string, 8)...)
	pid, err := strconv.Atoi(lines[0])
	if err != nil {
		return state{}, fmt.Errorf("read postmaster.pid: %w", err)
	}
	return state{pid: pid, sockets: lines[4], status: strings.TrimSpace(lines[7])}, nil
}

// pollInterval is short beside the tens of milliseconds that a start takes.
const pollInterval = 3 * time.Millisecond

// poll asks done again and again until it says yes, fails, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
