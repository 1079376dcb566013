// Package fetch gets the documents of identity providers: discovery documents
// and JWKS. It is apart from internal/identity so that what a caller is does
// not depend on how a document travels.
//
// It imports only the standard library, and golang.org/x/crypto/ocsp.
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxBytes is the largest document that is read.
	maxBytes = 1 << 20
	timeout  = 5 * time.Second
	// maxRedirects is how many redirects are followed.
	maxRedirects = 3
)

// Client fetches documents. Make one with [New].
type Client struct{ http *http.Client }

// New returns a client that trusts servers whose certificates lead to one of
// roots; nil stands for those of the system.
func New(roots *x509.CertPool) *Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{
		RootCAs:          roots,
		VerifyConnection: func(c tls.ConnectionState) error { return checkStaple(c, time.Now()) },
	}
	return &Client{&http.Client{
		Transport: transport,
		Timeout:   timeout,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("too many redirects")
			}
			return sameServer(via[0].URL, r.URL)
		},
	}}
}

// Get returns the document at an https URL, or an http one on this machine.
// It may take 5 s and have 1 MiB, and is not fetched from another server.
func (c *Client) Get(ctx context.Context, address string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the address is not a URL")
	}
	if err := check(u); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := c.http.Do(request)
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // it repeats where a redirect leads, with a password if there is one
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", u.Redacted(), err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", u.Redacted(), response.Status)
	}
	document, err := io.ReadAll(io.LimitReader(response.Body, maxBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", u.Redacted(), err)
	case len(document) > maxBytes:
		return nil, fmt.Errorf("%s has over %d bytes", u.Redacted(), maxBytes)
	}
	return document, nil
}

// check allows plain http to this machine alone: on any other way somebody
// could put their own keys into the answer.
func check(u *url.URL) error {
	switch {
	case u.Hostname() == "":
		return fmt.Errorf("%s names no host", u.Redacted())
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%s is not https", u.Redacted())
}

// sameServer keeps a redirect on the server that the operator has chosen: on
// any other it could be to what only this machine reaches.
func sameServer(from, to *url.URL) error {
	if to.Scheme != from.Scheme || to.Host != from.Host {
		return fmt.Errorf("it redirects to another server, %s: configure that address if it is right", to.Redacted())
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
