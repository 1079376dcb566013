package main

import (
	"context"
	"fmt"
	"runtime"
)

// version is set when ferry is built: -ldflags "-X main.version=…".
var version = "development"

func runVersion(_ context.Context, a *app, args []string) error {
	if err := parseFlags(newFlags(a, "version", "print the version"), args); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "ferry %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
