package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The programs below were found by TestUploadsEqualASequentialModel, in their
// shortest form.

// What getCrudBatch cuts after a lost response: the retry has more of the
// client transaction than the first delivery.
func TestARetryWithMoreOfARejectedTransactionContinuesIt(t *testing.T) {
	t.Parallel()
	b := setup(t, modelSQL)
	refused := put(1, "scores", "1", map[string]any{"value": -1}).in(1)
	b.upload(alice, body(refused))
	got := countsOf(b.upload(alice, body(refused, put(2, "scores", "2", map[string]any{"value": 1}).in(1))))
	if diff := cmp.Diff(counts{Rejected: []string{"check_violation", "depends_on_rejected"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAHiddenRowIsForbiddenThoughALaterDeleteTakesItAlong(t *testing.T) {
	t.Parallel()
	b := setup(t, modelSQL)
	b.upload(alice, body(put(1, "folders", "f1", map[string]any{"title": "A"})))
	b.upload(bob, body(put(1, "docs", uid(1), map[string]any{"folder_id": "f1"})))
	got := countsOf(b.upload(alice, body(del(2, "docs", uid(1)), del(3, "folders", "f1"))))
	if diff := cmp.Diff(counts{Applied: 1, Rejected: []string{"forbidden"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The row is there, because the transaction that deletes it is rejected.
func TestAVerdictDoesNotRestOnATransactionThatIsRejected(t *testing.T) {
	t.Parallel()
	b := setup(t, modelSQL)
	b.upload(bob, body(put(1, "scores", "3", map[string]any{"value": 1})))
	b.upload(alice, body(put(1, "scores", "2", map[string]any{"value": 1})))
	b.upload(alice, bodyOf("other device", put(1, "scores", "2", map[string]any{"value": -1})))
	got := countsOf(b.upload(alice, body(
		del(2, "scores", "3").in(2), // bob's
		del(3, "scores", "2").in(2),
		patch(4, "scores", "2", map[string]any{"value": 2}).in(3))))
	if diff := cmp.Diff(counts{Applied: 1, Rejected: []string{"forbidden"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := b.text(`SELECT value FROM scores WHERE id = 2`); got != "2" {
		t.Errorf("value %s, want 2", got)
	}
}

// The row is made and deleted again within the upload, and the transaction that
// deletes it is rejected: neither before the upload nor after all of it is the row
// there, and yet it is there for what follows.
func TestAVerdictDoesNotRestOnARowThatCameAndWent(t *testing.T) {
	t.Parallel()
	b := setup(t, modelSQL)
	b.upload(alice, body(put(1, "folders", "f3", map[string]any{"title": "A"})))
	b.upload(alice, bodyOf("other device", put(1, "docs", uid(2), map[string]any{"folder_id": "nowhere"})))
	got := countsOf(b.upload(alice, body(
		put(2, "docs", uid(2), map[string]any{"folder_id": "f3"}).in(2),
		del(3, "folders", "f3").in(3), // takes the document along
		patch(4, "docs", uid(2), map[string]any{"body": "x"}).in(3),
		del(5, "docs", uid(2)).in(4))))
	if diff := cmp.Diff(counts{Applied: 2, Rejected: []string{"depends_on_rejected"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
