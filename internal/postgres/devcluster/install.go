package devcluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Install installs the server programs of Postgres with apt, as root on Debian
// or Ubuntu, and writes what apt says to log. Elsewhere it changes nothing:
// the error is [ErrNotInstalled] and says what to install.
func Install(ctx context.Context, log io.Writer) error {
	if _, err := os.Stat("/etc/debian_version"); err != nil || os.Geteuid() != 0 {
		return notInstalled("Postgres %d or newer", oldestVersion)
	}
	undo, err := preventSystemCluster()
	if err != nil {
		return err
	}
	defer undo()
	install := []string{"install", "--yes", "--no-install-recommends", "postgresql"}
	if apt(ctx, log, install...) == nil {
		return nil
	}
	// The usual cause is package lists that are old or, in a container, missing.
	if err := apt(ctx, log, "update"); err != nil {
		return err
	}
	return apt(ctx, log, install...)
}

func apt(ctx context.Context, log io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w; %s", args[0], err, advice("linux", "apt-get"))
	}
	return nil
}

// preventSystemCluster keeps Debian's package from making and starting a
// server of its own, on port 5432, while ferry installs it. The file is read
// by createcluster.conf of postgresql-common.
func preventSystemCluster() (undo func(), err error) {
	const folder = "/etc/postgresql-common/createcluster.d"
	const file = folder + "/ferry.conf"
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("prepare the installation of Postgres: %w", err)
	}
	if err := os.WriteFile(file, []byte("create_main_cluster = false\n"), 0o644); err != nil {
		return nil, fmt.Errorf("prepare the installation of Postgres: %w", err)
	}
	return func() { _ = os.Remove(file) }, nil
}
