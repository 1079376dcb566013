package httpapi

import (
	"net/http"
	"net/netip"

	"github.com/go-chi/chi/v5/middleware"
)

// clientAddress finds the client's address, for limits and logs alone: behind
// trusted proxies the last one in X-Forwarded-For that is none of theirs.
func (s *server) clientAddress() func(http.Handler) http.Handler {
	if len(s.TrustedProxies) == 0 {
		return middleware.ClientIPFromRemoteAddr
	}
	networks := make([]string, len(s.TrustedProxies))
	for i, network := range s.TrustedProxies {
		networks[i] = network.String()
	}
	return middleware.ClientIPFromXFF(networks...)
}

// addressOf is the client's address. It is not valid where the proxies did not
// say.
func addressOf(r *http.Request) netip.Addr { return middleware.GetClientIPAddr(r.Context()) }

// peer is the address of the direct peer.
func peer(r *http.Request) netip.Addr {
	address, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return address.Addr()
}
