package uploads_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ferry/internal/fault"
	"ferry/internal/uploads"
)

// FuzzDecode holds for any bytes: either they are refused as the client's
// mistake, or they are an upload that means the same when it is written anew.
func FuzzDecode(f *testing.F) {
	for _, c := range readCaptures(f) {
		f.Add([]byte(c.printed()))
		f.Add([]byte(c.queued()))
	}
	for _, body := range shapes {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		up, err := uploads.Decode(body)
		if err != nil {
			if refused, ok := errors.AsType[*fault.Error](err); !ok || refused.Code != fault.InvalidRequest || refused.Detail == "" {
				t.Fatalf("Decode: %v, want an %s error that says why", err, fault.InvalidRequest)
			}
			return
		}
		written := encode(up)
		again, err := uploads.Decode(written)
		if err != nil {
			t.Fatalf("Decode(%s), written anew: %v", written, err)
		}
		// Text with a lone surrogate is written as the text of its escapes.
		unwritten := cmpopts.IgnoreFields(uploads.Operation{}, "Raw", "Malformed")
		oneShape := cmpopts.IgnoreFields(uploads.Upload{}, "Grouped")
		if diff := cmp.Diff(up, again, unwritten, oneShape); diff != "" {
			t.Fatalf("written anew as %s (-first +again):\n%s", written, diff)
		}
	})
}

// encode writes an upload in the one shape that can say everything.
func encode(up *uploads.Upload) []byte {
	b := []byte(`{`)
	if up.ClientID != "" {
		b = fmt.Appendf(b, `"client_id":%s,`, quote(up.ClientID))
	}
	if up.NamesUser {
		b = fmt.Appendf(b, `"user_id":%s,`, quote(up.UserID))
	}
	b = append(b, `"transactions":[`...)
	for i, tx := range up.Transactions {
		b = append(b, separator(i)...)
		b = fmt.Appendf(b, `{"transaction_id":%s,"crud":[`, idOrNull(tx.TxID))
		for i, op := range tx.Operations {
			b = append(b, separator(i)...)
			b = fmt.Appendf(b, `{"op_id":%s,"op":%q,"type":%s,"id":%s,"data":{`, idOrNull(op.OpID), op.Kind, quote(op.Table), quote(op.ID))
			for i, field := range op.Fields {
				b = append(b, separator(i)...)
				b = fmt.Appendf(b, `%s:%s`, quote(field.Name), field.Value)
			}
			b = append(b, `}}`...)
		}
		b = append(b, `]}`...)
	}
	return append(b, `]}`...)
}

func separator(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

func idOrNull(id int64) string {
	if id < 0 {
		return "null"
	}
	return fmt.Sprint(id)
}

func quote(text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return quoted
}
