// Package httpapi is ferry's HTTP interface: routes, request bodies, answers,
// and the one table from failures to statuses. The wire formats are those of
// openapi.yaml.
//
// It imports the domain packages (identity, tokens, uploads) and never
// internal/postgres: what it needs of a database it asks for as an interface.
package httpapi

import (
	"context"
	_ "embed"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/cors"
	"github.com/go-chi/httprate"

	"ferry/internal/fault"
	"ferry/internal/identity"
	"ferry/internal/tokens"
	"ferry/internal/uploads"
)

// TokenIssuer issues sync tokens; *tokens.Issuer does.
type TokenIssuer interface {
	Issue(ctx context.Context, userID string, sessionClaims json.RawMessage) (tokens.Token, error)
	JWKS() []byte
}

var _ TokenIssuer = (*tokens.Issuer)(nil)

// Options are what the API is made of.
type Options struct {
	// Sessions tells who asks for a token, Uploaders who sends an upload.
	Sessions, Uploaders identity.Authenticator
	// Allowed returns nil, or a [fault.Error] that says why a caller who was
	// found may not go on: it is asked again once a body has arrived.
	Allowed func(ctx context.Context, p *identity.Principal) error
	// Room returns nil, or a [fault.Error] that says why an upload of this user
	// would be refused: then its body is not read.
	Room func(userID string) error
	// Tokens is nil where ferry runs without a token key.
	Tokens TokenIssuer
	Store  uploads.Store
	// Checkpoints is nil where write checkpoints are off.
	Checkpoints Checkpoints
	// Accounts is nil where ferry keeps none. AccountSessions tells who has a
	// session of one.
	Accounts        Accounts
	AccountSessions identity.Authenticator
	// Demo is nil but in `ferry dev`.
	Demo *Demo
	// Ready returns nil, or a [fault.Error] that says why uploads cannot be
	// taken right now.
	Ready func(ctx context.Context) error
	// TrustedProxies are the networks of proxies whose X-Forwarded-For is
	// believed, for limits and logs.
	TrustedProxies []netip.Prefix
	// AllowOrigin says which web origins may call the API.
	AllowOrigin func(origin string) bool
	// MaxBodyBytes bounds a body after decompression, MaxOperations the
	// operations of a request with more than one client transaction.
	MaxBodyBytes  int64
	MaxOperations int
	Log           *slog.Logger
}

// answerWithin bounds the time until an answer, waiting and the arrival of the
// body included: published connectors give up at 30 s.
const answerWithin = 24 * time.Second

// bodiesInFlight is how many bodies of the greatest size may be in memory.
const bodiesInFlight = 8

//go:embed openapi.yaml
var openAPI []byte

// server is the API's state.
type server struct {
	Options
	memory *bodyMemory
	// stalledAfter is how long nothing of a body may arrive.
	stalledAfter time.Duration
	tokenLimit   *httprate.RateLimiter
}

// New returns the API as a handler.
func New(o Options) http.Handler { return newServer(o).routes() }

func newServer(o Options) *server {
	return &server{
		Options:      o,
		memory:       newBodyMemory(o.MaxBodyBytes),
		stalledAfter: stalledAfter,
		tokenLimit:   newTokenLimit(),
	}
}

func (s *server) routes() *chi.Mux {
	r := chi.NewRouter()
	if len(s.TrustedProxies) > 0 {
		r.Use(s.behindProxies())
	}
	r.Use(s.record, secure, middleware.StripSlashes, middleware.GetHead, s.cors())
	r.NotFound(s.handle(notFound))
	r.MethodNotAllowed(s.handle(methodNotAllowed))

	r.Get("/token", s.handle(s.token))
	r.Post("/token", s.handle(s.token))
	r.Post("/upload", s.handle(s.upload))
	r.Get("/api/auth/token", s.handle(s.referenceToken))
	r.Get("/api/auth/keys", s.handle(s.jwks))
	r.Post("/api/data", s.handle(s.data))
	r.Put("/api/data", s.handle(s.singleOperation(uploads.Put)))
	r.Patch("/api/data", s.handle(s.singleOperation(uploads.Patch)))
	r.Delete("/api/data", s.handle(s.singleOperation(uploads.Delete)))
	r.Put("/api/data/checkpoint", s.handle(s.raiseCheckpoint))
	r.Put("/checkpoint", s.handle(s.raiseCheckpoint))
	r.Post("/checkpoint-request", s.handle(s.requestCheckpoint))
	r.Post("/auth/sign-up", s.account(s.signUp))
	r.Post("/auth/sign-in", s.account(s.signIn))
	r.Post("/auth/guest", s.account(s.guest))
	r.Get("/auth/session", s.account(s.session))
	r.Post("/auth/password", s.account(s.changePassword))
	r.Post("/auth/sign-out", s.account(s.signOut))
	r.Post("/auth/sign-out-everywhere", s.account(s.signOutEverywhere))
	r.Get("/.well-known/jwks.json", s.handle(s.jwks))
	r.Get(healthPath, s.handle(healthz))
	r.Get(readyPath, s.handle(s.readyz))
	r.Get("/openapi.yaml", s.handle(serveOpenAPI))
	return r
}

// secure sets what keeps a browser from making anything of an answer but what
// it is: data for a program.
//
// Source: OWASP, "REST Security Cheat Sheet", security headers; OWASP ASVS 14.4.2.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		for _, h := range securityHeaders {
			header[h.name] = h.value
		}
		next.ServeHTTP(w, r)
	})
}

// securityHeaders are shared by all answers, and never changed.
var securityHeaders = []struct {
	name  string // in its canonical form
	value []string
}{
	{"X-Content-Type-Options", []string{"nosniff"}},
	{"Content-Security-Policy", []string{"default-src 'none'; frame-ancestors 'none'"}},
	{"Referrer-Policy", []string{"no-referrer"}},
	{"Content-Disposition", []string{"attachment"}},
}

// cors lets the web pages of allowed origins call the API. Refused ones are
// told from the log, since a browser tells its user next to nothing.
func (s *server) cors() func(http.Handler) http.Handler {
	return cors.Handler(cors.Options{
		AllowOriginFunc: func(r *http.Request, origin string) bool {
			allowed := s.AllowOrigin(origin)
			if !allowed {
				factsOf(r.Context()).add(slog.String("refused_origin", origin))
			}
			return allowed
		},
		AllowedMethods: []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"},
		AllowedHeaders: []string{"Authorization", "Content-Type", "Content-Encoding", "X-Requested-With"},
		ExposedHeaders: []string{"Retry-After"},
		MaxAge:         600,
	})
}

// handle turns a function that may fail into a handler: the one place that
// answers errors.
func (s *server) handle(h func(http.ResponseWriter, *http.Request, *facts) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		endReading(w, r)
		f := factsOf(r.Context())
		defer f.releaseBody()
		if err := recovered(func() error { return h(w, r, f) }); err != nil {
			f.err = err
			writeProblem(w, fault.From(err))
		}
	}
}

// endReading ends the reading of a request's body with its context, also where
// net/http reads what a handler did not look at.
func endReading(w http.ResponseWriter, r *http.Request) {
	if deadline, ok := r.Context().Deadline(); ok && r.Body != http.NoBody {
		// What has no connection has nothing to end.
		_ = http.NewResponseController(w).SetReadDeadline(deadline)
	}
}

func notFound(http.ResponseWriter, *http.Request, *facts) error {
	return fault.New(fault.NotFound, "there is nothing at this path; see /openapi.yaml")
}

// methodNotAllowed names the methods that the path has (RFC 9110, section
// 15.5.6). The router also sends methods here that no path has.
func methodNotAllowed(w http.ResponseWriter, r *http.Request, f *facts) error {
	routes := chi.RouteContext(r.Context()).Routes
	path := strings.TrimSuffix(r.URL.Path, "/")
	has := func(method string) bool { return routes.Match(chi.NewRouteContext(), method, path) }
	var allowed []string
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		if !has(method) {
			continue
		}
		allowed = append(allowed, method)
		if method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	if len(allowed) == 0 {
		return notFound(w, r, f)
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return fault.New(fault.MethodNotAllowed, "this path takes %s only", strings.Join(allowed, ", "))
}

func serveOpenAPI(w http.ResponseWriter, _ *http.Request, _ *facts) error {
	w.Header().Set("Content-Type", "application/yaml") // RFC 9512
	_, err := w.Write(openAPI)
	return clientGone(err)
}

// writeJSON answers with a value that always marshals. No answer may be
// cached: each is about one user, or about one moment.
func writeJSON(w http.ResponseWriter, status int, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, err = w.Write(append(body, '\n'))
	return clientGone(err)
}

// clientGone drops the error of an answer that nobody reads any more: it is
// too late for another one.
func clientGone(error) error { return nil }
