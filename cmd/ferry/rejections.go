package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"ferry/internal/config"
	"ferry/internal/postgres"
	"ferry/internal/uploads"
)

const rejectionsMore = "It connects with DATABASE_URL, as ferry serve does, and acts as FERRY_UPLOAD_ROLE.\n"

const rejectionsHelp = `ferry rejections: what the database refused, and what to do about it

Usage: ferry rejections list|show|replay|discard|prune [ID…] [FLAGS]

  list     list rejections, the newest first
  show     show rejections whole, with what depends on them
  replay   apply what was refused, as its user, and then what depends on it
  discard  give rejections up; nothing is deleted
  prune    delete those that were replayed or discarded long ago

` + rejectionsMore

func runRejections(ctx context.Context, a *app, args []string) error {
	const say = "rejections: say list, show, replay, discard or prune; see: ferry rejections --help"
	if len(args) == 0 {
		return usageError{say}
	}
	switch name, rest := args[0], args[1:]; {
	case isHelp(name):
		fmt.Fprint(a.stdout, rejectionsHelp)
		return nil
	case name == "list":
		return runRejectionsList(ctx, a, rest)
	case name == "show":
		return runRejectionsShow(ctx, a, rest)
	case name == "replay":
		return runRejectionsReplay(ctx, a, rest)
	case name == "discard":
		return runRejectionsDiscard(ctx, a, rest)
	case name == "prune":
		return runRejectionsPrune(ctx, a, rest)
	}
	return usageError{say}
}

// listLimit is how many rejections `list` shows by default.
const listLimit = 100

func runRejectionsList(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "rejections list", "list rejections, the newest first", rejectionsMore)
	filter := filterFlags(flags, listLimit)
	asJSON := flags.Bool("json", false, "print a JSON array")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if filter.Limit < 0 {
		return usageError{"rejections list: --limit takes a number from 0"}
	}
	filter.NewestFirst = true
	return withRejections(ctx, a, func(j *postgres.Rejections) error {
		found, err := j.List(ctx, *filter)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(a.stdout, found)
		}
		for i := range found {
			fmt.Fprintln(a.stdout, line(&found[i]))
		}
		if len(found) == filter.Limit {
			fmt.Fprintf(a.stderr, "there may be more: this shows the newest %d, see --limit\n", filter.Limit)
		}
		return nil
	})
}

func runRejectionsShow(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "rejections show", "show rejections whole, with what depends on them; give their IDs", rejectionsMore)
	asJSON := flags.Bool("json", false, "print a JSON array")
	ids, err := parseMixed(flags, args)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return usageError{"rejections show: say which, by ID; see: ferry rejections list"}
	}
	return withRejections(ctx, a, func(j *postgres.Rejections) error {
		whole := make([]story, len(ids))
		for i, id := range ids {
			stored, err := j.Find(ctx, id)
			if err != nil {
				return err
			}
			dependents, err := j.Dependents(ctx, id)
			if err != nil {
				return err
			}
			whole[i] = story{stored, dependents}
		}
		if *asJSON {
			return printJSON(a.stdout, whole)
		}
		for i := range whole {
			if err := whole[i].print(a.stdout); err != nil {
				return err
			}
		}
		return nil
	})
}

func runRejectionsDiscard(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "rejections discard", "give open rejections up, by their IDs or by filters; nothing is deleted", rejectionsMore)
	filter := filterFlags(flags, 0)
	yes := flags.Bool("yes", false, "do not ask")
	ids, err := parseMixed(flags, args)
	if err == nil {
		err = checkSelection(flags, ids, filter)
	}
	if err != nil {
		return err
	}
	return withRejections(ctx, a, func(j *postgres.Rejections) error {
		selected, err := selectOpen(ctx, a, j, ids, *filter)
		if err != nil || len(selected) == 0 {
			return err
		}
		for i := range selected {
			dependents, err := openDependents(ctx, j, selected[i].ID)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, line(&selected[i])+needed(len(dependents)))
		}
		if !*yes && !confirmed(a, fmt.Sprintf("This discards %s: the database never gets %s. What depends on %[2]s stays as it is.",
			count(len(selected), "rejection"), itOrThem(len(selected)))) {
			return errors.New("rejections discard: nothing was done")
		}
		for i := range selected {
			was, err := j.Discard(ctx, selected[i].ID)
			if err != nil {
				return err
			}
			said := "discarded"
			if !was {
				said = "no longer open"
			}
			fmt.Fprintf(a.stdout, "%s  %s\n", selected[i].ID, said)
		}
		return nil
	})
}

func runRejectionsPrune(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "rejections prune", "delete rejections that were replayed or discarded long ago; never open ones, nor what one that stays depends on", rejectionsMore)
	age := flags.String("older-than", "", "how long ago, as a `DURATION` such as 90d or 12h; must be given")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	duration, err := parseAge(*age)
	if err != nil || duration < 0 {
		return usageError{"rejections prune: --older-than takes a duration such as 90d or 12h"}
	}
	return withRejections(ctx, a, func(j *postgres.Rejections) error {
		deleted, err := j.Prune(ctx, time.Now().Add(-duration))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.stdout, "deleted %s\n", count(int(deleted), "rejection"))
		return err
	})
}

// withRejections calls do with the database that DATABASE_URL names.
func withRejections(ctx context.Context, a *app, do func(*postgres.Rejections) error) error {
	return withStore(ctx, a, func(store *postgres.Store) error { return do(&postgres.Rejections{Store: store}) })
}

// withStore calls do with the database that DATABASE_URL names.
func withStore(ctx context.Context, a *app, do func(*postgres.Store) error) error {
	cfg, err := config.Load(a.environ)
	if err != nil {
		return err
	}
	if cfg.Database.URL.IsZero() {
		return errors.New("DATABASE_URL is not set; it says where the app's Postgres is")
	}
	store, err := postgres.Open(ctx, storeOptions(cfg, slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))))
	if err != nil {
		return err
	}
	defer store.Close()
	return do(store)
}

// filterFlags adds the flags that select rejections.
func filterFlags(flags *flagSet, limit int) *postgres.RejectionFilter {
	f := &postgres.RejectionFilter{State: uploads.Open}
	flags.StringVar(&f.User, "user", "", "only those of the user with this `ID`")
	flags.StringVar(&f.Table, "table", "", "only those of this `TABLE`, as clients name it")
	flags.StringVar(&f.Code, "code", "", "only those with this `CODE`, such as check_violation")
	flags.Func("since", "only those from this `TIME` on: RFC 3339, or how long ago, such as 7d or 12h", func(text string) (err error) {
		f.Since, err = parseSince(text, time.Now())
		return err
	})
	flags.Func("state", "only those in this `STATE`: open, replayed, discarded or all (default open)", func(text string) error {
		switch state := uploads.State(text); state {
		case "all":
			f.State = ""
		case uploads.Open, uploads.Replayed, uploads.Discarded:
			f.State = state
		default:
			return errors.New("say open, replayed, discarded or all")
		}
		return nil
	})
	flags.IntVar(&f.Limit, "limit", limit, "at most this `NUMBER`; 0 for all")
	return f
}

// checkSelection wants IDs or a filter: nothing happens to all rejections by
// oversight.
func checkSelection(flags *flagSet, ids []string, f *postgres.RejectionFilter) error {
	filtered := false
	flags.Visit(func(set *flag.Flag) {
		switch set.Name {
		case "user", "table", "code", "since", "state", "limit":
			filtered = true
		}
	})
	switch {
	case f.State != uploads.Open:
		return usageError{flags.Name() + ": it is for open rejections alone; leave --state out"}
	case f.Limit < 0:
		return usageError{flags.Name() + ": --limit takes a number from 0"}
	case filtered && len(ids) > 0:
		return usageError{flags.Name() + ": give IDs or filters, not both"}
	case !filtered && len(ids) == 0:
		return usageError{flags.Name() + ": say which, by IDs or by filters; --state open takes all that are open"}
	}
	return nil
}

// selectOpen returns the open rejections that the operator meant, the oldest
// first, and says which are not open.
func selectOpen(ctx context.Context, a *app, j *postgres.Rejections, ids []string, f postgres.RejectionFilter) ([]postgres.StoredRejection, error) {
	var selected []postgres.StoredRejection
	if len(ids) == 0 {
		found, err := j.List(ctx, f)
		if err == nil && len(found) == 0 {
			fmt.Fprintln(a.stderr, "no open rejection is like that")
		}
		return found, err
	}
	for _, id := range ids {
		stored, err := j.Find(ctx, id)
		if err != nil {
			return nil, err
		}
		if stored.State != uploads.Open {
			fmt.Fprintf(a.stderr, "%s  was %s already\n", stored.ID, stored.State)
			continue
		}
		selected = append(selected, *stored)
	}
	return selected, nil
}

func openDependents(ctx context.Context, j *postgres.Rejections, id string) ([]postgres.StoredRejection, error) {
	dependents, err := j.Dependents(ctx, id)
	if err != nil {
		return nil, err
	}
	var still []postgres.StoredRejection
	for _, d := range dependents {
		if d.State == uploads.Open {
			still = append(still, d)
		}
	}
	return still, nil
}

// parseSince reads a time, or how long before now it was.
func parseSince(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	age, err := parseAge(text)
	if err != nil || age < 0 {
		return time.Time{}, errors.New("say a time such as 2026-01-02T03:04:05Z, or how long ago, such as 7d or 12h")
	}
	return now.Add(-age), nil
}

// parseAge is time.ParseDuration with days, as 90d.
func parseAge(text string) (time.Duration, error) {
	days, ok := strings.CutSuffix(text, "d")
	if !ok {
		return time.ParseDuration(text)
	}
	// More would not fit into a time.Duration.
	n, err := strconv.ParseUint(days, 10, 16)
	return time.Duration(n) * 24 * time.Hour, err
}
