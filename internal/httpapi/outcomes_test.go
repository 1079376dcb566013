package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/identity"
	"ferry/internal/uploads"
)

// cause is in the causes of errors, and must never reach a client.
const cause = "MARKER-OF-A-CAUSE"

func withStore(apply storeFunc) func(*api) { return func(a *api) { a.options.Store = apply } }

// failingStore fails every upload.
func failingStore(err error) func(*api) {
	return withStore(func(context.Context, uploads.Caller, *uploads.Upload) (*uploads.Result, error) { return nil, err })
}

func failingUploaders(err error) func(*api) {
	return func(a *api) {
		a.options.Uploaders = authenticatorFunc(func() (*identity.Principal, error) { return nil, err })
	}
}

// exampleUser signs everybody in as the user of openapi.yaml's examples.
func exampleUser(*api) identity.Authenticator {
	const id = "5b0f7b8e-6a51-4c39-8f5a-0b8b7a0e7a11"
	return authenticatorFunc(func() (*identity.Principal, error) {
		return &identity.Principal{UserID: id, Claims: json.RawMessage(`{"sub":"` + id + `"}`)}, nil
	})
}

// The outcomes of an upload that are problems, each with its whole body.
func TestUploadOutcomes(t *testing.T) {
	t.Parallel()
	tooLarge := func(detail string) map[string]any {
		p := problem(413, "request_too_large", detail)
		p["limit_bytes"], p["limit_operations"] = float64(testMaxBody), float64(testMaxOperations)
		return p
	}
	const bare = "ferry failed to serve this request; its log says why"
	tests := []struct {
		name   string
		change func(*api)
		body   string
		edits  []edit
		want   map[string]any
		header http.Header // of the answer, as far as it matters
	}{
		{
			name: "no session", body: puts(1), edits: []edit{header("Authorization")},
			want:   problem(401, "invalid_session", "no session: send the app's own session in the header `Authorization: Bearer <session>`"),
			header: http.Header{"Www-Authenticate": {"Bearer"}},
		},
		{
			name: "disabled user", body: puts(1),
			change: failingUploaders(fault.Wrap(errors.New(cause), fault.UserDisabled, "this user is disabled")),
			want:   problem(403, "user_disabled", "this user is disabled"),
		},
		{
			name: "another user's operations", body: `{"user_id":"bob",` + puts(1)[1:],
			want: problem(409, "wrong_user", "these operations were queued by another user: keep them until that user has signed in again"),
		},
		{
			name: "too many bytes", body: `{"crud":[]}` + strings.Repeat(" ", testMaxBody),
			want: tooLarge("the body is over 65536 bytes after decompression: send smaller batches"),
		},
		{
			name: "too many operations", body: puts(testMaxOperations + 1),
			want: tooLarge("the request has over 5 operations, which may only come in a single transaction: send smaller batches"),
		},
		{
			name: "not JSON by its Content-Type", body: puts(1), edits: []edit{header("Content-Type", "text/plain;charset=UTF-8")},
			want: problem(415, "unsupported_media_type", "the body must be JSON: send Content-Type: application/json"),
		},
		{
			name: "unknown encoding", body: puts(1), edits: []edit{header("Content-Encoding", "br")},
			want:   problem(415, "unsupported_media_type", "Content-Encoding must be gzip, zstd or absent"),
			header: http.Header{"Accept-Encoding": {"gzip, zstd"}},
		},
		{
			name: "too many requests", body: puts(1),
			change: failingUploaders(&fault.Error{Code: fault.TooManyRequests, Detail: "wait a little", RetryAfter: 90 * time.Second}),
			want:   problem(429, "too_many_requests", "wait a little"),
			header: http.Header{"Retry-After": {"90"}},
		},
		{
			name: "database away", body: puts(1),
			change: failingStore(fmt.Errorf("apply: %w", fault.Retry(errors.New(cause), 1500*time.Millisecond, "try again"))),
			want:   problem(503, "unavailable", "try again"),
			header: http.Header{"Retry-After": {"2"}},
		},
		{
			name: "unavailable without a time", body: puts(1),
			change: failingStore(fault.New(fault.Unavailable, "try again")),
			want:   problem(503, "unavailable", "try again"),
			header: http.Header{"Retry-After": {"5"}},
		},
		{
			name: "unknown error", body: puts(1),
			change: failingStore(errors.New(cause)),
			want:   problem(500, "internal", bare),
		},
		{
			name: "panic", body: puts(1),
			change: withStore(func(context.Context, uploads.Caller, *uploads.Upload) (*uploads.Result, error) { panic(cause) }),
			want:   problem(500, "internal", bare),
		},
		{
			name: "unknown code", body: puts(1),
			change: failingStore(fault.New("no_such_code", "%s", cause)),
			want:   problem(500, "internal", bare),
		},
		{
			name: "unknown code around a known one", body: puts(1),
			change: failingStore(fault.Wrap(fault.New(fault.InvalidRequest, "%s", cause), "no_such_code", cause)),
			want:   problem(500, "internal", bare),
		},
		{
			name: "no detail", body: puts(1),
			change: failingStore(fault.New(fault.WrongUser, "")),
			want:   problem(409, "wrong_user", "Conflict"),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.change == nil {
				tt.change = func(*api) {}
			}
			got := setup(t, tt.change).upload(t, tt.body, tt.edits...)
			if diff := cmp.Diff(tt.want, decoded(t, got.body)); diff != "" {
				t.Errorf("problem (-want +got):\n%s", diff)
			}
			if float64(got.status) != tt.want["status"] {
				t.Errorf("status %d, want %v", got.status, tt.want["status"])
			}
			for _, name := range []string{"Www-Authenticate", "Retry-After", "Accept-Encoding"} {
				if diff := cmp.Diff(tt.header[name], got.header[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			for name, values := range got.header {
				if strings.Contains(got.body+strings.Join(values, ""), cause) {
					t.Errorf("the cause reached the client in %s or the body: %s", name, got.body)
				}
			}
		})
	}
}

// Whoever was disabled while the body was on its way uploads nothing.
func TestTheUserIsLookedAtAgainOnceTheBodyIsThere(t *testing.T) {
	t.Parallel()
	var asked, disabled atomic.Bool
	a := setup(t, func(a *api) {
		a.options.Uploaders = authenticatorFunc(func() (*identity.Principal, error) {
			disabled.Store(true) // from here on
			return &identity.Principal{UserID: alice, Claims: json.RawMessage(`{"sub":"alice"}`)}, nil
		})
		a.options.Allowed = func(_ context.Context, p *identity.Principal) error {
			asked.Store(p.UserID == alice && disabled.Load())
			return fault.New(fault.UserDisabled, "this user is disabled")
		}
		withStore(func(context.Context, uploads.Caller, *uploads.Upload) (*uploads.Result, error) {
			t.Error("it reached the store")
			return &uploads.Result{}, nil
		})(a)
	})
	got := a.upload(t, puts(1))
	if diff := cmp.Diff(problem(403, "user_disabled", "this user is disabled"), decoded(t, got.body)); diff != "" || !asked.Load() {
		t.Errorf("asked %t, problem (-want +got):\n%s", asked.Load(), diff)
	}
}

// What is wrong with a body is said in the words of package uploads.
func TestMalformedUploads(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"empty":           "",
		"not JSON":        `{"crud":[}`,
		"cut JSON":        strings.TrimSuffix(puts(1), "]}"),
		"two JSON values": puts(1) + puts(1),
		"not UTF-8":       "{\"crud\":[{\"op\":\"PUT\",\"type\":\"t\",\"id\":\"\xff\"}]}",
		"a string":        `"crud"`,
		"no operations":   `{"client_id":"c"}`,
		"unknown op":      `{"crud":[{"op":"MOVE","type":"todos","id":"1"}]}`,
		"no table":        `{"crud":[{"op":"PUT","id":"1"}]}`,
		"no id":           `{"crud":[{"op":"PUT","type":"todos"}]}`,
		"data no object":  `{"crud":[{"op":"PUT","type":"todos","id":"1","data":[]}]}`,
		"given twice":     `{"crud":[{"op":"PUT","type":"todos","table":"lists","id":"1"}]}`,
		"falling op ids":  `{"crud":[{"op_id":2,"op":"PUT","type":"todos","id":"1"},{"op_id":1,"op":"PUT","type":"todos","id":"1"}]}`,
		"bad client id":   `{"client_id":"\u0001","crud":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := uploads.Decode([]byte(body))
			if err == nil {
				t.Fatal("package uploads accepts it")
			}
			a := setup(t, withStore(func(context.Context, uploads.Caller, *uploads.Upload) (*uploads.Result, error) {
				t.Error("it reached the store")
				return &uploads.Result{}, nil
			}))
			got := a.upload(t, body)
			if diff := cmp.Diff(problem(400, "invalid_request", fault.From(err).Detail), decoded(t, got.body)); diff != "" {
				t.Errorf("problem (-want +got):\n%s", diff)
			}
		})
	}
}

// A member never takes the place of what every problem has, and one that JSON
// cannot express does not cost the rest.
func TestProblemMembersNeverHideTheProblem(t *testing.T) {
	t.Parallel()
	f := fault.New(fault.WrongUser, "detail")
	f.Members = map[string]any{"status": 200, "more": 1}
	want := problem(409, "wrong_user", "detail")
	want["more"] = 1.0
	if diff := cmp.Diff(want, decoded(t, string(problemBody(f, 409)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f.Members["more"] = func() {}
	delete(want, "more")
	if diff := cmp.Diff(want, decoded(t, string(problemBody(f, 409)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUploadIsAnsweredWithTheStoresResult(t *testing.T) {
	t.Parallel()
	number := func(n int64) *int64 { return &n }
	result := &uploads.Result{
		LastOpID: number(9007199254740993), ExactlyOnce: true, Applied: 1, Duplicates: 2, Ignored: 3,
		Rejected: []uploads.Rejection{
			{
				ID: "r1", TxID: number(0), OpID: number(41), OpIndex: 0, State: uploads.Open, Table: "todos", RowID: "",
				Refusal: uploads.Refusal{Code: "check_violation", SQLState: "23514", Constraint: "c", Column: "d", Message: "m"},
			},
			{ID: "r2", State: uploads.Replayed, Table: "todos", RowID: "1", Refusal: uploads.Refusal{Code: uploads.CodeForbidden, Message: "m"}},
		},
	}
	var caller uploads.Caller
	var upload *uploads.Upload
	var left time.Duration
	a := setup(t, withStore(func(ctx context.Context, c uploads.Caller, u *uploads.Upload) (*uploads.Result, error) {
		deadline, _ := ctx.Deadline()
		caller, upload, left = c, u, time.Until(deadline)
		return result, nil
	}))
	got := a.upload(t, `{"client_id":"c","user_id":"alice","crud":[{"op_id":1,"tx_id":0,"op":"PUT","type":"todos","id":"1","data":{"a":1.0}}]}`)

	const want = `{"last_op_id":9007199254740993,"exactly_once":true,"applied":1,"duplicates":2,"ignored":3,"rejected":[` +
		`{"rejection_id":"r1","tx_id":0,"op_id":41,"op_index":0,"state":"open","table":"todos","id":"","code":"check_violation","sqlstate":"23514","constraint":"c","column":"d","message":"m"},` +
		`{"rejection_id":"r2","op_index":0,"state":"replayed","table":"todos","id":"1","code":"forbidden","message":"m"}]}` + "\n"
	if diff := cmp.Diff(answer{status: 200, body: want}, answer{status: got.status, body: got.body}, cmp.AllowUnexported(answer{})); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if caller.UserID != alice || decoded(t, string(caller.Claims))["sub"] != alice {
		t.Errorf("caller %q with claims %s", caller.UserID, caller.Claims)
	}
	if upload.ClientID != "c" || len(upload.Transactions) != 1 || upload.Transactions[0].TxID != 0 {
		t.Errorf("upload %+v", upload)
	}
	if left <= 0 || left > 25*time.Second {
		t.Errorf("the store has %v left, want at most 25 s", left)
	}
}

func TestASingleTransactionHasNoOperationLimit(t *testing.T) {
	t.Parallel()
	entries := strings.Repeat(`{"tx_id":7,"op":"DELETE","type":"todos","id":"1"},`, 10*testMaxOperations)
	got := setup(t).upload(t, `{"crud":[`+strings.TrimSuffix(entries, ",")+`]}`)
	if got.status != http.StatusOK || decoded(t, got.body)["applied"] != float64(10*testMaxOperations) {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}

func TestAsManyOperationsAsTheLimitAreAccepted(t *testing.T) {
	t.Parallel()
	if got := setup(t).upload(t, puts(testMaxOperations)); got.status != http.StatusOK {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}
