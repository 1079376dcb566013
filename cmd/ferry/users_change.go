package main

import (
	"context"
	"errors"
	"fmt"

	"ferry/internal/postgres"
)

const untilTokensEnd = "It holds within a second. Sync tokens that were issued before live to their end: see FERRY_TOKEN_TTL.\n"

func runUsersDisable(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "users disable", "keep users out, whatever signs them in; give the USERs", untilTokensEnd, usersMore)
	c := newUserChange(flags, "user_disable", "disabled")
	reason := flags.String("reason", "", "a note for other operators: `TEXT`")
	given, err := userArguments(flags, args)
	if err != nil {
		return err
	}
	return c.run(ctx, a, given, func(users *postgres.Users, user *postgres.User) error {
		return users.Disable(ctx, user.ID, *reason)
	})
}

func runUsersEnable(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "users enable", "let users in again; give the USERs", usersMore)
	c := newUserChange(flags, "user_enable", "enabled")
	sessions := flags.Bool("sessions", false, "let in sessions that were revoked, too: for users whose sessions do not say when they were issued")
	given, err := userArguments(flags, args)
	if err != nil {
		return err
	}
	return c.run(ctx, a, given, func(users *postgres.Users, user *postgres.User) error {
		return users.Enable(ctx, user.ID, *sessions)
	})
}

func runUsersRevoke(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "users revoke", "end all sessions of users, whatever signs them in; give the USERs, or --session", untilTokensEnd, usersMore)
	c := newUserChange(flags, "user_revoke", "signed out")
	session := flags.String("session", "", "end this session alone, by its `ID`; see: ferry users sessions")
	given, err := parseMixed(flags, args)
	switch {
	case err != nil:
		return err
	case *session != "" && len(given) > 0:
		return usageError{"users revoke: give USERs or --session, not both"}
	case *session != "":
		return endOneSession(ctx, a, *session)
	case len(given) == 0:
		return noUsers(flags)
	}
	return c.run(ctx, a, given, func(users *postgres.Users, user *postgres.User) error { return users.Revoke(ctx, user) })
}

func runUsersDelete(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "users delete", "delete accounts of ferry's own, with their sessions; give the USERs",
		"The app's own tables, and what is stored of the users' uploads, stay as they are.\n", untilTokensEnd, usersMore)
	c := newUserChange(flags, "user_delete", "deleted")
	yes := flags.Bool("yes", false, "do not ask")
	given, err := userArguments(flags, args)
	if err != nil {
		return err
	}
	c.agreed = func(found []*postgres.User) error {
		for _, user := range found {
			if user.Kind == postgres.KindOther {
				return fmt.Errorf("users delete: ferry has no account %s, so that there is nothing to delete; to keep the user out: ferry users disable", safe(user.ID))
			}
			fmt.Fprintln(a.stdout, userLine(user))
		}
		if !*yes && !confirmed(a, fmt.Sprintf("This deletes %s. Nobody can sign in to %s again, or make one with the same user id.", count(len(found), "account"), itOrThem(len(found)))) {
			return errors.New("users delete: nothing was done")
		}
		return nil
	}
	return c.run(ctx, a, given, func(users *postgres.Users, user *postgres.User) error { return users.Delete(ctx, user.ID) })
}

func endOneSession(ctx context.Context, a *app, id string) error {
	return withUsers(ctx, a, func(users *postgres.Users) error {
		userID, err := users.EndSession(ctx, id)
		if errors.Is(err, postgres.ErrNoUser) {
			return fmt.Errorf("%s: there is no such session; see: ferry users sessions", safe(id))
		}
		if err != nil {
			return err
		}
		auditUser(a, "session_revoke", userID)
		_, err = fmt.Fprintf(a.stdout, "signed out one session of %s\n", userID)
		return err
	})
}

// userChange is a change of the users on the command line.
type userChange struct {
	event, done string // for the log, and for people
	isID        *bool
	// agreed may keep the change from being made. May be nil.
	agreed func(found []*postgres.User) error
}

func newUserChange(flags *flagSet, event, done string) *userChange {
	return &userChange{event: event, done: done, isID: flags.Bool("id", false, "a USER is a user id, also where it looks like an e-mail address")}
}

// run finds all users before it changes the first.
func (c *userChange) run(ctx context.Context, a *app, given []string, change func(*postgres.Users, *postgres.User) error) error {
	return withUsers(ctx, a, func(users *postgres.Users) error {
		found := make([]*postgres.User, len(given))
		for i, text := range given {
			var err error
			if found[i], err = userGiven(ctx, users, text, *c.isID); err != nil {
				return err
			}
		}
		if c.agreed != nil {
			if err := c.agreed(found); err != nil {
				return err
			}
		}
		for _, user := range found {
			if err := change(users, user); err != nil {
				return err
			}
			auditUser(a, c.event, user.ID)
			fmt.Fprintf(a.stdout, "%s %s\n", c.done, named(user))
		}
		return nil
	})
}
