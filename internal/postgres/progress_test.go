package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Another delivery rejects the beginning of a client transaction while the
// statement that notes its end waits for the client's row: a look at what was
// committed when the statement began would miss it.
func TestARejectionThatIsCommittedMeanwhileIsSeen(t *testing.T) {
	t.Parallel()
	b := setup(t, modelSQL)
	b.upload(alice, body(put(1, "scores", "1", map[string]any{"value": -1}).in(1)))
	b.exec(`UPDATE ferry.progress SET rejected_tx_id = NULL`) // as it was before the rejection
	other, err := b.admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), `UPDATE ferry.progress SET rejected_tx_id = 1`); err != nil {
		t.Fatal(err)
	}
	got := make(chan counts, 1)
	go func() {
		got <- countsOf(b.upload(alice, body(put(2, "scores", "2", map[string]any{"value": 1}).in(1))))
	}()
	b.db.UntilWaiting(t, 1)
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(counts{Rejected: []string{"depends_on_rejected"}}, <-got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
