package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/postgres"
	"ferry/internal/postgres/postgrestest"
	"ferry/internal/uploads"
)

// rejecting is a database whose table notes refuses every text but "good".
type rejecting struct {
	t       *testing.T
	db      *postgrestest.Database
	store   *postgres.Store
	environ []string
	opID    int
}

func newRejecting(t *testing.T) *rejecting {
	t.Helper()
	db, r := newMigrated(t)
	db.Exec(t, `ALTER TABLE notes ADD CONSTRAINT good CHECK (text = 'good')`)
	store, err := postgres.Open(t.Context(), postgres.Options{
		URL: db.URLAs(r.login, ""), Role: r.upload, Schemas: []string{"public"},
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return &rejecting{
		t: t, db: db, store: store,
		environ: []string{"DATABASE_URL=" + db.URLAs(r.login, ""), "FERRY_UPLOAD_ROLE=" + r.upload},
	}
}

// note is the id of the n-th note.
func note(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// upload applies one operation on a note as a user, and returns the id of its
// rejection, if it was rejected.
func (d *rejecting) upload(user, operation string, n int, text string) string {
	d.t.Helper()
	d.opID++
	up, err := uploads.Decode(fmt.Appendf(nil, `{"client_id":"phone","crud":[{"op_id":%d,"op":%q,"type":"notes","id":%q,"data":{"text":%q}}]}`,
		d.opID, operation, note(n), text))
	if err != nil {
		d.t.Fatal(err)
	}
	result, err := d.store.Apply(d.t.Context(), uploads.Caller{UserID: user, Claims: json.RawMessage(`{"sub":"` + user + `"}`)}, up)
	if err != nil {
		d.t.Fatal(err)
	}
	if len(result.Rejected) == 0 {
		return ""
	}
	return result.Rejected[0].ID
}

func (d *rejecting) fix() {
	d.t.Helper()
	d.db.Exec(d.t, `ALTER TABLE notes DROP CONSTRAINT good`)
}

// ferry runs `ferry rejections`.
func (d *rejecting) ferry(input, command string) result {
	d.t.Helper()
	return runWithInput(d.t, input, d.environ, append([]string{"rejections"}, strings.Fields(command)...)...)
}

// listed returns the ids that a list shows, in its order.
func (d *rejecting) listed(filters string) []string {
	d.t.Helper()
	got := d.ferry("", "list "+filters)
	if got.Code != exitOK {
		d.t.Fatalf("list %s: %s", filters, got.Stderr)
	}
	ids := []string{}
	for line := range strings.Lines(got.Stdout) {
		id, _, _ := strings.Cut(line, " ")
		ids = append(ids, id)
	}
	return ids
}

func TestRejectionsAreListed(t *testing.T) {
	t.Parallel()
	d := newRejecting(t)
	first, second := d.upload("ann", "PUT", 1, "bad"), d.upload("bob\x1b[2J", "PUT", 2, "bad")
	for filters, want := range map[string][]string{
		"":                       {second, first},
		"--user ann":             {first},
		"--table notes":          {second, first},
		"--table others":         {},
		"--code check_violation": {second, first},
		"--code forbidden":       {},
		"--since 1h":             {second, first},
		"--since 7d --limit 0":   {second, first},
		"--since " + time.Now().Add(time.Hour).Format(time.RFC3339): {},
		"--state replayed": {},
		"--state all":      {second, first},
		"--limit 1":        {second},
	} {
		if diff := cmp.Diff(want, d.listed(filters)); diff != "" {
			t.Errorf("list %s: %s", filters, diff)
		}
	}
	got := d.ferry("", "list").Stdout
	for _, part := range []string{"open  user ann  client phone  tx -  notes/" + note(1) + "  check_violation  new row for relation", "user bob\ufffd[2J"} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in\n%s", part, got)
		}
	}
	var list []struct {
		ID      string `json:"rejection_id"`
		User    string `json:"user_id"`
		Code    string `json:"code"`
		State   string `json:"state"`
		Table   string `json:"table"`
		Row     string `json:"id"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal([]byte(d.ferry("", "list --json --user ann").Stdout), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].ID != first || list[0].User != "ann" || list[0].State != "open" || list[0].Code != "check_violation" ||
		list[0].Table != "notes" || list[0].Row != note(1) || list[0].Message == "" {
		t.Errorf("JSON: %+v", list)
	}
	if got := d.ferry("", "list --json --user nobody").Stdout; got != "[]\n" {
		t.Errorf("an empty list: %q", got)
	}
}

func TestRejectionIsShownWithWhatDependsOnIt(t *testing.T) {
	t.Parallel()
	d := newRejecting(t)
	root, dependent := d.upload("ann", "PUT", 1, "bad"), d.upload("ann", "PATCH", 1, "good")
	got := d.ferry("", "show "+root)
	for _, part := range []string{
		"rejection   " + root, "user        ann", "code        check_violation (SQLSTATE 23514)", "constraint  good",
		`"sub": "ann"`, `"text": "bad"`, "what depends on it\n  " + dependent,
	} {
		if !strings.Contains(got.Stdout, part) {
			t.Errorf("no %q in\n%s%s", part, got.Stdout, got.Stderr)
		}
	}
	var shown []struct {
		Operations []struct{ Op string }
		Claims     struct{ Sub string }
		Dependents []struct {
			ID string `json:"rejection_id"`
		}
	}
	if err := json.Unmarshal([]byte(d.ferry("", "show --json "+root).Stdout), &shown); err != nil {
		t.Fatal(err)
	}
	if len(shown) != 1 || shown[0].Claims.Sub != "ann" || shown[0].Operations[0].Op != "PUT" || shown[0].Dependents[0].ID != dependent {
		t.Errorf("JSON: %+v", shown)
	}
	want := result{Code: exitError, Stderr: "ferry: rejection " + note(9) + ": there is no such rejection\n"}
	if diff := cmp.Diff(want, d.ferry("", "show "+note(9))); diff != "" {
		t.Error(diff)
	}
}

func TestRejectionsWriteNothingToTheTerminalThatClientsMadeUp(t *testing.T) {
	t.Parallel()
	d := newRejecting(t)
	id := d.upload("ann\u009b", "PUT", 1, "bad \u009b2J")
	d.fix()
	for _, command := range []string{"list", "show " + id, "replay --yes " + id} {
		got := d.ferry("", command)
		if text := got.Stdout + got.Stderr; got.Code != exitOK || strings.ContainsAny(text, "\x1b\u009b") {
			t.Errorf("%s: exit code %d, %q", command, got.Code, text)
		}
	}
}

func TestRejectionsReplaySaysWhatItWillDoAndAsks(t *testing.T) {
	t.Parallel()
	d := newRejecting(t)
	root, dependent := d.upload("ann", "PUT", 1, "bad"), d.upload("ann", "PATCH", 1, "worse")
	d.fix()
	d.db.Exec(t, `INSERT INTO notes VALUES ($1, 'newer')`, note(1))
	for _, step := range []struct{ command, input string }{
		{"replay --dry-run " + root, ""}, {"replay " + root, ""}, {"replay " + root, "no\n"}, {"replay --user ann", "\n"},
	} {
		got := d.ferry(step.input, step.command)
		for _, part := range []string{
			"as user ann:", "PUT notes/" + note(1) + "  (THE ROW EXISTS ALREADY", "then, because it depends on " + root + ": " + dependent, "PATCH notes/" + note(1) + "\n",
		} {
			if !strings.Contains(got.Stdout, part) {
				t.Errorf("%s: no %q in\n%s%s", step.command, part, got.Stdout, got.Stderr)
			}
		}
	}
	if diff := cmp.Diff([]string{dependent, root}, d.listed("")); diff != "" {
		t.Fatalf("still open: %s", diff)
	}
	got := d.ferry("yes\n", "replay "+root)
	want := fmt.Sprintf("%s  replayed: 1 applied, 0 ignored\n%s  replayed: 1 applied, 0 ignored\n", root, dependent)
	if got.Code != exitOK || !strings.HasSuffix(got.Stdout, "This replays 2 rejections.\nType yes to go on: "+want) {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]string{dependent, root}, d.listed("--state replayed")); diff != "" {
		t.Errorf("replayed: %s", diff)
	}
	if diff := cmp.Diff(result{Stderr: root + "  was replayed already\n"}, d.ferry("", "replay --yes "+root)); diff != "" {
		t.Error(diff)
	}
}

func TestRejectionsReplayByFilters(t *testing.T) {
	t.Parallel()
	d := newRejecting(t)
	one, two, others := d.upload("ann", "PUT", 1, "bad"), d.upload("ann", "PUT", 2, "worse"), d.upload("bob", "PUT", 3, "bad")
	d.db.Exec(t, `ALTER TABLE notes DROP CONSTRAINT good; ALTER TABLE notes ADD CONSTRAINT better CHECK (text = 'bad')`)
	got := d.ferry("", "replay --user ann --yes --json")
	if got.Code != exitError || got.Stderr != "ferry: 1 rejection refused again; the reason stands in: ferry rejections show ID\n" {
		t.Errorf("exit code %d, %s", got.Code, got.Stderr)
	}
	var said struct {
		Planned []struct {
			ID string `json:"rejection_id"`
		}
		Results []postgres.Replayed
	}
	if err := json.Unmarshal([]byte(got.Stdout), &said); err != nil {
		t.Fatalf("%v in\n%s", err, got.Stdout)
	}
	want := []postgres.Replayed{
		{ID: one, State: uploads.Replayed, Applied: 1},
		{ID: two, State: uploads.Open, Refusal: &uploads.Refusal{
			Code: "check_violation", SQLState: "23514", Constraint: "better",
			Message: `new row for relation "notes" violates check constraint "better"`,
		}},
	}
	if diff := cmp.Diff(want, said.Results); diff != "" || len(said.Planned) != 2 {
		t.Errorf("planned %v, results %s", said.Planned, diff)
	}
	if diff := cmp.Diff([]string{others, two}, d.listed("")); diff != "" {
		t.Errorf("open: %s", diff)
	}
}

func TestRejectionsReplayOnlyLeavesDependents(t *testing.T) {
	t.Parallel()
	d := newRejecting(t)
	root, dependent := d.upload("ann", "PUT", 1, "bad"), d.upload("ann", "PATCH", 1, "worse")
	d.fix()
	if got := d.ferry("", "replay --only --yes "+root); got.Code != exitOK || strings.Contains(got.Stdout, dependent) {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]string{dependent}, d.listed("")); diff != "" {
		t.Errorf("open: %s", diff)
	}
}

func TestRejectionsAreDiscardedAndPruned(t *testing.T) {
	t.Parallel()
	d := newRejecting(t)
	root, dependent := d.upload("ann", "PUT", 1, "bad"), d.upload("ann", "PATCH", 1, "worse")
	got := d.ferry("no\n", "discard "+root)
	if got.Code != exitError || !strings.Contains(got.Stdout, "(needed by 1 open rejection)") || !strings.Contains(got.Stdout, "This discards 1 rejection:") {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]string{dependent, root}, d.listed("")); diff != "" {
		t.Fatalf("open: %s", diff)
	}
	if got := d.ferry("", "discard --yes "+root); got.Code != exitOK || !strings.HasSuffix(got.Stdout, root+"  discarded\n") {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]string{root}, d.listed("--state discarded")); diff != "" {
		t.Fatalf("discarded: %s", diff)
	}
	// The open one depends on the discarded one.
	if diff := cmp.Diff(result{Stdout: "deleted 0 rejections\n"}, d.ferry("", "prune --older-than 0s")); diff != "" {
		t.Error(diff)
	}
	d.ferry("", "discard --user ann --yes")
	if diff := cmp.Diff(result{Stdout: "deleted 0 rejections\n"}, d.ferry("", "prune --older-than 90d")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(result{Stdout: "deleted 2 rejections\n"}, d.ferry("", "prune --older-than 0s")); diff != "" {
		t.Error(diff)
	}
}

func TestRejectionsSayWhatIsWrongWithTheCommand(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"":                           "rejections: say list, show, replay, discard or prune; see: ferry rejections --help",
		"sideways":                   "rejections: say list, show, replay, discard or prune; see: ferry rejections --help",
		"list x":                     `rejections list: unexpected argument "x"; see: ferry rejections list --help`,
		"list --since yesterday":     `rejections list: invalid value "yesterday" for flag -since: say a time such as 2026-01-02T03:04:05Z, or how long ago, such as 7d or 12h; see: ferry rejections list --help`,
		"list --state gone":          `rejections list: invalid value "gone" for flag -state: say open, replayed, discarded or all; see: ferry rejections list --help`,
		"list --limit -1":            "rejections list: --limit takes a number from 0",
		"show":                       "rejections show: say which, by ID; see: ferry rejections list",
		"replay":                     "rejections replay: say which, by IDs or by filters; --state open takes all that are open",
		"replay --yes --only":        "rejections replay: say which, by IDs or by filters; --state open takes all that are open",
		"replay x --user ann":        "rejections replay: give IDs or filters, not both",
		"replay --state all":         "rejections replay: it is for open rejections alone; leave --state out",
		"replay x --json":            "rejections replay: --json cannot ask; add --yes or --dry-run",
		"discard":                    "rejections discard: say which, by IDs or by filters; --state open takes all that are open",
		"discard --limit -1":         "rejections discard: --limit takes a number from 0",
		"prune":                      "rejections prune: --older-than takes a duration such as 90d or 12h",
		"prune --older-than -1h":     "rejections prune: --older-than takes a duration such as 90d or 12h",
		"prune --older-than 999999d": "rejections prune: --older-than takes a duration such as 90d or 12h",
	} {
		got := run(t, nil, append([]string{"rejections"}, strings.Fields(command)...)...)
		if diff := cmp.Diff(result{Code: exitUsage, Stderr: "ferry: " + want + "\n"}, got); diff != "" {
			t.Errorf("ferry rejections %s (-want +got):\n%s", command, diff)
		}
	}
}

func TestRejectionsSayWhatIsWrongWithTheDatabase(t *testing.T) {
	t.Parallel()
	want := result{Code: exitError, Stderr: "ferry: DATABASE_URL is not set; it says where the app's Postgres is\n"}
	if diff := cmp.Diff(want, run(t, nil, "rejections", "list")); diff != "" {
		t.Error(diff)
	}
	db, r := newDatabase(t)
	environ := []string{"DATABASE_URL=" + db.URLAs(r.login, ""), "FERRY_UPLOAD_ROLE=" + r.upload}
	if got := run(t, environ, "rejections", "list"); got.Code != exitError || !strings.Contains(got.Stderr, "run: ferry migrate up (") {
		t.Errorf("without a schema: %+v", got)
	}
	mustRun(t, migrateEnvironment(db, r), "migrate", "up")
	if got := run(t, environ, "rejections", "list"); got.Code != exitError || !strings.Contains(got.Stderr, "run: ferry migrate up --grant-to ROLE") {
		t.Errorf("without rights: %+v", got)
	}
}
