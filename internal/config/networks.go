package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// networks is a comma list of networks, or of single addresses.
type networks []netip.Prefix

func (n *networks) UnmarshalText(text []byte) error {
	list, err := splitList(string(text))
	if err != nil {
		return err
	}
	for i, entry := range list {
		prefix, err := netip.ParsePrefix(entry)
		if err != nil {
			var address netip.Addr
			if address, err = netip.ParseAddr(entry); err == nil {
				prefix, err = address.Prefix(address.BitLen())
			}
		}
		if err != nil || prefix.Addr().Is4In6() {
			return fmt.Errorf("entry %d is not a network or an address, such as 10.0.0.0/8 or 127.0.0.1", i+1)
		}
		*n = append(*n, prefix.Masked())
	}
	return nil
}

// headerName is the name of a request header (RFC 9110, section 5.1).
type headerName string

func (h *headerName) UnmarshalText(text []byte) error {
	isToken := strings.Trim(string(text), base64Letters+"!#$%&'*+-.^_`|~") == ""
	if !isToken || strings.EqualFold(string(text), "Authorization") {
		return errors.New("expected the name of a header, such as X-Forwarded-User, and not Authorization")
	}
	*h = headerName(text)
	return nil
}

// IsLoopback says whether a host name or address is this machine's own.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
