package identity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"ferry/internal/fault"
)

// MaxSessionBytes is the longest session that is read at all. Web servers
// commonly end a header line at 8 KiB, so no honest session is longer.
const MaxSessionBytes = 16 << 10

// Credentials are what a request carries to say who sent it, free of HTTP
// types.
type Credentials struct {
	// Authorization has the values of the headers of that name.
	Authorization []string
	// Peer is the address of the direct peer, never a forwarded one.
	Peer netip.Addr
	// Header returns all values of a header of the request. nil stands for a
	// request without headers.
	Header func(name string) []string
}

func (c Credentials) header(name string) []string {
	if c.Header == nil {
		return nil
	}
	return c.Header(name)
}

// Authenticator finds out who is calling. Implementations are safe for
// concurrent use.
type Authenticator interface {
	// Authenticate returns the caller, or a [fault.Error]: InvalidSession
	// where the credentials are missing, forged, expired or meant for another
	// server; Unavailable where that cannot be told right now. Its Detail never
	// repeats a credential.
	Authenticate(ctx context.Context, c Credentials) (*Principal, error)
}

// errNotMine is the cause of a refusal that says nothing against the
// credentials but that this Authenticator cannot tell whose they are: there
// are none, or they are of another kind or signed with another key. A session
// that is recognised and refused, such as an expired one, has another cause.
var errNotMine = errors.New("not recognised")

// errNothing is errNotMine where the request has nothing of the kind that this
// Authenticator looks at.
var errNothing = fmt.Errorf("%w: nothing to look at", errNotMine)

// notMine refuses credentials that another Authenticator may yet accept.
func notMine(detail string) *fault.Error {
	return fault.Wrap(errNotMine, fault.InvalidSession, detail)
}

// nothing is notMine of an Authenticator that found nothing to look at.
func nothing(detail string) *fault.Error {
	return fault.Wrap(errNothing, fault.InvalidSession, detail)
}

// bearer returns the Bearer token, or why there is none to look at. Two headers
// may have been joined with a comma on the way (RFC 9110, section 5.3), which no
// Bearer token has in it (RFC 6750, section 2.1).
func (c Credentials) bearer() (string, error) {
	header := strings.Join(c.Authorization, ",")
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	switch {
	case strings.Contains(header, ","):
		return "", notMine("the request has more than one Authorization header")
	case header != "" && !strings.EqualFold(scheme, "Bearer"): // schemes have no case: RFC 9110, section 11.1
		return "", notMine("send the session as Authorization: Bearer <session>")
	case token == "":
		return "", nothing("no session: send the app's own session in the header `Authorization: Bearer <session>`")
	case len(token) > MaxSessionBytes:
		return "", notMine(fmt.Sprintf("the session is over %d bytes", MaxSessionBytes))
	}
	return token, nil
}

// Chain asks Authenticators in turn. The first that recognises the credentials
// decides, so that the user of an expired session reads that it has expired,
// and not what the next one thinks of it. Where none does, the answer is that
// of the first one that found something to look at.
type Chain []Authenticator

var _ Authenticator = Chain(nil)

// Authenticate implements [Authenticator].
func (chain Chain) Authenticate(ctx context.Context, c Credentials) (*Principal, error) {
	var answer error
	for _, a := range chain {
		p, err := a.Authenticate(ctx, c)
		if err == nil || !errors.Is(err, errNotMine) {
			return p, err
		}
		if answer == nil || (errors.Is(answer, errNothing) && !errors.Is(err, errNothing)) {
			answer = err
		}
	}
	if answer == nil {
		return nil, fault.New(fault.InvalidSession, "this server is not set up to accept any session")
	}
	return nil, answer
}
