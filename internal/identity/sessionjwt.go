package identity

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"ferry/internal/fault"
)

// SessionJWTOptions say which session JWTs are accepted.
type SessionJWTOptions struct {
	// Issuers are those whose sessions are accepted. At least one.
	Issuers []SessionIssuer
	// IsSyncToken tells whether a token is one that ferry issues for the
	// PowerSync Service, expired or not: a usual mix-up, which gets its own
	// explanation. Such a token is no session, whoever's keys verify it. May
	// be nil.
	IsSyncToken func(token string) bool
	// Log may be nil.
	Log *slog.Logger
	// Now is the clock. Required.
	Now func() time.Time
}

// SessionJWT accepts the app's own session JWTs.
type SessionJWT struct {
	issuers     []*sessionIssuer
	algorithms  []jose.SignatureAlgorithm // of all issuers
	isSyncToken func(token string) bool
	now         func() time.Time
	// lastHeader is that of the last session of HS256 that was accepted: nearly
	// all sessions of an app have the same.
	lastHeader atomic.Pointer[sessionHeader]
}

var _ Authenticator = (*SessionJWT)(nil)

// NewSessionJWT returns an Authenticator for session JWTs, or an error where
// nothing could verify an issuer's sessions, a secret is under 32 bytes, an
// algorithm has no key, a user claim has an empty part, or there is no clock.
func NewSessionJWT(o SessionJWTOptions) (*SessionJWT, error) {
	if o.Now == nil {
		return nil, errors.New("session verification needs a clock")
	}
	if len(o.Issuers) == 0 {
		return nil, errors.New("session verification needs an issuer")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &SessionJWT{isSyncToken: o.IsSyncToken, now: o.Now}
	for _, issuer := range o.Issuers {
		ready, err := newSessionIssuer(issuer, o.Log)
		if err != nil {
			return nil, err
		}
		s.issuers = append(s.issuers, ready)
		s.algorithms = append(s.algorithms, ready.algorithms...)
	}
	s.separateUsers()
	return s, nil
}

// separateUsers keeps an issuer's subject, which its user may have chosen, from
// spelling the user id of an issuer whose prefix is longer.
func (s *SessionJWT) separateUsers() {
	for _, issuer := range s.issuers {
		for _, other := range s.issuers {
			if len(other.UserPrefix) > len(issuer.UserPrefix) {
				issuer.others = append(issuer.others, other.UserPrefix)
			}
		}
	}
}

// Run keeps the public keys of all issuers fresh until ctx ends.
func (s *SessionJWT) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, issuer := range s.issuers {
		if issuer.Keys != nil {
			group.Go(func() { issuer.Keys.Run(ctx) })
		}
	}
	group.Wait()
}

// Authenticate implements [Authenticator]. It runs on every upload and token
// call. What a session says before it is verified only chooses by whose keys
// and rules that is done.
func (s *SessionJWT) Authenticate(ctx context.Context, c Credentials) (*Principal, error) {
	token, err := c.bearer()
	if err != nil {
		return nil, err
	}
	session, err := s.read(token)
	if err == nil {
		err = s.checkKind(token)
	}
	if err != nil {
		return nil, s.refuse(token, err)
	}
	var refusal error
	for _, issuer := range s.issuersOf(session.claims) {
		p, err := issuer.accept(ctx, session, s.now())
		if err == nil {
			if session.algorithm == jose.HS256 && session.jws != nil {
				s.lastHeader.Store(session.sessionHeader)
			}
			return p, nil
		}
		// Where several could have issued it, the one whose key fits knows best.
		if refusal == nil || !errors.Is(err, errNotMine) {
			refusal = err
		}
	}
	if refusal == nil {
		refusal = notMine("the session is from another issuer (iss) than this server accepts")
	}
	return nil, refusal
}

// session is a session JWT that was read, and not yet verified.
type session struct {
	*sessionHeader
	signed    string // what the signature is of (RFC 7515, section 5.1)
	signature []byte
	jws       *jose.JSONWebSignature // nil if the header was the last one's
	claims    *claimSet
}

// sessionHeader is a header in which nothing is wrong.
type sessionHeader struct {
	encoded   string // as it stands in the token
	algorithm jose.SignatureAlgorithm
	keyID     string
}

// read takes a token apart. Its errors are for the client: go-jose's own may
// quote the token's header.
func (s *SessionJWT) read(token string) (*session, error) {
	header, jws, err := s.readHeader(token)
	if err != nil {
		return nil, err
	}
	r := &session{sessionHeader: header, jws: jws}
	behind := strings.LastIndexByte(token, '.')
	r.signed = token[:behind]
	payload, err := base64.RawURLEncoding.DecodeString(r.signed[len(header.encoded)+1:])
	if err == nil {
		r.signature, err = base64.RawURLEncoding.DecodeString(token[behind+1:])
	}
	if err != nil {
		return nil, s.unreadable(token, err)
	}
	if r.claims, err = readClaims(payload); err != nil {
		return nil, fmt.Errorf("the session's payload %w", err)
	}
	return r, nil
}

// readHeader has go-jose read a token, unless it is of HS256 and has the header
// that the last session had.
func (s *SessionJWT) readHeader(token string) (*sessionHeader, *jose.JSONWebSignature, error) {
	encoded, rest, _ := strings.Cut(token, ".")
	if last := s.lastHeader.Load(); last != nil && last.encoded == encoded && strings.Count(rest, ".") == 1 {
		return last, nil, nil
	}
	jws, err := jose.ParseSignedCompact(token, s.algorithms)
	if err != nil {
		return nil, nil, s.unreadable(token, err)
	}
	header := jws.Signatures[0].Header
	// go-jose knows `b64` and would honour it; `zip` is of no meaning in a JWS.
	// A session needs no extension (RFC 7515, section 4.1.11; RFC 7797).
	for _, name := range []jose.HeaderKey{"crit", "b64", "zip"} {
		if _, found := header.ExtraHeaders[name]; found {
			return nil, nil, fmt.Errorf("the session's header has %q, which this server does not support", name)
		}
	}
	return &sessionHeader{strings.Clone(encoded), jose.SignatureAlgorithm(header.Algorithm), header.KeyID}, jws, nil
}

// isSignedBy is whether the signature is an HMAC's (RFC 7518, section 3.2).
func (s *session) isSignedBy(mac hash.Hash) bool {
	mac.Reset()
	mac.Write([]byte(s.signed))
	return hmac.Equal(mac.Sum(nil), s.signature)
}

// errSyncToken is a usual mix-up.
var errSyncToken = errors.New("this is a sync token for the PowerSync Service; send the app's own session")

// checkKind refuses a sync token, also where an issuer's keys are ferry's own.
func (s *SessionJWT) checkKind(token string) error {
	if s.isSyncToken != nil && s.isSyncToken(token) {
		return errSyncToken
	}
	return nil
}

// refuse explains why a token is not one of these sessions.
func (s *SessionJWT) refuse(token string, err error) *fault.Error {
	if kind := s.checkKind(token); kind != nil {
		err = kind
	}
	return notMine(err.Error())
}

// unreadable says in words why go-jose could not read a token.
func (s *SessionJWT) unreadable(token string, err error) error {
	if alg, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
		return unacceptable(alg.Got, s.algorithms)
	}
	if strings.Count(token, ".") == 4 {
		return errors.New("the session is an encrypted JWT (JWE): send a signed one")
	}
	return errors.New("the session is not a signed JWT (header.payload.signature)")
}

func unacceptable(algorithm jose.SignatureAlgorithm, accepted []jose.SignatureAlgorithm) error {
	names := make([]string, 0, len(accepted))
	for _, a := range accepted {
		if !slices.Contains(names, string(a)) {
			names = append(names, string(a))
		}
	}
	return fmt.Errorf("the session is signed with %s, but this server accepts %s", algorithmName(algorithm), strings.Join(names, ", "))
}

// algorithmName repeats the name of a registered algorithm (RFC 7518, section
// 3.1), and no other text of a token.
func algorithmName(alg jose.SignatureAlgorithm) string {
	switch alg {
	case jose.HS256, jose.HS384, jose.HS512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
		jose.ES256, jose.ES384, jose.ES512, jose.EdDSA, "none":
		return "alg " + string(alg)
	case "":
		return "no alg"
	}
	return "an unknown alg"
}

// issuersOf lists those who may have issued a session, by its `iss` and, where
// that is several, by its `aud`.
func (s *SessionJWT) issuersOf(c *claimSet) []*sessionIssuer {
	iss, _ := text(c.iss)
	var list, forThem []*sessionIssuer
	for _, issuer := range s.issuers {
		if issuer.Issuer == "" || issuer.Issuer == iss {
			list = append(list, issuer)
		}
	}
	if len(list) > 1 {
		for _, issuer := range list {
			if issuer.isAudience(c) {
				forThem = append(forThem, issuer)
			}
		}
	}
	if len(forThem) > 0 {
		return forThem
	}
	return list
}
