package fetch

import (
	"bytes"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers by path; secure is over https.
func server(t *testing.T) (plain, secure *httptest.Server, client *Client) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/document", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) })
	mux.HandleFunc("/largest", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte(" "), maxBytes)) })
	mux.HandleFunc("/larger", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte(" "), maxBytes+1)) })
	mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("url"), http.StatusFound)
	})
	mux.HandleFunc("/password", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://u:hunter2@192.0.2.1/", http.StatusFound)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	plain, secure = httptest.NewServer(mux), httptest.NewTLSServer(mux)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	client = New(roots)
	t.Cleanup(func() { client.http.CloseIdleConnections(); plain.Close(); secure.Close() })
	return plain, secure, client
}

func TestGet(t *testing.T) {
	t.Parallel()
	plain, secure, client := server(t)
	largest := strings.Repeat(" ", maxBytes)
	cases := []struct{ name, url, document, problem string }{
		{"over https", secure.URL + "/document", `{"keys":[]}`, ""},
		{"over http on this machine", plain.URL + "/document", `{"keys":[]}`, ""},
		{"a mebibyte", plain.URL + "/largest", largest, ""},
		{"more than a mebibyte", plain.URL + "/larger", "", "has over 1048576 bytes"},
		{"not there", plain.URL + "/nothing", "", "answered 404 Not Found"},
		{"over http to elsewhere", "http://192.0.2.1/document", "", "http://192.0.2.1/document is not https"},
		{"over http to a name like this machine's", "http://localhost.example/document", "", "is not https"},
		{"a file", "file:///etc/passwd", "", "names no host"},
		{"no URL", "://", "", "the address is not a URL"},
		{"a password is not repeated", "http://u:hunter2@192.0.2.1/", "", "http://u:xxxxx@192.0.2.1/ is not https"},
		{"a redirect within https", secure.URL + "/to?url=/document", `{"keys":[]}`, ""},
		{"a redirect within http on this machine", plain.URL + "/to?url=/document", `{"keys":[]}`, ""},
		{"a redirect to plain http elsewhere", secure.URL + "/to?url=http://192.0.2.1/", "", "it redirects to another server, http://192.0.2.1/: "},
		{"a redirect to plain http on this machine", secure.URL + "/to?url=" + plain.URL + "/document", "", "it redirects to another server, " + plain.URL},
		{"a redirect from this machine to another", plain.URL + "/to?url=https://192.0.2.1/", "", "it redirects to another server, https://192.0.2.1/: "},
		{"a redirect into a private network", secure.URL + "/to?url=https://169.254.169.254/latest", "", "it redirects to another server, https://169.254.169.254/latest"},
		{"a redirect to a file", secure.URL + "/to?url=file:///etc/passwd", "", "it redirects to another server, file:///etc/passwd"},
		{"a redirect to a password is not repeated", secure.URL + "/password", "", "it redirects to another server, https://u:xxxxx@192.0.2.1/"},
		{"a redirect without end", secure.URL + "/round", "", "too many redirects"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			document, err := client.Get(t.Context(), c.url)
			if diff := cmp.Diff(c.document, string(document)); diff != "" {
				t.Errorf("document (-want +got):\n%s", diff)
			}
			if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("error %v, want %q", err, c.problem)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error repeats a password: %v", err)
			}
		})
	}
}

// A document that never ends to arrive is given up, whoever set the time.
func TestGetIsGivenUpWhileADocumentArrives(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"keys":[`))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	}))
	client := New(nil)
	t.Cleanup(func() { client.http.CloseIdleConnections(); slow.Close() })
	if client.http.Timeout != 5*time.Second {
		t.Errorf("a document may take %s", client.http.Timeout)
	}
	client.http.Timeout = 50 * time.Millisecond
	if document, err := client.Get(t.Context(), slow.URL); err == nil || document != nil {
		t.Errorf("document %q, error %v", document, err)
	}
	<-gone
}
