package fetch

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// checkStaple refuses a server whose certificate is revoked, as far as the
// server itself tells: by the OCSP response that it staples to its certificate
// (RFC 6066, section 8). It must be a current one of the certificate's issuer.
// Nothing is asked where none is stapled: neither the issuer's responder, for
// which the fetch would have to wait, nor its list of revocations. The chain
// must be verified.
func checkStaple(c tls.ConnectionState, now time.Time) error {
	if len(c.OCSPResponse) == 0 {
		return nil
	}
	chain := c.VerifiedChains[0]
	issuer := chain[min(1, len(chain)-1)] // the certificate itself where it is trusted as it is
	response, err := ocsp.ParseResponseForCert(c.OCSPResponse, chain[0], issuer)
	if err == nil {
		err = checkSigner(response, issuer, now)
	}
	switch {
	case err != nil:
		return fmt.Errorf("the server's proof that its certificate is not revoked cannot be verified: OCSP response: %w", err)
	case response.Status == ocsp.Revoked:
		return fmt.Errorf("the server's certificate was revoked at %s: it needs another one", response.RevokedAt.UTC().Format(time.RFC3339))
	case response.Status != ocsp.Good:
		return errors.New("the issuer of the server's certificate does not know it: it needs another one")
	case now.Before(response.ThisUpdate), now.After(response.NextUpdate): // which must be there: RFC 5019, section 2.2.4
		return fmt.Errorf("the server's proof that its certificate is not revoked was for %s to %s: check its clock and this machine's",
			response.ThisUpdate.UTC().Format(time.RFC3339), response.NextUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkSigner is what the parser of responses leaves to its callers. Whom the
// issuer has sign in its place needs a certificate for that very purpose, or
// whoever has any certificate of the issuer's could (RFC 6960, section 4.2.2.2).
func checkSigner(response *ocsp.Response, issuer *x509.Certificate, now time.Time) error {
	if slices.Contains([]x509.SignatureAlgorithm{x509.SHA1WithRSA, x509.ECDSAWithSHA1}, response.SignatureAlgorithm) {
		return errors.New("it is signed with SHA-1")
	}
	signer := response.Certificate
	switch {
	case signer == nil, signer.Equal(issuer):
		return nil
	case !slices.Contains(signer.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return errors.New("the certificate that signed it is not for OCSP")
	case now.Before(signer.NotBefore), now.After(signer.NotAfter):
		return errors.New("the certificate that signed it has expired, or is not valid yet")
	}
	return signer.CheckSignatureFrom(issuer)
}
