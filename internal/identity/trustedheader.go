package identity

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"

	"ferry/internal/fault"
)

// TrustedHeader accepts the user whom an authenticating proxy names in a
// header. The direct peer decides whether the header is believed, never a
// forwarded address, which anybody can claim.
type TrustedHeader struct {
	// Name is the header's.
	Name string
	// From are the networks of the proxies. At least one.
	From []netip.Prefix
}

var _ Authenticator = TrustedHeader{}

// Authenticate implements [Authenticator].
func (h TrustedHeader) Authenticate(_ context.Context, c Credentials) (*Principal, error) {
	values := c.header(h.Name)
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return nil, nothing("no session: the authenticating proxy named no user")
	}
	if !h.trusts(c.Peer) {
		return nil, notMine("this server does not believe the header " + h.Name + " from this address")
	}
	// A comma may have joined a forged header with the proxy's own on the way
	// (RFC 9110, section 5.3).
	if len(values) > 1 || strings.Contains(values[0], ",") {
		return nil, fault.New(fault.InvalidSession, "the header %s names more than one user", h.Name)
	}
	p, err := headerPrincipal(values[0])
	if err != nil {
		return nil, fault.New(fault.InvalidSession, "the header %s names no user: the user id %v", h.Name, err)
	}
	return p, nil
}

func headerPrincipal(userID string) (*Principal, error) {
	if err := CheckUserID(userID); err != nil {
		return nil, err
	}
	claims, err := json.Marshal(map[string]string{"sub": userID})
	if err != nil {
		return nil, errors.New("cannot be written as JSON")
	}
	return &Principal{UserID: userID, Claims: claims}, nil
}

func (h TrustedHeader) trusts(peer netip.Addr) bool {
	// An IPv4 address may come as an IPv6 one, and with the name of a network
	// interface; a network holds neither.
	peer = peer.Unmap().WithZone("")
	for _, network := range h.From {
		if network.Contains(peer) {
			return true
		}
	}
	return false
}
