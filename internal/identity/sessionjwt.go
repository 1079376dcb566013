package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
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

// SessionJWTOptions say which session JWTs are accepted.
type SessionJWTOptions struct {
	// Key is the HS256 secret shared with the sessions' issuer, at least 32
	// bytes.
	Key []byte
	// Issuer and Audience, where not empty, must be the session's `iss` and
	// one of its `aud`.
	Issuer, Audience string
	// UserClaim names the claim that holds the user id, `sub` by default. Dots
	// lead into nested objects, as in app_metadata.uid, except where the name
	// is a URL, which names one claim, as namespaced claims do. It must not be
	// a claim that users may edit, such as anything in Supabase's
	// user_metadata.
	UserClaim string
	// IsSyncToken tells whether a token that was refused is one that ferry
	// issues for the PowerSync Service, expired or not: a usual mix-up, which
	// then gets its own explanation. May be nil.
	IsSyncToken func(token string) bool
	// Now is the clock. Required.
	Now func() time.Time
}

// SessionJWT accepts the app's own session JWTs that are signed with a shared
// HS256 secret.
type SessionJWT struct {
	key              []byte
	issuer, audience string
	userClaim        []string
	isSyncToken      func(token string) bool
	now              func() time.Time
}

var _ Authenticator = (*SessionJWT)(nil)

// NewSessionJWT returns an Authenticator for session JWTs, or an error where
// the key is under 32 bytes, the user claim has an empty part, or there is no
// clock.
func NewSessionJWT(o SessionJWTOptions) (*SessionJWT, error) {
	if len(o.Key) < minKeyBytes {
		return nil, fmt.Errorf("session secret has %d bytes, HS256 needs at least %d: choose a longer one where the sessions are signed", len(o.Key), minKeyBytes)
	}
	if o.Now == nil {
		return nil, errors.New("session verification needs a clock")
	}
	path, err := claimPath(o.UserClaim)
	if err != nil {
		return nil, err
	}
	s := &SessionJWT{
		key:         bytes.Clone(o.Key),
		issuer:      o.Issuer,
		audience:    o.Audience,
		userClaim:   path,
		isSyncToken: o.IsSyncToken,
		now:         o.Now,
	}
	return s, nil
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
	for _, part := range path {
		if part == "" {
			return nil, fmt.Errorf("user claim %q has an empty part: write it like sub or app_metadata.uid", name)
		}
	}
	return path, nil
}

// Authenticate implements [Authenticator]. It runs on every upload and token
// call, and reads the payload once.
func (s *SessionJWT) Authenticate(_ context.Context, c Credentials) (*Principal, error) {
	token, err := c.bearer()
	if err != nil {
		return nil, err
	}
	payload, err := s.verify(token)
	if err != nil {
		return nil, s.refuseUnverified(token, err)
	}
	p, err := s.principal(payload)
	if err != nil {
		return nil, fault.New(fault.InvalidSession, "%v", err)
	}
	return p, nil
}

// refuseUnverified explains why a token is not one of the sessions' issuer.
func (s *SessionJWT) refuseUnverified(token string, err error) *fault.Error {
	if s.isSyncToken != nil && s.isSyncToken(token) {
		return notMine("this is a sync token for the PowerSync Service; send the app's own session")
	}
	return notMine(err.Error())
}

// verify returns the payload of a token that is signed with the session key.
// go-jose takes some microseconds more than HMAC and base64 alone would, which
// a request does not notice, and has had more eyes on it.
// Its errors are for the client: go-jose's own may quote the token's header.
func (s *SessionJWT) verify(token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return nil, unreadable(token, err)
	}
	// go-jose knows `b64` and would honour it; `zip` is of no meaning in a JWS.
	// A session needs no extension (RFC 7515, section 4.1.11; RFC 7797).
	for _, name := range []jose.HeaderKey{"crit", "b64", "zip"} {
		if _, found := jws.Signatures[0].Header.ExtraHeaders[name]; found {
			return nil, fmt.Errorf("the session's header has %q, which this server does not support", name)
		}
	}
	payload, err := jws.Verify(s.key)
	if err != nil {
		return nil, errors.New("the session's signature does not verify: it was signed with a different key than this server's session secret, or it was altered")
	}
	return payload, nil
}

// unreadable says in words why go-jose could not read a token.
func unreadable(token string, err error) error {
	if alg, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
		return fmt.Errorf("the session is signed with %s, but this server verifies HS256 with a shared secret", algorithmName(alg.Got))
	}
	if strings.Count(token, ".") == 4 {
		return errors.New("the session is an encrypted JWT (JWE): send a signed one")
	}
	return errors.New("the session is not a signed JWT (header.payload.signature)")
}

// algorithmName repeats the name of a registered algorithm (RFC 7518, section
// 3.1), and no other text of a token.
func algorithmName(alg jose.SignatureAlgorithm) string {
	switch alg {
	case jose.HS384, jose.HS512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
		jose.ES256, jose.ES384, jose.ES512, jose.EdDSA, "none":
		return "alg " + string(alg)
	case "":
		return "no alg"
	}
	return "an unknown alg"
}

// principal judges the claims of a verified session. Its errors are for the
// client.
func (s *SessionJWT) principal(payload []byte) (*Principal, error) {
	claims, err := readClaims(payload, s.userClaim[0])
	if err != nil {
		return nil, fmt.Errorf("the session's payload %w", err)
	}
	if err := s.checkTimes(claims); err != nil {
		return nil, err
	}
	if iss, _ := text(claims.iss); s.issuer != "" && iss != s.issuer {
		return nil, errors.New("the session is from another issuer (iss) than this server accepts")
	}
	if s.audience != "" && !names(claims.aud, s.audience) {
		return nil, errors.New("the session is for another audience (aud) than this server's")
	}
	p, err := claims.principal(s.userClaim)
	if err != nil {
		return nil, fmt.Errorf("the session names no user: %w", err)
	}
	return p, nil
}

// checkTimes holds `exp`, which is required, `nbf` and `iat` against the clock.
func (s *SessionJWT) checkTimes(c *claimSet) error {
	now := float64(s.now().UnixMicro()) / 1e6
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
