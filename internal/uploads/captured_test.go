package uploads_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ferry/internal/uploads"
)

// capture is one case of testdata/captured.jsonl: what the SDK (npm's
// @powersync/node 1.1.0) queued after some statements.
type capture struct {
	Case string `json:"case"`
	// Rows are those of the queue table, which the Dart, Kotlin, Swift, .NET
	// and Rust SDKs read.
	Rows []struct {
		ID   int64  `json:"id"`
		TxID int64  `json:"tx_id"`
		Data string `json:"data"` // JSON
	} `json:"ps_crud"`
	// Entries are the same rows as the JavaScript SDK prints them, as JSON.
	Entries []string `json:"entries"`
	// Threw is why the SDK refused the statement; then nothing is queued.
	Threw string `json:"threw"`
}

// readCaptures returns the cases in which the SDK queued something.
func readCaptures(t testing.TB) []capture {
	t.Helper()
	file, err := os.Open("testdata/captured.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var captures []capture
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var c capture
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if c.Threw == "" {
			captures = append(captures, c)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(captures) == 0 {
		t.Fatal("testdata/captured.jsonl has no case that queued anything")
	}
	return captures
}

// printed is the upload of the JavaScript SDK.
func (c *capture) printed() string { return envelope(c.Entries) }

// queued is the upload of an SDK that passes the queue's rows on.
func (c *capture) queued() string {
	var entries []string
	for _, row := range c.Rows {
		members := strings.TrimPrefix(row.Data, "{")
		entries = append(entries, fmt.Sprintf(`{"op_id":%d,"tx_id":%d,%s`, row.ID, row.TxID, members))
	}
	return envelope(entries)
}

func envelope(entries []string) string {
	return `{"client_id":"c","crud":[` + strings.Join(entries, ",") + `]}`
}

// The integers over 2^53 that JavaScript rounds, by op id: what it uploads is
// another operation than what the queue holds.
var rounded = map[int64]bool{16: true, 17: true, 18: true, 19: true}

func TestCapturedUploadsMeanTheSameFromEverySDK(t *testing.T) {
	t.Parallel()
	spelling := []cmp.Option{
		ignoreRaw,
		cmpopts.IgnoreFields(uploads.Operation{}, "Fingerprint"),
		cmpopts.IgnoreFields(uploads.Field{}, "Value"),
	}
	for _, c := range readCaptures(t) {
		t.Run(c.Case, func(t *testing.T) {
			t.Parallel()
			printed, queued := decode(t, c.printed()), decode(t, c.queued())
			if diff := cmp.Diff(queued, printed, spelling...); diff != "" {
				t.Errorf("-queued +printed:\n%s", diff)
			}
			if !printed.ExactlyOnce || printed.Operations != len(c.Entries) {
				t.Errorf("%d operations of %d, exactly once: %v", printed.Operations, len(c.Entries), printed.ExactlyOnce)
			}
			for i, op := range operations(printed) {
				other := operations(queued)[i]
				if same := op.Fingerprint == other.Fingerprint; same == rounded[op.OpID] {
					t.Errorf("the same fingerprint: %v, want %v, of\n%s\n%s", same, !same, op.Raw, other.Raw)
				}
			}
		})
	}
}

func operations(up *uploads.Upload) []uploads.Operation {
	var ops []uploads.Operation
	for _, tx := range up.Transactions {
		ops = append(ops, tx.Operations...)
	}
	return ops
}
