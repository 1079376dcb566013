package httpapi

import (
	"net/http"
	"net/netip"

	"github.com/go-chi/chi/v5/middleware"
)

// behindProxies finds the last address in X-Forwarded-For that is no trusted
// proxy's.
func (s *server) behindProxies() func(http.Handler) http.Handler {
	networks := make([]string, len(s.TrustedProxies))
	for i, network := range s.TrustedProxies {
		networks[i] = network.String()
	}
	return middleware.ClientIPFromXFF(networks...)
}

// addressOf is the client's address, for limits and logs alone. It is not valid
// where trusted proxies did not say.
func (s *server) addressOf(r *http.Request) netip.Addr {
	if len(s.TrustedProxies) == 0 {
		return peer(r).Unmap().WithZone("")
	}
	return middleware.GetClientIPAddr(r.Context())
}

// peer is the address of the direct peer.
func peer(r *http.Request) netip.Addr {
	address, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return address.Addr()
}
