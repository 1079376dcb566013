package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"ferry/internal/config"
	"ferry/internal/doctor"
	"ferry/internal/identity/fetch"
)

// sessionChecks ask the identity providers for their keys, as serving does.
func sessionChecks(cfg *config.Config) []doctor.Check {
	p := issuerKeys{issuers: cfg.Sessions}
	return []doctor.Check{
		{Code: "session-keys", Severity: doctor.Error, Find: p.unavailable},
		{Code: "session-keys-skipped", Severity: doctor.Note, Find: p.skippedKeys},
	}
}

type issuerKeys struct {
	issuers []config.SessionIssuer
	skipped []doctor.Finding // found on the way
}

func (p *issuerKeys) unavailable(ctx context.Context) (findings []doctor.Finding, _ error) {
	documents := fetch.New(nil)
	for _, i := range p.issuers {
		keys := providerKeys(i, documents.Get, slog.New(slog.DiscardHandler))
		if keys == nil {
			continue
		}
		usable, skipped, err := keys.Look(ctx)
		if err != nil {
			findings = append(findings, doctor.Finding{
				Problem: fmt.Sprintf("The keys of the sessions' issuer %s cannot be used: %s. Its users cannot sign in.", nameOf(i), withoutQuery(err.Error(), i.JWKSURL)),
				Remedy:  "Check the address (a trailing slash counts), and that this machine reaches it:", Run: "curl -sS '" + addressOf(i) + "'",
			})
		}
		if err == nil && skipped > 0 {
			p.skipped = append(p.skipped, doctor.Finding{
				Problem: fmt.Sprintf("Of the keys of the sessions' issuer %s, %d can verify sessions and %d cannot: they are for encryption, symmetric, too short, or of an unknown kind.", nameOf(i), usable, skipped),
				Remedy:  "Nothing, unless sessions are refused that are signed with one of these.",
			})
		}
	}
	return findings, nil
}

func (p *issuerKeys) skippedKeys(context.Context) ([]doctor.Finding, error) { return p.skipped, nil }

// addressOf is where the first document is.
func addressOf(i config.SessionIssuer) string {
	if i.JWKSURL != "" {
		return withoutQuery(i.JWKSURL, i.JWKSURL)
	}
	return strings.TrimSuffix(i.Issuer, "/") + "/.well-known/openid-configuration"
}

func nameOf(i config.SessionIssuer) string {
	if i.Issuer != "" {
		return i.Issuer
	}
	return addressOf(i)
}

// withoutQuery leaves an address's query out of a text: it may have a key.
func withoutQuery(text, address string) string {
	u, err := url.Parse(address)
	if err != nil || u.RawQuery == "" {
		return text
	}
	return strings.ReplaceAll(text, u.RawQuery, "…")
}
