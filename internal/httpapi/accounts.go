package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"ferry/internal/fault"
	"ferry/internal/identity"
)

// Accounts are ferry's own; *identity.Accounts keeps them.
type Accounts interface {
	SignUp(ctx context.Context, from netip.Addr, email, password string) (*identity.StartedSession, error)
	Upgrade(ctx context.Context, from netip.Addr, c identity.Credentials, email, password string) (*identity.StartedSession, error)
	Guest(ctx context.Context, from netip.Addr) (*identity.StartedSession, error)
	SignIn(ctx context.Context, from netip.Addr, email, password string) (s *identity.StartedSession, userID string, err error)
	Session(ctx context.Context, c identity.Credentials) (*identity.AccountSession, error)
	ChangePassword(ctx context.Context, from netip.Addr, c identity.Credentials, current, next string) error
	SignOut(ctx context.Context, c identity.Credentials) error
	SignOutEverywhere(ctx context.Context, userID string) error
}

var _ Accounts = (*identity.Accounts)(nil)

// maxAccountBody has room for an address and two passwords, however they are
// escaped. Whoever sends one need not be signed in.
const maxAccountBody = 16 << 10

// account turns a function for accounts into a handler, which finds nothing
// where there are none.
func (s *server) account(h func(http.ResponseWriter, *http.Request, *facts) error) http.HandlerFunc {
	return s.handle(func(w http.ResponseWriter, r *http.Request, f *facts) error {
		if s.Accounts == nil {
			return fault.New(fault.NotFound, "this server keeps no accounts (FERRY_ACCOUNTS)")
		}
		return h(w, r, f)
	})
}

// signUp makes an account, or turns the guest of a session into one.
func (s *server) signUp(w http.ResponseWriter, r *http.Request, f *facts) error {
	members, err := s.readStrings(w, r, "email", "password")
	if err != nil {
		return err
	}
	if len(r.Header.Values("Authorization")) > 0 {
		return s.upgrade(w, r, f, members[0], members[1])
	}
	started, err := s.Accounts.SignUp(r.Context(), s.addressOf(r), members[0], members[1])
	return f.answerStarted(w, http.StatusCreated, "sign_up", started, err)
}

func (s *server) upgrade(w http.ResponseWriter, r *http.Request, f *facts, email, password string) error {
	if _, err := s.accountOf(r, f); err != nil {
		return err
	}
	started, err := s.Accounts.Upgrade(r.Context(), s.addressOf(r), credentials(r), email, password)
	f.audit(became("upgrade", err))
	if err != nil {
		return err
	}
	return writeStarted(w, http.StatusCreated, started)
}

func (s *server) signIn(w http.ResponseWriter, r *http.Request, f *facts) error {
	members, err := s.readStrings(w, r, "email", "password")
	if err != nil {
		return err
	}
	started, userID, err := s.Accounts.SignIn(r.Context(), s.addressOf(r), members[0], members[1])
	if err != nil && userID != "" {
		f.add(slog.String("user", userID))
	}
	return f.answerStarted(w, http.StatusOK, "sign_in", started, err)
}

// guest makes a guest. A body, if there is one, is not read.
func (s *server) guest(w http.ResponseWriter, r *http.Request, f *facts) error {
	started, err := s.Accounts.Guest(r.Context(), s.addressOf(r))
	return f.answerStarted(w, http.StatusCreated, "guest", started, err)
}

func (s *server) session(w http.ResponseWriter, r *http.Request, f *facts) error {
	if _, err := s.accountOf(r, f); err != nil {
		return err
	}
	session, err := s.Accounts.Session(r.Context(), credentials(r))
	if err != nil {
		return err
	}
	var email *string // null for a guest
	if !session.Guest() {
		email = &session.Email
	}
	return writeJSON(w, http.StatusOK, struct {
		UserID    string  `json:"user_id"`
		Email     *string `json:"email"`
		Guest     bool    `json:"guest"`
		ExpiresAt string  `json:"expires_at"`
	}{session.UserID, email, session.Guest(), formatTime(session.ExpiresAt)})
}

func (s *server) changePassword(w http.ResponseWriter, r *http.Request, f *facts) error {
	if _, err := s.accountOf(r, f); err != nil {
		return err
	}
	members, err := s.readStrings(w, r, "current", "new")
	if err != nil {
		return err
	}
	err = s.Accounts.ChangePassword(r.Context(), s.addressOf(r), credentials(r), members[0], members[1])
	return f.answerDone(w, "password_change", err)
}

func (s *server) signOut(w http.ResponseWriter, r *http.Request, f *facts) error {
	if _, err := s.accountOf(r, f); err != nil {
		return err
	}
	return f.answerDone(w, "sign_out", s.Accounts.SignOut(r.Context(), credentials(r)))
}

func (s *server) signOutEverywhere(w http.ResponseWriter, r *http.Request, f *facts) error {
	p, err := s.accountOf(r, f)
	if err != nil {
		return err
	}
	return f.answerDone(w, "sign_out_everywhere", s.Accounts.SignOutEverywhere(r.Context(), p.UserID))
}

// accountOf is whose session of an account the request has.
func (s *server) accountOf(r *http.Request, f *facts) (*identity.Principal, error) {
	return authenticate(r, s.AccountSessions, f)
}

// readStrings reads a small JSON object and returns some of its members, which
// must be strings.
func (s *server) readStrings(w http.ResponseWriter, r *http.Request, names ...string) ([]string, error) {
	body, err := s.readBodyUpTo(w, r, s.addressOf(r).String(), min(maxAccountBody, s.MaxBodyBytes))
	if err != nil {
		return nil, err
	}
	return decodeStrings(body, names...)
}

// decodeStrings reads strictly (RFC 7493): a name may not stand twice, and the
// text must be UTF-8. Other members are of no interest. The error shows no
// value.
func decodeStrings(body []byte, names ...string) ([]string, error) {
	var members map[string]any
	err := jsonv2.Unmarshal(body, &members)
	values := make([]string, len(names))
	for i, name := range names {
		text, ok := members[name].(string)
		if err != nil || !ok {
			return nil, fault.New(fault.InvalidRequest,
				`the body must be one JSON object in UTF-8, with the strings "%s" in it, each once`, strings.Join(names, `" and "`))
		}
		values[i] = text
	}
	return values, nil
}

// became names what became of an event of somebody's account.
func became(event string, err error) string {
	if err != nil {
		return event + "_failed"
	}
	return event
}

// answerStarted answers with a session that began, and notes whose.
func (f *facts) answerStarted(w http.ResponseWriter, status int, event string, started *identity.StartedSession, err error) error {
	f.audit(became(event, err))
	if err != nil {
		return err
	}
	f.add(slog.String("user", started.UserID))
	return writeStarted(w, status, started)
}

func writeStarted(w http.ResponseWriter, status int, started *identity.StartedSession) error {
	return writeJSON(w, status, struct {
		Token     string `json:"session_token"`
		ExpiresAt string `json:"expires_at"`
		UserID    string `json:"user_id"`
	}{started.Token, formatTime(started.ExpiresAt), started.UserID})
}

// answerDone answers where there is nothing to say.
func (f *facts) answerDone(w http.ResponseWriter, event string, err error) error {
	f.audit(became(event, err))
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
