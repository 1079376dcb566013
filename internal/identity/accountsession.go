package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"ferry/internal/fault"
)

// MaxSessions is how many sessions one account has at most: a further one ends
// the one that was not used for longest.
const MaxSessions = 100

// SessionLifetime is how long a session of an account lasts. A device may be
// offline for weeks, and its upload queue needs a session when it is back; an
// app for devices that never are may want less (OWASP ASVS 3.3.2).
type SessionLifetime struct {
	Idle time.Duration // from its last use to its end; no longer than Max
	Max  time.Duration // from its beginning to its end, however it is used
}

// Touch is how often a session's use is noted: once a day, or more often where
// a session that is used would end too early by it.
func (l SessionLifetime) Touch() time.Duration { return min(24*time.Hour, l.Idle/60) }

const (
	// sessionPrefix lets people, and those who scan for secrets, recognise a
	// session.
	sessionPrefix = "ferry_session_"
	// sessionSecretBytes are 256 random bits.
	sessionSecretBytes = 32

	// sessionCacheTime is for how long a session may be used without another
	// look at it. With the denylist's age it stays within the second in which
	// a revocation holds.
	sessionCacheTime  = 400 * time.Millisecond
	maxCachedSessions = 10_000
)

// TokenHash is the SHA-256 of a session's token, and all that is stored of it.
// A token has more entropy than a hash could be searched for, so it needs no
// salt and no slow hash.
type TokenHash [sha256.Size]byte

// newSessionToken returns the token of a new session.
func newSessionToken() (token string, hash TokenHash) {
	secret := make([]byte, sessionSecretBytes)
	_, _ = rand.Read(secret) // never fails: https://pkg.go.dev/crypto/rand#Read
	token = sessionPrefix + base64.RawURLEncoding.EncodeToString(secret)
	return token, sha256.Sum256([]byte(token))
}

// AccountSession is a session of an account.
type AccountSession struct {
	UserID    string
	Email     string    // empty: the user is a guest
	IssuedAt  time.Time // counts against the denylist
	ExpiresAt time.Time // moves on with use
}

// Guest is whether the user has no address and no password.
func (s *AccountSession) Guest() bool { return s.Email == "" }

// principal is the session's user. The claims are those that policies ask for:
// the role that Supabase's name, and whether it is a guest, under ferry's name
// and under Supabase's. Never the e-mail address, which nobody has checked.
func (s *AccountSession) principal() (*Principal, error) {
	claims, err := json.Marshal(struct {
		Sub         string `json:"sub"`
		Role        string `json:"role"`
		Guest       bool   `json:"guest"`
		IsAnonymous bool   `json:"is_anonymous"`
	}{s.UserID, "authenticated", s.Guest(), s.Guest()})
	if err != nil {
		return nil, fmt.Errorf("claims of an account: %w", err)
	}
	return &Principal{UserID: s.UserID, Claims: claims, IssuedAt: s.IssuedAt}, nil
}

// The reasons why a store finds no session.
var (
	ErrNoSession      = errors.New("no such session")
	ErrSessionExpired = errors.New("the session has expired")
)

var _ Authenticator = (*Accounts)(nil)

// Authenticate implements [Authenticator] for sessions of accounts. It asks the
// store at most once.
func (a *Accounts) Authenticate(ctx context.Context, c Credentials) (*Principal, error) {
	hash, err := a.tokenHash(c)
	if err != nil {
		return nil, err
	}
	seen := cachedPrincipal{readAt: a.now(), denylist: a.denylist.Version()}
	if p := a.cache.get(hash, seen); p != nil {
		return p, nil
	}
	session, err := a.find(ctx, hash)
	if err != nil {
		return nil, err
	}
	if seen.principal, err = session.principal(); err != nil {
		return nil, err
	}
	a.cache.put(hash, seen)
	return seen.principal, nil
}

// tokenHash finds a session's token in the credentials.
func (a *Accounts) tokenHash(c Credentials) (TokenHash, error) {
	token, err := c.bearer()
	if err != nil {
		return TokenHash{}, err
	}
	if !strings.HasPrefix(token, sessionPrefix) {
		if a.isSyncToken != nil && a.isSyncToken(token) {
			return TokenHash{}, notMine("this is a sync token for the PowerSync Service; send the session that /auth/sign-in gave")
		}
		return TokenHash{}, notMine("the session is not one that /auth/sign-in gave")
	}
	return sha256.Sum256([]byte(token)), nil
}

func (a *Accounts) find(ctx context.Context, hash TokenHash) (*AccountSession, error) {
	session, err := a.store.FindSession(ctx, hash)
	switch {
	case errors.Is(err, ErrSessionExpired):
		return nil, fault.New(fault.InvalidSession, "the session has expired: sign in again")
	case errors.Is(err, ErrNoSession):
		return nil, fault.New(fault.InvalidSession, "signed out: sign in again")
	case err != nil:
		return nil, storeAway(err)
	}
	return session, nil
}

// sessionCache remembers sessions for so short a time that nobody waits for a
// revocation.
type sessionCache struct {
	mu      sync.Mutex
	entries map[TokenHash]cachedPrincipal
}

type cachedPrincipal struct {
	principal *Principal
	readAt    time.Time // when its reading began
	// denylist is the denylist's version then. A change of it may come with a
	// change of the session, such as a new password, which voids older ones.
	denylist string
}

// get returns a session that may be used at a time and under a version of the
// denylist, or nil.
func (c *sessionCache) get(hash TokenHash, at cachedPrincipal) *Principal {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry, found := c.entries[hash]
	if !found || entry.denylist != at.denylist || at.readAt.Sub(entry.readAt) >= sessionCacheTime {
		return nil
	}
	return entry.principal
}

// put forgets what is of no use any more when there are too many, and all if
// that does not help.
func (c *sessionCache) put(hash TokenHash, entry cachedPrincipal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxCachedSessions {
		for other, e := range c.entries {
			if entry.readAt.Sub(e.readAt) >= sessionCacheTime {
				delete(c.entries, other)
			}
		}
	}
	if c.entries == nil || len(c.entries) >= maxCachedSessions {
		c.entries = map[TokenHash]cachedPrincipal{}
	}
	c.entries[hash] = entry
}

// clear makes the end of a session hold at once, in this process.
func (c *sessionCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
}
