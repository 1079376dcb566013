// Command ferry is the app backend of PowerSync apps: it issues sync tokens
// and applies uploads to the app's Postgres.
//
// This package is the only one that wires the others together: one file per
// subcommand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"ferry/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends ferry at once.
	context.AfterFunc(ctx, stop)
	os.Exit(Run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// app is what a subcommand has to do with the world.
type app struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// command is one subcommand.
type command struct {
	name, summary string
	run           func(ctx context.Context, app *app, args []string) error
}

func commands() []command {
	return []command{
		{"serve", "serve the API, in front of the app's Postgres", runServe},
		{"dev", "serve the API with a private Postgres, for development", runDev},
		{"doctor", "say what is wrong with a deployment, and what to do", runDoctor},
		{"migrate", "create or change schema ferry: up, down, status", runMigrate},
		{"rejections", "list, show, replay, discard or prune what the database refused", runRejections},
		{"users", "add, list, disable, enable, passwd, sessions or revoke: who may use the app", runUsers},
		{"keygen", "make a key for sync tokens", runKeygen},
		{"keys", "change the keys of sync tokens: list, add, activate, retire, export", runKeys},
		{"token", "make a sync token for development, or inspect one", runToken},
		{"healthcheck", "ask a running ferry whether it is alive", runHealthcheck},
		{"version", "print the version", runVersion},
	}
}

// usageError is a mistake in the command line: its text is all that is said.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// The exit codes of ferry.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// Run runs ferry with the given arguments (without the program's name) and
// environment, and returns its exit code: 0, 1 for a failure, 2 for a mistake
// in the command line.
func Run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr}
	err := a.dispatch(ctx, args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = context.Cause(ctx) // names the signal
	}
	fmt.Fprintf(stderr, "ferry: %s\n", explain(err))
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	return exitError
}

// explain is what people read of an error.
func explain(err error) string {
	if wrong, ok := errors.AsType[*config.Error](err); ok {
		return "environment variables to set or change (ferry serve --help lists all):\n  " +
			strings.ReplaceAll(wrong.Error(), "\n", "\n  ")
	}
	return err.Error()
}

func (a *app) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		a.printHelp(a.stderr)
		return usageError{"say what to do"}
	}
	name, rest := args[0], args[1:]
	if isHelp(name) {
		if len(rest) == 0 {
			a.printHelp(a.stdout)
			return nil
		}
		name, rest = rest[0], append(rest[1:], "--help")
	}
	if name == "--version" || name == "-version" {
		name = "version"
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, a, rest)
		}
	}
	return usageError{fmt.Sprintf("there is no command %q; see: ferry --help", name)}
}

func isHelp(arg string) bool {
	return slices.Contains([]string{"help", "-h", "-help", "--help"}, arg)
}

func (a *app) printHelp(w io.Writer) {
	fmt.Fprint(w, "ferry is the app backend of PowerSync apps.\n\nUsage: ferry COMMAND [FLAGS]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\nEach command says more with --help.\n")
}

// flagSet is the flags of a subcommand and the help that lists them.
type flagSet struct {
	*flag.FlagSet
	help func()
}

// newFlags returns the flag set of a subcommand. more is printed below the
// flags.
func newFlags(a *app, name, summary string, more ...string) *flagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // parseFlags reports
	flags.Usage = func() {}
	return &flagSet{flags, func() {
		fmt.Fprintf(a.stdout, "ferry %s: %s\n\nUsage: ferry %[1]s [FLAGS]\n", name, summary)
		flags.VisitAll(func(f *flag.Flag) { printFlag(a.stdout, f) })
		for _, text := range more {
			fmt.Fprintf(a.stdout, "\n%s", text)
		}
	}}
}

// printFlag describes a flag. The word in `back quotes` in its text stands for
// its value.
func printFlag(w io.Writer, f *flag.Flag) {
	value, usage := flag.UnquoteUsage(f)
	if value != "" {
		value = " " + value
	}
	if f.DefValue != "" && f.DefValue != "false" {
		usage += " (default " + f.DefValue + ")"
	}
	fmt.Fprintf(w, "\n  --%s%s\n      %s\n", f.Name, value, usage)
}

// parseFlags parses args, of which none may be left over: help goes to stdout,
// mistakes are usageErrors.
func parseFlags(flags *flagSet, args []string) error {
	others, err := parseMixed(flags, args)
	if err == nil && len(others) > 0 {
		return usageError{fmt.Sprintf("%s: unexpected argument %q; see: ferry %s --help", flags.Name(), others[0], flags.Name())}
	}
	return err
}

// parseMixed parses flags and returns the other arguments, which may stand
// before, between and behind them.
func parseMixed(flags *flagSet, args []string) (others []string, err error) {
	for {
		err := flags.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			flags.help()
			return nil, err
		case err != nil:
			return nil, usageError{fmt.Sprintf("%s: %v; see: ferry %s --help", flags.Name(), err, flags.Name())}
		case flags.NArg() == 0:
			return others, nil
		}
		others, args = append(others, flags.Arg(0)), flags.Args()[1:]
	}
}
