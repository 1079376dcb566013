package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/identity"
	"ferry/internal/uploads"
)

// resultStore answers every upload with a result, given as JSON.
func resultStore(text string) storeFunc {
	return func(context.Context, uploads.Caller, *uploads.Upload) (*uploads.Result, error) {
		result := &uploads.Result{}
		return result, json.Unmarshal([]byte(text), result)
	}
}

func (a *api) data(t *testing.T, body string, edits ...edit) answer {
	t.Helper()
	return a.do(t, http.MethodPost, "/api/data", strings.NewReader(body), edits...)
}

// transactions is a request of n client transactions with one operation each.
func transactions(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"transaction_id":%d,"crud":[{"id":"%d","op":"PUT","table":"todos","op_data":{"a":1}}]}`, i, i)
	}
	return `{"transactions":[` + strings.Join(list, ",") + `]}`
}

func rejection(code, sqlstate string) *uploads.Rejection {
	return &uploads.Rejection{
		ID: "r1", OpIndex: 2, State: uploads.Open, Table: "todos", RowID: "1",
		Refusal: uploads.Refusal{Code: code, SQLState: sqlstate, Message: "why"},
	}
}

func TestDataResults(t *testing.T) {
	t.Parallel()
	retry := fault.Retry(errors.New(cause), 1500*time.Millisecond, "try again")
	const (
		fatal     = `{"status":"fatal_error","requires_client_handling":false,"message":"why","failed_operation":{"error_code":"CHECK_VIOLATION","message":"why","details":{"rejection_id":"r1"},"operation_index":2}}`
		success   = `{"status":"success"}`
		retryable = `{"status":"retryable_error","message":"try again","retry_after_ms":1500}`
		notTried  = `{"status":"not_attempted"}`
	)
	decided := uploads.Outcome{Decided: true}
	refused := uploads.Outcome{Decided: true, Rejection: rejection("check_violation", "23514")}
	tests := []struct {
		name     string
		body     string
		outcomes []uploads.Outcome
		err      error
		want     []string
	}{
		{"all applied", transactions(2), nil, nil, []string{success, success}},
		{"as many as there may be", transactions(5), nil, nil, []string{success, success, success, success, success}},
		{"no operations", `{"transactions":[{"crud":[]}]}`, nil, nil, []string{success}},
		{"a fatal error stops nothing", transactions(3), []uploads.Outcome{decided, refused, decided}, nil, []string{success, fatal, success}},
		{"away at once", transactions(3), nil, retry, []string{retryable, notTried, notTried}},
		{"away after some", transactions(4), []uploads.Outcome{decided, decided, {}, decided}, retry, []string{success, success, retryable, notTried}},
		{"away after a rejection", transactions(3), []uploads.Outcome{decided, refused, decided}, retry, []string{success, retryable, notTried}},
		{"away after an empty one", `{"transactions":[{"crud":[]},` + transactions(1)[len(`{"transactions":[`):], nil, retry, []string{success, retryable}},
		{"a wrapped failure", transactions(1), nil, fmt.Errorf("apply: %w", retry), []string{retryable}},
		{
			"a limit", transactions(2), nil, fault.New(fault.TooManyRequests, "wait"),
			[]string{`{"status":"retryable_error","message":"wait","retry_after_ms":5000}`, notTried},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := setup(t, withStore(func(_ context.Context, caller uploads.Caller, _ *uploads.Upload) (*uploads.Result, error) {
				if caller.UserID != alice {
					t.Errorf("caller %q", caller.UserID)
				}
				if tt.err != nil && tt.outcomes == nil {
					return nil, tt.err
				}
				return &uploads.Result{Outcomes: tt.outcomes}, tt.err
			}))
			got := a.data(t, tt.body)
			want := answer{status: 200, body: `{"results":[` + strings.Join(tt.want, ",") + "]}\n"}
			if diff := cmp.Diff(want, answer{status: got.status, body: got.body}, cmp.AllowUnexported(answer{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if logged := a.records(t)[0]["error"]; tt.err != nil && logged != tt.err.Error() {
				t.Errorf("logged %v, want %v", logged, tt.err)
			}
		})
	}
}

func TestErrorCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ code, sqlstate, want string }{
		{"not_null_violation", "23502", "NOT_NULL_VIOLATION"},
		{"unique_violation", "23505", "UNIQUE_VIOLATION"},
		{"foreign_key_violation", "23503", "FOREIGN_KEY_VIOLATION"},
		{"check_violation", "23514", "CHECK_VIOLATION"},
		{"exclusion_violation", "23P01", "CONSTRAINT_VIOLATION"},
		{"restrict_violation", "23001", "CONSTRAINT_VIOLATION"},
		{"invalid_text_representation", "22P02", "INVALID_DATA"},
		{"numeric_value_out_of_range", "22003", "INVALID_DATA"},
		{uploads.CodeMalformedValue, "", "INVALID_DATA"},
		{uploads.CodeTooLarge, "54000", "INVALID_DATA"},
		{uploads.CodeUnknownTable, "", "SCHEMA_MISMATCH"},
		{uploads.CodeUnknownColumn, "", "SCHEMA_MISMATCH"},
		{"unwritable_column", "", "SCHEMA_MISMATCH"},
		{uploads.CodeForbidden, "42501", "UNAUTHORIZED"},
		{uploads.CodeTimeout, "57014", "UNCLASSIFIED_ERROR"},
		{uploads.CodeDependsOnRejected, "", "UNCLASSIFIED_ERROR"},
		{uploads.CodeRaiseException, "P0001", "UNCLASSIFIED_ERROR"},
		{uploads.CodeRaiseException, "23000", "UNCLASSIFIED_ERROR"},
		{uploads.CodeInternalError, "XX000", "UNCLASSIFIED_ERROR"},
		{"yet unknown", "", "UNCLASSIFIED_ERROR"},
	} {
		if got := errorCode(rejection(tt.code, tt.sqlstate).Refusal); got != tt.want {
			t.Errorf("%s (%s): %s, want %s", tt.code, tt.sqlstate, got, tt.want)
		}
	}
}

// What the reference API refuses itself, beside what /upload does.
func TestDataThatIsRefused(t *testing.T) {
	t.Parallel()
	const clientsWrong = "invalid_request"
	tests := []struct {
		name, method, body string
		change             func(*api)
		edits              []edit
		want               map[string]any
	}{
		{name: "no transactions", body: `{"transactions":[]}`, want: problem(400, clientsWrong, `"transactions" must have 1 to 50 elements, not 0`)},
		{
			name: "51 transactions", body: transactions(51), change: func(a *api) { a.options.MaxOperations = 100 },
			want: problem(400, clientsWrong, `"transactions" must have 1 to 50 elements, not 51`),
		},
		{
			name: "unknown op", body: `{"transactions":[{"crud":[{"id":"1","op":"MERGE","table":"todos"}]}]}`,
			want: problem(400, clientsWrong, `entry 0: "op" must be PUT, PATCH or DELETE`),
		},
		{name: "no crud", body: `{"transactions":[{}]}`, want: problem(400, clientsWrong, `transaction 0 has no "crud"`)},
		{name: "no session", body: transactions(1), edits: []edit{header("Authorization")}, want: problem(401, "invalid_session", noSession)},
		{
			name: "another user's", body: `{"user_id":"bob",` + transactions(1)[1:],
			want: problem(409, "wrong_user", "these operations were queued by another user: keep them until that user has signed in again"),
		},
		{
			name: "another user's operation", method: "PUT", body: `{"user_id":"bob","table":"todos","data":{"id":"1"}}`,
			want: problem(409, "wrong_user", "these operations were queued by another user: keep them until that user has signed in again"),
		},
		{name: "a defect", body: transactions(1), change: failingStore(errors.New(cause)), want: problem(500, "internal", "ferry failed to serve this request; its log says why")},
		{name: "a batch, database away", body: puts(1), change: failingStore(fault.Retry(nil, time.Second, "try again")), want: problem(503, "unavailable", "try again")},
		{
			name: "an operation, database away", method: "PATCH", body: `{"table":"todos","data":{"id":"1"}}`,
			change: failingStore(fault.Retry(nil, time.Second, "try again")), want: problem(503, "unavailable", "try again"),
		},
		{name: "an operation without table", method: "PUT", body: `{"data":{"id":"1"}}`, want: problem(400, clientsWrong, `entry 0: "type" must name a table`)},
		{
			name: "several operations", method: "PUT", body: `[]`,
			want: problem(400, clientsWrong, `the body must be {"table": …, "data": {"id": …}}, a JSON object`),
		},
		{name: "not JSON by its type", method: "DELETE", body: `{}`, edits: []edit{header("Content-Type", "text/plain")}, want: problem(415, "unsupported_media_type", "the body must be JSON: send Content-Type: application/json")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.change == nil {
				tt.change = func(*api) {}
			}
			if tt.method == "" {
				tt.method = http.MethodPost
			}
			got := setup(t, tt.change).do(t, tt.method, "/api/data", strings.NewReader(tt.body), tt.edits...)
			if diff := cmp.Diff(tt.want, decoded(t, got.body)); diff != "" || float64(got.status) != tt.want["status"] {
				t.Errorf("answered %d (-want +got):\n%s", got.status, diff)
			}
		})
	}
}

// The older demos' shapes. A rejection is no error: their connectors would send
// it again for ever.
func TestMessages(t *testing.T) {
	t.Parallel()
	const (
		all      = `{"message":"applied 1, applied before 2, ignored 3"}` + "\n"
		rejected = `{"message":"applied 0, applied before 0, ignored 0; rejected and stored as r1 (check_violation: why)"}` + "\n"
	)
	single := `{"table":"todos","data":{"id":"1","description":"milk"}}`
	tests := []struct{ name, method, body string }{
		{"batch", "POST", `{"batch":[{"op":"PUT","table":"todos","id":"1","data":{"description":"milk"}}]}`},
		{"empty batch", "POST", `{"batch":[]}`},
		{"the canonical shape", "POST", puts(1)},
		{"array", "POST", `[{"op":"PUT","table":"todos","id":"1"}]`},
		{"put", "PUT", single},
		{"patch", "PATCH", single},
		{"delete", "DELETE", single},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for want, result := range map[string]*uploads.Result{
				all:      {Applied: 1, Duplicates: 2, Ignored: 3},
				rejected: {Rejected: []uploads.Rejection{*rejection("check_violation", "23514")}, Outcomes: []uploads.Outcome{{Decided: true, Rejection: rejection("check_violation", "23514")}}},
			} {
				a := setup(t, withStore(func(context.Context, uploads.Caller, *uploads.Upload) (*uploads.Result, error) { return result, nil }))
				got := a.do(t, tt.method, "/api/data", strings.NewReader(tt.body))
				if got.status != http.StatusOK || got.body != want {
					t.Errorf("answered %d: %s, want %s", got.status, got.body, want)
				}
			}
		})
	}
}

func TestAnOperationsKindIsItsMethod(t *testing.T) {
	t.Parallel()
	for method, kind := range map[string]uploads.Kind{"PUT": uploads.Put, "PATCH": uploads.Patch, "DELETE": uploads.Delete} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			var got uploads.Upload
			a := setup(t, withStore(func(_ context.Context, _ uploads.Caller, u *uploads.Upload) (*uploads.Result, error) {
				got = *u
				return &uploads.Result{}, nil
			}))
			a.do(t, method, "/api/data", strings.NewReader(`{"client_id":"device","op_id":7,"table":"todos","data":{"id":"1"}}`))
			op := got.Transactions[0].Operations[0]
			if op.Kind != kind || op.Table != "todos" || op.ID != "1" || op.OpID != 7 || !got.ExactlyOnce || got.ClientID != "device" {
				t.Errorf("applied %+v of client %q", op, got.ClientID)
			}
		})
	}
}

func TestReferenceTokenIsThatOfTheSession(t *testing.T) {
	t.Parallel()
	a := setup(t, acceptSyncTokens)
	got := a.do(t, http.MethodGet, "/api/auth/token", nil)
	body := decoded(t, got.body)
	token, _ := body["token"].(string)
	a.secrets = append(a.secrets, token)
	if diff := cmp.Diff(map[string]any{"token": token, "powersync_url": endpoint}, body); diff != "" || got.status != 200 {
		t.Fatalf("answered %d (-want +got):\n%s", got.status, diff)
	}
	if got := a.data(t, transactions(1), bearer(token)); got.status != 200 {
		t.Errorf("data with that token is answered %d: %s", got.status, got.body)
	}
	if got := a.do(t, http.MethodGet, "/api/auth/token", nil, bearer(token)); got.status != 401 {
		t.Errorf("a token gave another one: %d", got.status)
	}
	off := setup(t, withoutTokens).do(t, http.MethodGet, "/api/auth/token", nil)
	if off.status != 404 || decoded(t, off.body)["code"] != "tokens_disabled" {
		t.Errorf("without a token key: %d %s", off.status, off.body)
	}
	if keys := a.do(t, http.MethodGet, "/api/auth/keys", nil, header("Authorization")); keys.status != 200 || keys.body != `{"keys":[]}` {
		t.Errorf("keys: %d %s", keys.status, keys.body)
	}
}

func TestDataExamplesAreAccepted(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"post", "put", "patch", "delete"} {
		content, _ := at(document(), "paths", "/api/data", method, "requestBody", "content", "application/json")
		for name, example := range content["examples"].(node) {
			t.Run(method+" "+name, func(t *testing.T) {
				t.Parallel()
				body, err := json.Marshal(example.(node)["value"])
				must(t, err)
				a := setup(t, func(a *api) {
					a.options.Uploaders = authenticatorFunc(func() (*identity.Principal, error) { return &identity.Principal{UserID: alice}, nil })
				})
				if got := a.do(t, strings.ToUpper(method), "/api/data", strings.NewReader(string(body))); got.status != http.StatusOK {
					t.Errorf("answered %d: %s", got.status, got.body)
				}
			})
		}
	}
}
