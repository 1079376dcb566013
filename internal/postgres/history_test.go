package postgres

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"ferry/internal/uploads"
)

// What is stored of decisions is what is read, in whatever order and with
// whatever gaps they came; what is cut off is an error and no panic.
func TestRecordsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list := newRecordList(0)
		want, known := map[operationKey]record{}, map[operationKey]record{}
		next := rapid.Int64Range(0, 1<<62).Draw(t, "first op id")
		for range rapid.IntRange(0, 30).Draw(t, "operations") {
			next += rapid.SampledFrom([]int64{1, 1, 1, 1, 2}).Draw(t, "gap")
			r := record{decision: rapid.SampledFrom([]decision{applied, applied, applied, ignored, rejected}).Draw(t, "decision")}
			r.key = operationKey{next, uploads.Fingerprint{1}}
			copy(r.key.fingerprint[1:], rapid.SliceOfN(rapid.Byte(), 7, 7).Draw(t, "fingerprint"))
			if r.decision == rejected {
				r.rejection = newUUIDs(1)[0]
			}
			list.add(r)
			want[r.key], known[r.key] = r, record{}
		}
		if err := readRecords(known, list.bytes); err != nil {
			t.Fatal(err)
		}
		for key, r := range want {
			if known[key] != r {
				t.Fatalf("%v is read as %v", r, known[key])
			}
		}
		if cut := rapid.IntRange(0, len(list.bytes)).Draw(t, "cut"); cut > 0 {
			err := readRecords(known, list.bytes[:len(list.bytes)-cut])
			if err != nil && !errors.Is(err, errCutRecord) {
				t.Fatal(err)
			}
		}
	})
}

// A large upload must not write much more than its fingerprints.
func TestRunsAreSmall(t *testing.T) {
	list := newRecordList(1000)
	for i := range int64(1000) {
		list.add(record{key: operationKey{opID: i, fingerprint: uploads.Fingerprint{1}}, decision: applied})
	}
	if got, most := len(list.bytes), 15+7*1000; got > most {
		t.Errorf("1,000 decisions take %d bytes, not %d", got, most)
	}
}
