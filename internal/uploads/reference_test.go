package uploads

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

func TestDecodeSingle(t *testing.T) {
	t.Parallel()
	// What is decoded is what the same operation is as an entry, whose text is
	// stored with a rejection.
	tests := []struct{ name, body, entry, clientID, userID string }{
		{"the oldest demos'", `{"table":"todos","data":{"id":"1","a":1.0}}`, `{"op":"PATCH","table":"todos","data":{"id":"1","a":1.0}}`, "", ""},
		{"with spaces", " {\n\"table\":\"todos\",\"data\":{\"id\":\"1\"}} \n", "{\"op\":\"PATCH\",\n\"table\":\"todos\",\"data\":{\"id\":\"1\"}}", "", ""},
		{
			"with a client", `{"client_id":"phone","op_id":7,"table":"todos","id":"1"}`,
			`{"op":"PATCH","client_id":"phone","op_id":7,"table":"todos","id":"1"}`, "phone", "",
		},
		{
			"an op id under the client's name", `{"clientId":7,"userId":"u","table":"todos","id":"1"}`,
			`{"op":"PATCH","clientId":7,"userId":"u","table":"todos","id":"1"}`, "", "u",
		},
		{"nulls", `{"client_id":null,"user_id":null,"table":"todos","id":"1"}`, `{"op":"PATCH","client_id":null,"user_id":null,"table":"todos","id":"1"}`, "", ""},
		{"the same kind", `{"op":"PATCH","table":"todos","id":"1"}`, `{"op":"PATCH","op":"PATCH","table":"todos","id":"1"}`, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want, err := Decode([]byte("[" + tt.entry + "]"))
			if err != nil {
				t.Fatal(err)
			}
			want.ClientID, want.UserID, want.NamesUser = tt.clientID, tt.userID, tt.userID != ""
			want.ExactlyOnce = tt.clientID != "" && want.LastOpID() >= 0
			got, err := DecodeSingle(Patch, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeSingleRefuses(t *testing.T) {
	t.Parallel()
	const shape = `the body must be {"table": …, "data": {"id": …}}, a JSON object`
	for body, want := range map[string]string{
		``:                                       "the body is not valid JSON",
		`{}`:                                     `entry 0: "type" must name a table`,
		` { } `:                                  `entry 0: "type" must name a table`,
		`[]`:                                     shape,
		`null`:                                   shape,
		`"todos"`:                                shape,
		`{"table":"t","id":"1"},{"table":"t"}`:   "the body has something after its JSON value",
		`{"table":"t","id":"1"}],[{"table":"t"}`: "the body has something after its JSON value",
		`{"table":"t"`:                           "the body is not valid JSON",
		`{"table":"t"}`:                          `entry 0: "id" must be the row's id, a string`,
		`{"op":"PUT","table":"t","id":"1"}`:      `entry 0: "op" is given twice, with different values`,
		`{"client_id":"","table":"t","id":"1"}`:  "client_id must have 1 to 200 bytes: send database.getClientId()",
		`{"user_id":1,"table":"t","id":"1"}`:     `"user_id" must be a string`,
		`{"user_id":"a","userId":"b"}`:           `"userId" is given twice, with different values`,
		"{\"table\":\"\xff\"}":                   "the body is not UTF-8",
	} {
		up, err := DecodeSingle(Delete, []byte(body))
		if err == nil {
			t.Errorf("%s is accepted as %+v", body, up)
			continue
		}
		if f := fault.From(err); f.Code != fault.InvalidRequest || f.Detail != want {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

func TestOnlyTransactionsAreGrouped(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		`{"transactions":[]}`:             true,
		`{"transactions":[{"crud":[]}]}`:  true,
		`{"transactions":null,"crud":[]}`: false,
		`{"batch":[]}`:                    false,
		`[]`:                              false,
	} {
		up, err := Decode([]byte(body))
		if err != nil || up.Grouped != want {
			t.Errorf("%s: %+v, %v", body, up, err)
		}
	}
}

func FuzzDecodeSingle(f *testing.F) {
	f.Add([]byte(`{"client_id":"c","op_id":1,"table":"todos","data":{"id":"1"}}`))
	f.Add([]byte(`{"table":"t","id":"1"}],[{"table":"t"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		up, err := DecodeSingle(Put, body)
		if err != nil {
			return
		}
		if up.Operations != 1 || len(up.Transactions) != 1 || up.Transactions[0].Operations[0].Kind != Put {
			t.Errorf("%q is decoded as %+v", body, up)
		}
		if _, err := Decode([]byte("[" + string(up.Transactions[0].Operations[0].Raw) + "]")); err != nil {
			t.Errorf("what would be stored of %q cannot be replayed: %v", body, err)
		}
	})
}

func FuzzDecodeCheckpointRequest(f *testing.F) {
	f.Add([]byte(`{"client_id":"c","checkpoint_request_id":"5"}`))
	f.Add([]byte(`{"client_id":"c","checkpoint_request_id":1e17}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := DecodeCheckpointRequest(body)
		if err == nil && (request.ClientID == "" || request.ID < -1 || request.ID > maxCheckpoint) {
			t.Errorf("%q is decoded as %+v", body, request)
		}
	})
}
