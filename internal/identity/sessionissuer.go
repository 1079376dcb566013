package identity

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json/jsontext"

	"ferry/internal/fault"
)

const (
	// clockSkew is how far the clocks of ferry and of the issuer may differ,
	// in seconds; the PowerSync Service allows as much.
	clockSkew = 60

	// minKeyBytes is the least length of an HS256 key (RFC 7518, section 3.2).
	minKeyBytes = 32
)

// SessionIssuer is one who signs the app's sessions, and how they are
// verified: with a shared secret, with public keys, or with either.
type SessionIssuer struct {
	// Issuer and Audience, where not empty, must be the session's `iss` and
	// one of its `aud`.
	Issuer, Audience string
	// Secret verifies HS256: at least 32 bytes, or nil.
	Secret []byte
	// Misreadings are other secrets that the same configuration could mean.
	// One that fits a session which the Secret does not is told to the log,
	// once: it is a mistake that otherwise takes days to find.
	Misreadings []Misreading
	// Keys verify the public-key algorithms; nil for none.
	Keys *ProviderKeys
	// Algorithms, where not empty, are the only ones accepted.
	Algorithms []string
	// UserClaim names the claim that holds the user id, `sub` by default. Dots
	// lead into nested objects, as in app_metadata.uid, except where the name
	// is a URL, which names one claim, as namespaced claims do. It must not be
	// a claim that users may edit, such as anything in Supabase's
	// user_metadata.
	UserClaim string
	// UserPrefix stands in front of every user id from this issuer, so that
	// equal subjects of two issuers are not one user. A user id that begins with
	// the longer prefix of another issuer is that one's alone.
	UserPrefix string
}

// Misreading is a secret as it would be if the configuration were read in
// another way, and what to say if that is what it means.
type Misreading struct {
	Secret []byte
	Advice string
}

// sessionIssuer is a SessionIssuer that is ready to use.
type sessionIssuer struct {
	SessionIssuer
	algorithms []jose.SignatureAlgorithm
	userClaim  []string
	others     []string  // prefixes of other issuers' users
	macs       sync.Pool // of hashes with the secret; one that was used has half of the work behind it
	misread    sync.Once
	log        *slog.Logger
}

func newSessionIssuer(o SessionIssuer, log *slog.Logger) (*sessionIssuer, error) {
	if o.Secret != nil && len(o.Secret) < minKeyBytes {
		return nil, fmt.Errorf("session secret has %d bytes, HS256 needs at least %d: choose a longer one where the sessions are signed", len(o.Secret), minKeyBytes)
	}
	var algorithms []jose.SignatureAlgorithm
	if o.Secret != nil {
		algorithms = append(algorithms, jose.HS256)
	}
	if o.Keys != nil {
		algorithms = append(algorithms, publicKeyAlgorithms()...)
	}
	for _, name := range o.Algorithms {
		if !slices.Contains(algorithms, jose.SignatureAlgorithm(name)) {
			return nil, fmt.Errorf("sessions with alg %q cannot be verified: HS256 needs a secret, the others public keys", name)
		}
	}
	if len(o.Algorithms) > 0 {
		algorithms = slices.DeleteFunc(algorithms, func(a jose.SignatureAlgorithm) bool { return !slices.Contains(o.Algorithms, string(a)) })
	}
	if len(algorithms) == 0 {
		return nil, errors.New("session verification needs a secret or public keys")
	}
	path, err := claimPath(o.UserClaim)
	if err != nil {
		return nil, err
	}
	o.Secret = bytes.Clone(o.Secret)
	ready := &sessionIssuer{SessionIssuer: o, algorithms: algorithms, userClaim: path, log: log}
	ready.macs.New = func() any { return hmac.New(sha256.New, o.Secret) }
	return ready, nil
}

// claimPath splits the name of the user claim at its dots.
func claimPath(name string) ([]string, error) {
	if name == "" {
		return []string{"sub"}, nil
	}
	if strings.Contains(name, "://") {
		return []string{name}, nil
	}
	path := strings.Split(name, ".")
	if slices.Contains(path, "") {
		return nil, fmt.Errorf("user claim %q has an empty part: write it like sub or app_metadata.uid", name)
	}
	return path, nil
}

// accept verifies a session and judges its claims.
func (i *sessionIssuer) accept(ctx context.Context, s *session, now time.Time) (*Principal, error) {
	err := i.verify(ctx, s)
	if unavailable, ok := errors.AsType[*fault.Error](err); ok {
		return nil, unavailable
	}
	if err != nil {
		return nil, notMine(err.Error())
	}
	p, err := i.principal(s.claims, now)
	if err != nil {
		return nil, fault.New(fault.InvalidSession, "%v", err)
	}
	return p, nil
}

// verify checks a session's signature with what belongs to its algorithm and
// nothing else. HMAC is computed here: with go-jose it, and reading the header
// each time, took a quarter of all that a sync token takes (docs/performance.md).
func (i *sessionIssuer) verify(ctx context.Context, s *session) error {
	switch {
	case !slices.Contains(i.algorithms, s.algorithm):
		return unacceptable(s.algorithm, i.algorithms)
	case s.algorithm == jose.HS256:
		mac := i.macs.Get().(hash.Hash)
		defer i.macs.Put(mac)
		if !s.isSignedBy(mac) {
			i.lookForMisreading(s)
			return errors.New("the session's signature does not verify: it was signed with a different key than this server's session secret, or it was altered")
		}
		return nil
	}
	return i.Keys.check(ctx, s.algorithm, s.keyID, func(k publicKey) bool {
		_, err := s.jws.Verify(k.key)
		return err == nil
	})
}

// lookForMisreading tells the operator of a secret that is configured in the
// wrong form.
func (i *sessionIssuer) lookForMisreading(s *session) {
	for _, m := range i.Misreadings {
		if s.isSignedBy(hmac.New(sha256.New, m.Secret)) {
			i.misread.Do(func() {
				i.log.Error("sessions are refused because their secret is configured in the wrong form: " + m.Advice)
			})
		}
	}
}

// principal judges the claims of a verified session. Its errors are for the
// client.
func (i *sessionIssuer) principal(c *claimSet, now time.Time) (*Principal, error) {
	if err := checkTimes(c, now); err != nil {
		return nil, err
	}
	if !i.isAudience(c) {
		return nil, errors.New("the session is for another audience (aud) than this server's")
	}
	p, err := c.principal(i.userClaim, i.UserPrefix)
	if err != nil {
		return nil, fmt.Errorf("the session names no user: %w", err)
	}
	if slices.ContainsFunc(i.others, func(prefix string) bool { return strings.HasPrefix(p.UserID, prefix) }) {
		return nil, errors.New("the session names a user of another issuer")
	}
	return p, nil
}

// isAudience is whether a session is for the audience, if one is set.
func (i *sessionIssuer) isAudience(c *claimSet) bool {
	return i.Audience == "" || names(c.aud, i.Audience)
}

// checkTimes holds `exp`, which is required, `nbf` and `iat` against the clock.
func checkTimes(c *claimSet, at time.Time) error {
	now := float64(at.UnixMicro()) / 1e6
	if c.exp == nil {
		return errors.New("the session has no expiry (exp)")
	}
	exp, err := seconds("exp", c.exp)
	if err != nil {
		return err
	}
	if now >= exp+clockSkew {
		return errors.New("the session has expired (exp): sign in again")
	}
	if err := notAfter(now, "nbf", c.nbf, "is not valid yet"); err != nil {
		return err
	}
	return notAfter(now, "iat", c.iat, "was issued in the future")
}

// notAfter refuses a date, where there is one, that is yet to come.
func notAfter(now float64, claim string, value jsontext.Value, problem string) error {
	if value == nil {
		return nil
	}
	date, err := seconds(claim, value)
	if err != nil {
		return err
	}
	if date > now+clockSkew {
		return fmt.Errorf("the session %s (%s): do the clocks of its issuer and of this server agree?", problem, claim)
	}
	return nil
}
