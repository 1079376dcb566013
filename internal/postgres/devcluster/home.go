package devcluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// sharedHomes holds the clusters of folders that root may enter and the
// account of the server may not.
const sharedHomes = "/var/lib/ferry"

// home is where one cluster lives: the folders data and log and its two locks.
//
//	owner.lock   held by the process that called Start
//	server.lock  held by the server itself and every process it forked
type home struct {
	asked   string              // Options.Dir, made absolute
	dir     string              // asked, or a folder in sharedHomes
	account *syscall.Credential // whom the server runs as; nil: as this process
	foreign bool                // asked does not know the data that dir holds
}

func (h home) path(name string) string { return filepath.Join(h.dir, name) }
func (h home) data() string            { return h.path("data") }
func (h home) log() string             { return h.path("log") }

// sockets is the folder of the server's Unix socket. The path of a socket is
// limited to 103 bytes on macOS and 107 on Linux, which one below the user's
// folder may well pass.
func (h home) sockets() string { return "/tmp/ferry-postgres-" + shortHash(h.dir) }

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// openHome finds or makes the home of the cluster of a folder. Postgres
// refuses to run as root: for root the server runs as the account that owns
// the data, which at first is postgres, or nobody where that is missing.
func openHome(dir string) (home, error) {
	if dir == "" {
		return home{}, errors.New("the folder for Postgres is not given")
	}
	asked, err := filepath.Abs(dir)
	if err != nil {
		return home{}, fmt.Errorf("folder for Postgres: %w", err)
	}
	if err := os.MkdirAll(asked, 0o755); err != nil {
		return home{}, fmt.Errorf("make the folder for Postgres: %w", err)
	}
	if asked, err = filepath.EvalSymlinks(asked); err != nil {
		return home{}, fmt.Errorf("folder for Postgres: %w", err)
	}
	h := home{asked: asked, dir: asked}
	if os.Geteuid() != 0 {
		return h, nil
	}
	if h.account, err = serverAccount(h.data()); err != nil {
		return home{}, err
	}
	if err := h.reach(); err != nil {
		return h.move(err)
	}
	return h, nil
}

// reach reports whether the server's account may enter the folder, by going
// there: only the system knows all the rules.
func (h home) reach() error {
	cmd := exec.Command("/bin/sh", "-c", ":")
	cmd.Dir = h.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.account}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("enter %s as user id %d: %w", h.dir, h.account.Uid, err)
	}
	return nil
}

// move puts the cluster of a folder that the server cannot reach into
// sharedHomes. The link data in the folder shows the way, and while it is
// missing the folder knows of no data: it was removed, to begin afresh.
func (h home) move(because error) (home, error) {
	link := h.data()
	if info, err := os.Lstat(link); err == nil && info.IsDir() {
		return home{}, fmt.Errorf("the data of Postgres is in a folder that its server cannot reach; "+
			"open the folders above it to all (chmod a+x): %w", because)
	}
	h.dir = filepath.Join(sharedHomes, shortHash(h.asked))
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return home{}, fmt.Errorf("make the folder for Postgres: %w", err)
	}
	_, err := os.Readlink(link)
	h.foreign = err != nil
	return h, h.reach()
}

// adopt makes the folder know its data, which a foreign home sets aside.
func (h home) adopt() error {
	if !h.foreign {
		return nil
	}
	old := h.path("data.removed")
	if err := os.RemoveAll(old); err != nil {
		return fmt.Errorf("set old data aside: %w", err)
	}
	if err := os.Rename(h.data(), old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set old data aside: %w", err)
	}
	if err := os.Symlink(h.data(), filepath.Join(h.asked, "data")); err != nil {
		return fmt.Errorf("link to the data of Postgres: %w", err)
	}
	return nil
}

// remove deletes what a cluster consists of, and its folders unless they hold
// something else. The locks go last: until then nobody can use what is left.
func (h home) remove() error {
	for _, path := range []string{
		h.sockets(), h.data(), h.path("data.new"), h.path("data.removed"), h.log(), h.log() + ".old",
		filepath.Join(h.asked, "data"), h.path("server.lock"), h.path("owner.lock"),
	} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove a cluster: %w", err)
		}
	}
	for _, dir := range []string{h.dir, h.asked} {
		_ = os.Remove(dir) // fails while it holds something else, or is gone
	}
	return nil
}

// serverAccount returns whom root runs the server of a data folder as.
func serverAccount(data string) (*syscall.Credential, error) {
	if owner, err := ownerOf(data); err == nil && owner.Uid != 0 {
		return owner, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user id of %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("group id of %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("root cannot run Postgres itself, and this machine has neither an account postgres nor nobody: " +
		"add one, or run ferry as an ordinary user")
}

func ownerOf(path string) (*syscall.Credential, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("%s: its owner is unknown", path)
	}
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}, nil
}

// makeFolder makes a folder that only the server's account may enter.
func (h home) makeFolder(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return h.give(path)
}

func (h home) give(path string) error {
	if h.account == nil {
		return nil
	}
	return os.Chown(path, int(h.account.Uid), int(h.account.Gid))
}
