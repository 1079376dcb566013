package postgres

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"ferry/internal/uploads"
)

const benchOperations = 1000

// uploadOf is a body of n new rows, each a client transaction of its own.
func uploadOf(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same every time
	newUUID := func() string {
		return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", random.Uint32(), random.Uint32()&0xffff, random.Uint32()&0xfff, random.Uint32()&0xfff, random.Uint64()&0xffffffffffff)
	}
	body := []byte(`{"client_id":"6f1cb1a0-33f2-4a3c-8f4e-0f7f6a3f7c11","crud":[`)
	for i := range n {
		if i > 0 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"op_id":%d,"tx_id":%d,"op":"PUT","type":"todos","id":"%s",`+
			`"data":{"owner_id":"a1111111-1111-4111-8111-111111111111","description":"buy %d things","completed":0,"amount":%d,`+
			`"at":"2026-01-02T03:04:05.678Z"}}`, i+1, i+1, newUUID(), random.IntN(1_000_000), random.Int64())
	}
	return append(body, `]}`...)
}

// benchCatalog has the one table that such uploads write.
func benchCatalog() *catalog {
	newColumn := func(name string, typ *dataType) *column {
		return &column{name: name, client: name, sql: `"` + name + `"`, typ: typ, canSelect: true, canUpdate: true, sameBytes: true}
	}
	typ := func(name string, c class) *dataType {
		return &dataType{name: name, cast: "pg_catalog." + name, class: c, parts: 1 << c}
	}
	t := &table{name: "todos", schema: "public", sql: `"public"."todos"`, idIndexed: true, idArbiter: true}
	t.id = newColumn("id", typ("uuid", classUUID))
	t.columns = map[string]*column{
		"owner_id":    newColumn("owner_id", typ("uuid", classUUID)),
		"description": newColumn("description", typ("text", classText)),
		"completed":   newColumn("completed", typ("bool", classBool)),
		"amount":      newColumn("amount", typ("int8", classInteger)),
		"at":          newColumn("at", typ("timestamptz", classTimestampTZ)),
	}
	return &catalog{tables: map[string]*table{"todos": t}}
}

// prepareUpload is all that ferry does with a body before it is sent on.
func prepareUpload(c *catalog, body []byte) error {
	up, err := uploads.Decode(body)
	if err != nil {
		return err
	}
	r := &run{upload: up, caller: uploads.Caller{UserID: "u"}}
	ops := payloadOf(up)
	steps, refusals := plan(c, ops, together)
	defer free(steps)
	if len(refusals) > 0 {
		return fmt.Errorf("refused: %v", refusals[0])
	}
	queries := r.append(r.advance(ops, up.FirstTxID()), steps)
	if len(queries) != 3 || len(queries[2].params) != 6 {
		return fmt.Errorf("%d queries", len(queries))
	}
	return nil
}

// Allocations per operation must stay far below what a map or a copy for each
// would make of them: see docs/performance.md.
func TestOperationsAllocateNothingEach(t *testing.T) {
	body, c := uploadOf(benchOperations), benchCatalog()
	allocations := testing.AllocsPerRun(5, func() {
		if err := prepareUpload(c, body); err != nil {
			t.Fatal(err)
		}
	})
	if each := allocations / benchOperations; each > 0.5 {
		t.Errorf("%.2f allocations per operation", each)
	}
}

func BenchmarkUpload1000(b *testing.B) {
	body, c := uploadOf(benchOperations), benchCatalog()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := prepareUpload(c, body); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchOperations, "ns/operation")
	b.ReportMetric(testing.AllocsPerRun(1, func() { _ = prepareUpload(c, body) })/benchOperations, "allocs/operation")
}

func BenchmarkPlan1000(b *testing.B) {
	up, err := uploads.Decode(uploadOf(benchOperations))
	if err != nil {
		b.Fatal(err)
	}
	c, ops := benchCatalog(), payloadOf(up)
	b.ReportAllocs()
	for b.Loop() {
		steps, _ := plan(c, ops, together)
		free(steps)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchOperations, "ns/operation")
}
