package devcluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// ErrInUse says that a running process owns the cluster.
var ErrInUse = errors.New("in use")

// errLocked says that another open file holds the lock.
var errLocked = errors.New("locked")

// tryLock takes the exclusive lock on the file at path, which it makes if it
// is missing, or returns errLocked at once. The lock belongs to the open file:
// a child process that inherits the file holds it too, and the system lets go
// of it when the last of them is gone, however they ended.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errLocked
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// own makes this process the owner of the cluster until the file is released.
func (h home) own() (*os.File, error) {
	path := h.path("owner.lock")
	f, err := tryLock(path)
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("the Postgres of %s is %w by process %s: stop that one first, or choose another folder",
			h.asked, ErrInUse, firstLine(path))
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("the folder %s belongs to another account: run as that one, or choose another folder: %w", h.asked, err)
	}
	if err != nil {
		return nil, err
	}
	// For the message above alone; of a fixed width, to cover an earlier one.
	if _, err := f.WriteAt(fmt.Appendf(nil, "%-20d\n", os.Getpid()), 0); err != nil {
		release(f)
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return f, nil
}

// release unlocks before it closes: a process that was forked a moment ago and
// has not reached its exec yet still holds a copy of the file.
func release(f *os.File) {
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	f.Close()
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "?"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}
