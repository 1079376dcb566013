package uploads_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ferry/internal/uploads"
)

// ignoreRaw compares operations by everything but how they were spelled.
var ignoreRaw = cmpopts.IgnoreFields(uploads.Operation{}, "Raw")

func decode(t testing.TB, body string) *uploads.Upload {
	t.Helper()
	up, err := uploads.Decode([]byte(body))
	if err != nil {
		t.Fatalf("Decode(%.300s): %v", body, err)
	}
	return up
}

// decodeEntry decodes one entry on its own and returns its operation.
func decodeEntry(t testing.TB, entry string) uploads.Operation {
	t.Helper()
	up := decode(t, `[`+entry+`]`)
	if up.Operations != 1 {
		t.Fatalf("Decode([%.300s]) has %d operations, want 1", entry, up.Operations)
	}
	return up.Transactions[0].Operations[0]
}

// The three entries of the protocol's example.
const (
	entry41 = `{"op_id": 41, "tx_id": 7, "op": "PUT", "type": "todos", "id": "a", "data": {"description": "milk", "completed": 0}}`
	entry42 = `{"op_id": 42, "tx_id": 7, "op": "PATCH", "type": "lists", "id": "b", "data": {"name": "new"}, "old": {"name": "x"}, "metadata": "m"}`
	entry43 = `{"op_id": 43, "op": "DELETE", "type": "todos", "id": "c"}`
	crud    = `[` + entry41 + `, ` + entry42 + `, ` + entry43 + `]`
)

// example is what the three entries mean.
func example() *uploads.Upload {
	return &uploads.Upload{
		ClientID:    "device",
		ExactlyOnce: true,
		Operations:  3,
		Transactions: []uploads.Transaction{
			{TxID: 7, Operations: []uploads.Operation{
				{
					Kind: uploads.Put, Table: "todos", ID: "a", OpID: 41,
					Fields: []uploads.Field{
						{Name: "completed", Value: json.RawMessage(`0`)},
						{Name: "description", Value: json.RawMessage(`"milk"`)},
					},
					Fingerprint: fingerprint("028db483afad8c8d"),
					Raw:         json.RawMessage(entry41),
				},
				{
					Kind: uploads.Patch, Table: "lists", ID: "b", OpID: 42,
					Fields:      []uploads.Field{{Name: "name", Value: json.RawMessage(`"new"`)}},
					Fingerprint: fingerprint("02c5f54d1a44f33d"),
					Raw:         json.RawMessage(entry42),
				},
			}},
			{TxID: -1, Operations: []uploads.Operation{{
				Kind: uploads.Delete, Table: "todos", ID: "c", OpID: 43,
				Fingerprint: fingerprint("02be9cec9fa5130b"),
				Raw:         json.RawMessage(entry43),
			}}},
		},
	}
}

func TestDecodeReadsEveryEnvelope(t *testing.T) {
	t.Parallel()
	grouped := `[{"transaction_id": 7, "crud": [` + entry41 + `,` + entry42 + `]}, {"crud": [` + entry43 + `]}]`
	withoutClient := func(up *uploads.Upload) { up.ClientID, up.ExactlyOnce = "", false }
	withUser := func(up *uploads.Upload) { up.UserID, up.NamesUser = "ann", true }
	same := func(*uploads.Upload) {}
	tests := map[string]struct {
		body   string
		change func(*uploads.Upload)
	}{
		"crud":                      {`{"client_id": "device", "crud": ` + crud + `}`, same},
		"batch":                     {`{"client_id": "device", "batch": ` + crud + `}`, same},
		"operations":                {`{"client_id": "device", "operations": ` + crud + `}`, same},
		"clientId":                  {`{"clientId": "device", "crud": ` + crud + `}`, same},
		"the client id last":        {`{"crud": ` + crud + `, "client_id": "device"}`, same},
		"user_id":                   {`{"client_id": "device", "user_id": "ann", "crud": ` + crud + `}`, withUser},
		"userId":                    {`{"client_id": "device", "userId": "ann", "crud": ` + crud + `}`, withUser},
		"a null user":               {`{"client_id": "device", "user_id": null, "crud": ` + crud + `}`, same},
		"a null client":             {`{"client_id": null, "crud": ` + crud + `}`, withoutClient},
		"no client":                 {`{"crud": ` + crud + `}`, withoutClient},
		"a bare array":              {crud, withoutClient},
		"space around it":           {" \r\n\t" + crud + "\n ", withoutClient},
		"other keys":                {`{"haveMore": true, "client_id": "device", "crud": ` + crud + `, "x": {"crud": [1]}}`, same},
		"null under another name":   {`{"client_id": "device", "batch": null, "crud": ` + crud + `, "operations": null}`, same},
		"the same under two names":  {`{"client_id": "device", "crud": ` + crud + `, "batch": ` + crud + `}`, same},
		"the same client id twice":  {`{"client_id": "device", "clientId": "\u0064evice", "crud": ` + crud + `}`, same},
		"names written as escapes":  {`{"client\u005fid": "device", "cr\u0075d": ` + crud + `}`, same},
		"transactions":              {`{"client_id": "device", "transactions": ` + grouped + `}`, same},
		"transactions, no client":   {`{"transactions": ` + grouped + `}`, withoutClient},
		"transactions, transaction": {`{"client_id": "device", "transactions": ` + strings.Replace(grouped, "transaction_id", "transactionId", 1) + `}`, same},
		"transactions, tx":          {`{"client_id": "device", "transactions": ` + strings.Replace(grouped, "transaction_id", "tx_id", 1) + `}`, same},
		"transactions, .NET":        {`{"client_id": "device", "transactions": ` + strings.Replace(grouped, "transaction_id", "TransactionId", 1) + `}`, same},
		"transactions, null id":     {`{"client_id": "device", "transactions": ` + strings.Replace(grouped, `{"crud"`, `{"transaction_id": null, "more": [], "crud"`, 1) + `}`, same},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := example()
			tt.change(want)
			want.Grouped = strings.Contains(tt.body, `"transactions"`)
			if diff := cmp.Diff(want, decode(t, tt.body)); diff != "" {
				t.Errorf("Decode(%s) (-want +got):\n%s", tt.body, diff)
			}
		})
	}
}

func TestDecodeReadsEverySpellingOfAnEntry(t *testing.T) {
	t.Parallel()
	// Each list has spellings of one entry, the SDKs' own first.
	tests := map[string][]string{
		"PUT": {
			`{"op_id": 41, "tx_id": 7, "op": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}}`,
			`{"data": {"t": "x", "n": 1}, "id": "a", "type": "todos", "op": "PUT", "tx_id": 7, "op_id": 41}`,
			`{"clientId": 41, "transactionId": 7, "op": "put", "table": "todos", "id": "a", "opData": {"n": 1, "t": "x"}}`,
			`{"client_id": 41, "transaction_id": 7, "op": "Put", "table": "todos", "id": "a", "op_data": {"n": 1, "t": "x"}}`,
			`{"ClientId": 41, "TransactionId": 7, "Op": 0, "Table": "todos", "Id": "a", "OpData": {"n": 1, "t": "x"}}`,
			`{"op_id": 41, "tx_id": 7, "update_type": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}}`,
			`{"op_id": 41, "tx_id": 7, "op": 0, "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}}`,
			`{"op_id": 41, "tx_id": 7, "op": "P\u0055T", "t\u0079pe": "todo\u0073", "id": "\u0061", "data": {"n": 1, "\u0074": "x"}}`,
			`{"op_id": 41.0, "tx_id": 7.0, "op": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}}`,
			`{"op_id": "41", "tx_id": "7", "op": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}}`,
			`{"op_id": "41.0", "tx_id": "7.0", "op": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}}`,
			`{"op_id": 4.1e1, "tx_id": 70e-1, "op": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}}`,
			`{"op_id": 41, "tx_id": 7, "op": "PUT", "type": "todos", "data": {"id": "a", "n": 1, "t": "x"}}`,
			`{"op_id": 41, "tx_id": 7, "op": "PUT", "type": "todos", "id": null, "data": {"n": 1, "id": "a", "t": "x"}}`,
			`{"op_id": 41, "tx_id": 7, "op": "PUT", "type": "todos", "id": "a", "data": {"id": "\u0061", "n": 1, "t": "x"}}`,
			`{"op_id": 41, "tx_id": 7, "op": "PUT", "type": "todos", "id": "a", "data": {"id": null, "n": 1, "t": "x"}}`,
			`{"op_id": 41, "tx_id": 7, "op": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}, "old": null, "metadata": null}`,
			`{"op_id": 41, "tx_id": 7, "op": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}, "previousValues": {"n": 0}, "metadata": "m"}`,
			`{"op_id": 41, "tx_id": 7, "op": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}, "previous_values": {"n": 0}}`,
			`{"op_id": 41, "tx_id": 7, "op": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}, "PreviousValues": {"n": 0}, "Metadata": "m"}`,
			`{"op_id": 41, "tx_id": 7, "op": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}, "haveMore": true, "OP": 5}`,
			`{"op_id": 41, "client_id": "6f1c", "tx_id": 7, "op": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}}`,
			`{"op_id": 41, "clientId": "7", "tx_id": 7, "op": "PUT", "type": "todos", "id": "a", "data": {"n": 1, "t": "x"}}`,
			`{"op_id": 41, "clientId": 41.0, "tx_id": 7, "transactionId": 7, "op": "PUT", "type": "todos", "table": "todos", "id": "a", "Id": "a",
			  "data": {"n": 1, "t": "x"}, "opData": {"t": "\u0078", "n": 1.0}}`,
			`{"op_id": 41, "op_id": 41, "tx_id": 7, "op": "PUT", "type": "todos", "id": "a", "opData": null, "data": {"n": 1, "t": "x"}}`,
		},
		"PATCH without data": {
			`{"op_id": 0, "op": "PATCH", "type": "todos", "id": ""}`,
			`{"op_id": 0, "op": "PATCH", "type": "todos", "id": "", "data": {}}`,
			`{"op_id": -0, "op": "patch", "type": "todos", "id": "", "data": null}`,
			`{"op_id": 0e999999999999, "tx_id": null, "op": 1, "type": "todos", "id": ""}`,
		},
		"DELETE of a number": {
			`{"op": "DELETE", "type": "todos", "id": "12"}`,
			`{"op": "dElEtE", "type": "todos", "id": 12}`,
			`{"op": 2, "op_id": null, "type": "todos", "data": {"id": 12}}`,
			`{"op": 2, "type": "todos", "id": "12", "data": {"id": 12}}`,
		},
		"the greatest numbers": {
			`{"op_id": 9223372036854775806, "tx_id": 9223372036854775806, "op": "DELETE", "type": "t", "id": "a"}`,
			`{"op_id": 9223372036854775806.0, "tx_id": "9223372036854775806", "op": "DELETE", "type": "t", "id": "a"}`,
			`{"op_id": 9.223372036854775806e18, "tx_id": 9223372036854775806, "op": "DELETE", "type": "t", "id": "a"}`,
		},
	}
	for name, spellings := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := decode(t, `[`+spellings[0]+`]`)
			for _, s := range spellings[1:] {
				if diff := cmp.Diff(want, decode(t, `[`+s+`]`), ignoreRaw); diff != "" {
					t.Errorf("%s differs from %s (-want +got):\n%s", s, spellings[0], diff)
				}
			}
		})
	}
}

func TestDecodeGroupsConsecutiveTxIDs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		txIDs      []string // of the entries, in order
		want       []uploads.Transaction
		outOfOrder bool
	}{
		"one transaction":      {txIDs: []string{"7", "7", "7"}, want: txs(tx(7, 3))},
		"neighbours":           {txIDs: []string{"7", "7", "8"}, want: txs(tx(7, 2), tx(8, 1))},
		"spelled differently":  {txIDs: []string{"7", "7.0", `"7"`}, want: txs(tx(7, 3))},
		"0 is a tx_id":         {txIDs: []string{"0", "0"}, want: txs(tx(0, 2))},
		"apart, so not one":    {txIDs: []string{"7", "8", "7"}, want: txs(tx(7, 1), tx(8, 1), tx(7, 1)), outOfOrder: true},
		"falling":              {txIDs: []string{"8", "7"}, want: txs(tx(8, 1), tx(7, 1)), outOfOrder: true},
		"none":                 {txIDs: []string{"", ""}, want: txs(tx(-1, 1), tx(-1, 1))},
		"null is none":         {txIDs: []string{"null", "null"}, want: txs(tx(-1, 1), tx(-1, 1))},
		"none between the two": {txIDs: []string{"7", "", "7"}, want: txs(tx(7, 1), tx(-1, 1), tx(7, 1)), outOfOrder: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var entries []string
			for _, id := range tt.txIDs {
				entry := `{"op": "DELETE", "type": "t", "id": "a"}`
				if id != "" {
					entry = `{"tx_id": ` + id + `, "op": "DELETE", "type": "t", "id": "a"}`
				}
				entries = append(entries, entry)
			}
			got := decode(t, `[`+strings.Join(entries, ",")+`]`)
			want := &uploads.Upload{Transactions: tt.want, OutOfOrder: tt.outOfOrder, Operations: len(entries)}
			if diff := cmp.Diff(want, got, ignoreRaw, cmpopts.IgnoreFields(uploads.Operation{}, "Fingerprint")); diff != "" {
				t.Errorf("tx_ids %q (-want +got):\n%s", tt.txIDs, diff)
			}
		})
	}
}

func txs(list ...uploads.Transaction) []uploads.Transaction { return list }

// tx is a client transaction of n deletions.
func tx(id int64, n int) uploads.Transaction {
	tx := uploads.Transaction{TxID: id}
	for range n {
		tx.Operations = append(tx.Operations, uploads.Operation{Kind: uploads.Delete, Table: "t", ID: "a", OpID: -1})
	}
	return tx
}

func TestDecodeAcceptsAnUploadWithoutOperations(t *testing.T) {
	t.Parallel()
	noTransactions := &uploads.Upload{ClientID: "c", ExactlyOnce: true}
	tests := map[string]*uploads.Upload{
		`{"client_id": "c", "crud": []}`:         noTransactions,
		`{"client_id": "c", "transactions": []}`: {ClientID: "c", ExactlyOnce: true, Grouped: true},
		`[]`:                                     {},
		`{"client_id": "c", "transactions": [{"transaction_id": 3, "crud": []}, {"crud": []}]}`: {
			ClientID: "c", ExactlyOnce: true, Grouped: true, Transactions: txs(tx(3, 0), tx(-1, 0)),
		},
	}
	for body, want := range tests {
		got := decode(t, body)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Decode(%s) (-want +got):\n%s", body, diff)
		}
		if last := got.LastOpID(); last != -1 {
			t.Errorf("Decode(%s): the last op id is %d, want -1", body, last)
		}
	}
}

func TestLastOpIDPassesOverEmptyTransactions(t *testing.T) {
	t.Parallel()
	up := decode(t, `{"transactions": [{"crud": []}, {"crud": [`+entry41+`,`+entry42+`]}, {"crud": [`+entry43+`]}, {"crud": []}]}`)
	if last := up.LastOpID(); last != 43 {
		t.Errorf("the last op id is %d, want 43", last)
	}
}

func TestDecodeSaysWhetherARedeliveryCanBeRecognised(t *testing.T) {
	t.Parallel()
	const withID, withoutID = `{"op_id": 5, "op": "DELETE", "type": "t", "id": "a"}`, `{"op": "DELETE", "type": "t", "id": "a"}`
	tests := []struct {
		body string
		want bool
	}{
		{`{"client_id": "c", "crud": [` + withID + `]}`, true},
		{`{"client_id": "c", "crud": [` + withoutID + `]}`, false},
		{`{"client_id": "c", "crud": [` + withID + `,` + withoutID + `]}`, false},
		{`{"crud": [` + withID + `]}`, false},
		{`[` + withID + `]`, false},
		{`{"client_id": "c", "transactions": [{"crud": [` + withID + `]}]}`, true},
		// The client id of an entry does not stand for the envelope's.
		{`{"crud": [{"client_id": "c", "op_id": 5, "op": "DELETE", "type": "t", "id": "a"}]}`, false},
		// A digit string is a device's id here, so no op id.
		{`{"client_id": "c", "crud": [{"client_id": "5", "op": "DELETE", "type": "t", "id": "a"}]}`, false},
	}
	for _, tt := range tests {
		if got := decode(t, tt.body).ExactlyOnce; got != tt.want {
			t.Errorf("Decode(%s): ExactlyOnce is %v, want %v", tt.body, got, tt.want)
		}
	}
}

func TestDecodeKeepsValuesByteForByte(t *testing.T) {
	t.Parallel()
	values := []string{
		`9007199254740993`, `-9223372036854775808`, `123456789012345678901234567890`,
		`1.0`, `42.00`, `-0.0`, `1e400`, `1E+400`, `1e-99999999999`, `0.1000`,
		`true`, `false`, `null`,
		`""`, `"a\u0000b"`, `"\ud83d\ude00"`, `"😀"`, `"\ud800"`, `"\/\b\f\n\r\t\"\\"`, `"</script>` + "\u2028" + `"`,
		`{}`, `[]`, `{"a": {"b": [1, 2.0, null]}, "a": 1}`, `[ 1 , "x" , [ ] ]`, `"{\"a\":[1,2]}"`,
	}
	for _, v := range values {
		got := decodeEntry(t, `{"op": "PUT", "type": "t", "id": "a", "data": { "v" : `+v+` }}`)
		want := []uploads.Field{{Name: "v", Value: json.RawMessage(v)}}
		if diff := cmp.Diff(want, got.Fields); diff != "" || got.Malformed != "" {
			t.Errorf("value %s: malformed %q, fields (-want +got):\n%s", v, got.Malformed, diff)
		}
	}
}

func TestDecodeMarksTextThatPostgresCannotHold(t *testing.T) {
	t.Parallel()
	const surrogate = `a lone surrogate (\ud800 to \udfff)`
	tests := map[string]struct {
		entry string
		want  uploads.Operation
	}{
		"id": {
			`{"op": "DELETE", "type": "t", "id": "x\ud800"}`,
			uploads.Operation{Kind: uploads.Delete, Table: "t", ID: `"x\ud800"`, OpID: -1, Malformed: "the id has " + surrogate},
		},
		"id in data": {
			`{"op": "DELETE", "type": "t", "data": {"id": "\udc00"}}`,
			uploads.Operation{Kind: uploads.Delete, Table: "t", ID: `"\udc00"`, OpID: -1, Malformed: "the id has " + surrogate},
		},
		"table": {
			`{"op": "DELETE", "type": "\ud83dt", "id": "a"}`,
			uploads.Operation{Kind: uploads.Delete, Table: `"\ud83dt"`, ID: "a", OpID: -1, Malformed: "the table's name has " + surrogate},
		},
		"columns": {
			`{"op": "PATCH", "type": "t", "id": "a", "data": {"\ud801": 1, "\ud800": 2}}`,
			uploads.Operation{
				Kind: uploads.Patch, Table: "t", ID: "a", OpID: -1, Malformed: "a column's name has " + surrogate,
				Fields: []uploads.Field{
					{Name: `"\ud800"`, Value: json.RawMessage(`2`)},
					{Name: `"\ud801"`, Value: json.RawMessage(`1`)},
				},
			},
		},
		// U+0000 is text like any other here: internal/postgres refuses it
		// where it knows the column.
		"U+0000 everywhere": {
			`{"op": "PATCH", "type": "t\u0000", "id": "\u0000", "data": {"\u0000": "\u0000"}}`,
			uploads.Operation{
				Kind: uploads.Patch, Table: "t\x00", ID: "\x00", OpID: -1,
				Fields: []uploads.Field{{Name: "\x00", Value: json.RawMessage(`"\u0000"`)}},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.want.Raw = json.RawMessage(tt.entry)
			got := decodeEntry(t, tt.entry)
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(uploads.Operation{}, "Fingerprint")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.entry, diff)
			}
		})
	}
}

func TestDecodeReadsAnySizeOfTransaction(t *testing.T) {
	t.Parallel()
	const n = 10_000
	up := decode(t, string(queueOf(n)))
	if len(up.Transactions) != n || up.Operations != n || up.LastOpID() != n {
		t.Errorf("%d operations in %d transactions up to op id %d, want %d of each",
			up.Operations, len(up.Transactions), up.LastOpID(), n)
	}
}

// nested returns a value of so many levels, with text in the innermost. The
// way to the next level sorts before its neighbour but comes behind it.
func nested(levels int, text string) string {
	open, end := strings.Repeat(`{"b":0,"a":[`, levels/2), strings.Repeat(`]}`, levels/2)
	return open + `"` + text + `"` + end
}

func TestDecodeReadsDeeplyNestedValues(t *testing.T) {
	t.Parallel()
	// The body's array, the entry and its data take three of 10,000 levels.
	deep := nested(9_996, "x")
	got := decodeEntry(t, `{"op": "PUT", "type": "t", "id": "a", "data": {"v": `+deep+`}}`)
	want := []uploads.Field{{Name: "v", Value: json.RawMessage(deep)}}
	if diff := cmp.Diff(want, got.Fields); diff != "" {
		t.Errorf("fields (-want +got):\n%.300s", diff)
	}
}

// Not parallel: it counts what the process allocates.
func TestDecodeTakesNoMoreForDeeplyNestedValues(t *testing.T) {
	text := strings.Repeat("x", 1<<20)
	allocated := func(levels int) uint64 {
		body := []byte(fmt.Sprintf(`[{"op": "PUT", "type": "t", "id": "a", "data": {"v": %s}}]`, nested(levels, text)))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := uploads.Decode(body); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	flat, deep := allocated(2), allocated(9_000)
	if deep > 2*flat+16<<20 {
		t.Errorf("9,000 levels around 1 MiB take %d bytes, 2 levels %d", deep, flat)
	}
}

// Comparing every repetition with the first value would take half an hour.
func TestDecodeReadsRepeatedFieldsInLinearTime(t *testing.T) {
	t.Parallel()
	zero := "0." + strings.Repeat("0", 2<<20)
	repeated := strings.Repeat(`"old": 0, `, 500_000)
	got := decodeEntry(t, `{"old": `+zero+`, `+repeated+`"op": "DELETE", "type": "t", "id": "a"}`)
	if want := decodeEntry(t, `{"op": "DELETE", "type": "t", "id": "a"}`); !cmp.Equal(want, got, ignoreRaw) {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, got, ignoreRaw))
	}
}

func TestDecodeStopsAtTheLimitOfOperations(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]error{
		`[` + entry41 + `,` + entry42 + `]`:                                                        nil,
		`[` + entry41 + `,` + entry42 + `,` + entry43 + `]`:                                        uploads.ErrTooManyOperations,
		`{"transactions":[{"crud":[` + entry41 + `,` + entry42 + `,` + entry43 + `]}]}`:            nil, // cannot be cut
		`{"transactions":[{"crud":[` + entry41 + `,` + entry42 + `]},{"crud":[` + entry43 + `]}]}`: uploads.ErrTooManyOperations,
	} {
		if _, err := uploads.DecodeAtMost([]byte(body), 2); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", body, err, want)
		}
	}
}

// What a decoder keeps of one body is words: the next body, of other tables, with
// other columns in another order, or broken in the middle, is read as if it were
// the first.
func TestBodiesAreReadAsIfEachWereTheFirst(t *testing.T) {
	t.Parallel()
	bodies := []string{
		`{"client_id":"a","crud":[{"op_id":1,"op":"PUT","type":"lists","id":"1","data":{"name":"x","owner":"y"}}]}`,
		`{"client_id":"b","crud":[{"op_id":1,"op":"PATCH","type":"todos","id":"2","data":{"owner":"y","name":"x","done":1}}]}`,
		`{"client_id":"c","crud":[{"op_id":1,"op":"DELETE","type":"todos","id":"3"}]}`,
		`{"crud":[{"id":"4","type":"lists","data":{"done":0},"op":"PUT"}],"client_id":"d"}`,
		`{"client_id":"e","crud":[{"op_id":1,"op":"PUT","type":"lists","id":"5","data":{"name":"x","name":"z"}}]}`,
		`{"client_id":"f","crud":[{"op_id":1,"op":"PUT","type":"lists","id":"6","data":{"name":"x"`,
		`{"client_id":"g","crud":[{"op_id":1,"op":"PUT","type":"` + strings.Repeat("long", 10_000) + `","id":"7","data":{"name":"x"}}]}`,
	}
	read := func(body string) string {
		up, err := uploads.Decode([]byte(body))
		return fmt.Sprintf("%+v %v", up, err)
	}
	first := make([]string, len(bodies))
	for i, body := range bodies {
		first[i] = read(body)
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same every time
	for range 1000 {
		if i := random.IntN(len(bodies)); read(bodies[i]) != first[i] {
			t.Fatalf("%s\nis read as %s\nfirst it was %s", bodies[i], read(bodies[i]), first[i])
		}
	}
}
