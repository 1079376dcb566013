package httpapi

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"ferry/internal/fault"
)

// maxZstdWindow is what a decoder of zstd as a content encoding must offer, and
// need not exceed (RFC 9659, section 3).
const maxZstdWindow = 8 << 20

// stalledAfter is how long nothing of a body may arrive. Whoever stalls holds
// memory that others wait for.
const stalledAfter = 8 * time.Second

// readBody reads a JSON body of at most MaxBodyBytes that a user sends.
func (s *server) readBody(w http.ResponseWriter, r *http.Request, user string) ([]byte, error) {
	return s.readBodyUpTo(w, r, user, s.MaxBodyBytes)
}

// readBodyUpTo reads a JSON body, decompressed. Reading stops at limit bytes,
// at the request's deadline, when nothing arrives for long, and when the bodies
// of the user, or of all requests together, fill their memory. The body, and all
// that points into it, may be used until the handler returns.
func (s *server) readBodyUpTo(w http.ResponseWriter, r *http.Request, user string, limit int64) ([]byte, error) {
	if err := checkContentType(r.Header.Get("Content-Type")); err != nil {
		return nil, err
	}
	encoding, err := contentEncoding(r.Header)
	if err != nil {
		w.Header().Set("Accept-Encoding", "gzip, zstd") // RFC 9110, section 15.5.16
		return nil, err
	}
	mostSent := maxSent(encoding, limit)
	if r.ContentLength > mostSent {
		return nil, s.bodyTooLarge(w, limit)
	}
	sent := &sentBody{Reader: http.MaxBytesReader(w, r.Body, mostSent), connection: http.NewResponseController(w), stalledAfter: s.stalledAfter}
	sent.deadline, _ = r.Context().Deadline()
	b := &boundedBuffer{memory: s.memory, user: user, limit: limit}
	factsOf(r.Context()).body = b
	if err := b.fillFrom(sent, encoding, r.ContentLength); err != nil {
		return nil, s.bodyFault(w, err, sent.err, encoding, limit)
	}
	// What net/http reads behind the body has the rest of the time.
	_ = sent.connection.SetReadDeadline(sent.deadline)
	return b.bytes, nil
}

// checkContentType does not mind what parameters there are: JSON has none
// (RFC 8259, section 11), and clients like to send a charset.
func checkContentType(header string) error {
	media, _, _ := mime.ParseMediaType(header)
	if header == "" || media == "application/json" || strings.HasSuffix(media, "+json") {
		return nil // without any, nothing else can be meant
	}
	return fault.New(fault.UnsupportedMediaType, "the body must be JSON: send Content-Type: application/json")
}

// contentEncoding returns "gzip", "zstd", or "" for a body that is sent as it
// is.
func contentEncoding(h http.Header) (string, error) {
	encoding := strings.ToLower(strings.Join(h.Values("Content-Encoding"), ","))
	switch encoding = strings.TrimSpace(encoding); encoding {
	case "", "identity":
		return "", nil
	case "gzip", "x-gzip": // one and the same: RFC 9110, section 8.4.1.3
		return "gzip", nil
	case "zstd":
		return encoding, nil
	}
	return "", fault.New(fault.UnsupportedMediaType, "Content-Encoding must be gzip, zstd or absent")
}

// maxSent bounds a body as it is sent. What cannot be compressed grows a
// little; a stream of nothing but headers must end somewhere all the same.
func maxSent(encoding string, limit int64) int64 {
	if encoding == "" {
		return limit
	}
	return limit + limit/64 + 1<<10
}

func decompressor(r io.Reader, encoding string) (io.ReadCloser, error) {
	switch encoding {
	case "gzip":
		return gzip.NewReader(r)
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}

// sentBody is a body as it is sent, which must not stall. It remembers what went
// wrong on the way, which a decompressor may report as if the compression were
// wrong.
type sentBody struct {
	io.Reader
	connection *http.ResponseController
	deadline   time.Time // of the request
	// stalledAfter is how long nothing may arrive.
	stalledAfter time.Duration
	err          error
}

func (b *sentBody) Read(p []byte) (int, error) {
	stalled := time.Now().Add(b.stalledAfter)
	if !b.deadline.IsZero() && b.deadline.Before(stalled) {
		stalled = b.deadline
	}
	_ = b.connection.SetReadDeadline(stalled) // what has no connection cannot stall
	n, err := b.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// bodyFault sorts out why a body could not be read: err is what the reader of
// its content met, sent what went wrong on the way, if anything did.
func (s *server) bodyFault(w http.ResponseWriter, err, sent error, encoding string, limit int64) error {
	_, tooLarge := errors.AsType[*http.MaxBytesError](sent)
	switch {
	case tooLarge, errors.Is(err, errBodyTooLarge):
		return s.bodyTooLarge(w, limit)
	case errors.Is(err, errMemoryFull):
		return fault.Retry(err, time.Second, "too many uploads are arriving at once; it is safe to try again")
	case errors.Is(sent, os.ErrDeadlineExceeded):
		return fault.Retry(err, time.Second, "the body did not arrive in time; it is safe to try again, with smaller batches on a slow line")
	case sent != nil:
		return fault.Wrap(err, fault.InvalidRequest, "the body was cut off on its way")
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return fault.Wrap(err, fault.UnsupportedMediaType, "the body needs a zstd window over 8 MiB: compress it at level 19 or lower")
	}
	return fault.Wrap(err, fault.InvalidRequest, "the body is not whole and valid "+encoding+", as its Content-Encoding says")
}

// bodyTooLarge gives up the connection, or net/http would wait for more of the
// body before it answers.
func (s *server) bodyTooLarge(w http.ResponseWriter, limit int64) error {
	w.Header().Set("Connection", "close")
	if limit != s.MaxBodyBytes {
		f := fault.New(fault.RequestTooLarge, "the body is over %d bytes", limit)
		f.Members = map[string]any{"limit_bytes": limit}
		return f
	}
	return s.tooLarge(fmt.Sprintf("the body is over %d bytes after decompression: send smaller batches", s.MaxBodyBytes))
}

func (s *server) tooLarge(detail string) error {
	f := fault.New(fault.RequestTooLarge, "%s", detail)
	f.Members = map[string]any{"limit_bytes": s.MaxBodyBytes, "limit_operations": s.MaxOperations}
	return f
}
