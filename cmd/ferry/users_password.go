package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"ferry/internal/fault"
	"ferry/internal/identity"
	"ferry/internal/postgres"
)

const passwordMore = "The password is asked for, or read from a line of standard input: in an argument, other users of\nthe machine could see it.\n"

func runUsersAdd(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "users add", "make an account of ferry's own; give its e-mail address", passwordMore, usersMore)
	generate := flags.Bool("generate", false, "make a password and print it")
	email, err := oneUser(flags, args)
	if err != nil {
		return err
	}
	// Before anybody types a password for nothing.
	if _, err := identity.ParseEmail(email); err != nil {
		return fmt.Errorf("users add: the e-mail address %w", err)
	}
	password, err := newPassword(ctx, a, *generate)
	if err != nil {
		return err
	}
	return withStore(ctx, a, func(store *postgres.Store) error {
		userID, err := accountsOf(store).Add(ctx, email, password)
		if err != nil {
			return passwordError(flags, err)
		}
		auditUser(a, "user_add", userID)
		fmt.Fprintf(a.stdout, "user id %s\n", userID)
		return printPassword(a, password, *generate)
	})
}

func runUsersPasswd(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "users passwd", "set the password of an account; its sessions end; give the USER", passwordMore, usersMore)
	generate := flags.Bool("generate", false, "make a password and print it")
	given, err := oneUser(flags, args)
	if err != nil {
		return err
	}
	return withStore(ctx, a, func(store *postgres.Store) error {
		user, err := accountGiven(ctx, &postgres.Users{Store: store}, given)
		if err != nil {
			return err
		}
		if user.Kind == postgres.KindGuest {
			return fmt.Errorf("users passwd: %s has no e-mail address to sign in with", named(user))
		}
		password, err := newPassword(ctx, a, *generate)
		if err != nil {
			return err
		}
		if err := accountsOf(store).SetPassword(ctx, user.Email, password); err != nil {
			return passwordError(flags, err)
		}
		auditUser(a, "user_passwd", user.ID)
		fmt.Fprintf(a.stdout, "set the password of %s, and ended %s\n", named(user), count(user.Sessions, "session"))
		return printPassword(a, password, *generate)
	})
}

// accountsOf are accounts without limits: the operator has none.
func accountsOf(store *postgres.Store) *identity.Accounts {
	return identity.NewAccounts(identity.AccountOptions{Store: &postgres.Accounts{Store: store}, Now: time.Now})
}

// passwordError says to people, not to clients, what is wrong.
func passwordError(flags *flagSet, err error) error {
	f, ok := errors.AsType[*fault.Error](err)
	switch {
	case ok && f.Code == fault.EmailTaken:
		return fmt.Errorf("%s: there is an account with this e-mail address already", flags.Name())
	case ok && f.Cause == nil:
		return fmt.Errorf("%s: %s", flags.Name(), f.Detail)
	case ok:
		return fmt.Errorf("%s: %w", flags.Name(), postgres.OperatorError("change accounts", f.Cause))
	}
	return fmt.Errorf("%s: %w", flags.Name(), err)
}

// newPassword makes a password, asks for it where somebody looks on, or reads
// it from the input.
func newPassword(ctx context.Context, a *app, generate bool) (string, error) {
	if generate {
		return rand.Text(), nil // 130 random bits
	}
	if file, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return askPassword(ctx, a, int(file.Fd()))
	}
	line, err := bufio.NewReader(io.LimitReader(a.stdin, 4*identity.MaxPasswordBytes)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.New("give the password in a line of standard input, or add --generate")
	}
	return line, nil
}

func askPassword(ctx context.Context, a *app, terminal int) (string, error) {
	var typed [2]string
	for i, prompt := range []string{"Password: ", "Once more: "} {
		fmt.Fprint(a.stderr, prompt)
		text, err := readHidden(ctx, terminal)
		fmt.Fprintln(a.stderr)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		typed[i] = text
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords are not the same; nothing was done")
	}
	return typed[0], nil
}

// readHidden reads a line that is not shown. Whoever gives up gets the terminal
// back as it was.
func readHidden(ctx context.Context, terminal int) (string, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return "", err
	}
	type line struct {
		text []byte
		err  error
	}
	typed := make(chan line, 1)
	go func() { // reading cannot be ended, but ferry is about to be
		text, err := term.ReadPassword(terminal)
		typed <- line{text, err}
	}()
	select {
	case l := <-typed:
		return string(l.text), l.err
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(terminal, before))
	}
}

func printPassword(a *app, password string, generated bool) error {
	if !generated {
		return nil
	}
	_, err := fmt.Fprintf(a.stdout, "password %s\n", password)
	return err
}
