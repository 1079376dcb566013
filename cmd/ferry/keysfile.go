package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"ferry/internal/tokens"
)

// keysFile is the file of token keys, as it was read.
type keysFile struct {
	path string
	text []byte // nil where there is no file yet
	keys *tokens.KeyFile
}

func openKeysFile(path string) (*keysFile, error) {
	text, err := readKeysFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := tokens.ParseKeyFile(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &keysFile{path: path, text: text, keys: keys}, nil
}

func readKeysFile(path string) ([]byte, error) {
	// Opening a pipe would wait for someone to write to it.
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the keys: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read the keys: %s is not a regular file", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	return text, nil
}

// set is the set that a server reads in the file.
func (f *keysFile) set(active string) (tokens.KeySet, error) {
	keys, err := f.keys.Set(active)
	if err != nil {
		return tokens.KeySet{}, fmt.Errorf("%s: %w", f.path, err)
	}
	return keys, nil
}

// save writes the file whole or not at all, with the rights and the owner that
// it has: root may change the keys of a server that is not root. It fails if
// somebody else has changed the file meanwhile.
func (f *keysFile) save() error {
	path := f.path
	if resolved, err := filepath.EvalSymlinks(path); err == nil { // the link stays
		path = resolved
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write the keys: %w", err)
	}
	defer dir.Close()
	// Two at a time would each write what the other has not.
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("write the keys: lock %s: %w", dir.Name(), err)
	}
	now, err := readKeysFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, f.text) {
		return fmt.Errorf("%s was changed meanwhile: nothing was done, so look again", f.path)
	}
	if err := writeWhole(path, f.keys.Text()); err != nil {
		return fmt.Errorf("write the keys: %w", err)
	}
	return dir.Sync()
}

func writeWhole(path string, text []byte) error {
	draft, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name()) // does nothing once it is renamed
	_, err = draft.Write(text)
	if info, statErr := os.Stat(path); statErr == nil && err == nil {
		err = keepRights(draft, info)
	}
	if err == nil {
		err = draft.Sync()
	}
	if closeErr := draft.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(draft.Name(), path)
	}
	return err
}

// keepRights gives a file the mode and the owner of another.
func keepRights(f *os.File, info os.FileInfo) error {
	if err := f.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Getuid() && int(owner.Gid) == os.Getgid() {
		return nil
	}
	if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("its owner is another account: run as that one: %w", err)
	}
	return nil
}
