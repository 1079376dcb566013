package httpapi

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

func TestCheckpoints(t *testing.T) {
	t.Parallel()
	a := setup(t)
	steps := []struct{ method, path, body, want string }{
		{"PUT", "/checkpoint", `{"client_id":"phone"}`, `{"checkpoint":"1"}`},
		{"PUT", "/api/data/checkpoint", `{"client_id":"phone"}`, `{"checkpoint":"2"}`},
		{"PUT", "/checkpoint", `{"client_id":"phone","user_id":"bob"}`, `{"checkpoint":"3"}`}, // alice's all the same
		{"PUT", "/checkpoint", `{"clientId":"laptop","more":[null]}`, `{"checkpoint":"1"}`},
		{"POST", "/checkpoint-request", `{"client_id":"phone","checkpoint_request_id":"5"}`, `{"checkpoint_request_id":"5"}`},
		{"POST", "/checkpoint-request", `{"client_id":"phone","checkpoint_request_id":"4"}`, `{"checkpoint_request_id":"5"}`},
		{"POST", "/checkpoint-request", `{"client_id":"phone","checkpoint_request_id":6,"user_id":7}`, `{"checkpoint_request_id":"6"}`},
		{"POST", "/checkpoint-request", `{"client_id":"phone","checkpoint_request_id":"999999999999999999"}`, `{"checkpoint_request_id":"999999999999999999"}`},
	}
	for _, s := range steps {
		got := a.do(t, s.method, s.path, strings.NewReader(s.body))
		want := answer{status: 200, body: s.want + "\n"}
		if diff := cmp.Diff(want, answer{status: got.status, body: got.body}, cmp.AllowUnexported(answer{})); diff != "" {
			t.Errorf("%s %s %s (-want +got):\n%s", s.method, s.path, s.body, diff)
		}
	}
	want := map[[2]string]int64{{alice, "phone"}: 999999999999999999, {alice, "laptop"}: 1}
	if diff := cmp.Diff(want, a.options.Checkpoints.(*fakeCheckpoints).stored); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

func TestCheckpointsThatAreRefused(t *testing.T) {
	t.Parallel()
	const clientID = "client_id must have 1 to 200 bytes: send database.getClientId()"
	failing := func(a *api) {
		a.options.Checkpoints = &fakeCheckpoints{err: fault.Retry(errors.New(cause), time.Second, "try again")}
	}
	const off = "this server keeps no write checkpoints (FERRY_WRITE_CHECKPOINTS)"
	tests := []struct {
		name, method, path, body string
		change                   func(*api)
		edits                    []edit
		want                     map[string]any
	}{
		{name: "off", method: "PUT", path: "/checkpoint", body: `{"client_id":"c"}`, change: func(a *api) { a.options.Checkpoints = nil }, want: problem(404, "not_found", off)},
		{name: "off, with data", method: "PUT", path: "/api/data/checkpoint", body: `{"client_id":"c"}`, change: func(a *api) { a.options.Checkpoints = nil }, want: problem(404, "not_found", off)},
		{name: "off, request", method: "POST", path: "/checkpoint-request", change: func(a *api) { a.options.Checkpoints = nil }, want: problem(404, "not_found", off)},
		{
			name: "no session", method: "PUT", path: "/checkpoint", body: `{"client_id":"c"}`, edits: []edit{header("Authorization")},
			want: problem(401, "invalid_session", "no session: send the app's own session in the header `Authorization: Bearer <session>`"),
		},
		{
			name: "no session in the demo mode", method: "PUT", path: "/api/data/checkpoint", body: `{"client_id":"c"}`, change: withDemo, edits: []edit{header("Authorization")},
			want: problem(401, "invalid_session", "no session: send the app's own session in the header `Authorization: Bearer <session>`"),
		},
		{name: "no client", method: "PUT", path: "/checkpoint", body: `{}`, want: problem(400, "invalid_request", clientID)},
		{name: "null client", method: "PUT", path: "/checkpoint", body: `{"client_id":null}`, want: problem(400, "invalid_request", clientID)},
		{name: "long client", method: "POST", path: "/checkpoint-request", body: `{"client_id":"` + strings.Repeat("x", 201) + `","checkpoint_request_id":"1"}`, want: problem(400, "invalid_request", clientID)},
		{name: "client a number", method: "PUT", path: "/checkpoint", body: `{"client_id":1}`, want: problem(400, "invalid_request", `"client_id" must be a string`)},
		{name: "two clients", method: "PUT", path: "/checkpoint", body: `{"client_id":"a","clientId":"b"}`, want: problem(400, "invalid_request", `"clientId" is given twice, with different values`)},
		{name: "no object", method: "PUT", path: "/checkpoint", body: `[]`, want: problem(400, "invalid_request", `the body must be {"client_id": …}, a JSON object`)},
		{name: "two values", method: "PUT", path: "/checkpoint", body: `{"client_id":"c"}{}`, want: problem(400, "invalid_request", "the body has something after its JSON value")},
		{name: "not JSON", method: "PUT", path: "/checkpoint", body: `{`, want: problem(400, "invalid_request", "the body is not valid JSON")},
		{name: "not UTF-8", method: "PUT", path: "/checkpoint", body: "{\"client_id\":\"\xff\"}", want: problem(400, "invalid_request", "the body is not UTF-8")},
		{name: "no request id", method: "POST", path: "/checkpoint-request", body: `{"client_id":"c","checkpoint_request_id":null}`, want: problem(400, "invalid_request", `the body has no "checkpoint_request_id": send its digits as a string`)},
		{name: "request id a word", method: "POST", path: "/checkpoint-request", body: `{"client_id":"c","checkpoint_request_id":"five"}`, want: problem(400, "invalid_request", `"checkpoint_request_id" must be a whole number from 0`)},
		{name: "request id negative", method: "POST", path: "/checkpoint-request", body: `{"client_id":"c","checkpoint_request_id":"-1"}`, want: problem(400, "invalid_request", `"checkpoint_request_id" must be a whole number from 0`)},
		{name: "request id too great", method: "POST", path: "/checkpoint-request", body: `{"client_id":"c","checkpoint_request_id":"1000000000000000000"}`, want: problem(400, "invalid_request", `"checkpoint_request_id" must have 18 digits at most`)},
		{name: "database away", method: "PUT", path: "/checkpoint", body: `{"client_id":"c"}`, change: failing, want: problem(503, "unavailable", "try again")},
		{name: "database away, request", method: "POST", path: "/checkpoint-request", body: `{"client_id":"c","checkpoint_request_id":"1"}`, change: failing, want: problem(503, "unavailable", "try again")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.change == nil {
				tt.change = func(*api) {}
			}
			got := setup(t, tt.change).do(t, tt.method, tt.path, strings.NewReader(tt.body), tt.edits...)
			if diff := cmp.Diff(tt.want, decoded(t, got.body)); diff != "" || float64(got.status) != tt.want["status"] {
				t.Errorf("answered %d (-want +got):\n%s", got.status, diff)
			}
		})
	}
}

func TestUploadAnswersItsCheckpoint(t *testing.T) {
	t.Parallel()
	a := setup(t, withStore(resultStore(`{"exactly_once":true,"rejected":[],"checkpoint":"17"}`)))
	got := a.upload(t, puts(1))
	const want = `{"last_op_id":null,"exactly_once":true,"applied":0,"duplicates":0,"ignored":0,"rejected":[],"checkpoint":"17"}` + "\n"
	if got.status != http.StatusOK || got.body != want {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}
