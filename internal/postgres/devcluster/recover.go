package devcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// How long a previous server gets: to end because its owner is gone, then
// after being asked to, then after being told to.
const (
	graceAlone  = time.Second
	graceAsked  = 15 * time.Second
	graceForced = 10 * time.Second
)

// takeOver returns the server's lock after the last process of a previous
// server has ended, and cleans up after a server that could not do so itself.
// The caller owns the cluster, so a server that still runs has no owner.
func (h home) takeOver(ctx context.Context) (*os.File, error) {
	lock, err := h.waitServer(ctx, graceAlone)
	for _, step := range []struct {
		signal syscall.Signal
		grace  time.Duration
	}{{syscall.SIGINT, graceAsked}, {syscall.SIGQUIT, graceForced}} {
		if !errors.Is(err, errLocked) {
			break
		}
		h.signalPrevious(step.signal)
		lock, err = h.waitServer(ctx, step.grace)
	}
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("a process of the previous Postgres in %s does not end; end the processes that `fuser %s` lists",
			h.dir, h.path("server.lock"))
	}
	if err != nil {
		return nil, fmt.Errorf("wait for the previous Postgres in %s to end: %w", h.dir, err)
	}
	if err := h.removeRemains(); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// waitServer waits for the server's lock; errLocked when it is still held
// after the grace.
func (h home) waitServer(ctx context.Context, grace time.Duration) (*os.File, error) {
	limited, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	var lock *os.File
	err := poll(limited, func() (bool, error) {
		var err error
		lock, err = tryLock(h.path("server.lock"))
		if errors.Is(err, errLocked) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		return nil, errLocked
	}
	return lock, err
}

// signalPrevious signals the server that holds the lock. That the lock is held
// proves that the process id in postmaster.pid is still that server's.
func (h home) signalPrevious(sig syscall.Signal) {
	if previous, err := readState(h.data()); err == nil && previous.pid > 1 {
		_ = syscall.Kill(previous.pid, sig)
	}
}

// removeRemains removes what a killed server left: its sockets, and its
// postmaster.pid, which would keep the next server from starting wherever
// another process has got its process id since. The free lock proves that the
// server has ended, if it was started here. One that was started by hand has
// its socket elsewhere, and Postgres then judges by itself.
func (h home) removeRemains() error {
	if err := os.RemoveAll(h.sockets()); err != nil {
		return fmt.Errorf("remove the sockets of the previous Postgres: %w", err)
	}
	previous, err := readState(h.data())
	if err != nil || previous.sockets != h.sockets() {
		return nil
	}
	if err := os.Remove(filepath.Join(h.data(), "postmaster.pid")); err != nil {
		return fmt.Errorf("remove the mark of a killed Postgres: %w", err)
	}
	return nil
}
