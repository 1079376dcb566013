package tokens

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// The lifetimes that a sync token may have. The PowerSync Service refuses
// anything over a day (PSYNC_S2104), and under a minute a token could be out
// of date before it is used.
const (
	MinTTL = time.Minute
	MaxTTL = 24 * time.Hour
)

// Options say what an Issuer's tokens look like.
type Options struct {
	Keys KeySet
	// Audience must hold one that the PowerSync Service is configured with: by
	// default its own URL without a trailing slash. At least one.
	Audience []string
	// Issuer is left out where empty.
	Issuer string
	// TTL is the lifetime, MinTTL to MaxTTL in whole seconds.
	TTL time.Duration
	// Endpoint is the URL of the PowerSync Service for the client. It ends in
	// no slash, with which the client SDK fails for ever.
	Endpoint string
	// Claims are copied from the session.
	Claims []ClaimCopy
	// Source gives further claims, which win over copied ones. May be nil.
	Source ClaimSource
	// Log takes a warning about a claim that is left out. May be nil.
	Log *slog.Logger
	// Now is the clock. Required.
	Now func() time.Time
}

// Token is a sync token and what the client needs beside it.
type Token struct {
	JWT       string
	ExpiresAt time.Time // UTC, whole seconds: the JWT's exp
	Endpoint  string
	UserID    string
}

// Issuer issues sync tokens, and recognises them. It is safe for concurrent
// use.
type Issuer struct {
	keys     atomic.Pointer[KeySet]
	audience []string
	issuer   string
	ttl      int64 // seconds
	endpoint string
	claims   []ClaimCopy
	source   ClaimSource
	log      *slog.Logger
	now      func() time.Time

	// constant is the part of the payload that is the same in every token: the
	// members aud and iss, each with a comma before it.
	constant []byte
	// A warning of each kind is enough.
	parametersNoted, reservedNoted sync.Once
}

// NewIssuer returns an Issuer, or an error that names everything wrong with
// the options: no key, no audience, a lifetime, endpoint or custom claim that
// the PowerSync Service or its client SDK would fail on, or a custom claim that
// is one of sub, aud, iss, iat, exp, nbf and jti.
func NewIssuer(o Options) (*Issuer, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	i := &Issuer{
		audience: slices.Clone(o.Audience),
		issuer:   o.Issuer,
		ttl:      int64(o.TTL / time.Second),
		endpoint: o.Endpoint,
		claims:   slices.Clone(o.Claims),
		source:   o.Source,
		log:      o.Log,
		now:      o.Now,
		constant: constantMembers(o.Audience, o.Issuer),
	}
	i.keys.Store(&o.Keys)
	return i, nil
}

// UseKeys changes the keys at once, for every later call. A token that is being
// issued is signed with the old ones. It fails on a set without keys.
func (i *Issuer) UseKeys(keys KeySet) error {
	if len(keys.all) == 0 {
		return errNoKey
	}
	i.keys.Store(&keys)
	return nil
}

var errNoKey = errors.New("there is no token key")

// check returns everything that is wrong with the options.
func (o Options) check() error {
	var errs []error
	if len(o.Keys.all) == 0 {
		errs = append(errs, errNoKey)
	}
	if len(o.Audience) == 0 || slices.Contains(o.Audience, "") {
		errs = append(errs, errors.New("a sync token needs an audience: the URL of the PowerSync Service, or what its client_auth.audience says"))
	}
	if _, err := jsontext.AppendQuote(nil, strings.Join(o.Audience, "")+o.Issuer); err != nil {
		errs = append(errs, errors.New("the audience or the issuer is not valid UTF-8"))
	}
	if o.TTL < MinTTL || o.TTL > MaxTTL || o.TTL%time.Second != 0 {
		errs = append(errs, fmt.Errorf("the lifetime of a sync token is %v to %v in whole seconds, not %v", MinTTL, MaxTTL, o.TTL))
	}
	errs = append(errs, checkEndpoint(o.Endpoint), checkCopies(o.Claims))
	if o.Now == nil {
		errs = append(errs, errors.New("issuing tokens needs a clock"))
	}
	return errors.Join(errs...)
}

// checkEndpoint does not repeat the URL, which may hold a password by mistake.
func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("the endpoint is not the http(s) URL of a PowerSync Service, such as https://sync.example.com")
	}
	if strings.HasSuffix(endpoint, "/") {
		return errors.New("the endpoint ends in a slash, with which PowerSync's client SDK fails for ever: leave it out")
	}
	return nil
}

// constantMembers writes aud, a string where there is one and a list where
// there are several (RFC 7519, section 4.1.3), and iss.
func constantMembers(audience []string, issuer string) []byte {
	list := make([]string, len(audience))
	for i, a := range audience {
		list[i] = string(quote(a))
	}
	aud := strings.Join(list, ",")
	if len(list) > 1 {
		aud = "[" + aud + "]"
	}
	members := `,"aud":` + aud
	if issuer != "" {
		members += `,"iss":` + string(quote(issuer))
	}
	return []byte(members)
}

// Issue returns a fresh sync token for a user, with the configured claims of
// the session and those of the source. It fails on a user id that is empty or
// not UTF-8, on claims that are not a JSON object where some of them are to be
// copied, and as the source does.
//
// Each token has a random `jti` (RFC 7519, section 4.1.7), so that no two are
// the same text even within a second, and one can be told from another. The
// PowerSync Service passes claims that it does not know on to the sync rules.
func (i *Issuer) Issue(ctx context.Context, userID string, sessionClaims json.RawMessage) (Token, error) {
	if userID == "" {
		return Token{}, errors.New("issue sync token: the user id is empty")
	}
	given, err := i.given(ctx, userID, sessionClaims)
	if err != nil {
		return Token{}, fmt.Errorf("issue sync token: %w", err)
	}
	issuedAt := i.now().Unix()
	payload, err := i.payload(userID, issuedAt, sessionClaims, given)
	if err != nil {
		return Token{}, fmt.Errorf("issue sync token: %w", err)
	}
	jwt, err := i.keys.Load().active.token(payload)
	if err != nil {
		return Token{}, fmt.Errorf("issue sync token: %w", err)
	}
	return Token{
		JWT:       jwt,
		ExpiresAt: time.Unix(issuedAt+i.ttl, 0).UTC(),
		Endpoint:  i.endpoint,
		UserID:    userID,
	}, nil
}

// payload writes a token's claims: ferry's own, those copied from the session,
// and those that the source gave.
func (i *Issuer) payload(userID string, issuedAt int64, session json.RawMessage, given object) ([]byte, error) {
	payload := append(make([]byte, 0, 512), `{"sub":`...)
	payload, err := jsontext.AppendQuote(payload, userID)
	if err != nil {
		return nil, errors.New("the user id is not valid UTF-8")
	}
	payload = append(payload, i.constant...)
	payload = append(payload, `,"iat":`...)
	payload = strconv.AppendInt(payload, issuedAt, 10)
	payload = append(payload, `,"exp":`...)
	payload = strconv.AppendInt(payload, issuedAt+i.ttl, 10)
	payload = append(payload, `,"jti":"`...)
	payload = append(payload, rand.Text()...)
	payload = append(payload, '"')
	payload, err = i.appendCopies(payload, session, given)
	if err != nil {
		return nil, err
	}
	return append(i.appendGiven(payload, given), '}'), nil
}

// JWKS is the set to publish, see KeySet.JWKS.
func (i *Issuer) JWKS() []byte { return i.keys.Load().JWKS() }
