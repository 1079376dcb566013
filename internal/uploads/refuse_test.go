package uploads_test

import (
	"errors"
	"strings"
	"testing"

	"ferry/internal/fault"
	"ferry/internal/uploads"
)

// refusal decodes a body that must be refused, and returns the client's text.
func refusal(t *testing.T, body string) string {
	t.Helper()
	up, err := uploads.Decode([]byte(body))
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Code != fault.InvalidRequest {
		t.Fatalf("Decode(%.300q) = %+v, %v, want an %s error", body, up, err, fault.InvalidRequest)
	}
	return f.Detail
}

func TestDecodeRefusesWhatIsNoUpload(t *testing.T) {
	t.Parallel()
	const notJSON = "the body is not valid JSON"
	const good = `{"op": "DELETE", "type": "t", "id": "a"}`
	tests := map[string]struct{ body, want string }{
		"nothing":                   {"", notJSON},
		"only space":                {" \n", notJSON},
		"bytes that are not UTF-8":  {"[\"\xff\"]", "the body is not UTF-8"},
		"a surrogate in bytes":      {"[\"\xed\xa0\x80\"]", "the body is not UTF-8"},
		"a byte order mark":         {"\ufeff[]", notJSON},
		"not JSON":                  {"crud=1", notJSON},
		"an unquoted name":          {`{crud: []}`, notJSON},
		"a comma too many":          {`[` + good + `,]`, "entry 1: " + notJSON},
		"a control character":       {"[{\"op\": \"PUT\n\"}]", "entry 0: " + notJSON},
		"NaN":                       {`[{"op": NaN}]`, "entry 0: " + notJSON},
		"an unknown escape":         {`[{"data": {"a": "\x"}}]`, "entry 0: " + notJSON},
		"too deep":                  {`{"x": ` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `, "crud": []}`, notJSON},
		"too deep in a value":       {`[{"data": {"a": ` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}}]`, "entry 0: " + notJSON},
		"text behind it":            {`[] x`, "the body has something after its JSON value"},
		"a bracket behind it":       {`[]]`, "the body has something after its JSON value"},
		"a brace behind it":         {`{"crud": []}}`, "the body has something after its JSON value"},
		"a second value":            {`[][]`, "the body has something after its JSON value"},
		"a zero byte behind it":     {"[]\x00", "the body has something after its JSON value"},
		"a string":                  {`"crud"`, `the body must be {"client_id": …, "crud": […]}`},
		"null":                      {`null`, `the body must be {"client_id": …, "crud": […]}`},
		"a number":                  {`1`, `the body must be {"client_id": …, "crud": […]}`},
		"no operations":             {`{"client_id": "c"}`, `the body has no operations: send them as "crud", in queue order`},
		"null operations":           {`{"crud": null}`, `the body has no operations: send them as "crud", in queue order`},
		"an object for crud":        {`{"crud": {}}`, `"crud" must be an array`},
		"a string for batch":        {`{"batch": "[]"}`, `"batch" must be an array`},
		"different operations":      {`{"crud": [], "batch": [` + good + `]}`, `"batch" is given twice, with different values`},
		"crud twice":                {`{"crud": [], "crud": [` + good + `]}`, `"crud" is given twice, with different values`},
		"crud beside transactions":  {`{"crud": [` + good + `], "transactions": [{"crud": [` + good + `]}]}`, `"transactions" is given twice, with different values`},
		"a number as client":        {`{"client_id": 5, "crud": []}`, `"client_id" must be a string`},
		"a number as user":          {`{"user_id": 5, "crud": []}`, `"user_id" must be a string`},
		"two clients":               {`{"client_id": "a", "clientId": "b", "crud": []}`, `"clientId" is given twice, with different values`},
		"two users":                 {`{"user_id": "a", "user_id": "b", "crud": []}`, `"user_id" is given twice, with different values`},
		"a client with a surrogate": {`{"client_id": "\ud800", "crud": []}`, `"client_id" has a lone surrogate (\ud800 to \udfff)`},
		"a user with a surrogate":   {`{"user_id": "\ud800", "crud": []}`, `"user_id" has a lone surrogate (\ud800 to \udfff)`},
		"no transaction object":     {`{"transactions": [[]]}`, `transaction 0 must be an object with "crud"`},
		"a transaction of nothing":  {`{"transactions": [{"crud": []}, {}]}`, `transaction 1 has no "crud"`},
		"a null crud":               {`{"transactions": [{"crud": null}]}`, `transaction 0: "crud" must be an array`},
		"a transaction's crud twice": {
			`{"transactions": [{"crud": [], "crud": []}]}`, `transaction 0 has "crud" twice`,
		},
		"a transaction id in words": {
			`{"transactions": [{"transaction_id": "x", "crud": []}]}`, `transaction 0: "transaction_id" must be a whole number from 0`,
		},
		"two transaction ids": {
			`{"transactions": [{"transaction_id": 1, "tx_id": 2, "crud": []}]}`, `transaction 0: "tx_id" is given twice, with different values`,
		},
		"an entry in a later transaction": {
			`{"transactions": [{"crud": [` + good + `]}, {"crud": [` + good + `, 5]}]}`, "entry 2: it must be an object",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := refusal(t, tt.body); got != tt.want {
				t.Errorf("Decode(%.300s) says %q, want %q", tt.body, got, tt.want)
			}
		})
	}
}

func TestDecodeRefusesAnEntryByItsIndex(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ entry, want string }{
		"null":                  {`null`, "it must be an object"},
		"an array":              {`["PUT"]`, "it must be an object"},
		"no op":                 {`{"type": "t", "id": "a"}`, `"op" must be PUT, PATCH or DELETE`},
		"a null op":             {`{"op": null, "type": "t", "id": "a"}`, `"op" must be PUT, PATCH or DELETE`},
		"an unknown op":         {`{"op": "UPSERT", "type": "t", "id": "a"}`, `"op" must be PUT, PATCH or DELETE`},
		"an unknown number":     {`{"op": 3, "type": "t", "id": "a"}`, `"op" must be PUT, PATCH or DELETE`},
		"an object as op":       {`{"op": {}, "type": "t", "id": "a"}`, `"op" must be PUT, PATCH or DELETE`},
		"no table":              {`{"op": "PUT", "id": "a"}`, `"type" must name a table`},
		"a null table":          {`{"op": "PUT", "type": null, "id": "a"}`, `"type" must name a table`},
		"a number as table":     {`{"op": "PUT", "type": 5, "id": "a"}`, `"type" must name a table`},
		"no id":                 {`{"op": "PUT", "type": "t", "data": {"a": 1}}`, `"id" must be the row's id, a string`},
		"a null id":             {`{"op": "PUT", "type": "t", "id": null}`, `"id" must be the row's id, a string`},
		"only null ids":         {`{"op": "PUT", "type": "t", "id": null, "data": {"id": null}}`, `"id" must be the row's id, a string`},
		"an object as id":       {`{"op": "PUT", "type": "t", "id": {}}`, `"id" must be the row's id, a string`},
		"true as id":            {`{"op": "PUT", "type": "t", "id": true}`, `"id" must be the row's id, a string`},
		"a list as id in data":  {`{"op": "PUT", "type": "t", "data": {"id": []}}`, `"id" must be the row's id, a string`},
		"data as text":          {`{"op": "PUT", "type": "t", "id": "a", "data": "{}"}`, `"data" must be an object`},
		"data as a list":        {`{"op": "PUT", "type": "t", "id": "a", "data": []}`, `"data" must be an object`},
		"data as false":         {`{"op": "PUT", "type": "t", "id": "a", "data": false}`, `"data" must be an object`},
		"a column twice":        {`{"op": "PUT", "type": "t", "id": "a", "data": {"c": 1, "b": 2, "c": 1}}`, `column "c" is given twice`},
		"a column in escapes":   {`{"op": "PUT", "type": "t", "id": "a", "data": {"c": 1, "\u0063": 1}}`, `column "c" is given twice`},
		"two ops":               {`{"op": "PUT", "Op": "PATCH", "type": "t", "id": "a"}`, `"Op" is given twice, with different values`},
		"the same key twice":    {`{"op": "PUT", "op": "PATCH", "type": "t", "id": "a"}`, `"op" is given twice, with different values`},
		"two tables":            {`{"op": "PUT", "type": "t", "table": "u", "id": "a"}`, `"table" is given twice, with different values`},
		"two ids":               {`{"op": "PUT", "type": "t", "Id": "a", "id": "b"}`, `"id" is given twice, with different values`},
		"another id in data":    {`{"op": "PUT", "type": "t", "id": "a", "data": {"id": "b"}}`, `"id" and "data.id" differ`},
		"an object id in data":  {`{"op": "PUT", "type": "t", "id": "a", "data": {"id": {}}}`, `"id" and "data.id" differ`},
		"two ids in data":       {`{"op": "PUT", "type": "t", "data": {"id": "a", "id": "b"}}`, `"data.id" is given twice, with different values`},
		"two datas":             {`{"op": "PUT", "type": "t", "id": "a", "data": {"a": 1}, "opData": {"a": 2}}`, `"opData" is given twice, with different values`},
		"text and data":         {`{"op": "PUT", "type": "t", "id": "a", "data": "x", "opData": {"a": 2}}`, `"opData" is given twice, with different values`},
		"two olds":              {`{"op": "PUT", "type": "t", "id": "a", "old": {"a": 1}, "previousValues": {}}`, `"previousValues" is given twice, with different values`},
		"two metadatas":         {`{"op": "PUT", "type": "t", "id": "a", "metadata": "m", "Metadata": "n"}`, `"Metadata" is given twice, with different values`},
		"two op ids":            {`{"op_id": 1, "clientId": 2, "op": "PUT", "type": "t", "id": "a"}`, `"clientId" is given twice, with different values`},
		"two tx ids":            {`{"tx_id": 1, "transaction_id": 2, "op": "PUT", "type": "t", "id": "a"}`, `"transaction_id" is given twice, with different values`},
		"a negative op id":      {`{"op_id": -1, "op": "PUT", "type": "t", "id": "a"}`, `"op_id" must be a whole number from 0`},
		"a fractional op id":    {`{"op_id": 41.5, "op": "PUT", "type": "t", "id": "a"}`, `"op_id" must be a whole number from 0`},
		"an op id of 2^63-1":    {`{"op_id": 9223372036854775807, "op": "PUT", "type": "t", "id": "a"}`, `"op_id" must be a whole number from 0`},
		"an op id of 2^63":      {`{"op_id": 9223372036854775808, "op": "PUT", "type": "t", "id": "a"}`, `"op_id" must be a whole number from 0`},
		"an op id of 1e400":     {`{"op_id": 1e400, "op": "PUT", "type": "t", "id": "a"}`, `"op_id" must be a whole number from 0`},
		"a huge exponent":       {`{"op_id": 1E99999999999, "op": "PUT", "type": "t", "id": "a"}`, `"op_id" must be a whole number from 0`},
		"an op id in words":     {`{"op_id": "one", "op": "PUT", "type": "t", "id": "a"}`, `"op_id" must be a whole number from 0`},
		"an empty op id":        {`{"op_id": "", "op": "PUT", "type": "t", "id": "a"}`, `"op_id" must be a whole number from 0`},
		"an op id and a space":  {`{"op_id": "4.0 ", "op": "PUT", "type": "t", "id": "a"}`, `"op_id" must be a whole number from 0`},
		"true as op id":         {`{"op_id": true, "op": "PUT", "type": "t", "id": "a"}`, `"op_id" must be a whole number from 0`},
		"a negative tx id":      {`{"tx_id": -7, "op": "PUT", "type": "t", "id": "a"}`, `"tx_id" must be a whole number from 0`},
		"a fractional tx id":    {`{"tx_id": 7e-1, "op": "PUT", "type": "t", "id": "a"}`, `"tx_id" must be a whole number from 0`},
		"a negative text tx id": {`{"tx_id": "-7", "op": "PUT", "type": "t", "id": "a"}`, `"tx_id" must be a whole number from 0`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := `{"client_id": "c", "crud": [{"op": "DELETE", "type": "t", "id": "a"}, ` + tt.entry + `]}`
			if got, want := refusal(t, body), "entry 1: "+tt.want; got != want {
				t.Errorf("Decode(%s) says %q, want %q", body, got, want)
			}
		})
	}
}

func TestDecodeNamesALongColumnInShort(t *testing.T) {
	t.Parallel()
	column := strings.Repeat("x", 1<<20)
	got := refusal(t, `[{"op": "PUT", "type": "t", "id": "a", "data": {"`+column+`": 1, "`+column+`": 2}}]`)
	if want := `entry 0: column "` + column[:100] + `" is given twice`; got != want {
		t.Errorf("Decode says %.300q, want %q", got, want)
	}
}

func TestDecodeRefusesOpIDsThatDoNotRise(t *testing.T) {
	t.Parallel()
	entry := func(opID string) string { return `{"op_id": ` + opID + `, "op": "DELETE", "type": "t", "id": "a"}` }
	tests := []struct{ body, want string }{
		{
			`[` + entry("5") + `,` + entry("5") + `]`,
			"entry 1: op_id 5 does not rise: send the queue in its order",
		},
		{
			`[` + entry("5") + `,` + entry("6") + `,` + entry("4") + `]`,
			"entry 2: op_id 4 does not rise: send the queue in its order",
		},
		{ // an entry without one does not hide it
			`[` + entry("5") + `,` + entry("null") + `,` + entry("5.0") + `]`,
			"entry 2: op_id 5 does not rise: send the queue in its order",
		},
		{
			`{"transactions": [{"crud": [` + entry("5") + `]}, {"crud": [` + entry("3") + `]}]}`,
			"entry 1: op_id 3 does not rise: send the queue in its order",
		},
	}
	for _, tt := range tests {
		if got := refusal(t, tt.body); got != tt.want {
			t.Errorf("Decode(%s) says %q, want %q", tt.body, got, tt.want)
		}
	}
}

func TestDecodeHoldsTheClientIDToItsRules(t *testing.T) {
	t.Parallel()
	body := func(quotedID string) string { return `{"client_id": ` + quotedID + `, "crud": []}` }
	for _, id := range []string{strings.Repeat("x", 200), strings.Repeat("é", 100), "a b", "💻"} {
		if got := decode(t, body(`"`+id+`"`)).ClientID; got != id {
			t.Errorf("client_id is %q, want %q", got, id)
		}
	}
	const (
		length  = "client_id must have 1 to 200 bytes: send database.getClientId()"
		control = "client_id has a control character: send database.getClientId()"
	)
	tests := []struct{ id, want string }{
		{`""`, length},
		{`"` + strings.Repeat("x", 201) + `"`, length},
		{`"` + strings.Repeat("é", 100) + `x"`, length},
		{`"a\u0000"`, control},
		{`"a\n"`, control},
		{"\"a\u007f\"", control},
		{`"\u0085"`, control},
	}
	for _, tt := range tests {
		if got := refusal(t, body(tt.id)); got != tt.want {
			t.Errorf("Decode(%s) says %q, want %q", body(tt.id), got, tt.want)
		}
	}
}

// shapes are uploads that between them have everything the decoder reads.
var shapes = []string{
	`{"client_id": "dev\u0069ce", "user_id": null, "haveMore": [true, {}], "crud": ` + crud + `}`,
	`{"operations": ` + crud + `, "batch": ` + crud + `, "x": -1.5e+3}`,
	`{"transactions": [{"transaction_id": 7, "crud": [` + entry41 + `]}, {"x": false, "crud": [` + entry43 + `]}]}`,
	`[{"Op": 0, "Table": "é😀", "data": {"id": "\ud83d\ude00", "o": {"a": [1, [2]]}}, "OpData": null}]`,
}

func TestDecodeRefusesEveryTruncation(t *testing.T) {
	t.Parallel()
	for _, body := range shapes {
		decode(t, body)
		for n := range len(body) {
			if detail := refusal(t, body[:n]); detail == "" {
				t.Errorf("Decode(%q) says nothing", body[:n])
			}
		}
	}
}
