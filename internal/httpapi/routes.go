package httpapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"ferry/internal/fault"
	"ferry/internal/identity"
	"ferry/internal/uploads"
)

// credentials takes from a request what says who sent it. Two headers may have
// been joined with a comma on the way (RFC 9110, section 5.3), which no Bearer
// token has in it (RFC 6750, section 2.1).
func credentials(r *http.Request) (identity.Credentials, error) {
	header := strings.Join(r.Header.Values("Authorization"), ",")
	if strings.Contains(header, ",") {
		return identity.Credentials{}, fault.New(fault.InvalidSession, "the request has more than one Authorization header")
	}
	scheme, token, _ := strings.Cut(header, " ")
	if header != "" && !strings.EqualFold(scheme, "Bearer") { // schemes have no case: RFC 9110, section 11.1
		return identity.Credentials{}, fault.New(fault.InvalidSession, "send the session as Authorization: Bearer <session>")
	}
	return identity.Credentials{Bearer: strings.TrimSpace(token)}, nil
}

func authenticate(r *http.Request, a identity.Authenticator, f *facts) (*identity.Principal, error) {
	c, err := credentials(r)
	if err != nil {
		return nil, err
	}
	p, err := a.Authenticate(r.Context(), c)
	if err != nil {
		return nil, err
	}
	f.add(slog.String("user", p.UserID))
	return p, nil
}

// token answers what the client SDK's fetchCredentials() returns.
func (s *server) token(w http.ResponseWriter, r *http.Request, f *facts) error {
	if s.Tokens == nil {
		return fault.New(fault.TokensDisabled,
			"this server issues no tokens: it has no token key (FERRY_TOKEN_KID, FERRY_TOKEN_SECRET)")
	}
	p, err := authenticate(r, s.Sessions, f)
	if err != nil {
		return err
	}
	token, err := s.Tokens.Issue(p.UserID, p.Claims)
	if err != nil {
		return fmt.Errorf("issue a sync token: %w", err)
	}
	return writeJSON(w, http.StatusOK, struct {
		Endpoint  string `json:"endpoint"`
		Token     string `json:"token"`
		ExpiresAt string `json:"expires_at"`
		UserID    string `json:"user_id"`
	}{token.Endpoint, token.JWT, token.ExpiresAt.UTC().Format(time.RFC3339), token.UserID})
}

// upload applies what the client SDK's uploadData() hands over.
func (s *server) upload(w http.ResponseWriter, r *http.Request, f *facts) error {
	p, err := authenticate(r, s.Uploaders, f)
	if err != nil {
		return err
	}
	body, release, err := s.readBody(w, r)
	if err != nil {
		return err
	}
	defer release()
	up, err := uploads.DecodeAtMost(body, s.MaxOperations)
	if errors.Is(err, uploads.ErrTooManyOperations) {
		return s.tooLarge(fmt.Sprintf("the request has over %d operations, which may only come in a single transaction: send smaller batches",
			s.MaxOperations))
	}
	if err != nil {
		return err
	}
	f.add(slog.String("client", up.ClientID), slog.Int("operations", up.Operations))
	if err := checkUser(up, p); err != nil {
		return err
	}
	result, err := s.Store.Apply(r.Context(), uploads.Caller{UserID: p.UserID, Claims: p.Claims}, up)
	if err != nil {
		return err
	}
	f.add(slog.Int("applied", result.Applied), slog.Int("duplicates", result.Duplicates),
		slog.Int("ignored", result.Ignored), slog.Int("rejected", len(result.Rejected)))
	return writeJSON(w, http.StatusOK, result)
}

func checkUser(up *uploads.Upload, p *identity.Principal) error {
	if up.NamesUser && up.UserID != p.UserID {
		return fault.New(fault.WrongUser,
			"these operations were queued by another user: keep them until that user has signed in again")
	}
	return nil
}

// jwks publishes the public keys that sync tokens can be verified with.
func (s *server) jwks(w http.ResponseWriter, _ *http.Request, _ *facts) error {
	keys := []byte(`{"keys":[]}`)
	if s.Tokens != nil {
		keys = s.Tokens.JWKS()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "public, max-age=300")
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
