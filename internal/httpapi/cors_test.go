package httpapi

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// corsHeaders returns what a browser judges an answer by.
func corsHeaders(h http.Header) map[string]string {
	found := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if strings.HasPrefix(name, "Access-Control-") || name == "Vary" {
			found[name] = strings.Join(h[name], ", ")
		}
	}
	return found
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	const varies = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
	refused := map[string]string{"Vary": varies}
	allowed := func(method, headers string) map[string]string {
		h := map[string]string{
			"Vary": varies, "Access-Control-Allow-Origin": appOrigin,
			"Access-Control-Allow-Methods": method, "Access-Control-Max-Age": "600",
		}
		if headers != "" {
			h["Access-Control-Allow-Headers"] = headers
		}
		return h
	}
	tests := []struct {
		name, path, origin, method, headers string
		want                                map[string]string
	}{
		{
			"the headers that clients send", "/upload", appOrigin, "POST", "authorization,content-encoding,content-type,x-requested-with",
			allowed("POST", "Authorization, Content-Encoding, Content-Type, X-Requested-With"),
		},
		{"token", "/token", appOrigin, "GET", "authorization", allowed("GET", "Authorization")},
		{"trailing slash", "/upload/", appOrigin, "POST", "", allowed("POST", "")},
		{"another header", "/upload", appOrigin, "POST", "authorization,x-other", refused},
		{"another method", "/upload", appOrigin, "TRACE", "", refused},
		{"another origin", "/upload", "https://evil.example.com", "POST", "authorization", refused},
		{"a longer origin", "/upload", appOrigin + ".evil.example.com", "POST", "authorization", refused},
		{"a page without origin", "/upload", "null", "POST", "authorization", refused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			edits := []edit{header("Authorization"), header("Origin", tt.origin), header("Access-Control-Request-Method", tt.method)}
			if tt.headers != "" {
				edits = append(edits, header("Access-Control-Request-Headers", tt.headers))
			}
			got := setup(t).do(t, http.MethodOptions, tt.path, nil, edits...)
			if diff := cmp.Diff(tt.want, corsHeaders(got.header)); got.status != http.StatusOK || diff != "" {
				t.Errorf("answered %d (-want +got):\n%s", got.status, diff)
			}
		})
	}
}

// Problems must be readable by the page as well: the connector reads them.
func TestAnswersToPages(t *testing.T) {
	t.Parallel()
	readable := map[string]string{
		"Vary": "Origin", "Access-Control-Allow-Origin": appOrigin, "Access-Control-Expose-Headers": "Retry-After",
	}
	unreadable := map[string]string{"Vary": "Origin"}
	tests := []struct {
		name, method, path, origin string
		edits                      []edit
		status                     int
		want                       map[string]string
	}{
		{"token", "GET", "/token", appOrigin, nil, 200, readable},
		{"head", "HEAD", "/healthz", appOrigin, nil, 200, readable},
		{"not signed in", "GET", "/token", appOrigin, []edit{header("Authorization")}, 401, readable},
		{"not found", "GET", "/tokens", appOrigin, nil, 404, readable},
		{"not allowed", "DELETE", "/token", appOrigin, nil, 405, readable},
		{"another origin", "GET", "/token", "https://evil.example.com", nil, 200, unreadable},
		{"no origin", "GET", "/token", "", []edit{func(r *http.Request) { r.Header.Del("Origin") }}, 200, unreadable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			edits := append([]edit{header("Origin", tt.origin)}, tt.edits...)
			got := setup(t).do(t, tt.method, tt.path, nil, edits...)
			if diff := cmp.Diff(tt.want, corsHeaders(got.header)); got.status != tt.status || diff != "" {
				t.Errorf("answered %d (-want +got):\n%s", got.status, diff)
			}
		})
	}
}
