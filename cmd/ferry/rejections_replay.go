package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"ferry/internal/postgres"
	"ferry/internal/uploads"
)

// plannedReplay is what the operator is told before a replay.
type plannedReplay struct {
	*postgres.StoredRejection
	Planned []postgres.PlannedOperation `json:"planned"`
	// Root is the selected rejection that this one depends on.
	Root string `json:"root,omitempty"`
}

// replays is what `replay --json` prints.
type replays struct {
	Planned []plannedReplay      `json:"planned"`
	Results []*postgres.Replayed `json:"results"`
}

func runRejectionsReplay(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "rejections replay",
		"apply open rejections, by their IDs or by filters, each as its user, and then what depends on them", rejectionsMore)
	filter := filterFlags(flags, 0)
	only := flags.Bool("only", false, "leave what depends on them as it is")
	dryRun := flags.Bool("dry-run", false, "say what would be done, and do nothing")
	yes := flags.Bool("yes", false, "do not ask")
	asJSON := flags.Bool("json", false, "print one JSON object; needs --yes or --dry-run")
	ids, err := parseMixed(flags, args)
	if err == nil {
		err = checkSelection(flags, ids, filter)
	}
	if err == nil && *asJSON && !*yes && !*dryRun {
		err = usageError{"rejections replay: --json cannot ask; add --yes or --dry-run"}
	}
	if err != nil {
		return err
	}
	return withRejections(ctx, a, func(j *postgres.Rejections) error {
		selected, err := selectOpen(ctx, a, j, ids, *filter)
		if err != nil {
			return err
		}
		said := replays{Planned: []plannedReplay{}, Results: []*postgres.Replayed{}}
		text := a.stdout
		if *asJSON {
			text = io.Discard
		}
		if said.Planned, err = planReplays(ctx, j, selected, *only); err != nil {
			return err
		}
		for i := range said.Planned {
			said.Planned[i].print(text)
		}
		if !*dryRun && len(selected) > 0 {
			if !*yes && !confirmed(a, fmt.Sprintf("This replays %s.", count(len(said.Planned), "rejection"))) {
				return errors.New("rejections replay: nothing was done")
			}
			err = replayAll(ctx, j, selected, *only, func(r *postgres.Replayed) {
				said.Results = append(said.Results, r)
				printReplayed(text, r)
			})
		}
		if *asJSON {
			err = errors.Join(err, printJSON(a.stdout, said))
		}
		return errors.Join(err, refusedAgain(said.Results))
	})
}

// planReplays finds out what a replay would do, each rejection once, in about
// the order of the replay.
func planReplays(ctx context.Context, j *postgres.Rejections, selected []postgres.StoredRejection, only bool) ([]plannedReplay, error) {
	planned := []plannedReplay{}
	seen := map[string]bool{}
	add := func(id, root string) error {
		if seen[id] {
			return nil
		}
		seen[id] = true
		stored, operations, err := j.Plan(ctx, id)
		if err == nil {
			planned = append(planned, plannedReplay{stored, operations, root})
		}
		return err
	}
	for i := range selected {
		root := selected[i].ID
		if err := add(root, ""); err != nil {
			return nil, err
		}
		if only {
			continue
		}
		dependents, err := openDependents(ctx, j, root)
		if err != nil {
			return nil, err
		}
		for k := range dependents {
			if err := add(dependents[k].ID, root); err != nil {
				return nil, err
			}
		}
	}
	return planned, nil
}

func (p *plannedReplay) print(w io.Writer) {
	before := ""
	if p.Root != "" {
		before = "then, because it depends on " + p.Root + ": "
	}
	fmt.Fprintf(w, "%s%s\n", before, line(p.StoredRejection))
	fmt.Fprintf(w, "  as user %s:\n", safe(p.UserID))
	for _, o := range p.Planned {
		note := ""
		switch {
		case o.Refusal != nil:
			note = "  (will be refused: " + safe(o.Refusal.Message) + ")"
		case o.Exists && o.Kind == uploads.Put.String():
			note = "  (THE ROW EXISTS ALREADY: its columns are overwritten, newer changes with them)"
		}
		fmt.Fprintf(w, "    %s %s/%s%s\n", o.Kind, safe(o.Table), safe(o.RowID), note)
	}
}

// replayAll replays the selected rejections. What was replayed meanwhile, as a
// dependent of another, is not told twice.
func replayAll(ctx context.Context, j *postgres.Rejections, selected []postgres.StoredRejection, only bool, report func(*postgres.Replayed)) error {
	told := map[string]bool{}
	for i := range selected {
		if told[selected[i].ID] {
			continue
		}
		err := j.Replay(ctx, selected[i].ID, only, func(r *postgres.Replayed) {
			if !told[r.ID] {
				told[r.ID] = true
				report(r)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func printReplayed(w io.Writer, r *postgres.Replayed) {
	switch {
	case r.Already:
		fmt.Fprintf(w, "%s  was %s already\n", r.ID, r.State)
	case r.Refusal != nil:
		fmt.Fprintf(w, "%s  refused again, and still open: %s: %s\n", r.ID, r.Refusal.Code, safe(r.Refusal.Message))
	default:
		fmt.Fprintf(w, "%s  replayed: %d applied, %d ignored\n", r.ID, r.Applied, r.Ignored)
	}
}

// refusedAgain is the error of a replay that did not do everything.
func refusedAgain(results []*postgres.Replayed) error {
	refused := 0
	for _, r := range results {
		if r.Refusal != nil {
			refused++
		}
	}
	if refused == 0 {
		return nil
	}
	return fmt.Errorf("%s refused again; the reason stands in: ferry rejections show ID", count(refused, "rejection"))
}
