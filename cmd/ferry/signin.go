package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"ferry/internal/config"
	"ferry/internal/identity"
	"ferry/internal/identity/fetch"
	"ferry/internal/postgres"
	"ferry/internal/tokens"
)

// signIn sets up the ways of signing in, and the denylist in front of them all.
// issuer is nil where ferry runs without a token key.
func (a *api) signIn(cfg *config.Config, store *postgres.Store, issuer *tokens.Issuer, log *slog.Logger) error {
	denylist := identity.NewDenylist(store, log, time.Now)
	a.background = append(a.background, denylist.Run)
	a.Allowed = denylist.Check
	var sessions identity.Chain
	if cfg.Proxy.UserHeader != "" {
		sessions = append(sessions, identity.TrustedHeader{Name: cfg.Proxy.UserHeader, From: cfg.Proxy.UserFrom})
	}
	if len(cfg.Sessions) > 0 {
		jwt, err := newSessionJWT(cfg, issuer, fetch.New(nil).Get, log)
		if err != nil {
			return fmt.Errorf("sessions: %w", err)
		}
		sessions = append(sessions, jwt)
		a.background = append(a.background, jwt.Run)
	}
	if cfg.Accounts.Enabled {
		options := identity.AccountOptions{
			Store: &postgres.Accounts{
				Store:    store,
				Lifetime: identity.SessionLifetime{Idle: cfg.Accounts.SessionIdle, Max: cfg.Accounts.SessionMax},
			},
			Denylist: denylist, SignUp: cfg.Accounts.SignUp, Guests: cfg.Accounts.Guests, Now: time.Now,
		}
		if issuer != nil {
			options.IsSyncToken = issuer.Signed
		}
		accounts := identity.NewAccounts(options)
		a.Accounts, a.AccountSessions = accounts, denylist.Guard(accounts)
		sessions = append(sessions, accounts)
	}
	a.Sessions, a.Uploaders = denylist.Guard(sessions), denylist.Guard(sessions)
	if issuer != nil && cfg.Upload.AcceptsSyncToken {
		syncToken := identity.SyncToken(func(_ context.Context, token string) (json.RawMessage, error) {
			return issuer.Verify(token)
		})
		a.Uploaders = denylist.Guard(append(sessions[:len(sessions):len(sessions)], syncToken))
	}
	return nil
}

func newSessionJWT(cfg *config.Config, issuer *tokens.Issuer, get identity.Fetch, log *slog.Logger) (*identity.SessionJWT, error) {
	options := identity.SessionJWTOptions{Log: log, Now: time.Now}
	if issuer != nil {
		options.IsSyncToken = issuer.Signed
	}
	for _, i := range cfg.Sessions {
		one := identity.SessionIssuer{
			Issuer: i.Issuer, Audience: i.Audience, Algorithms: i.Algorithms,
			UserClaim: i.UserClaim, UserPrefix: i.UserPrefix,
		}
		if !i.Secret.Key.IsZero() {
			one.Secret = []byte(i.Secret.Key.Reveal())
		}
		if !i.Secret.Misread.IsZero() {
			one.Misreadings = []identity.Misreading{{Secret: []byte(i.Secret.Misread.Reveal()), Advice: i.Secret.Advice}}
		}
		one.Keys = providerKeys(i, get, log)
		options.Issuers = append(options.Issuers, one)
	}
	return identity.NewSessionJWT(options)
}

// providerKeys returns nil where an issuer has a secret alone.
func providerKeys(i config.SessionIssuer, get identity.Fetch, log *slog.Logger) *identity.ProviderKeys {
	if i.JWKSURL == "" && !i.Discover {
		return nil
	}
	return identity.NewProviderKeys(identity.ProviderKeysOptions{
		JWKSURL: i.JWKSURL, Issuer: i.Issuer, Fetch: get, Log: log, Now: time.Now,
	})
}
