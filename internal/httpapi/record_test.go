package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/uploads"
)

// What the log tells of each kind of request, apart from times.
func TestEachRequestHasOneRecord(t *testing.T) {
	t.Parallel()
	const clientID = `"client_id":"device",`
	retry := fault.Retry(errors.New(cause), time.Second, "try again")
	tests := []struct {
		name   string
		change func(*api)
		send   func(t *testing.T, a *api)
		want   map[string]any
	}{
		{
			name: "token",
			send: func(t *testing.T, a *api) { a.secrets = append(a.secrets, tokenOf(t, a.do(t, "GET", "/token/", nil))) },
			want: map[string]any{"level": "INFO", "method": "GET", "route": "/token", "status": 200.0, "user": alice, "audit": "token"},
		},
		{
			name: "upload",
			change: withStore(func(context.Context, uploads.Caller, *uploads.Upload) (*uploads.Result, error) {
				return &uploads.Result{Applied: 1, Duplicates: 2, Ignored: 3, Rejected: []uploads.Rejection{{State: uploads.Open}}}, nil
			}),
			send: func(t *testing.T, a *api) { a.upload(t, "{"+clientID+puts(2)[1:]) },
			want: map[string]any{
				"level": "INFO", "method": "POST", "route": "/upload", "status": 200.0, "user": alice, "client": "device",
				"operations": 2.0, "applied": 1.0, "duplicates": 2.0, "ignored": 3.0, "rejected": 1.0,
			},
		},
		{
			name:   "database away",
			change: failingStore(retry),
			send:   func(t *testing.T, a *api) { a.upload(t, "{"+clientID+puts(1)[1:]) },
			want: map[string]any{
				"level": "WARN", "method": "POST", "route": "/upload", "status": 503.0, "user": alice, "client": "device",
				"operations": 1.0, "error": "unavailable: try again: " + cause,
			},
		},
		{
			name:   "defect",
			change: failingStore(errors.New(cause)),
			send:   func(t *testing.T, a *api) { a.upload(t, puts(1)) },
			want: map[string]any{
				"level": "ERROR", "method": "POST", "route": "/upload", "status": 500.0, "user": alice, "client": "",
				"operations": 1.0, "error": cause,
			},
		},
		{
			name: "not signed in",
			send: func(t *testing.T, a *api) {
				a.do(t, "GET", "/token", nil, header("Authorization", "Bearer "+a.session(t, time.Hour), "Bearer x"))
			},
			want: map[string]any{
				"level": "INFO", "method": "GET", "route": "/token", "status": 401.0,
				"error": "invalid_session: the request has more than one Authorization header: not recognised",
			},
		},
		{
			name: "unknown path, whose text may be anything",
			send: func(t *testing.T, a *api) { a.do(t, "GET", "/"+a.session(t, time.Hour), nil) },
			want: map[string]any{
				"level": "INFO", "method": "GET", "route": "", "status": 404.0,
				"error": "not_found: there is nothing at this path; see /openapi.yaml",
			},
		},
		{
			name: "alive",
			send: func(t *testing.T, a *api) { a.do(t, "GET", "/healthz/", nil) },
			want: map[string]any{"level": "DEBUG", "method": "GET", "route": "/healthz", "status": 200.0},
		},
		{
			name:   "not ready",
			change: func(a *api) { a.options.Ready = func(context.Context) error { return retry } },
			send:   func(t *testing.T, a *api) { a.do(t, "HEAD", "/readyz", nil) },
			want: map[string]any{
				"level": "WARN", "method": "HEAD", "route": "/readyz", "status": 503.0,
				"error": "unavailable: try again: " + cause,
			},
		},
		{
			name: "preflight",
			send: func(t *testing.T, a *api) {
				a.do(t, "OPTIONS", "/upload", nil, header("Origin", appOrigin), header("Access-Control-Request-Method", "POST"))
			},
			want: map[string]any{"level": "INFO", "method": "OPTIONS", "route": "", "status": 200.0},
		},
		{
			name: "refused preflight",
			send: func(t *testing.T, a *api) {
				a.do(t, "OPTIONS", "/upload", nil, header("Origin", "http://localhost:5173"), header("Access-Control-Request-Method", "POST"))
			},
			want: map[string]any{
				"level": "INFO", "method": "OPTIONS", "route": "", "status": 200.0,
				"refused_origin": "http://localhost:5173",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.change == nil {
				tt.change = func(*api) {}
			}
			a := setup(t, tt.change)
			tt.send(t, a)
			records := a.records(t)
			if len(records) != 1 {
				t.Fatalf("%d records:\n%s", len(records), a.written)
			}
			tt.want["msg"], tt.want["address"] = "request", "127.0.0.1"
			if took, ok := records[0]["took_us"].(float64); !ok || took < 0 {
				t.Errorf("took %v µs", records[0]["took_us"])
			}
			delete(records[0], "took_us")
			delete(records[0], "time")
			if diff := cmp.Diff(tt.want, records[0]); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
		})
	}
}

func tokenOf(t *testing.T, got answer) string {
	t.Helper()
	token, ok := decoded(t, got.body)["token"].(string)
	if !ok {
		t.Fatalf("no token in %s", got.body)
	}
	return token
}

func TestAPanicIsLoggedWithItsStack(t *testing.T) {
	t.Parallel()
	a := setup(t, withStore(panicking))
	if got := a.upload(t, puts(1)); strings.Contains(got.body, "panicking") || strings.Contains(got.body, ".go") {
		t.Errorf("the stack reached the client: %s", got.body)
	}
	if got := a.upload(t, puts(1)); got.status != http.StatusInternalServerError {
		t.Errorf("the next request is answered %d", got.status)
	}
	records := a.records(t)
	if len(records) != 2 {
		t.Fatalf("%d records:\n%s", len(records), a.written)
	}
	for _, record := range records {
		text, _ := record["error"].(string)
		if record["level"] != "ERROR" || !strings.Contains(text, "panic: "+cause) || !strings.Contains(text, "httpapi.panicking") {
			t.Errorf("record %v, want the panic and its stack", record)
		}
	}
}

func panicking(context.Context, uploads.Caller, *uploads.Upload) (*uploads.Result, error) {
	panic(cause)
}
