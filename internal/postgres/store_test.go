package postgres_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/postgres"
	"ferry/internal/uploads"
)

func TestOperationsOfEachKindTakeEffect(t *testing.T) {
	t.Parallel()
	b := setup(t)
	result := b.upload(alice, body(
		put(1, "lists", uid(1), map[string]any{"name": "groceries"}),
		put(2, "todos", uid(2), map[string]any{"description": "milk", "list_id": uid(1)}),
		put(3, "todos", uid(3), map[string]any{"description": "bread", "list_id": uid(1), "completed": 1}),
		patch(4, "todos", uid(2), map[string]any{"completed": 1.0}),
		del(5, "todos", uid(3)),
		patch(6, "todos", uid(2), map[string]any{}),
	))
	last := int64(6)
	want := &uploads.Result{LastOpID: &last, ExactlyOnce: true, Applied: 6, Rejected: []uploads.Rejection{}}
	if diff := cmp.Diff(want, result); diff != "" {
		t.Error(diff)
	}
	got := b.text(`SELECT string_agg(t.description || ' ' || t.completed || ' ' || l.owner_id, ',') FROM todos t JOIN lists l ON l.id = t.list_id`)
	if want := "milk true " + alice; got != want {
		t.Errorf("todos are %q, want %q", got, want)
	}
}

func TestARedeliveryHasOneEffect(t *testing.T) {
	t.Parallel()
	b := setup(t)
	whole := []op{
		put(1, "counted", "x", map[string]any{"value": 1}),
		patch(2, "counted", "x", map[string]any{"value": 2}),
		del(3, "counted", "gone"),
		put(4, "counted", "bad", map[string]any{"value": -1}),
		patch(5, "counted", "x", map[string]any{"value": 5}),
	}
	first := b.upload(alice, body(whole...))
	if diff := cmp.Diff(counts{Applied: 3, Ignored: 1, Rejected: []string{"check_violation"}}, countsOf(first)); diff != "" {
		t.Fatal(diff)
	}
	b.exec(`UPDATE counted SET value = 99`) // another client's write in between
	writes := b.text(`SELECT count(*)::text FROM writes`)

	again := b.upload(alice, body(whole...))
	if diff := cmp.Diff(counts{Duplicates: 3, Ignored: 1, Rejected: []string{"check_violation"}}, countsOf(again)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(first.Rejected, again.Rejected); diff != "" {
		t.Errorf("the redelivered rejection differs: %s", diff)
	}
	for cut := 1; cut < len(whole); cut++ { // cut into other batches, and out of order
		b.upload(alice, body(whole[cut:]...))
		b.upload(alice, body(whole[:cut]...))
	}
	if got := b.text(`SELECT count(*)::text FROM writes`); got != writes {
		t.Errorf("redeliveries made %s writes of %s", got, writes)
	}
	if got := b.text(`SELECT value::text FROM counted WHERE id = 'x'`); got != "99" {
		t.Errorf("a redelivery overwrote another client's value with %s", got)
	}
	if got := b.text(`SELECT count(*)::text FROM ferry.rejections`); got != "1" {
		t.Errorf("%s rejections are stored, want 1", got)
	}
}

func TestReusedOpIDsWithOtherContentAreApplied(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.upload(alice, body(put(10, "counted", "a", map[string]any{"value": 1}), put(11, "counted", "b", map[string]any{"value": 1})))
	// The client's database was reset and counts from the beginning again.
	got := b.upload(alice, body(
		put(9, "counted", "c", map[string]any{"value": 1}),
		put(10, "counted", "d", map[string]any{"value": 1}),
		put(11, "counted", "b", map[string]any{"value": 1.0}), // the same as before, spelled differently
		put(12, "counted", "e", map[string]any{"value": 1}),
	))
	if diff := cmp.Diff(counts{Applied: 3, Duplicates: 1}, countsOf(got)); diff != "" {
		t.Error(diff)
	}
	if ids := b.text(`SELECT string_agg(id, '' ORDER BY id) FROM counted`); ids != "abcde" {
		t.Errorf("rows %s, want abcde", ids)
	}
}

func TestTheSameContentUnderANewOpIDIsANewOperation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.upload(alice, body(put(1, "counted", "a", map[string]any{"value": 1})))
	got := b.upload(alice, body(put(2, "counted", "a", map[string]any{"value": 1})))
	if diff := cmp.Diff(counts{Applied: 1}, countsOf(got)); diff != "" {
		t.Error(diff)
	}
}

func TestClientsAndUsersDoNotShareProgress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, user := range []string{alice, bob} {
		for _, client := range []string{"phone", "laptop"} {
			got := b.upload(user, bodyOf(client, put(1, "counted", user+client, map[string]any{"value": 1})))
			if diff := cmp.Diff(counts{Applied: 1}, countsOf(got)); diff != "" {
				t.Errorf("%s on %s: %s", user, client, diff)
			}
		}
	}
}

func TestConcurrentDeliveriesApplyOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := b.open(func(*postgres.Options) {}) // another ferry: no queue in common
	request := body(put(1, "counted", "a", map[string]any{"value": 1}), patch(2, "counted", "a", map[string]any{"value": 2}))
	var group sync.WaitGroup
	results := make([]counts, 12)
	for i := range results {
		store := b.store
		if i%2 == 1 {
			store = other
		}
		group.Go(func() {
			result, err := b.try(store, alice, request)
			if err != nil {
				t.Errorf("delivery %d: %v", i, err)
				return
			}
			results[i] = countsOf(result)
		})
	}
	group.Wait()
	applied := 0
	for _, r := range results {
		applied += r.Applied
		if r.Applied+r.Duplicates != 2 {
			t.Errorf("a delivery counted %+v", r)
		}
	}
	if applied != 2 {
		t.Errorf("%d operations were applied, want 2", applied)
	}
	if got := b.text(`SELECT count(*)::text FROM writes`); got != "2" {
		t.Errorf("%s writes, want 2", got)
	}
}

func TestHistoryIsKeptForManyOperations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := func(n int) string { return body(put(n, "counted", uid(n), map[string]any{"value": n})) }
	for n := 1; n <= 150; n++ { // enough to move decisions out of the row several times
		b.upload(alice, one(n))
	}
	large := make([]op, 400)
	for i := range large {
		large[i] = put(200+i, "counted", uid(200+i), map[string]any{"value": i})
	}
	b.upload(alice, body(large...))
	for n := 1; n <= 150; n++ {
		if got := b.upload(alice, one(n)); got.Duplicates != 1 {
			t.Fatalf("operation %d was not recognised: %+v", n, countsOf(got))
		}
	}
	if got := b.upload(alice, body(large...)); got.Duplicates != len(large) {
		t.Errorf("the large upload was not recognised: %+v", countsOf(got))
	}
}

func TestOldHistoryIsForgottenOnlyBeyondADayAndAThousandOperations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch := func(first int) string {
		ops := make([]op, 150) // too many for ferry.progress
		for i := range ops {
			ops[i] = put(first+i, "counted", uid(first+i), map[string]any{"value": 1})
		}
		return body(ops...)
	}
	for i := range 8 {
		b.upload(alice, batch(1+150*i))
	}
	b.exec(`UPDATE ferry.history SET created_at = now() - interval '25 hours'`)
	b.upload(alice, batch(1201)) // makes 1350 operations: the first two batches are beyond both limits
	if got := b.text(`SELECT min(first_op_id)::text FROM ferry.history`); got != "301" {
		t.Errorf("history begins at operation %s, want 301", got)
	}
}

func TestARejectedTransactionLeavesItsNeighboursAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`INSERT INTO lists (id, name, owner_id) VALUES ($1, 'hers', $2)`, uid(100), bob)
	got := b.upload(alice, body(
		put(1, "lists", uid(1), map[string]any{"name": "mine"}).in(1),
		put(2, "lists", uid(2), map[string]any{"name": "not mine", "owner_id": bob}).in(2),
		put(3, "todos", uid(3), map[string]any{"description": "in it", "list_id": uid(1)}).in(2),
		put(4, "todos", uid(4), map[string]any{"description": "good", "list_id": uid(1)}).in(3),
		patch(5, "lists", uid(100), map[string]any{"name": "hijacked"}).in(4),
		del(6, "lists", uid(100)).in(5),
		put(7, "lists", uid(100), map[string]any{"name": "hijacked"}).in(6),
		put(8, "todos", uid(8), map[string]any{"description": "x", "list_id": uid(999)}).in(7),
	))
	want := counts{Applied: 2, Rejected: []string{"forbidden", "forbidden", "forbidden", "forbidden", "forbidden"}}
	if diff := cmp.Diff(want, countsOf(got)); diff != "" {
		t.Errorf("%s\n%+v", diff, got.Rejected)
	}
	if rows := b.text(`SELECT string_agg(name, ',' ORDER BY name) FROM lists`); rows != "hers,mine" {
		t.Errorf("lists are %s", rows)
	}
	if rows := b.text(`SELECT string_agg(description, ',') FROM todos`); rows != "good" {
		t.Errorf("todos are %s", rows)
	}
	stored := b.text(`SELECT convert_from(operations, 'UTF8') FROM ferry.rejections WHERE tx_id = 2`)
	var entries []map[string]any
	if err := json.Unmarshal([]byte(stored), &entries); err != nil || len(entries) != 2 {
		t.Errorf("the stored transaction is %s", stored)
	}
}

func TestRejectionsAnswerAsTheProtocolSays(t *testing.T) {
	t.Parallel()
	b := setup(t, `
		ALTER TABLE counted ADD COLUMN other int, ADD CONSTRAINT small CHECK (value < 1000), ADD UNIQUE (other);
		ALTER TABLE counted ALTER value SET NOT NULL;
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF new.value = 7 THEN RAISE EXCEPTION 'seven is taken' USING HINT = 'choose eight'; END IF;
			IF new.value = 8 THEN RAISE EXCEPTION 'own code' USING ERRCODE = 'AB123'; END IF;
			RETURN new;
		END $$;
		CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON counted FOR EACH ROW EXECUTE FUNCTION refuse();
		CREATE TABLE ungranted (id text PRIMARY KEY);
		ALTER TABLE ungranted ENABLE ROW LEVEL SECURITY;
		INSERT INTO counted (id, value, other) VALUES ('taken', 1, 1);`)
	for name, c := range map[string]struct {
		op   op
		want uploads.Refusal
	}{
		"check":         {put(1, "counted", "x", map[string]any{"value": 1000}), uploads.Refusal{Code: "check_violation", SQLState: "23514", Constraint: "small"}},
		"not null":      {put(1, "counted", "x", map[string]any{"other": 5}), uploads.Refusal{Code: "not_null_violation", SQLState: "23502", Column: "value"}},
		"unique":        {put(1, "counted", "x", map[string]any{"value": 1, "other": 1}), uploads.Refusal{Code: "unique_violation", SQLState: "23505", Constraint: "counted_other_key"}},
		"raise":         {put(1, "counted", "x", map[string]any{"value": 7}), uploads.Refusal{Code: "raise_exception", SQLState: "P0001", Message: "seven is taken (choose eight)"}},
		"own sqlstate":  {put(1, "counted", "x", map[string]any{"value": 8}), uploads.Refusal{Code: "raise_exception", SQLState: "AB123", Message: "own code"}},
		"bad text":      {put(1, "counted", "x", map[string]any{"value": "one"}), uploads.Refusal{Code: "invalid_text_representation", SQLState: "22P02", Column: "value"}},
		"out of range":  {put(1, "counted", "x", map[string]any{"value": 1 << 40}), uploads.Refusal{Code: "numeric_value_out_of_range", SQLState: "22003", Column: "value"}},
		"no table":      {put(1, "missing", "x", nil), uploads.Refusal{Code: "unknown_table"}},
		"no column":     {put(1, "counted", "x", map[string]any{"valeu": 1}), uploads.Refusal{Code: "unknown_column", Column: "valeu"}},
		"not granted":   {put(1, "ungranted", "x", nil), uploads.Refusal{Code: "forbidden", SQLState: "42501"}},
		"no protection": {put(1, "unprotected", "x", nil), uploads.Refusal{Code: "forbidden", SQLState: "42501"}},
		"NUL in text":   {put(1, "kinds", "x", map[string]any{"t": "a\x00b"}), uploads.Refusal{Code: "malformed_value", Column: "t"}},
		"NUL in id":     {put(1, "kinds", "a\x00b", map[string]any{"t": "x"}), uploads.Refusal{Code: "malformed_value", Column: "id"}},
		"no uuid":       {put(1, "lists", "x", map[string]any{"name": "x"}), uploads.Refusal{Code: "invalid_text_representation", SQLState: "22P02", Column: "id"}},
		"too long":      {put(1, "kinds", "x", map[string]any{"v5": "123456"}), uploads.Refusal{Code: "string_data_right_truncation", SQLState: "22001", Column: "v5"}},
	} {
		got := b.upload(alice, bodyOf(name, c.op))
		if len(got.Rejected) != 1 {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		r := got.Rejected[0]
		if r.Message == "" || r.State != uploads.Open || r.OpIndex != 0 || *r.OpID != 1 {
			t.Errorf("%s: %+v", name, r)
		}
		if c.want.Message == "" {
			r.Message = ""
		}
		if diff := cmp.Diff(c.want, r.Refusal); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestLoneSurrogatesAreRejectedAndDoNotBlock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.upload(alice, `{"client_id":"c","crud":[
		{"op_id":1,"op":"PUT","type":"kinds","id":"a","data":{"t":"\ud800"}},
		{"op_id":2,"op":"PUT","type":"kinds","id":"\udfff","data":{"t":"x"}},
		{"op_id":3,"op":"PUT","type":"\ud800","id":"a","data":{}},
		{"op_id":4,"op":"PUT","type":"kinds","id":"b","data":{"\ud800":"x"}},
		{"op_id":5,"op":"PUT","type":"kinds","id":"c","data":{"t":"fine"}}]}`)
	want := counts{Applied: 1, Rejected: []string{"malformed_value", "malformed_value", "malformed_value", "malformed_value"}}
	if diff := cmp.Diff(want, countsOf(got)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatNeedsARejectedRowIsRejectedWithIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.upload(alice, body(
		patch(1, "counted", "a", map[string]any{"value": 3}), // before the PUT: ignored
		put(2, "counted", "a", map[string]any{"value": -1}),
		patch(3, "counted", "a", map[string]any{"value": 2}),
		del(4, "counted", "a"),
		patch(5, "counted", "other", map[string]any{"value": 2}),
	))
	want := counts{Ignored: 2, Rejected: []string{"check_violation", "depends_on_rejected", "depends_on_rejected"}}
	if diff := cmp.Diff(want, countsOf(got)); diff != "" {
		t.Error(diff)
	}
	if roots := b.text(`SELECT count(DISTINCT depends_on)::text FROM ferry.rejections`); roots != "1" {
		t.Errorf("the dependent ones have %s roots", roots)
	}
}

func TestTheRestOfARejectedTransactionIsRejectedWithIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.upload(alice, body(
		put(1, "counted", "a", map[string]any{"value": 1}).in(1),
		put(2, "counted", "b", map[string]any{"value": -1}).in(2)))
	got := b.upload(alice, body( // getCrudBatch() has cut transaction 2
		put(3, "counted", "c", map[string]any{"value": 1}).in(2),
		put(4, "counted", "d", map[string]any{"value": 1}).in(3)))
	if diff := cmp.Diff(counts{Applied: 1, Rejected: []string{"depends_on_rejected"}}, countsOf(got)); diff != "" {
		t.Error(diff)
	}
	// The same queue in other batches: nothing changes.
	again := b.upload(alice, body(
		put(2, "counted", "b", map[string]any{"value": -1}).in(2),
		put(3, "counted", "c", map[string]any{"value": 1}).in(2),
		put(4, "counted", "d", map[string]any{"value": 1}).in(3)))
	if diff := cmp.Diff(counts{Duplicates: 1, Rejected: []string{"check_violation", "depends_on_rejected"}}, countsOf(again)); diff != "" {
		t.Error(diff)
	}
	if rows := b.text(`SELECT string_agg(id, '' ORDER BY id) FROM counted`); rows != "ad" {
		t.Errorf("rows %s, want ad", rows)
	}
}

func TestErrorsAtCommitBelongToTheirTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t, `
		CREATE TABLE nodes (id text PRIMARY KEY, parent text REFERENCES nodes DEFERRABLE INITIALLY DEFERRED);
		ALTER TABLE nodes ENABLE ROW LEVEL SECURITY;
		CREATE POLICY everybody ON nodes TO authenticated USING (true);
		GRANT ALL ON nodes TO authenticated;`)
	got := b.upload(alice, body(
		put(1, "nodes", "child", map[string]any{"parent": "root"}).in(1),
		put(2, "nodes", "root", nil).in(1),
		put(3, "nodes", "orphan", map[string]any{"parent": "nobody"}).in(2),
		put(4, "nodes", "leaf", map[string]any{"parent": "child"}).in(3)))
	if diff := cmp.Diff(counts{Applied: 3, Rejected: []string{"foreign_key_violation"}}, countsOf(got)); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutOpIDsOperationsAreAppliedEachTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 2 {
		got := b.upload(alice, `[{"op":"PUT","type":"counted","id":"a","data":{"value":1}},{"op":"PUT","type":"counted","id":"b","data":{"value":-1}}]`)
		want := counts{Applied: 1, Rejected: []string{"check_violation"}}
		if diff := cmp.Diff(want, countsOf(got)); diff != "" {
			t.Error(diff)
		}
		if got.ExactlyOnce || got.LastOpID != nil {
			t.Errorf("exactly_once %t, last_op_id %v", got.ExactlyOnce, got.LastOpID)
		}
	}
}

func TestAnUploadWithoutOperationsIsDecided(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := &uploads.Result{ExactlyOnce: true, Rejected: []uploads.Rejection{}}
	if diff := cmp.Diff(want, b.upload(alice, `{"client_id":"c","crud":[]}`)); diff != "" {
		t.Error(diff)
	}
}

func TestAPutOfSomeColumnsKeepsTheOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.upload(alice, body(put(1, "lists", uid(1), map[string]any{"name": "a"})))
	// It lacks the NOT NULL name: the row is there, so it is updated.
	got := b.upload(alice, body(put(2, "lists", uid(1), map[string]any{"created_at": "2020-01-01 00:00:00Z"})))
	if diff := cmp.Diff(counts{Applied: 1}, countsOf(got)); diff != "" {
		t.Errorf("%s\n%+v", diff, got.Rejected)
	}
	if row := b.text(`SELECT name || ' ' || (created_at AT TIME ZONE 'UTC') FROM lists`); row != "a 2020-01-01 00:00:00" {
		t.Errorf("the row is %s", row)
	}
}

func TestAnInsertOnlyTableTakesInserts(t *testing.T) {
	t.Parallel()
	b := setup(t, `
		CREATE TABLE events (id text PRIMARY KEY, what text);
		ALTER TABLE events ENABLE ROW LEVEL SECURITY;
		CREATE POLICY add ON events FOR INSERT TO authenticated WITH CHECK (true);
		GRANT INSERT ON events TO authenticated;`)
	got := b.upload(alice, body(put(1, "events", "a", map[string]any{"what": "x"}), put(2, "events", "b", map[string]any{"what": "x"})))
	if diff := cmp.Diff(counts{Applied: 2}, countsOf(got)); diff != "" {
		t.Errorf("%s\n%+v", diff, got.Rejected)
	}
	got = b.upload(bob, body(put(1, "events", "a", map[string]any{"what": "changed"})))
	if diff := cmp.Diff(counts{Rejected: []string{"forbidden"}}, countsOf(got)); diff != "" {
		t.Error(diff)
	}
}

func TestTriggersThatSuppressAWriteCountAsApplied(t *testing.T) {
	t.Parallel()
	b := setup(t, `
		ALTER TABLE counted ADD COLUMN deleted boolean NOT NULL DEFAULT false;
		CREATE FUNCTION soft_delete() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN UPDATE counted SET deleted = true WHERE id = old.id; RETURN NULL; END $$;
		CREATE TRIGGER soft_delete BEFORE DELETE ON counted FOR EACH ROW EXECUTE FUNCTION soft_delete();
		CREATE TRIGGER unchanged BEFORE UPDATE ON counted FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();`)
	got := b.upload(alice, body(
		put(1, "counted", "a", map[string]any{"value": 1}),
		patch(2, "counted", "a", map[string]any{"value": 1}),
		put(3, "counted", "a", map[string]any{"value": 1}),
		del(4, "counted", "a")))
	if diff := cmp.Diff(counts{Applied: 4}, countsOf(got)); diff != "" {
		t.Errorf("%s\n%+v", diff, got.Rejected)
	}
	if row := b.text(`SELECT value || ' ' || deleted FROM counted`); row != "1 true" {
		t.Errorf("the row is %s", row)
	}
}

func TestTablesChangeUnderARunningServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.upload(alice, body(put(1, "counted", "a", map[string]any{"value": 1})))
	b.exec(`ALTER TABLE counted ADD COLUMN note text`)
	b.exec(`ALTER TABLE counted DROP CONSTRAINT counted_value_check, ALTER value TYPE text; DROP TRIGGER count_write ON counted`)
	b.exec(`CREATE TABLE fresh (id text PRIMARY KEY);
		ALTER TABLE fresh ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON fresh USING (true); GRANT ALL ON fresh TO authenticated`)
	got := b.upload(alice, body(
		put(2, "counted", "b", map[string]any{"value": "two"}),
		put(3, "counted", "c", map[string]any{"note": "new"}),
		put(4, "fresh", "d", nil)))
	if diff := cmp.Diff(counts{Applied: 3}, countsOf(got)); diff != "" {
		t.Errorf("%s\n%+v", diff, got.Rejected)
	}
	b.exec(`DROP TABLE fresh`)
	got = b.upload(alice, body(put(5, "fresh", "e", nil)))
	if diff := cmp.Diff(counts{Rejected: []string{"unknown_table"}}, countsOf(got)); diff != "" {
		t.Error(diff)
	}
}

func TestUploadTablesNamedByTheOperatorNeedNoRowLevelSecurity(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i, tables := range [][]string{{"*"}, {"unprotected"}, {"public.unprotected"}} {
		b.store = b.open(func(o *postgres.Options) { o.Tables = tables })
		got := b.upload(alice, body(put(i+1, "unprotected", "a", map[string]any{"value": i})))
		if diff := cmp.Diff(counts{Applied: 1}, countsOf(got)); diff != "" {
			t.Errorf("%v: %s", tables, diff)
		}
	}
	b.store = b.open(func(o *postgres.Options) { o.Tables = []string{"unprotected"} })
	got := b.upload(alice, body(put(9, "lists", uid(1), map[string]any{"name": "x"})))
	if diff := cmp.Diff(counts{Rejected: []string{"forbidden"}}, countsOf(got)); diff != "" {
		t.Error(diff)
	}
}

func TestAFaultOfFerrysOwnIsNeverARejection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.upload(alice, body(put(1, "counted", "a", map[string]any{"value": 1})))
	b.exec(`REVOKE ALL ON ferry.progress FROM ferry_service`)
	_, err := b.try(b.store, alice, body(put(2, "counted", "b", map[string]any{"value": 1})))
	if f := fault.From(err); f.Code != fault.Unavailable || f.RetryAfter == 0 {
		t.Errorf("the answer is %v", err)
	}
	b.exec(`GRANT SELECT, INSERT, UPDATE ON ferry.progress TO ferry_service`)
	got := b.upload(alice, body(put(2, "counted", "b", map[string]any{"value": 1})))
	if diff := cmp.Diff(counts{Applied: 1}, countsOf(got)); diff != "" {
		t.Error(diff)
	}
}

func TestClaimsAreSetOnEveryTransactionAndLeakNowhere(t *testing.T) {
	t.Parallel()
	b := setup(t, `
		CREATE TABLE seen (id text PRIMARY KEY, who text, claims text, role text);
		CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			new.who := current_setting('app.user_id') || ' ' || current_setting('request.jwt.claim.sub');
			new.claims := current_setting('request.jwt.claims')::json ->> 'sub';
			new.role := current_user;
			RETURN new;
		END $$;
		CREATE TRIGGER see BEFORE INSERT ON seen FOR EACH ROW EXECUTE FUNCTION see();
		ALTER TABLE seen ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON seen USING (true); GRANT ALL ON seen TO authenticated;`)
	b.store = b.open(func(o *postgres.Options) { o.URL += "&pool_max_conns=1" })
	for i, user := range []string{alice, bob, alice} {
		id := uid(i)
		b.upload(user, body(put(100+i, "seen", id, nil)))
		want := user + " " + user + "/" + user + "/authenticated"
		if got := b.text(`SELECT who || '/' || claims || '/' || role FROM seen WHERE id = $1`, id); got != want {
			t.Errorf("the policies saw %s, want %s", got, want)
		}
	}
}

func TestRowsThatThePowerSyncServiceCannotReplicateAreRejected(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.upload(alice, body(
		put(1, "kinds", "large", map[string]any{"t": strings.Repeat("x", 15<<20)}),
		put(2, "kinds", "fine", map[string]any{"t": strings.Repeat("x", 15<<20-100)})))
	if diff := cmp.Diff(counts{Applied: 1, Rejected: []string{"too_large"}}, countsOf(got)); diff != "" {
		t.Error(diff)
	}
}

// TestCapturedPayloadsAreApplied sends what the real SDK sent, case by case.
func TestCapturedPayloadsAreApplied(t *testing.T) {
	t.Parallel()
	b := setup(t, capturedTables)
	file, err := os.Open("../uploads/testdata/captured.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rejections := map[string][]string{
		"string with NUL char": {"malformed_value"},
		"large ints: 2^53-1, 2^53+1 literal, max int64, min int64":             {"numeric_value_out_of_range", "numeric_value_out_of_range"},
		"3.0 / 3.7 into INTEGER col; int into TEXT col; text into INTEGER col": {"invalid_text_representation", "invalid_text_representation"},
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	operations := 0
	for lines.Scan() {
		var c struct {
			Case    string   `json:"case"`
			Entries []string `json:"entries"`
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		request := `{"client_id":"sdk","crud":[` + strings.Join(c.Entries, ",") + `]}`
		got := countsOf(b.upload(alice, request))
		operations += len(c.Entries)
		if diff := cmp.Diff(rejections[c.Case], got.Rejected); diff != "" {
			t.Errorf("%s: %s", c.Case, diff)
		}
		if got.Applied+len(got.Rejected) != len(c.Entries) {
			t.Errorf("%s: %d entries, %+v", c.Case, len(c.Entries), got)
		}
		again := countsOf(b.upload(alice, request))
		if again.Applied != 0 || again.Duplicates != got.Applied {
			t.Errorf("%s, sent again: %+v", c.Case, again)
		}
	}
	if err := lines.Err(); err != nil || operations < 50 {
		t.Errorf("%d operations, %v", operations, err)
	}
	if got := b.text(`SELECT i::text FROM plain WHERE id = $1`, uid(13)); got != "9007199254740992" {
		t.Errorf("the integer is %s", got)
	}
}

// capturedTables are the tables of the captured client's schema.
var capturedTables = func() string {
	var b strings.Builder
	for _, table := range []string{"plain", "prev", "prev_cols", "prev_changed", "meta", "prevmeta", "ins_only", "renamed"} {
		b.WriteString(`CREATE TABLE ` + table + ` (id text PRIMARY KEY, t text, i int8, r float8, b text, j jsonb, bool boolean);
			ALTER TABLE ` + table + ` ENABLE ROW LEVEL SECURITY;
			CREATE POLICY everybody ON ` + table + ` TO authenticated USING (true);
			GRANT SELECT, INSERT, UPDATE, DELETE ON ` + table + ` TO authenticated;`)
	}
	return b.String()
}()

// A row that another client makes just then is no reason to refuse its PUT, however
// large the client transaction is.
func TestPutOfARowThatIsMadeDuringAHugeTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
		CREATE TRIGGER keep BEFORE INSERT ON counted FOR EACH ROW EXECUTE FUNCTION keep()`)
	ops := make([]op, 5_001) // more than are tried one by one
	for i := range ops {
		ops[i] = put(i+1, "counted", fmt.Sprint(i), map[string]any{"value": 2}).in(1)
	}
	other, err := b.admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // committed, if all goes well
	if _, err := other.Exec(t.Context(), `INSERT INTO counted VALUES ('4000', 1)`); err != nil {
		t.Fatal(err)
	}
	got := make(chan *uploads.Result, 1)
	go func() {
		result, err := b.try(b.store, alice, body(ops...))
		if err != nil {
			t.Error(err)
		}
		got <- result
	}()
	b.db.UntilWaiting(t, 1)
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if result := <-got; result == nil || result.Applied != len(ops) {
		t.Errorf("%+v", result)
	}
	if got := b.text(`SELECT count(*) || ' ' || sum(value) FROM counted`); got != "5001 10002" {
		t.Errorf("rows and their sum are %s", got)
	}
}
