package uploads_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"ferry/internal/uploads"
)

// BenchmarkDecode1000 decodes what a client that was offline for a while
// sends: 1,000 operations of five columns, each a client transaction of its
// own. Plain validation of the same bytes is the baseline: decoding as a
// multiple of it carries over to another machine, nanoseconds do not.
func BenchmarkDecode1000(b *testing.B) {
	const operations = 1000
	body := queueOf(operations)
	baseline := validation(b, body)
	b.SetBytes(int64(len(body)))

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		if _, err := uploads.Decode(body); err != nil {
			b.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	rounds := float64(b.N)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/rounds/operations, "ns/operation")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/rounds/operations, "allocs/operation")
	b.ReportMetric(float64(b.Elapsed())/rounds/float64(baseline), "×json.Valid")
}

// validation is how long encoding/json takes to find body valid.
func validation(b *testing.B, body []byte) time.Duration {
	const rounds = 50
	start := time.Now()
	for range rounds {
		if !json.Valid(body) {
			b.Fatal("the body is not JSON")
		}
	}
	return time.Since(start) / rounds
}

// queueOf returns an upload of n operations as the JavaScript SDK writes it.
func queueOf(n int) []byte {
	body := []byte(`{"client_id":"6f1cb1a0-33f2-4a3c-8f4e-0f7f6a3f7c11","crud":[`)
	for i := range n {
		if i > 0 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"op_id":%d,"tx_id":%d,"op":"PUT","type":"todos","id":"00000000-0000-4000-8000-%012d",`+
			`"data":{"completed":0,"created_at":"2026-01-02 03:04:05","created_by":"72ca6e72-b020-485d-97df-d2bcd06015ae",`+
			`"description":"water the plants, part %d","position":%d.5}}`, i+1, i+1, i, i, i)
	}
	return append(body, `]}`...)
}
