package fetch

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// party has a certificate and its key.
type party struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// certify makes a party whose certificate issuer signs, or it itself where that
// is nil.
func certify(t *testing.T, issuer *party, template x509.Certificate) *party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	template.NotBefore = time.Now().Add(-48 * time.Hour)
	template.BasicConstraintsValid = true
	made := &party{key: key}
	if issuer == nil {
		issuer = &party{&template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, issuer.certificate, key.Public(), issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	if made.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return made
}

// authority is a template for a certificate that certifies others.
func authority(name string) x509.Certificate {
	return x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
}

// A server that staples is held to what its issuer says of its certificate.
func TestRevokedCertificatesAreRefused(t *testing.T) {
	t.Parallel()
	const unverified = "cannot be verified: OCSP response: "
	now := time.Now().Truncate(time.Second)
	issuer := certify(t, nil, authority("issuer"))
	impostor := certify(t, nil, authority("issuer"))
	server := x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	provider := certify(t, issuer, server)
	trustedAsItIs := certify(t, nil, server)
	responder := x509.Certificate{SerialNumber: big.NewInt(3), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}
	delegate := certify(t, issuer, responder)
	notDelegate := certify(t, issuer, server)
	responder.NotAfter = now.Add(-time.Hour)
	pastDelegate := certify(t, issuer, responder)

	// respond makes a response of issuer, signed by somebody: a good and current
	// one of the provider's certificate, but for what change makes of it.
	respond := func(issuer, by *party, change func(*ocsp.Response)) []byte {
		t.Helper()
		template := ocsp.Response{
			Status: ocsp.Good, SerialNumber: server.SerialNumber,
			ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour),
		}
		if by != issuer {
			template.Certificate = by.certificate
		}
		if change != nil {
			change(&template)
		}
		response, err := ocsp.CreateResponse(issuer.certificate, by.certificate, template, by.key)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	good := respond(issuer, issuer, nil)
	cases := []struct {
		name    string
		server  *party
		staple  []byte
		problem string
	}{
		{"none", provider, nil, ""},
		{"good", provider, good, ""},
		{"good, of a delegate", provider, respond(issuer, delegate, nil), ""},
		{"good, with its issuer's certificate", provider, respond(issuer, issuer, func(r *ocsp.Response) { r.Certificate = issuer.certificate }), ""},
		{"good, of a certificate that is trusted as it is", trustedAsItIs, respond(trustedAsItIs, trustedAsItIs, nil), ""},
		{"revoked", provider, respond(issuer, issuer, func(r *ocsp.Response) {
			r.Status, r.RevokedAt = ocsp.Revoked, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		}), "the server's certificate was revoked at 2026-01-02T03:04:05Z: it needs another one"},
		{"unknown", provider, respond(issuer, issuer, func(r *ocsp.Response) { r.Status = ocsp.Unknown }), "does not know it"},
		{"forged", provider, respond(impostor, impostor, nil), unverified + "bad OCSP signature"},
		{"forged, with a delegate of the forger's", provider, respond(impostor, certify(t, impostor, responder), nil), unverified + "bad OCSP signature"},
		{"of another customer of the issuer", provider, respond(issuer, notDelegate, nil), unverified + "the certificate that signed it is not for OCSP"},
		{"of a delegate whose time is over", provider, respond(issuer, pastDelegate, nil), unverified + "the certificate that signed it has expired"},
		{"of another certificate", provider, respond(issuer, issuer, func(r *ocsp.Response) { r.SerialNumber = big.NewInt(9) }), unverified + "no response matching"},
		{"signed with SHA-1", provider, respond(issuer, issuer, func(r *ocsp.Response) { r.SignatureAlgorithm = x509.ECDSAWithSHA1 }), unverified + "it is signed with SHA-1"},
		{"out of date", provider, respond(issuer, issuer, func(r *ocsp.Response) { r.NextUpdate = now.Add(-time.Second) }), "was for 20"},
		{"without an end", provider, respond(issuer, issuer, func(r *ocsp.Response) { r.NextUpdate = time.Time{} }), "was for 20"},
		{"from the future", provider, respond(issuer, issuer, func(r *ocsp.Response) { r.ThisUpdate = now.Add(time.Hour) }), "was for 20"},
		{"cut off", provider, good[:len(good)-1], unverified},
		{"none of a responder", provider, ocsp.UnauthorizedErrorResponse, unverified},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("document")) }))
			s.TLS = &tls.Config{Certificates: []tls.Certificate{{
				Certificate: [][]byte{c.server.certificate.Raw}, PrivateKey: c.server.key, OCSPStaple: c.staple,
			}}}
			s.StartTLS()
			roots := x509.NewCertPool()
			roots.AddCert(issuer.certificate)
			roots.AddCert(trustedAsItIs.certificate)
			client := New(roots)
			t.Cleanup(func() { client.http.CloseIdleConnections(); s.Close() })
			document, err := client.Get(t.Context(), s.URL)
			if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("error %v, want %q", err, c.problem)
			}
			if got := string(document); got != "" && err != nil || got != "document" && err == nil {
				t.Errorf("document %q, error %v", got, err)
			}
		})
	}
}
