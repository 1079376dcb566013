package postgres_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/postgres"
	"ferry/internal/uploads"
)

// setupCheckpoints is setup with write checkpoints on.
func setupCheckpoints(t *testing.T, sql ...string) *bundle {
	t.Helper()
	b := setup(t, sql...)
	b.store = b.open(withCheckpoints)
	return b
}

func withCheckpoints(o *postgres.Options) { o.WriteCheckpoints = true }

// checkpoint returns the stored checkpoint of a client of alice's.
func (b *bundle) checkpoint(client string) string {
	b.t.Helper()
	return b.text(`SELECT (SELECT checkpoint FROM ferry.checkpoints WHERE user_id = $1 AND client_id = $2)::text`, alice, client)
}

// Each step is an upload of one client, whatever path it takes.
func TestEachUploadRaisesItsCheckpoint(t *testing.T) {
	t.Parallel()
	good := put(1, "counted", "a", map[string]any{"value": 1})
	bad := put(2, "counted", "b", map[string]any{"value": -1})
	steps := []struct {
		name, body string
		want       counts
	}{
		{"new", body(good), counts{Applied: 1}},
		{"a redelivery", body(good), counts{Duplicates: 1}},
		{"a rejection", body(bad), counts{Rejected: []string{"check_violation"}}},
		{"a redelivered rejection", body(bad), counts{Rejected: []string{"check_violation"}}},
		{"a row that is gone", body(del(3, "counted", "gone")), counts{Ignored: 1}},
		{
			"some of each", body(good, bad, put(4, "counted", "c", map[string]any{"value": 1}), put(5, "no_table", "d", nil), put(6, "counted", "e", nil)),
			counts{Applied: 2, Duplicates: 1, Rejected: []string{"check_violation", "unknown_table"}},
		},
		{"nothing", body([]op{}...), counts{}},
		{"without op ids", body(op{Op: "PUT", Type: "counted", ID: "f", Data: map[string]any{"value": 1}}), counts{Applied: 1}},
		{
			"without op ids, rejected", body(op{Op: "PUT", Type: "counted", ID: "f", Data: map[string]any{"value": -1}}),
			counts{Rejected: []string{"check_violation"}},
		},
		{
			"without op ids, in parts", body(
				op{Op: "PUT", Type: "counted", ID: "g", Data: map[string]any{"value": 1}},
				op{Op: "PUT", Type: "counted", ID: "h", Data: map[string]any{"value": -1}},
				op{Op: "PUT", Type: "counted", ID: "i", Data: map[string]any{"value": 1}},
			),
			counts{Applied: 2, Rejected: []string{"check_violation"}},
		},
	}
	b := setupCheckpoints(t)
	last := 0
	for _, s := range steps {
		result := b.upload(alice, s.body)
		if diff := cmp.Diff(s.want, countsOf(result)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
		n, err := strconv.Atoi(result.Checkpoint)
		if err != nil || n <= last {
			t.Errorf("%s: checkpoint %q after %d", s.name, result.Checkpoint, last)
		}
		if stored := b.checkpoint("device"); stored != result.Checkpoint {
			t.Errorf("%s: %s is answered, %s is stored", s.name, result.Checkpoint, stored)
		}
		last = n
	}
}

func TestACheckpointIsCommittedWithItsOperations(t *testing.T) {
	t.Parallel()
	b := setupCheckpoints(t)
	for i, id := range []string{"a", "b"} { // made, and then raised
		b.upload(alice, body(put(i+1, "counted", id, map[string]any{"value": 1})))
		same := b.text(`SELECT (c.xmin = p.xmin)::text FROM counted c, ferry.checkpoints p WHERE c.id = $1`, id)
		if same != "true" {
			t.Errorf("row %s and its checkpoint were written by two transactions", id)
		}
	}
}

func TestCheckpointsBelongToUserAndClient(t *testing.T) {
	t.Parallel()
	b := setupCheckpoints(t)
	for i, tt := range []struct{ user, client, want string }{
		{alice, "phone", "1"}, {alice, "phone", "2"}, {alice, "laptop", "1"}, {bob, "phone", "1"}, {alice, "phone", "3"},
	} {
		got := b.upload(tt.user, bodyOf(tt.client, put(i+1, "counted", "a", map[string]any{"value": i})))
		if got.Checkpoint != tt.want {
			t.Errorf("upload %d: checkpoint %q, want %q", i, got.Checkpoint, tt.want)
		}
	}
}

func TestNoCheckpointsWithoutAClientOrWhereTheyAreOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	on := b.open(withCheckpoints)
	anonymous, err := b.try(on, alice, `{"crud":[{"op":"PUT","type":"counted","id":"a","data":{"value":1}}]}`)
	if err != nil || anonymous.Checkpoint != "" {
		t.Errorf("without a client: %+v, %v", anonymous, err)
	}
	if off := b.upload(alice, body(put(1, "counted", "b", nil))); off.Checkpoint != "" {
		t.Errorf("off: checkpoint %q", off.Checkpoint)
	}
	if n := b.text(`SELECT count(*)::text FROM ferry.checkpoints`); n != "0" {
		t.Errorf("%s checkpoints are stored", n)
	}
}

func TestAnUploadThatFailsLeavesNoCheckpoint(t *testing.T) {
	t.Parallel()
	b := setupCheckpoints(t)
	b.upload(alice, body(put(1, "counted", "a", nil)))
	b.exec(`REVOKE INSERT, UPDATE ON ferry.progress FROM ferry_service`)
	_, err := b.try(b.store, alice, body(put(2, "counted", "b", nil)))
	if fault.From(err).Code != fault.Unavailable {
		t.Errorf("error %v", err)
	}
	if got := b.checkpoint("device"); got != "1" {
		t.Errorf("checkpoint %s", got)
	}
}

func TestRaisedAndRequestedCheckpoints(t *testing.T) {
	t.Parallel()
	b := setupCheckpoints(t)
	raise := func(ctx context.Context, client string) (int64, error) {
		return b.store.RaiseCheckpoint(ctx, alice, client)
	}
	request := func(id int64) func(context.Context, string) (int64, error) {
		return func(ctx context.Context, client string) (int64, error) {
			return b.store.RequestCheckpoint(ctx, alice, client, id)
		}
	}
	for i, step := range []struct {
		client string
		change func(context.Context, string) (int64, error)
		want   int64
	}{
		{"phone", raise, 1},
		{"phone", raise, 2},
		{"phone", request(5), 5},
		{"phone", request(4), 5},
		{"phone", raise, 6},
		{"laptop", request(0), 0},
		{"laptop", raise, 1},
		{"laptop", request(999_999_999_999_999_999), 999_999_999_999_999_999},
		{"laptop", raise, 1_000_000_000_000_000_000},
	} {
		got, err := step.change(t.Context(), step.client)
		if err != nil || got != step.want {
			t.Errorf("step %d: %d, %v, want %d", i, got, err, step.want)
		}
	}
	if got := b.upload(alice, bodyOf("phone", put(1, "counted", "a", nil))); got.Checkpoint != "7" {
		t.Errorf("an upload after them: checkpoint %q, want 7", got.Checkpoint)
	}
}

// Uploads and raises of one client at a time, over two processes: no two get
// the same checkpoint.
func TestConcurrentCheckpointsAreDistinct(t *testing.T) {
	t.Parallel()
	b := setupCheckpoints(t)
	other := b.open(withCheckpoints)
	const n = 24
	got := make([]int64, n)
	var group sync.WaitGroup
	for i := range n {
		store := b.store
		if i%2 == 1 {
			store = other
		}
		group.Go(func() {
			var err error
			if i%3 == 0 {
				var result *uploads.Result
				if result, err = b.try(store, alice, body(put(i+1, "counted", "a", map[string]any{"value": i}))); err == nil {
					got[i], err = strconv.ParseInt(result.Checkpoint, 10, 64)
				}
			} else {
				got[i], err = store.RaiseCheckpoint(t.Context(), alice, "device")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	slices.Sort(got)
	if distinct := slices.Compact(slices.Clone(got)); len(distinct) != n || distinct[0] < 1 {
		t.Errorf("checkpoints %v", got)
	}
	if stored := b.checkpoint("device"); stored != strconv.FormatInt(got[n-1], 10) {
		t.Errorf("%s is stored, the greatest answer is %d", stored, got[n-1])
	}
}

func TestCheckpointsWithoutTheirTableAreUnavailable(t *testing.T) {
	t.Parallel()
	b := setupCheckpoints(t, `DROP TABLE ferry.checkpoints`)
	_, raised := b.store.RaiseCheckpoint(t.Context(), alice, "phone")
	_, requested := b.store.RequestCheckpoint(t.Context(), alice, "phone", 1)
	_, uploaded := b.try(b.store, alice, body(put(1, "counted", "a", nil)))
	_, empty := b.try(b.store, alice, body([]op{}...))
	for _, err := range []error{raised, requested, uploaded, empty} {
		if fault.From(err).Code != fault.Unavailable {
			t.Errorf("error %v", err)
		}
	}
	if n := b.text(`SELECT count(*)::text FROM counted`); n != "0" {
		t.Errorf("%s rows were written without a checkpoint", n)
	}
}

func TestCheckpointsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store := b.behindPgBouncer(func(o *postgres.Options) { o.WriteCheckpoints = true })
	if got, err := store.RaiseCheckpoint(t.Context(), alice, "device"); err != nil || got != 1 {
		t.Errorf("raised to %d, %v", got, err)
	}
	if got, err := b.try(store, alice, body(put(1, "counted", "a", nil))); err != nil || got.Checkpoint != "2" {
		t.Errorf("upload: %+v, %v", got, err)
	}
}
