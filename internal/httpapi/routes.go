package httpapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"ferry/internal/fault"
	"ferry/internal/identity"
	"ferry/internal/tokens"
	"ferry/internal/uploads"
)

// credentials takes from a request what says who sent it.
func credentials(r *http.Request) identity.Credentials {
	return identity.Credentials{Authorization: r.Header.Values("Authorization"), Peer: peer(r), Header: r.Header.Values}
}

func authenticate(r *http.Request, a identity.Authenticator, f *facts) (*identity.Principal, error) {
	p, err := a.Authenticate(r.Context(), credentials(r))
	if err != nil {
		return nil, err
	}
	f.add(slog.String("user", p.UserID))
	return p, nil
}

// signedIn is who asks for a token.
func (s *server) signedIn(r *http.Request, f *facts) (*identity.Principal, error) {
	return authenticate(r, s.Sessions, f)
}

// issue gives a token to whom who says.
func (s *server) issue(w http.ResponseWriter, r *http.Request, f *facts, who func(*http.Request, *facts) (*identity.Principal, error)) (tokens.Token, error) {
	if s.Tokens == nil {
		return tokens.Token{}, fault.New(fault.TokensDisabled,
			"this server issues no tokens: it has no token key (FERRY_TOKEN_KEYS, or FERRY_TOKEN_KID and FERRY_TOKEN_SECRET)")
	}
	p, err := who(r, f)
	if err != nil {
		return tokens.Token{}, err
	}
	if err := s.limitTokens(w, r, p.UserID); err != nil {
		return tokens.Token{}, err
	}
	token, err := s.Tokens.Issue(r.Context(), p.UserID, p.Claims)
	if err != nil {
		return tokens.Token{}, fmt.Errorf("issue a sync token: %w", err)
	}
	f.audit("token")
	return token, nil
}

// token answers what the client SDK's fetchCredentials() returns.
func (s *server) token(w http.ResponseWriter, r *http.Request, f *facts) error {
	token, err := s.issue(w, r, f, s.signedIn)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Endpoint  string `json:"endpoint"`
		Token     string `json:"token"`
		ExpiresAt string `json:"expires_at"`
		UserID    string `json:"user_id"`
	}{token.Endpoint, token.JWT, formatTime(token.ExpiresAt), token.UserID})
}

// upload applies what the client SDK's uploadData() hands over.
func (s *server) upload(w http.ResponseWriter, r *http.Request, f *facts) error {
	p, err := authenticate(r, s.Uploaders, f)
	if err != nil {
		return err
	}
	up, err := s.receive(w, r, f, p, s.decode)
	if err != nil {
		return err
	}
	result, err := apply(r.Context(), f, s.Store, p, up)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, result)
}

// receive reads the operations that p sends.
func (s *server) receive(
	w http.ResponseWriter, r *http.Request, f *facts, p *identity.Principal,
	decode func(body []byte) (*uploads.Upload, error),
) (*uploads.Upload, error) {
	if err := s.Room(p.UserID); err != nil {
		return nil, err
	}
	body, err := s.readBody(w, r, p.UserID)
	if err != nil {
		return nil, err
	}
	// A body may take long, and its sender may have been disabled meanwhile.
	if err := s.Allowed(r.Context(), p); err != nil {
		return nil, err
	}
	up, err := decode(body)
	if err != nil {
		return nil, err
	}
	f.add(slog.String("client", up.ClientID), slog.Int("operations", up.Operations))
	return up, checkUser(up, p)
}

// decode reads a body in any of the shapes that have several operations.
func (s *server) decode(body []byte) (*uploads.Upload, error) {
	up, err := uploads.DecodeAtMost(body, s.MaxOperations)
	if errors.Is(err, uploads.ErrTooManyOperations) {
		return nil, s.tooLarge(fmt.Sprintf("the request has over %d operations, which may only come in a single transaction: send smaller batches",
			s.MaxOperations))
	}
	return up, err
}

// apply applies operations as p. The result beside an error is as
// [uploads.Store] says.
func apply(ctx context.Context, f *facts, store uploads.Store, p *identity.Principal, up *uploads.Upload) (*uploads.Result, error) {
	result, err := store.Apply(ctx, uploads.Caller{UserID: p.UserID, Claims: p.Claims}, up)
	if err != nil {
		return result, err
	}
	f.add(slog.Int("applied", result.Applied), slog.Int("duplicates", result.Duplicates),
		slog.Int("ignored", result.Ignored), slog.Int("rejected", len(result.Rejected)))
	return result, nil
}

func checkUser(up *uploads.Upload, p *identity.Principal) error {
	if up.NamesUser && up.UserID != p.UserID {
		return fault.New(fault.WrongUser,
			"these operations were queued by another user: keep them until that user has signed in again")
	}
	return nil
}

// jwks publishes the public keys that sync tokens can be verified with.
func (s *server) jwks(w http.ResponseWriter, r *http.Request, _ *facts) error {
	keys := []byte(`{"keys":[]}`)
	if s.Tokens != nil {
		keys = s.Tokens.JWKS()
	}
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(keys))
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Set("ETag", etag)
	// Tags come in a list, and weak ones count (RFC 9110, section 13.1.2).
	if strings.Contains(r.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(keys)
	return clientGone(err)
}

// The paths that load balancers and monitors ask.
const (
	healthPath = "/healthz"
	readyPath  = "/readyz"
)

type health struct {
	Status string `json:"status"`
}

// healthz says that the process is alive, whatever the database does.
func healthz(w http.ResponseWriter, _ *http.Request, _ *facts) error {
	return writeJSON(w, http.StatusOK, health{"ok"})
}

// readyz says whether uploads can be taken.
func (s *server) readyz(w http.ResponseWriter, r *http.Request, _ *facts) error {
	if err := s.Ready(r.Context()); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, health{"ready"})
}
