package httpapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
)

// Whatever the route, whoever asks: no answer leads elsewhere, sets a cookie,
// names a program or its version, or is of an unknown type. Without a session
// everything but what the public may know is refused.
func TestAnswersGiveNothingAway(t *testing.T) {
	t.Parallel()
	a := setup(t)
	public := []string{"/.well-known/jwks.json", "/api/auth/keys", "/healthz", "/readyz", "/openapi.yaml"}
	open := append([]string{"/auth/sign-up", "/auth/sign-in", "/auth/guest"}, public...) // before there is a session
	version := regexp.MustCompile(`(?i)\bgo1\.|golang|\bferry/|postgres(ql)?[ /]*\d|\bchi\b`)
	must(t, chi.Walk(a.state.routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		for _, signedIn := range []bool{true, false} {
			edits := []edit{}
			if !signedIn {
				edits = append(edits, header("Authorization"))
			}
			got := a.do(t, method, route, strings.NewReader(puts(1)), edits...)
			name := method + " " + route
			if got.status >= 300 && got.status < 400 || got.header.Get("Location") != "" {
				t.Errorf("%s leads elsewhere: %d to %q", name, got.status, got.header.Get("Location"))
			}
			for _, h := range []string{"Set-Cookie", "Server", "X-Powered-By", "Via"} {
				if value := got.header.Get(h); value != "" {
					t.Errorf("%s answers %s: %s", name, h, value)
				}
			}
			if got.body != "" && got.header.Get("Content-Type") == "" {
				t.Errorf("%s answers a body of no type", name)
			}
			if found := version.FindString(got.body); found != "" && route != "/openapi.yaml" {
				t.Errorf("%s answers %q in %s", name, found, got.body)
			}
			if !signedIn && !slices.Contains(open, route) && got.status != http.StatusUnauthorized {
				t.Errorf("%s without a session is answered %d: %s", name, got.status, got.body)
			}
			if slices.Contains(public, route) && got.status != http.StatusOK {
				t.Errorf("%s is answered %d", name, got.status)
			}
		}
		return nil
	}))
}

// What clients send stands in a record as text: it makes no further record, and
// no field of its own.
func TestClientsCannotForgeRecords(t *testing.T) {
	t.Parallel()
	const forged = "x\n" + `{"level":"ERROR","msg":"forged"}` + "\r\n\x1b[31m\u2028" + `","user":"forged`
	text, err := json.Marshal(forged)
	must(t, err)
	quoted := string(text)
	a := setup(t)
	for _, send := range []func(){
		func() { a.do(t, "GET", "/token", nil, bearer(`x","user":"forged`)) },
		func() { a.upload(t, `{"user_id":`+quoted+`,"crud":[]}`) },
		func() { a.upload(t, `{"client_id":`+quoted+`,"crud":[]}`) },
		func() { a.upload(t, `[{"op":"PUT","type":`+quoted+`,"id":"1"}]`) },
		func() { a.upload(t, forged) },
		func() { a.do(t, "GET", "/"+url.PathEscape(forged), nil) },
		func() {
			a.do(t, "OPTIONS", "/upload", nil, header("Origin", `http://x","user":"forged`), header("Access-Control-Request-Method", "POST"))
		},
		func() {
			a.upload(t, "{}", header("Content-Type", `text/"forged`), header("Content-Encoding", `"forged`))
		},
	} {
		send()
	}
	records := a.records(t) // fails on a line that is no JSON object
	if len(records) != 8 {
		t.Errorf("%d records for 8 requests:\n%s", len(records), a.written)
	}
	for _, record := range records {
		if record["msg"] != "request" || record["user"] == "forged" {
			t.Errorf("a forged record: %v", record)
		}
	}
	if strings.Contains(a.written.String(), "\x1b") {
		t.Error("a terminal would obey the log")
	}
}

// FuzzUpload sends any body, of any type and encoding: it is answered as the
// document says, and never with a failure of ferry's own.
func FuzzUpload(f *testing.F) {
	for _, body := range []string{puts(1), `{}`, `[]`, "", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd", `{"transactions":[{"crud":[]}]}`, "[1]"} {
		for _, path := range []string{"/upload", "/api/data", "/checkpoint", "/checkpoint-request", "/auth/sign-in"} {
			f.Add(path, "application/json", "", []byte(body))
			f.Add(path, "application/json; charset=utf-8", "gzip", gzipped(f, []byte(body), gzip.BestSpeed))
			f.Add(path, "", "zstd", []byte(body))
			f.Add(path, "text/plain", "br", []byte(body))
		}
	}
	paths := map[string]string{
		"/upload": "POST", "/api/data": "POST", "/checkpoint": "PUT", "/checkpoint-request": "POST", "/auth/sign-in": "POST",
	}
	// A line break within a header is no request at all.
	sendable := regexp.MustCompile(`^[\x20-\x7e]*$`)
	f.Fuzz(func(t *testing.T, path, contentType, encoding string, body []byte) {
		method := paths[path]
		if method == "" || !sendable.MatchString(contentType+encoding) {
			return
		}
		a := setup(t)
		got := a.do(t, method, path, bytes.NewReader(body), header("Content-Type", contentType), header("Content-Encoding", encoding))
		if got.status >= 500 {
			t.Errorf("%s %q %q %q is answered %d: %s", path, contentType, encoding, body, got.status, got.body)
		}
	})
}
