package httpapi

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"ferry/internal/identity"
	"ferry/internal/uploads"
)

func gzipped(t testing.TB, content []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	must(t, err)
	_, err = w.Write(content)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func zstded(t *testing.T, content []byte, options ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, append(options, zstd.WithEncoderConcurrency(1))...)
	must(t, err)
	_, err = w.Write(content)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

// padded is an upload of exactly size bytes that does not compress well.
func padded(size int) []byte {
	const head, tail = `{"note":"`, `","crud":[]}`
	noise := ""
	for len(noise) < size {
		noise += rand.Text()
	}
	return []byte(head + noise[:size-len(head)-len(tail)] + tail)
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	a := setup(t)
	for value, status := range map[string]int{
		"":                                   200,
		"application/json":                   200,
		"APPLICATION/JSON; charset=UTF-8":    200,
		"application/json;charset":           200,
		"application/json;":                  200,
		"application/vnd.app+json":           200,
		"text/plain;charset=UTF-8":           415,
		"text/json":                          415,
		"application/x-www-form-urlencoded":  415,
		"application/json, application/json": 415,
		"json":                               415,
		";":                                  415,
	} {
		edits := []edit{header("Content-Type", value)}
		if value == "" {
			edits = []edit{func(r *http.Request) { r.Header.Del("Content-Type") }}
		}
		if got := a.upload(t, puts(1), edits...); got.status != status {
			t.Errorf("%q is answered %d, want %d: %s", value, got.status, status, got.body)
		}
	}
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	plain := []byte(puts(3))
	inGzip := gzipped(t, plain, gzip.BestCompression)
	inZstd := zstded(t, plain)
	const (
		notGzip = "the body is not whole and valid gzip, as its Content-Encoding says"
		notZstd = "the body is not whole and valid zstd, as its Content-Encoding says"
		unknown = "Content-Encoding must be gzip, zstd or absent"
	)
	corrupt := bytes.Clone(inGzip)
	corrupt[len(corrupt)-5] ^= 1 // its checksum
	tests := []struct {
		name      string
		encodings []string // of Content-Encoding
		body      []byte
		status    int
		detail    string // of the problem
	}{
		{"plain", []string{}, plain, 200, ""},
		{"identity", []string{"identity"}, plain, 200, ""},
		{"gzip", []string{"gzip"}, inGzip, 200, ""},
		{"gzip in upper case", []string{" GZIP "}, inGzip, 200, ""},
		{"x-gzip", []string{"x-gzip"}, inGzip, 200, ""},
		{"gzip in two members", []string{"gzip"}, append(gzipped(t, plain[:9], 1), gzipped(t, plain[9:], 1)...), 200, ""},
		{"zstd", []string{"zstd"}, inZstd, 200, ""},
		{"zstd with its greatest window", []string{"zstd"}, zstded(t, plain, zstd.WithWindowSize(maxZstdWindow)), 200, ""},
		{"zstd with too great a window", []string{"zstd"}, tooGreatAWindow(), 415, "the body needs a zstd window over 8 MiB: compress it at level 19 or lower"},
		{"not gzip", []string{"gzip"}, plain, 400, notGzip},
		{"empty gzip", []string{"gzip"}, nil, 400, notGzip},
		{"cut gzip", []string{"gzip"}, inGzip[:len(inGzip)/2], 400, notGzip},
		{"gzip without its checksum", []string{"gzip"}, inGzip[:len(inGzip)-8], 400, notGzip},
		{"corrupt gzip", []string{"gzip"}, corrupt, 400, notGzip},
		{"gzip with something behind it", []string{"gzip"}, append(bytes.Clone(inGzip), "more"...), 400, notGzip},
		{"not zstd", []string{"zstd"}, plain, 400, notZstd},
		{"cut zstd", []string{"zstd"}, inZstd[:len(inZstd)/2], 400, notZstd},
		{"gzip that is not announced", []string{}, inGzip, 400, "the body is not UTF-8"},
		{"brotli", []string{"br"}, plain, 415, unknown},
		{"deflate", []string{"deflate"}, plain, 415, unknown},
		{"two encodings", []string{"gzip, gzip"}, inGzip, 415, unknown},
		{"two headers", []string{"gzip", "zstd"}, inGzip, 415, unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := setup(t).upload(t, string(tt.body), header("Content-Encoding", tt.encodings...))
			if body := decoded(t, got.body); got.status != tt.status ||
				(tt.status == 200 && body["applied"] != 3.0) || (tt.status != 200 && body["detail"] != tt.detail) {
				t.Errorf("answered %d: %s", got.status, got.body)
			}
		})
	}
}

// tooGreatAWindow is the start of a zstd frame (RFC 8878, section 3.1.1): its
// number, a descriptor without flags, and a window of 2^(10+14) bytes.
func tooGreatAWindow() []byte { return []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 14 << 3, 1, 0, 0} }

func TestTheLimitIsExactAfterDecompression(t *testing.T) {
	t.Parallel()
	encodings := map[string]func(content []byte) []byte{
		"":     func(content []byte) []byte { return content },
		"gzip": func(content []byte) []byte { return gzipped(t, content, gzip.NoCompression) },
		"zstd": func(content []byte) []byte { return zstded(t, content) },
	}
	for encoding, encode := range encodings {
		for _, announced := range []bool{true, false} {
			for size, status := range map[int]int{testMaxBody - 1: 200, testMaxBody: 200, testMaxBody + 1: 413} {
				t.Run(fmt.Sprintf("%s announced=%v %d", encoding, announced, size), func(t *testing.T) {
					t.Parallel()
					var body io.Reader = bytes.NewReader(encode(padded(size)))
					if !announced {
						body = io.MultiReader(body) // a type whose length net/http does not know
					}
					got := setup(t).do(t, http.MethodPost, "/upload", body, header("Content-Encoding", encoding))
					if got.status != status {
						t.Errorf("answered %d, want %d: %s", got.status, status, got.body)
					}
				})
			}
		}
	}
}

// The least limit that can be configured, 1 KiB, is less than a buffer usually
// starts with.
func TestASmallLimitIsUsable(t *testing.T) {
	t.Parallel()
	a := setup(t, func(a *api) { a.options.MaxBodyBytes = 1 << 10 })
	for size, status := range map[int]int{1 << 10: 200, 1<<10 + 1: 413} {
		if got := a.upload(t, string(padded(size))); got.status != status {
			t.Errorf("%d bytes are answered %d, want %d: %s", size, got.status, status, got.body)
		}
	}
}

// countingReader counts what the server reads of a body.
type countingReader struct {
	io.Reader
	read int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += n
	return n, err
}

// endless repeats a piece for ever.
type endless struct{ piece, rest []byte }

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = e.piece
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// What is small as it is sent and great when decompressed is read only as far
// as the limit; what is nothing when decompressed ends as well.
func TestBombsAreNotReadToTheirEnd(t *testing.T) {
	t.Parallel()
	zeros := make([]byte, 64<<20)
	tests := []struct {
		name, encoding string
		body           io.Reader
		most           int // bytes that may be read
	}{
		{"gzip", "gzip", bytes.NewReader(gzipped(t, zeros, gzip.BestSpeed)), 8 << 10},
		{"zstd", "zstd", bytes.NewReader(bytes.Repeat(zstded(t, zeros[:1<<20]), 1000)), 8 << 10},
		{"endless gzip of nothing", "gzip", &endless{piece: gzipped(t, nil, gzip.BestSpeed)}, 2 * testMaxBody},
		{"endless zstd of nothing", "zstd", &endless{piece: []byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0}}, 2 * testMaxBody}, // skippable frames
		{"endless text", "", &endless{piece: []byte(" ")}, 2 * testMaxBody},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := setup(t)
			body := &countingReader{Reader: tt.body}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/upload", body)
			must(t, err)
			bearer(a.session(t, time.Hour))(r)
			header("Content-Encoding", tt.encoding)(r)
			got := serveInProcess(a, r)
			checkDocumented(t, http.MethodPost, "/upload", got)
			if got.status != http.StatusRequestEntityTooLarge || body.read > tt.most {
				t.Errorf("answered %d after reading %d bytes, want 413 after at most %d: %s", got.status, body.read, tt.most, got.body)
			}
		})
	}
}

// serveInProcess serves without a connection, whose buffers would read ahead.
func serveInProcess(a *api, r *http.Request) answer {
	w := &memoryWriter{header: http.Header{}}
	a.Config.Handler.ServeHTTP(w, r)
	return answer{w.status, w.header, w.body.String()}
}

// memoryWriter is a ResponseWriter without a connection.
type memoryWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *memoryWriter) Header() http.Header         { return w.header }
func (w *memoryWriter) WriteHeader(status int)      { w.status = status }
func (w *memoryWriter) Write(p []byte) (int, error) { return w.body.Write(p) }

// connection is a client that may break HTTP's rules.
type connection struct {
	*net.TCPConn
	answers *bufio.Reader
}

// connect sends an upload's header lines, the given ones among them.
func (a *api) connect(t *testing.T, lines ...string) *connection {
	t.Helper()
	return a.connectAs(t, alice, lines...)
}

func (a *api) connectAs(t *testing.T, user string, lines ...string) *connection {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", a.Listener.Addr().String())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	c := &connection{conn.(*net.TCPConn), bufio.NewReader(conn)}
	c.write(t, "POST /upload HTTP/1.1\r\nHost: ferry\r\nAuthorization: Bearer "+a.sessionOf(t, user, time.Hour)+"\r\n"+
		strings.Join(lines, "\r\n")+"\r\n\r\n")
	return c
}

func (c *connection) write(t *testing.T, text string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	must(t, err)
}

func (c *connection) read(t *testing.T) answer {
	t.Helper()
	response, err := http.ReadResponse(c.answers, nil)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return answer{response.StatusCode, response.Header, string(body)}
}

func TestABodyThatIsAnnouncedAsTooLargeIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	a := setup(t)
	for _, lines := range [][]string{
		{fmt.Sprintf("Content-Length: %d", testMaxBody+1)},
		{fmt.Sprintf("Content-Length: %d", testMaxBody+1), "Expect: 100-continue"},
		{"Content-Length: 9223372036854775807", "Content-Encoding: gzip"},
	} {
		got := a.connect(t, lines...).read(t)
		checkDocumented(t, http.MethodPost, "/upload", got)
		if got.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%v is answered %d: %s", lines, got.status, got.body)
		}
	}
}

func TestABodyThatIsLongerThanAnnouncedIsCut(t *testing.T) {
	t.Parallel()
	a := setup(t)
	c := a.connect(t, "Content-Length: 8", "Connection: close")
	c.write(t, puts(1))
	got := c.read(t)
	checkDocumented(t, http.MethodPost, "/upload", got)
	if got.status != http.StatusBadRequest {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}

func TestABodyThatEndsTooEarly(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(t *testing.T, a *api) *connection{
		"shorter than announced": func(t *testing.T, a *api) *connection {
			c := a.connect(t, "Content-Length: 100")
			c.write(t, `{"crud":[]}`)
			return c
		},
		"between chunks": func(t *testing.T, a *api) *connection {
			c := a.connect(t, "Transfer-Encoding: chunked")
			c.write(t, "b\r\n"+`{"crud":[]}`+"\r\n")
			return c
		},
		"in gzip": func(t *testing.T, a *api) *connection {
			c := a.connect(t, "Content-Length: 100", "Content-Encoding: gzip")
			c.write(t, string(gzipped(t, []byte(`{"crud":[]}`), gzip.BestSpeed)[:15]))
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := setup(t)
			c := send(t, a)
			must(t, c.CloseWrite())
			got := c.read(t)
			checkDocumented(t, http.MethodPost, "/upload", got)
			if diff := cmp.Diff(problem(400, "invalid_request", "the body was cut off on its way"), decoded(t, got.body)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A slow line is not the fault of the client's code: 503, and not for ever.
func TestABodyThatDoesNotArriveInTime(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"identity", "gzip", "zstd"} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			a := setup(t, func(a *api) { answerUntil(t, a, 200*time.Millisecond) })
			got := a.connect(t, "Content-Length: 100", "Content-Encoding: "+encoding).read(t)
			checkDocumented(t, http.MethodPost, "/upload", got)
			want := problem(503, "unavailable", "the body did not arrive in time; it is safe to try again, with smaller batches on a slow line")
			if diff := cmp.Diff(want, decoded(t, got.body)); diff != "" || got.header.Get("Retry-After") != "1" {
				t.Errorf("Retry-After %q (-want +got):\n%s", got.header.Get("Retry-After"), diff)
			}
		})
	}
}

// net/http reads on, before it sends an answer, what a handler did not read.
func TestARefusalDoesNotWaitForTheBodyForEver(t *testing.T) {
	t.Parallel()
	a := setup(t, func(a *api) { answerUntil(t, a, 200*time.Millisecond) })
	got := a.connect(t, "Content-Length: 100", "Content-Type: text/plain").read(t)
	checkDocumented(t, http.MethodPost, "/upload", got)
	if got.status != http.StatusUnsupportedMediaType {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}

// answerUntil ends all requests at a time after the start.
func answerUntil(t *testing.T, a *api, after time.Duration) {
	a.Config.BaseContext = func(net.Listener) context.Context {
		ctx, cancel := context.WithTimeout(context.Background(), after)
		t.Cleanup(cancel)
		return ctx
	}
}

// Clients that announce great bodies and send nothing must not keep others
// out: what counts is what has arrived.
func TestAnnouncedBytesDoNotTakeMemory(t *testing.T) {
	t.Parallel()
	const maxBody = 1 << 20
	a := setup(t, func(a *api) { a.options.MaxBodyBytes = maxBody })
	for n := range 4 * bodiesInFlight {
		c := a.connectAs(t, fmt.Sprint("user ", n), fmt.Sprintf("Content-Length: %d", maxBody), "Expect: 100-continue")
		line, err := c.answers.ReadString('\n') // which comes once the server reads the body
		if err != nil || !strings.Contains(line, "100 Continue") {
			t.Fatalf("answered %q: %v", line, err)
		}
		defer c.Close()
	}
	if got := a.upload(t, puts(1)); got.status != http.StatusOK {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}

// Who stalls in the middle of a body gives its memory back.
func TestAStalledBodyIsGivenUp(t *testing.T) {
	t.Parallel()
	a := setup(t)
	a.state.stalledAfter = 50 * time.Millisecond
	c := a.connect(t, "Content-Length: 1000")
	c.write(t, `{"crud":[`)
	want := problem(503, "unavailable", "the body did not arrive in time; it is safe to try again, with smaller batches on a slow line")
	if diff := cmp.Diff(want, decoded(t, c.read(t).body)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Memory is bounded for all bodies together and for those of each user, and
// small ones always find room.
func TestBodiesInFlightAreBounded(t *testing.T) {
	t.Parallel()
	const maxBody = 1 << 20
	applying, finish := make(chan struct{}), make(chan struct{})
	a := setup(t, func(a *api) { a.options.MaxBodyBytes = maxBody }, withStore(func(ctx context.Context, c uploads.Caller, u *uploads.Upload) (*uploads.Result, error) {
		if u.ClientID == "" {
			return applyAll(ctx, c, u)
		}
		applying <- struct{}{}
		<-finish
		return applyAll(ctx, c, u)
	}))
	greatest := []byte(`{"client_id":"c",` + string(padded(maxBody - len(`"client_id":"c",`)))[1:])
	sessions := map[string]string{}
	for _, user := range []string{"bob", "carol", "dave", "erin", "frank"} {
		sessions[user] = a.sessionOf(t, user, time.Hour)
	}
	sendGreatest := func(user string) (answer, error) {
		// Unannounced, so that its memory grows as it arrives.
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL+"/upload", io.MultiReader(bytes.NewReader(greatest)))
		if err != nil {
			return answer{}, err
		}
		bearer(sessions[user])(r)
		return a.send(r)
	}
	want := problem(503, "unavailable", "too many uploads are arriving at once; it is safe to try again")
	refused := func(what, user string) {
		t.Helper()
		got, err := sendGreatest(user)
		must(t, err)
		if diff := cmp.Diff(want, decoded(t, got.body)); diff != "" || got.header.Get("Retry-After") != "1" {
			t.Errorf("%s: Retry-After %q (-want +got):\n%s", what, got.header.Get("Retry-After"), diff)
		}
	}
	answers := make(chan error, bodiesInFlight)
	fill := func(user string, bodies int) {
		for range bodies {
			go func() {
				got, err := sendGreatest(user)
				if err == nil && got.status != http.StatusOK {
					err = fmt.Errorf("answered %d: %s", got.status, got.body)
				}
				answers <- err
			}()
			<-applying
		}
	}

	const each = bodiesInFlight / sharePerUser
	fill("bob", each)
	refused("a third body of one user", "bob")
	fill("carol", each)
	fill("dave", each)
	fill("erin", bodiesInFlight-3*each-1) // the last one's place is for small ones
	refused("while memory is full", "frank")
	if got := a.upload(t, puts(1)); got.status != http.StatusOK {
		t.Errorf("while memory is full, a small body is answered %d: %s", got.status, got.body)
	}
	close(finish)
	for range bodiesInFlight - 1 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	go func() { <-applying }()
	if got, err := sendGreatest("frank"); err != nil || got.status != http.StatusOK {
		t.Errorf("afterwards: answered %d: %s, %v", got.status, got.body, err)
	}
}

// What panics once must not take the memory of later bodies for ever: setup looks
// for it in the end.
func TestAPanicGivesTheMemoryOfItsBodyBack(t *testing.T) {
	t.Parallel()
	for name, panics := range map[string]func(*api){
		"behind the body": func(a *api) {
			a.options.Allowed = func(context.Context, *identity.Principal) error { panic("on purpose") }
		},
		"in the store": withStore(func(context.Context, uploads.Caller, *uploads.Upload) (*uploads.Result, error) { panic("on purpose") }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := setup(t, panics)
			if got := a.upload(t, puts(1)); got.status != http.StatusInternalServerError {
				t.Errorf("answered %d: %s", got.status, got.body)
			}
		})
	}
}
