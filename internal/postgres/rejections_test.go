package postgres_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"ferry/internal/fault"
	"ferry/internal/postgres"
	"ferry/internal/uploads"
)

// rejections gives operators what a test's store has stored.
func (b *bundle) rejections() *postgres.Rejections { return &postgres.Rejections{Store: b.store} }

// reject uploads what must be rejected, once, and returns the rejection's id.
func (b *bundle) reject(user string, ops ...op) string {
	b.t.Helper()
	result := b.upload(user, body(ops...))
	if len(result.Rejected) != 1 {
		b.t.Fatalf("%d rejections, want 1: %+v", len(result.Rejected), result)
	}
	return result.Rejected[0].ID
}

// replay replays a rejection with its story and returns what was reported.
func (b *bundle) replay(id string) []postgres.Replayed {
	b.t.Helper()
	var reported []postgres.Replayed
	if err := b.rejections().Replay(b.t.Context(), id, false, func(r *postgres.Replayed) { reported = append(reported, *r) }); err != nil {
		b.t.Fatal(err)
	}
	return reported
}

func (b *bundle) state(id string) string {
	b.t.Helper()
	return b.text(`SELECT state || CASE WHEN settled_at IS NULL THEN '' ELSE ' since' END FROM ferry.rejections WHERE id = $1::uuid`, id)
}

func idsOf(list []postgres.StoredRejection) []string {
	ids := []string{}
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}

func TestRejectionIsReplayedOnceTheSchemaIsFixed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	transaction := []op{
		put(1, "counted", "a", map[string]any{"value": 1}).in(5),
		put(2, "counted", "b", map[string]any{"value": -1}).in(5),
		patch(3, "counted", "gone", map[string]any{"value": 3}).in(5),
	}
	id := b.reject(alice, transaction...)
	b.exec(`ALTER TABLE counted DROP CONSTRAINT counted_value_check`)

	want := []postgres.Replayed{{ID: id, State: uploads.Replayed, Applied: 2, Ignored: 1}}
	if diff := cmp.Diff(want, b.replay(id)); diff != "" {
		t.Error(diff)
	}
	if got := b.text(`SELECT string_agg(id || value, ' ' ORDER BY id) FROM counted`); got != "a1 b-1" {
		t.Errorf("rows %s", got)
	}
	if got := b.state(id); got != "replayed since" {
		t.Errorf("state %s", got)
	}
	want = []postgres.Replayed{{ID: id, State: uploads.Replayed, Already: true}}
	if diff := cmp.Diff(want, b.replay(id)); diff != "" {
		t.Errorf("a second replay: %s", diff)
	}
	if got := b.text(`SELECT count(*)::text FROM writes`); got != "2" {
		t.Errorf("%s writes, want 2", got)
	}
}

func TestRejectionIsAnsweredWithItsStateAfterItWasSettled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := put(1, "counted", "a", map[string]any{"value": -1})
	two := put(2, "counted", "b", map[string]any{"value": -1})
	replayed, discarded := b.reject(alice, one), b.reject(alice, two)
	b.exec(`ALTER TABLE counted DROP CONSTRAINT counted_value_check`)
	b.replay(replayed)
	if was, err := b.rejections().Discard(t.Context(), discarded); err != nil || !was {
		t.Fatalf("discard: %v, %v", was, err)
	}
	result := b.upload(alice, body(one, two))
	var got []string
	for _, r := range result.Rejected {
		got = append(got, r.ID+" "+string(r.State))
	}
	if diff := cmp.Diff([]string{replayed + " replayed", discarded + " discarded"}, got); diff != "" {
		t.Error(diff)
	}
	if got := b.text(`SELECT count(*) || ' of ' || (SELECT count(*) FROM ferry.rejections) FROM writes`); got != "1 of 2" {
		t.Errorf("writes of rejections: %s", got)
	}
}

func TestRejectionIsReplayedAsItsUserUnderThePolicies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.upload(alice, body(put(1, "lists", uid(1), map[string]any{"name": "hers"})))
	id := b.reject(bob, patch(1, "lists", uid(1), map[string]any{"name": "his"}))

	got := b.replay(id)
	want := []postgres.Replayed{{ID: id, State: uploads.Open, Refusal: &uploads.Refusal{
		Code: "forbidden", SQLState: "42501", Message: "the row exists, and this user may not change it",
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := b.text(`SELECT name FROM lists`); got != "hers" {
		t.Errorf("the list is %q", got)
	}
	if got := b.state(id); got != "open" {
		t.Errorf("state %s", got)
	}
	// The claims are the stored ones.
	b.exec(`DROP POLICY owned ON lists; CREATE POLICY claimed ON lists TO authenticated
		USING (current_setting('request.jwt.claims')::json ->> 'sub' = '` + bob + `')`)
	if got := b.replay(id); got[0].State != uploads.Replayed {
		t.Errorf("with another policy: %+v", got)
	}
	if got := b.text(`SELECT name FROM lists`); got != "his" {
		t.Errorf("the list is %q", got)
	}
}

func TestRejectionKeepsTheNewestReason(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.reject(alice,
		put(7, "counted", "a", map[string]any{"value": 1}).in(1),
		put(8, "counted", "b", map[string]any{"value": -1}).in(1))
	b.exec(`ALTER TABLE counted DROP CONSTRAINT counted_value_check;
		ALTER TABLE counted ADD CONSTRAINT not_a CHECK (id <> 'a')`)
	b.replay(id)
	got, err := b.rejections().Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	tx, opID := int64(1), int64(7)
	want := uploads.Rejection{
		ID: id, TxID: &tx, OpID: &opID, OpIndex: 0, State: uploads.Open, Table: "counted", RowID: "a",
		Refusal: uploads.Refusal{
			Code: "check_violation", SQLState: "23514", Constraint: "not_a",
			Message: `new row for relation "counted" violates check constraint "not_a"`,
		},
	}
	if diff := cmp.Diff(want, got.Rejection); diff != "" {
		t.Error(diff)
	}
	if got.RefusedAt == nil || got.SettledAt != nil {
		t.Errorf("refused at %v, settled at %v", got.RefusedAt, got.SettledAt)
	}
}

// storyOf uploads a rejected PUT of a list and what depends on it: the rest of
// its transaction, a PATCH of its row, and the rest of that one.
func storyOf(b *bundle) []string {
	b.exec(`ALTER TABLE lists ADD CONSTRAINT closed CHECK (false)`)
	ids := []string{
		b.reject(alice, put(1, "lists", uid(1), map[string]any{"name": "one"}).in(1)),
		b.reject(alice, patch(2, "lists", uid(1), map[string]any{"name": "two"}).in(1)),
		b.reject(alice, patch(3, "lists", uid(1), map[string]any{"name": "three"}).in(2)),
		b.reject(alice, patch(4, "lists", uid(1), map[string]any{"name": "four"}).in(2)),
	}
	b.exec(`ALTER TABLE lists DROP CONSTRAINT closed`)
	return ids
}

func TestRejectionsStoryIsReplayedInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`CREATE TABLE told (n int GENERATED ALWAYS AS IDENTITY, name text);
		CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO told (name) VALUES (new.name); RETURN NULL; END $$;
		CREATE TRIGGER tell AFTER INSERT OR UPDATE ON lists FOR EACH ROW EXECUTE FUNCTION tell()`)
	ids := storyOf(b)
	dependents, err := b.rejections().Dependents(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ids[1:], idsOf(dependents)); diff != "" {
		t.Fatalf("dependents: %s", diff)
	}
	var want []postgres.Replayed
	for _, id := range ids {
		want = append(want, postgres.Replayed{ID: id, State: uploads.Replayed, Applied: 1})
	}
	if diff := cmp.Diff(want, b.replay(ids[0])); diff != "" {
		t.Error(diff)
	}
	if got := b.text(`SELECT string_agg(name, ' ' ORDER BY n) FROM told`); got != "one two three four" {
		t.Errorf("the story was %s", got)
	}
}

// Op ids of two devices say nothing about each other: what was refused first
// is replayed first, and each device's own in the order of its queue.
func TestRejectionsStoryOfTwoDevicesIsReplayedInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, `ALTER TABLE lists ADD CONSTRAINT closed CHECK (false) NOT VALID`)
	rename := func(name string) map[string]any { return map[string]any{"name": name} }
	root := b.upload(alice, bodyOf("phone", put(100, "lists", uid(1), rename("put")))).Rejected[0].ID
	b.upload(alice, bodyOf("phone", patch(101, "lists", uid(1), rename("first"))))
	b.upload(alice, bodyOf("laptop", patch(1, "lists", uid(1), rename("second"))))
	b.upload(alice, bodyOf("phone", patch(102, "lists", uid(1), rename("third"))))
	b.exec(`ALTER TABLE lists DROP CONSTRAINT closed;
		CREATE TABLE told (n int GENERATED ALWAYS AS IDENTITY, name text);
		CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO told (name) VALUES (new.name); RETURN NULL; END $$;
		CREATE TRIGGER tell AFTER INSERT OR UPDATE ON lists FOR EACH ROW EXECUTE FUNCTION tell()`)
	b.replay(root)
	if got := b.text(`SELECT string_agg(name, ' ' ORDER BY n) FROM told`); got != "put first second third" {
		t.Errorf("the story was %s", got)
	}
}

func TestRejectionThatDependsOnAnOpenOneIsNotReplayed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := storyOf(b)
	got := b.replay(ids[1])
	want := []postgres.Replayed{{ID: ids[1], State: uploads.Open, Refusal: &uploads.Refusal{
		Code: "depends_on_rejected", Message: "this depends on rejection " + ids[0] + ", which is open: replay that one",
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// Alone leaves the others open; a later replay of the root goes on.
	if err := b.rejections().Replay(t.Context(), ids[0], true, func(*postgres.Replayed) {}); err != nil {
		t.Fatal(err)
	}
	if got := b.text(`SELECT count(*)::text FROM ferry.rejections WHERE state = 'open'`); got != "3" {
		t.Errorf("%s are open, want 3", got)
	}
	if got := b.replay(ids[0]); len(got) != 4 || !got[0].Already || got[3].State != uploads.Replayed {
		t.Errorf("%+v", got)
	}
}

func TestRejectionOfAStoryThatIsRefusedAgainHoldsBackWhatDependsOnIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := storyOf(b)
	b.exec(`ALTER TABLE lists ADD CONSTRAINT no_three CHECK (name <> 'three')`)
	b.replay(ids[0])
	var got []string
	for _, id := range ids {
		got = append(got, b.state(id))
	}
	if diff := cmp.Diff([]string{"replayed since", "replayed since", "open", "open"}, got); diff != "" {
		t.Error(diff)
	}
	b.exec(`ALTER TABLE lists DROP CONSTRAINT no_three`)
	b.replay(ids[0])
	if got := b.text(`SELECT name FROM lists`) + b.text(`SELECT count(*)::text FROM ferry.rejections WHERE state = 'open'`); got != "four0" {
		t.Errorf("name and open rejections: %s", got)
	}
}

func TestRejectionIsReplayedOnceByConcurrentReplays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.reject(alice, put(1, "counted", "a", map[string]any{"value": -1}))
	b.exec(`ALTER TABLE counted DROP CONSTRAINT counted_value_check`)
	others := &postgres.Rejections{Store: b.open(func(*postgres.Options) {})}
	var group sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for i := range 8 {
		j := b.rejections()
		if i%2 == 1 {
			j = others
		}
		group.Go(func() {
			if err := j.Replay(t.Context(), id, false, func(r *postgres.Replayed) {
				mu.Lock()
				defer mu.Unlock()
				if r.State != uploads.Replayed {
					t.Errorf("%+v", r)
				}
				if !r.Already {
					done++
				}
			}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if writes := b.text(`SELECT count(*)::text FROM writes`); done != 1 || writes != "1" {
		t.Errorf("%d replays made %s writes", done, writes)
	}
}

// An upload must not find the rejection open and its row missing.
func TestRejectionsClientWaitsForAReplay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.reject(alice, put(1, "counted", "a", map[string]any{"value": -1}))
	b.exec(`ALTER TABLE counted DROP CONSTRAINT counted_value_check`)
	holder, err := b.admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), `LOCK TABLE writes IN SHARE MODE`); err != nil { // stops the replay midway
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() { b.replay(id) })
	b.db.UntilWaiting(t, 1)
	group.Go(func() {
		if got := b.upload(alice, body(patch(2, "counted", "a", map[string]any{"value": 2}))); got.Applied != 1 {
			t.Errorf("the upload: %+v", countsOf(got))
		}
	})
	b.db.UntilWaiting(t, 2)
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	if got := b.state(id) + b.text(`SELECT value::text FROM counted`); got != "replayed since2" {
		t.Errorf("state and value: %s", got)
	}
}

func TestRejectionStaysOpenWhenTheReplaysBackendIsKilled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.reject(alice, put(1, "counted", "a", map[string]any{"value": -1}))
	b.exec(`ALTER TABLE counted DROP CONSTRAINT counted_value_check;
		CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER die AFTER INSERT ON counted DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()`)
	if err := b.rejections().Replay(t.Context(), id, false, func(r *postgres.Replayed) { t.Errorf("%+v", r) }); err == nil {
		t.Error("a replay whose connection died is no error")
	}
	if got := b.state(id) + b.text(`SELECT count(*)::text FROM counted`); got != "open0" {
		t.Errorf("state and rows: %s", got)
	}
	b.exec(`DROP TRIGGER die ON counted`)
	if got := b.replay(id); got[0].State != uploads.Replayed {
		t.Errorf("%+v", got)
	}
}

func TestRejectionOfADisabledUserIsNotReplayed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.reject(alice, put(1, "counted", "a", map[string]any{"value": -1}))
	b.exec(`ALTER TABLE counted DROP CONSTRAINT counted_value_check`)
	b.exec(`INSERT INTO ferry.denylist (user_id, disabled) VALUES ($1, true), ($2, false)`, alice, bob)
	want := []postgres.Replayed{{ID: id, State: uploads.Open, Refusal: &uploads.Refusal{
		Code: "user_disabled", Message: "the user is disabled; nothing is done in their name",
	}}}
	if diff := cmp.Diff(want, b.replay(id)); diff != "" || b.state(id) != "open" {
		t.Errorf("state %s (-want +got):\n%s", b.state(id), diff)
	}
	b.exec(`UPDATE ferry.denylist SET disabled = NOT disabled`)
	if got := b.replay(id); got[0].State != uploads.Replayed {
		t.Errorf("%+v", got)
	}
}

// A replay that waits for an upload of its client must see who was disabled
// meanwhile.
func TestAUserDisabledWhileTheReplayWaitsIsNotActedFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.reject(alice, put(1, "counted", "a", map[string]any{"value": -1}))
	b.exec(`ALTER TABLE counted DROP CONSTRAINT counted_value_check`)
	holder, err := b.admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), `SELECT FROM ferry.rejections WHERE id = $1 FOR UPDATE`, id); err != nil {
		t.Fatal(err)
	}
	done := make(chan []postgres.Replayed, 1)
	go func() { done <- b.replay(id) }()
	b.db.UntilWaiting(t, 1)
	b.exec(`INSERT INTO ferry.denylist (user_id, disabled) VALUES ($1, true)`, alice)
	if err := holder.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-done; len(got) != 1 || got[0].Refusal == nil || got[0].Refusal.Code != "user_disabled" {
		t.Errorf("%+v", got)
	}
}

func TestRejectionsPlanSaysWhichRowsExist(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.upload(bob, body(put(1, "lists", uid(2), map[string]any{"name": "hidden from alice"})))
	id := b.reject(alice,
		put(1, "counted", "a", map[string]any{"value": -1}).in(1),
		put(2, "counted", "b", map[string]any{"value": 1}).in(1),
		put(3, "lists", uid(2), map[string]any{"name": "x"}).in(1),
		put(4, "nowhere", "c", map[string]any{"value": 1}).in(1))
	b.exec(`INSERT INTO counted VALUES ('a', 99)`)
	_, got, err := b.rejections().Plan(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	want := []postgres.PlannedOperation{
		{Kind: "PUT", Table: "counted", RowID: "a", Exists: true},
		{Kind: "PUT", Table: "counted", RowID: "b"},
		{Kind: "PUT", Table: "lists", RowID: uid(2), Exists: true},
		{Kind: "PUT", Table: "nowhere", RowID: "c", Refusal: &uploads.Refusal{Code: "unknown_table", Message: `there is no table "nowhere"`}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := b.state(id) + b.text(`SELECT value::text FROM counted`); got != "open99" {
		t.Errorf("state and value after a plan: %s", got)
	}
}

func TestRejectionsOfEveryShapeAreReplayedWhole(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"numbers around the entries": `{"client_id":"c","transactions":[{"transaction_id":7,"crud":[
			{"op_id":1,"op":"PUT","type":"counted","id":"a","data":{"value":1}},
			{"op_id":2,"op":"PUT","type":"counted","id":"b","data":{"value":-1}}]}]}`,
		"without a client": `[{"tx_id":7,"op":"PUT","type":"counted","id":"a","data":{"value":1}},
			{"tx_id":7,"op":"PUT","type":"counted","id":"b","data":{"value":-1}}]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := b.upload(alice, request).Rejected[0].ID
			if got := b.replay(id); got[0].State != uploads.Open || b.text(`SELECT count(*)::text FROM counted`) != "0" {
				t.Errorf("refused again: %+v", got)
			}
			b.exec(`ALTER TABLE counted DROP CONSTRAINT counted_value_check`)
			if got := b.replay(id); got[0].Applied != 2 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestRejectionsAreFiltered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bad := map[string]any{"value": -1}
	ids := []string{
		b.reject(alice, put(1, "counted", "a", bad)),
		b.reject(alice, put(2, "nowhere", "b", bad)),
		b.reject(bob, put(1, "counted", "c", bad)),
		b.reject(bob, put(2, "counted", "d", bad)),
	}
	for i, id := range ids {
		b.exec(`UPDATE ferry.rejections SET created_at = timestamptz '2026-01-01' + $1 * interval '1 day' WHERE id = $2`, i, id)
	}
	b.exec(`UPDATE ferry.rejections SET state = 'discarded', settled_at = now() WHERE id = $1`, ids[3])
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	for name, test := range map[string]struct {
		filter postgres.RejectionFilter
		want   []string
	}{
		"all":     {postgres.RejectionFilter{}, ids},
		"newest":  {postgres.RejectionFilter{NewestFirst: true, Limit: 2}, []string{ids[3], ids[2]}},
		"limit":   {postgres.RejectionFilter{Limit: 2}, ids[:2]},
		"user":    {postgres.RejectionFilter{User: bob}, ids[2:]},
		"table":   {postgres.RejectionFilter{Table: "nowhere"}, ids[1:2]},
		"code":    {postgres.RejectionFilter{Code: "unknown_table"}, ids[1:2]},
		"since":   {postgres.RejectionFilter{Since: day(3)}, ids[2:]},
		"open":    {postgres.RejectionFilter{State: uploads.Open}, ids[:3]},
		"several": {postgres.RejectionFilter{User: bob, State: uploads.Open, Table: "counted", Code: "check_violation"}, ids[2:3]},
		"none":    {postgres.RejectionFilter{User: "nobody"}, []string{}},
	} {
		got, err := b.rejections().List(t.Context(), test.filter)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, idsOf(got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestRejectionIsShownWhole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const entry = `{"op_id":4, "tx_id":2, "op":"PUT", "type":"counted", "id":"a", "data":{"value":-1.0, "x":"\ud800"}}`
	id := b.upload(alice, `{"client_id":"device","crud":[`+entry+`]}`).Rejected[0].ID
	got, err := b.rejections().Find(t.Context(), strings.ToUpper(id))
	if err != nil {
		t.Fatal(err)
	}
	tx, opID := int64(2), int64(4)
	want := &postgres.StoredRejection{
		Rejection: uploads.Rejection{
			ID: id, TxID: &tx, OpID: &opID, State: uploads.Open, Table: "counted", RowID: "a",
			Refusal: uploads.Refusal{Code: "unknown_column", Column: "x", Message: `table "counted" has no column "x"`},
		},
		UserID: alice, ClientID: "device",
		Operations: json.RawMessage("[" + entry + "]"),
		Claims:     callerOf(alice).Claims,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(postgres.StoredRejection{}, "CreatedAt")); diff != "" {
		t.Error(diff)
	}
	for _, id := range []string{uid(1), "", "x", "'; --"} {
		if _, err := b.rejections().Find(t.Context(), id); !errors.Is(err, postgres.ErrNoRejection) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestRejectionsAreDiscardedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := storyOf(b)
	for _, want := range []bool{true, false} {
		if got, err := b.rejections().Discard(t.Context(), ids[0]); err != nil || got != want {
			t.Errorf("discarded %v, %v, want %v", got, err, want)
		}
	}
	if got := b.state(ids[0]) + " " + b.state(ids[1]); got != "discarded since open" {
		t.Errorf("states %s", got)
	}
	if got := b.replay(ids[0]); len(got) != 1 || !got[0].Already || got[0].State != uploads.Discarded {
		t.Errorf("a discarded one was replayed: %+v", got)
	}
}

func TestRejectionsThatAreOpenOrNeededAreNotPruned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := storyOf(b) // each depends on the first or on another
	settle := func(id, state string, days int) {
		b.exec(`UPDATE ferry.rejections SET state = $2, settled_at = now() - $3 * interval '1 day' WHERE id = $1`, id, state, days)
	}
	alone := b.reject(bob, put(1, "counted", "x", map[string]any{"value": -1}))
	recent := b.reject(bob, put(2, "counted", "y", map[string]any{"value": -1}))
	openOne := b.reject(bob, put(3, "counted", "z", map[string]any{"value": -1}))
	settle(ids[0], "replayed", 100)
	settle(alone, "discarded", 100)
	settle(recent, "discarded", 80)
	prune := func(want int64) {
		t.Helper()
		got, err := b.rejections().Prune(t.Context(), time.Now().Add(-90*24*time.Hour))
		if err != nil || got != want {
			t.Errorf("pruned %d, %v, want %d", got, err, want)
		}
	}
	prune(1)
	left, err := b.rejections().List(t.Context(), postgres.RejectionFilter{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(append(append([]string{}, ids...), recent, openOne), idsOf(left)); diff != "" {
		t.Error(diff)
	}
	for _, id := range ids[1:] {
		settle(id, "replayed", 100)
	}
	prune(4) // a whole story at once
	prune(0)
}

func TestServingRoleCannotDeleteRejectionsByItself(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.reject(alice, put(1, "counted", "x", map[string]any{"value": -1}))
	_, err := b.db.PoolAs(t, loginRole).Exec(t.Context(), `DELETE FROM ferry.rejections`)
	if err == nil {
		t.Error("the login role may delete rejections")
	}
}

func TestRejectionBytesOfAUserAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.reject(alice, put(1, "counted", "a", map[string]any{"value": -1}))
	b.exec(`UPDATE ferry.rejections SET operations = decode(repeat('20', 64 << 20), 'hex')`)
	next := body(
		put(2, "counted", "b", map[string]any{"value": 2}),
		put(3, "counted", "c", map[string]any{"value": -1}),
		put(4, "counted", "d", map[string]any{"value": 4}))
	expect429(t, b, alice, next)
	if got := b.text(`SELECT count(*)::text FROM ferry.rejections`); got != "1" {
		t.Errorf("%s rejections are stored", got)
	}
	b.reject(bob, put(1, "counted", "z", map[string]any{"value": -1})) // each user has a cap
	b.upload(alice, bodyOf("other", put(1, "counted", "e", map[string]any{"value": 1})))

	if _, err := b.rejections().Discard(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	result := b.upload(alice, next)
	if len(result.Rejected) != 1 || result.Applied+result.Duplicates != 2 {
		t.Errorf("after a discard: %+v", countsOf(result))
	}
	if got := b.text(`SELECT string_agg(id, '' ORDER BY id) FROM counted`); got != "bde" {
		t.Errorf("rows %s", got)
	}
}

func TestRejectionCapsBoundTheClientsOfAUser(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`INSERT INTO ferry.progress (user_id, client_id, last_op_id) SELECT $1, 'known ' || n, 1 FROM generate_series(1, 1000) n`, alice)
	one := put(2, "counted", "a", map[string]any{"value": 1})
	bad := put(3, "counted", "b", map[string]any{"value": -1})
	expect429(t, b, alice, bodyOf("new", one))
	expect429(t, b, alice, bodyOf("new", bad, put(4, "nowhere", "c", nil)))
	b.upload(alice, bodyOf("known 7", one))
	b.upload(alice, bodyOf("known 7", one, bad)) // the second path, too
	b.upload(bob, bodyOf("new", one))
	b.exec(`DELETE FROM ferry.progress WHERE client_id = 'known 8'`)
	if got := b.upload(alice, bodyOf("new", one)); got.Applied != 1 {
		t.Errorf("with room again: %+v", countsOf(got))
	}
}

// expect429 uploads what must wait.
func expect429(t *testing.T, b *bundle, user, request string) {
	t.Helper()
	_, err := b.try(b.store, user, request)
	got, ok := errors.AsType[*fault.Error](err)
	if !ok || got.Code != fault.TooManyRequests || got.RetryAfter <= 0 {
		t.Errorf("got %v, want %s", err, fault.TooManyRequests)
	}
}

// The SQL in docs/rejections.md is what operators run.
func TestRejectionsReachTheTableThatUsersSync(t *testing.T) {
	t.Parallel()
	b := setup(t)
	text, err := os.ReadFile("../../docs/rejections.md")
	if err != nil {
		t.Fatal(err)
	}
	_, sql, _ := strings.Cut(string(text), "```sql\n")
	sql, _, _ = strings.Cut(sql, "```")
	role := "sync_" + b.db.Name
	before := b.reject(alice, put(1, "counted", "a", map[string]any{"value": -1}))
	b.db.Exec(t, `CREATE ROLE `+role+` LOGIN; CREATE PUBLICATION powersync; `+strings.ReplaceAll(sql, "powersync_role", role))
	after := b.reject(bob, put(1, "counted", "b", map[string]any{"value": -1}))

	type row struct{ ID, User, Code, Table, RowID, State string }
	synced := func() []row {
		t.Helper()
		rows, err := b.db.PoolAs(t, role).Query(t.Context(),
			`SELECT id::text, user_id, code, table_name, row_id, state FROM (SELECT * FROM ferry_sync.rejections) AS r ORDER BY row_id`)
		if err != nil {
			t.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	want := []row{
		{before, alice, "check_violation", "counted", "a", "open"},
		{after, bob, "check_violation", "counted", "b", "open"},
	}
	if diff := cmp.Diff(want, synced()); diff != "" {
		t.Error(diff)
	}
	b.exec(`ALTER TABLE counted DROP CONSTRAINT counted_value_check`)
	b.replay(before)
	want[0].State = "replayed"
	if diff := cmp.Diff(want, synced()); diff != "" {
		t.Errorf("after a replay: %s", diff)
	}
	if _, err := b.rejections().Prune(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[1:], synced()); diff != "" {
		t.Errorf("after pruning: %s", diff)
	}
	if got := b.text(`SELECT string_agg(schemaname || '.' || tablename, ' ') FROM pg_publication_tables WHERE pubname = 'powersync'`); got != "ferry_sync.rejections" {
		t.Errorf("the publication has %s", got)
	}
}
