package httpapi

import (
	"net/http"
	"net/netip"
)

// clientAddress is where a request comes from, for limits: the peer of the
// connection. The zero address stands for one that cannot be told, such as
// over a Unix socket.
func clientAddress(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr()
}
