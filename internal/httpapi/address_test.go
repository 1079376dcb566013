package httpapi

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/identity"
)

// The address in the log is the client's own, and whatever it claims in a
// header counts only where a trusted proxy stands in between.
func TestClientAddress(t *testing.T) {
	t.Parallel()
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	cases := []struct {
		name    string
		proxies []netip.Prefix
		headers []string
		want    string
	}{
		{"nobody is trusted", nil, []string{"192.0.2.1"}, "127.0.0.1"},
		{"another is trusted", loopback[1:], []string{"192.0.2.1"}, "127.0.0.1"},
		{"the proxy says", loopback, []string{"192.0.2.1"}, "192.0.2.1"},
		{"two proxies say", loopback, []string{"192.0.2.1, 10.1.1.1"}, "192.0.2.1"},
		{"the client made one up", loopback, []string{"203.0.113.9, 192.0.2.1"}, "192.0.2.1"},
		{"the client made up a header", loopback, []string{"203.0.113.9", "192.0.2.1"}, "192.0.2.1"},
		{"the proxy says nonsense", loopback, []string{"nonsense"}, "invalid IP"},
		{"the proxy says nothing", loopback, nil, "invalid IP"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := setup(t, func(a *api) { a.options.TrustedProxies = c.proxies })
			a.do(t, "GET", "/healthz", nil, header("X-Forwarded-For", c.headers...))
			if diff := cmp.Diff(c.want, a.records(t)[0]["address"]); diff != "" {
				t.Errorf("address (-want +got):\n%s", diff)
			}
		})
	}
}

// A forwarded address is never that of the peer who may name the user.
func TestATrustedHeaderIsBelievedByTheDirectPeerAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, from string
		status     int
	}{
		{"the peer", "127.0.0.1/32", http.StatusOK},
		{"an address that the peer claims to forward", "192.0.2.1/32", http.StatusUnauthorized},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := setup(t, func(a *api) {
				a.options.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
				a.options.Sessions = identity.TrustedHeader{Name: "X-User", From: []netip.Prefix{netip.MustParsePrefix(c.from)}}
			})
			got := a.do(t, "GET", "/token", nil, header("X-User", alice), header("X-Forwarded-For", "192.0.2.1"))
			if got.status != c.status {
				t.Errorf("status %d, want %d: %s", got.status, c.status, got.body)
			}
			if got.status == http.StatusOK {
				a.secrets = append(a.secrets, tokenOf(t, got))
			}
		})
	}
}
