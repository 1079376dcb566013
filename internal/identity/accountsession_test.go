package identity

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

// fewSessions is a store that knows some sessions, and nothing else.
type fewSessions struct {
	AccountStore
	known map[TokenHash]AccountSession
	err   error // where not nil, for every session
	looks atomic.Int32
}

func (s *fewSessions) FindSession(_ context.Context, token TokenHash) (*AccountSession, error) {
	s.looks.Add(1)
	session, found := s.known[token]
	switch {
	case s.err != nil:
		return nil, s.err
	case !found:
		return nil, ErrNoSession
	case session.ExpiresAt.Before(suiteNow):
		return nil, ErrSessionExpired
	}
	return &session, nil
}

func (s *fewSessions) EndSession(_ context.Context, token TokenHash) error {
	delete(s.known, token)
	return nil
}

func hashOf(token string) TokenHash { return sha256.Sum256([]byte(token)) }

// accountsAt are accounts whose clock a test moves.
func accountsAt(store AccountStore, list DenylistStore, now *time.Time) *Accounts {
	clock := func() time.Time { return *now }
	return NewAccounts(AccountOptions{
		Store: store, Denylist: NewDenylist(list, slog.New(slog.DiscardHandler), clock), Hashing: quick(), Now: clock,
		IsSyncToken: func(token string) bool { return token == "sync" },
	})
}

func TestAccountSessions(t *testing.T) {
	t.Parallel()
	const full, guest, expired = sessionPrefix + "full", sessionPrefix + "guest", sessionPrefix + "expired"
	store := &fewSessions{known: map[TokenHash]AccountSession{
		hashOf(full):    {UserID: "u1", Email: "ann@example.com", IssuedAt: suiteNow, ExpiresAt: suiteNow},
		hashOf(guest):   {UserID: "u2", IssuedAt: suiteNow.Add(-time.Hour), ExpiresAt: suiteNow},
		hashOf(expired): {UserID: "u3", Email: "bob@example.com", ExpiresAt: suiteNow.Add(-time.Second)},
	}}
	list := &sharedList{}
	list.set("1", map[string]Denied{"u2": {SessionsBefore: suiteNow}})
	now := suiteNow
	accounts := accountsAt(store, list, &now)

	for token, want := range map[string]*Principal{
		full: {UserID: "u1", Claims: json.RawMessage(`{"sub":"u1","role":"authenticated","guest":false,"is_anonymous":false}`), IssuedAt: suiteNow},
		guest: {
			UserID: "u2", Claims: json.RawMessage(`{"sub":"u2","role":"authenticated","guest":true,"is_anonymous":true}`),
			IssuedAt: suiteNow.Add(-time.Hour),
		},
	} {
		got, err := accounts.Authenticate(t.Context(), bearing(token))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("principal (-want +got):\n%s", diff)
		}
	}
	refused := map[string]struct{ token, detail string }{
		"missing":     {"", "no session: send the app's own session in the header `Authorization: Bearer <session>`"},
		"oversized":   {sessionPrefix + strings.Repeat("a", MaxSessionBytes), "the session is over 16384 bytes"},
		"expired":     {expired, "the session has expired: sign in again"},
		"unknown":     {sessionPrefix + "unknown", "signed out: sign in again"},
		"cut off":     {full[:len(full)-1], "signed out: sign in again"},
		"garbage":     {sessionPrefix + "\x00\xff", "signed out: sign in again"},
		"only prefix": {sessionPrefix, "signed out: sign in again"},
		"a JWT":       {signHS256(testKey)(`{"alg":"HS256"}`, `{}`), "the session is not one that /auth/sign-in gave"},
		"a sync token": {
			"sync", "this is a sync token for the PowerSync Service; send the session that /auth/sign-in gave",
		},
	}
	for name, c := range refused {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := accounts.Authenticate(t.Context(), bearing(c.token))
			requireRefusal(t, p, err, c.token, c.detail)
		})
	}
	t.Run("revoked", func(t *testing.T) {
		t.Parallel()
		p, err := accounts.denylist.Guard(accounts).Authenticate(t.Context(), bearing(guest))
		requireRefusal(t, p, err, guest, "signed out: sign in again")
	})
	t.Run("in a chain", func(t *testing.T) {
		t.Parallel()
		chain := Chain{newSessionJWT(t, SessionIssuer{}), accounts}
		if p, err := chain.Authenticate(t.Context(), bearing(full)); err != nil || p.UserID != "u1" {
			t.Errorf("%+v, %v", p, err)
		}
		p, err := chain.Authenticate(t.Context(), bearing(expired))
		requireRefusal(t, p, err, expired, "the session has expired: sign in again")
	})
	t.Run("without the store", func(t *testing.T) {
		t.Parallel()
		away := accountsAt(&fewSessions{err: errors.New("away")}, list, &now)
		if _, err := away.Authenticate(t.Context(), bearing(full)); fault.From(err).Code != fault.Unavailable {
			t.Errorf("error %v", err)
		}
	})
}

func TestSessionsAreRememberedBriefly(t *testing.T) {
	t.Parallel()
	const token = sessionPrefix + "a"
	store := &fewSessions{known: map[TokenHash]AccountSession{hashOf(token): {UserID: "u1", ExpiresAt: suiteNow.Add(time.Hour)}}}
	list := &sharedList{}
	list.set("1", nil)
	now := suiteNow
	accounts := accountsAt(store, list, &now)
	look := func(step string, looks int32) {
		t.Helper()
		_, err := accounts.denylist.Guard(accounts).Authenticate(t.Context(), bearing(token))
		if err != nil {
			t.Errorf("%s: %v", step, err)
		}
		if got := store.looks.Load(); got != looks {
			t.Errorf("%s: %d looks, want %d", step, got, looks)
		}
	}
	look("at first", 1)
	look("once the denylist is read", 2)
	now = now.Add(sessionCacheTime - 1)
	look("soon", 2)
	now = now.Add(1)
	look("later", 3)
	list.set("2", map[string]Denied{"u2": {Disabled: true}})
	if err := accounts.denylist.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	look("after a change of the denylist", 4)
	if err := accounts.SignOut(t.Context(), bearing(token)); err != nil {
		t.Fatal(err)
	}
	p, err := accounts.Authenticate(t.Context(), bearing(token))
	requireRefusal(t, p, err, token, "signed out: sign in again")
}

func TestTheSessionCacheIsBounded(t *testing.T) {
	t.Parallel()
	var cache sessionCache
	fresh := cachedPrincipal{principal: &Principal{}, readAt: suiteNow}
	for i := range 3 * maxCachedSessions {
		cache.put(hashOf(fmt.Sprint(i)), fresh)
		if len(cache.entries) > maxCachedSessions {
			t.Fatalf("%d sessions are remembered", len(cache.entries))
		}
	}
	if cache.get(hashOf(fmt.Sprint(3*maxCachedSessions-1)), fresh) == nil {
		t.Error("the last one is forgotten")
	}
	// What is out of date makes room by itself.
	later := fresh
	later.readAt = suiteNow.Add(sessionCacheTime)
	for i := range maxCachedSessions + 1 {
		cache.put(hashOf(fmt.Sprint("later", i)), later)
	}
	if cache.get(hashOf("later0"), later) == nil && cache.get(hashOf(fmt.Sprint("later", maxCachedSessions)), later) == nil {
		t.Error("nothing is remembered")
	}
}

func TestSessionTokensAreRandomAndRecognisable(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^ferry_session_[A-Za-z0-9_-]{43}$`)
	seen := map[string]bool{}
	for range 100 {
		token, hash := newSessionToken()
		if !form.MatchString(token) || seen[token] || hash != hashOf(token) {
			t.Errorf("token %s, hash %x", token, hash)
		}
		seen[token] = true
	}
}
