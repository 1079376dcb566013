package identity

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTrustedHeader(t *testing.T) {
	t.Parallel()
	header := TrustedHeader{Name: "X-User", From: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")}}
	const (
		proxy     = "10.1.2.3"
		nobody    = "no session: the authenticating proxy named no user"
		untrusted = "this server does not believe the header X-User from this address"
		several   = "the header X-User names more than one user"
		noUser    = "the header X-User names no user: the user id "
	)
	cases := []struct {
		name, peer string
		values     []string
		user       string
		detail     string
	}{
		{name: "from a proxy", peer: proxy, values: []string{"u1"}, user: "u1"},
		{name: "over IPv6", peer: "fd00::1", values: []string{"u1"}, user: "u1"},
		{name: "over IPv6 with a zone", peer: "fd00::1%eth0", values: []string{"u1"}, user: "u1"},
		{name: "an IPv4 address as an IPv6 one", peer: "::ffff:10.1.2.3", values: []string{"u1"}, user: "u1"},
		{name: "unicode and quotes", peer: proxy, values: []string{`Zoë "1"`}, user: `Zoë "1"`},
		{name: "from elsewhere", peer: "10.2.0.1", values: []string{"u1"}, detail: untrusted},
		{name: "from this machine", peer: "127.0.0.1", values: []string{"u1"}, detail: untrusted},
		{name: "from nowhere", peer: "", values: []string{"u1"}, detail: untrusted},
		{name: "twice", peer: proxy, values: []string{"u1", "u2"}, detail: several},
		{name: "twice the same", peer: proxy, values: []string{"u1", "u1"}, detail: several},
		{name: "twice, joined on the way", peer: proxy, values: []string{"u1, u2"}, detail: several},
		{name: "twice, once empty", peer: proxy, values: []string{"", "u2"}, detail: several},
		{name: "not there", peer: proxy, detail: nobody},
		{name: "empty", peer: proxy, values: []string{""}, detail: nobody},
		{name: "too long", peer: proxy, values: []string{strings.Repeat("u", MaxUserIDBytes+1)}, detail: noUser + "is over 1024 bytes"},
		{name: "a control character", peer: proxy, values: []string{"u\x001"}, detail: noUser + "holds a control character"},
		{name: "not UTF-8", peer: proxy, values: []string{"\xff"}, detail: noUser + "is not valid UTF-8"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			peer, _ := netip.ParseAddr(c.peer)
			p, err := header.Authenticate(t.Context(), Credentials{Peer: peer, Header: func(name string) []string {
				if name != "X-User" {
					return nil
				}
				return c.values
			}})
			if c.detail != "" {
				requireRefusal(t, p, err, strings.Join(c.values, ""), c.detail)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			claims, err := json.Marshal(map[string]string{"sub": c.user})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&Principal{UserID: c.user, Claims: claims}, p); diff != "" {
				t.Errorf("principal (-want +got):\n%s", diff)
			}
		})
	}
}
