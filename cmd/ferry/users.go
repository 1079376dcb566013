package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"ferry/internal/identity"
	"ferry/internal/postgres"
)

const usersMore = "It connects with DATABASE_URL, as ferry serve does.\n"

const usersHelp = `ferry users: who may use the app

Usage: ferry users add|list|disable|enable|passwd|sessions|revoke|delete [USER…] [FLAGS]

  add       make an account of ferry's own
  list      list accounts, the newest first, and others who are on the denylist
  disable   keep users out, whatever signs them in
  enable    let users in again
  passwd    set the password of an account; its sessions end
  sessions  list the sessions of an account
  revoke    end all sessions of users, whatever signs them in; or one, by its id
  delete    delete accounts of ferry's own, with their sessions

A USER is the e-mail address of an account, or any user id.

` + usersMore

func runUsers(ctx context.Context, a *app, args []string) error {
	const say = "users: say add, list, disable, enable, passwd, sessions, revoke or delete; see: ferry users --help"
	if len(args) == 0 {
		return usageError{say}
	}
	name, rest := args[0], args[1:]
	if isHelp(name) {
		fmt.Fprint(a.stdout, usersHelp)
		return nil
	}
	run, found := map[string]func(context.Context, *app, []string) error{
		"add": runUsersAdd, "list": runUsersList, "disable": runUsersDisable, "enable": runUsersEnable,
		"passwd": runUsersPasswd, "sessions": runUsersSessions, "revoke": runUsersRevoke, "delete": runUsersDelete,
	}[name]
	if !found {
		return usageError{say}
	}
	return run(ctx, a, rest)
}

func withUsers(ctx context.Context, a *app, do func(*postgres.Users) error) error {
	return withStore(ctx, a, func(store *postgres.Store) error { return do(&postgres.Users{Store: store}) })
}

func runUsersList(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "users list", "list accounts, the newest first, and others who are on the denylist", usersMore)
	var f postgres.UserFilter
	flags.StringVar(&f.Email, "email", "", "only those with this `TEXT` in their e-mail address")
	flags.BoolVar(&f.Disabled, "disabled", false, "only those who are disabled")
	flags.IntVar(&f.Limit, "limit", listLimit, "at most this `NUMBER`; 0 for all")
	flags.Func("kind", "only those of this `KIND`: account, guest, or other for whom something else signs in", func(text string) error {
		switch f.Kind = text; text {
		case postgres.KindAccount, postgres.KindGuest, postgres.KindOther:
			return nil
		}
		return errors.New("say account, guest or other")
	})
	flags.Func("since", "only accounts made at this `TIME` or later: RFC 3339, or how long ago, such as 7d or 12h", func(text string) (err error) {
		f.Since, err = parseSince(text, time.Now())
		return err
	})
	asJSON := flags.Bool("json", false, "print a JSON array")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if f.Limit < 0 {
		return usageError{"users list: --limit takes a number from 0"}
	}
	return withUsers(ctx, a, func(users *postgres.Users) error {
		found, err := users.List(ctx, f)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(a.stdout, found)
		}
		for i := range found {
			fmt.Fprintln(a.stdout, userLine(&found[i]))
		}
		if len(found) == f.Limit {
			fmt.Fprintf(a.stderr, "there may be more: this shows %d, see --limit\n", f.Limit)
		}
		return nil
	})
}

// userLine is a user in one line.
func userLine(u *postgres.User) string {
	fields := []string{safe(u.ID), u.Kind, orDash(safe(u.Email)), "made " + orDash(at("", u.CreatedAt)), count(u.Sessions, "session")}
	if u.SessionsBefore != nil {
		fields = append(fields, at("none from before ", u.SessionsBefore))
	}
	if u.Disabled {
		fields = append(fields, "DISABLED"+in(" (", safe(u.Reason), ")"))
	}
	return strings.Join(fields, "  ")
}

// named is a user in a sentence.
func named(u *postgres.User) string {
	switch u.Kind {
	case postgres.KindAccount:
		return fmt.Sprintf("%s (%s)", safe(u.ID), safe(u.Email))
	case postgres.KindGuest:
		return safe(u.ID) + " (a guest)"
	}
	return safe(u.ID) + " (no account of ferry's)"
}

func runUsersSessions(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "users sessions", "list the sessions of an account, the one that was used last first; give the USER", usersMore)
	asJSON := flags.Bool("json", false, "print a JSON array")
	given, err := oneUser(flags, args)
	if err != nil {
		return err
	}
	return withUsers(ctx, a, func(users *postgres.Users) error {
		user, err := accountGiven(ctx, users, given)
		if err != nil {
			return err
		}
		sessions, err := users.Sessions(ctx, user.ID)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(a.stdout, sessions)
		}
		for _, s := range sessions {
			fmt.Fprintf(a.stdout, "%s  begun %s  used %s  ends %s\n", s.ID,
				at("", &s.CreatedAt), s.UsedAt.UTC().Format(time.DateOnly), at("", &s.ExpiresAt))
		}
		return nil
	})
}

// userArguments are the USERs on the command line, at least one.
func userArguments(flags *flagSet, args []string) ([]string, error) {
	given, err := parseMixed(flags, args)
	if err == nil && len(given) == 0 {
		err = noUsers(flags)
	}
	return given, err
}

func noUsers(flags *flagSet) error {
	return usageError{flags.Name() + ": say who, by e-mail address or user id; see: ferry users list"}
}

// oneUser is the one USER on the command line.
func oneUser(flags *flagSet, args []string) (string, error) {
	given, err := userArguments(flags, args)
	if err != nil {
		return "", err
	}
	if len(given) > 1 {
		// The second may be a password, which nobody must read.
		return "", usageError{fmt.Sprintf("%s: it takes one argument; see: ferry %[1]s --help", flags.Name())}
	}
	return given[0], nil
}

// userGiven finds whom the operator means. What looks like an e-mail address
// and is no account's is a mistake, unless it is said to be a user id.
func userGiven(ctx context.Context, users *postgres.Users, text string, isID bool) (*postgres.User, error) {
	if !isID && strings.Contains(text, "@") {
		email, err := identity.ParseEmail(text)
		if err != nil {
			return nil, fmt.Errorf("%s: the e-mail address %w", safe(text), err)
		}
		user, err := users.FindByEmail(ctx, email)
		if errors.Is(err, postgres.ErrNoUser) {
			return nil, fmt.Errorf("%s: no account has this e-mail address; if it is a user id of another sign-in, add --id", safe(text))
		}
		return user, err
	}
	if err := identity.CheckUserID(text); err != nil {
		return nil, fmt.Errorf("%s: the user id %w", safe(shortened(text)), err)
	}
	return users.Find(ctx, text)
}

// accountGiven is userGiven for what takes an account.
func accountGiven(ctx context.Context, users *postgres.Users, text string) (*postgres.User, error) {
	user, err := userGiven(ctx, users, text, false)
	if err == nil && user.Kind == postgres.KindOther {
		return nil, fmt.Errorf("%s: ferry has no such account; see: ferry users list", safe(text))
	}
	return user, err
}

// auditUser writes the log record of a change: never an e-mail address.
func auditUser(a *app, event, userID string) {
	slog.New(slog.NewJSONHandler(a.stderr, nil)).Info("users", slog.String("audit", event), slog.String("user", userID))
}
