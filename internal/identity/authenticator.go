package identity

import (
	"context"
	"errors"
	"fmt"

	"ferry/internal/fault"
)

// MaxSessionBytes is the longest session that is read at all. Web servers
// commonly end a header line at 8 KiB, so no honest session is longer.
const MaxSessionBytes = 16 << 10

// Credentials are what a request carries to say who sent it, free of HTTP
// types.
type Credentials struct {
	// Bearer is the text after "Authorization: Bearer ", or empty.
	Bearer string
}

// Authenticator finds out who is calling. Implementations are safe for
// concurrent use.
type Authenticator interface {
	// Authenticate returns the caller, or a [fault.Error]: InvalidSession
	// where the credentials are missing, forged, expired or meant for another
	// server. Its Detail never repeats a credential.
	Authenticate(ctx context.Context, c Credentials) (*Principal, error)
}

// errNotMine is the cause of a refusal that says nothing against the
// credentials but that this Authenticator cannot tell whose they are: there
// are none, or they are of another kind or signed with another key. A session
// that is recognised and refused, such as an expired one, has another cause.
var errNotMine = errors.New("not recognised")

// notMine refuses credentials that another Authenticator may yet accept.
func notMine(detail string) *fault.Error {
	return fault.Wrap(errNotMine, fault.InvalidSession, detail)
}

// bearer returns the Bearer token, or why there is none to look at.
func (c Credentials) bearer() (string, error) {
	switch {
	case c.Bearer == "":
		return "", notMine("no session: send the app's own session in the header `Authorization: Bearer <session>`")
	case len(c.Bearer) > MaxSessionBytes:
		return "", notMine(fmt.Sprintf("the session is over %d bytes", MaxSessionBytes))
	}
	return c.Bearer, nil
}

// Chain asks Authenticators in turn. The first that recognises the credentials
// decides, so that the user of an expired session reads that it has expired,
// and not what the next one thinks of it. Where none does, the answer is the
// first one's.
type Chain []Authenticator

var _ Authenticator = Chain(nil)

// Authenticate implements [Authenticator].
func (chain Chain) Authenticate(ctx context.Context, c Credentials) (*Principal, error) {
	var first error
	for _, a := range chain {
		p, err := a.Authenticate(ctx, c)
		if err == nil || !errors.Is(err, errNotMine) {
			return p, err
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		return nil, fault.New(fault.InvalidSession, "this server is not set up to accept any session")
	}
	return nil, first
}
