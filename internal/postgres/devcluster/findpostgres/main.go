// Command findpostgres prints the folder of the newest Postgres on this
// machine, which it installs first where that is missing and can be done.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"ferry/internal/postgres/devcluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := find(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "findpostgres:", err)
		os.Exit(1)
	}
	fmt.Println(dir)
}

func find(ctx context.Context) (string, error) {
	found, err := devcluster.Find()
	if errors.Is(err, devcluster.ErrNotInstalled) {
		if err = devcluster.Install(ctx, os.Stderr); err == nil {
			found, err = devcluster.Find()
		}
	}
	return found.Dir, err
}
