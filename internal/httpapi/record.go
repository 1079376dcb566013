package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
)

// facts are what the log tells of a request beside its route and status, and what
// is given back behind it.
type facts struct {
	attrs []slog.Attr // behind the first ones, which are the same for every request
	err   error       // why the answer is a problem, the cause included
	// body is the request's, nil if it was not read. Its memory is the handler's,
	// until that returns or panics.
	body *boundedBuffer
}

func (f *facts) releaseBody() {
	if f.body != nil {
		f.body.release()
	}
}

func (f *facts) add(attrs ...slog.Attr) { f.attrs = append(f.attrs, attrs...) }

// audit marks the record of a request that gave or took something which lets a
// user in. Who and with what outcome stands in the record anyway.
func (f *facts) audit(event string) { f.add(slog.String("audit", event)) }

type factsKey struct{}

// factsOf returns the facts of the request that ctx belongs to. It must come
// through record.
func factsOf(ctx context.Context) *facts { return ctx.Value(factsKey{}).(*facts) }

// record bounds a request's time and writes one log record of it, whatever
// answers it: a handler, the router, or a middleware. It names the route and not
// the path, into which clients put what they like.
func (s *server) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		f := &facts{attrs: make([]slog.Attr, everyRecord, 16)}
		out := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		ctx := newLazyDeadline(context.WithValue(r.Context(), factsKey{}, f), started.Add(answerWithin))
		defer ctx.end()
		next.ServeHTTP(out, r.WithContext(ctx))
		s.log(r, out.Status(), time.Since(started), f)
	})
}

// everyRecord is what each record has in front of a request's own facts.
const everyRecord = 5

func (s *server) log(r *http.Request, status int, took time.Duration, f *facts) {
	route := chi.RouteContext(r.Context()).RoutePattern()
	first := [everyRecord]slog.Attr{
		slog.String("method", r.Method),
		slog.String("route", route),
		slog.Int("status", status),
		slog.Int64("took_us", took.Microseconds()),
		slog.String("address", s.addressOf(r).String()),
	}
	copy(f.attrs, first[:])
	if f.err != nil {
		f.add(slog.String("error", f.err.Error()))
	}
	s.Log.LogAttrs(r.Context(), levelOf(route, status), "request", f.attrs...)
}

// levelOf keeps the level of errors for defects: what a 503 is about passes, or
// whoever caused it has logged it.
func levelOf(route string, status int) slog.Level {
	switch {
	case status == http.StatusServiceUnavailable:
		return slog.LevelWarn
	case status >= http.StatusInternalServerError:
		return slog.LevelError
	case route == healthPath, route == readyPath: // asked every few seconds
		return slog.LevelDebug
	}
	return slog.LevelInfo
}
