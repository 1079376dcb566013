package main

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"ferry/internal/config"
	"ferry/internal/doctor"
	"ferry/internal/tokens"
)

// tokenChecks look at the keys and claims of sync tokens. What config refuses is
// among the mistakes of the configuration.
func tokenChecks(cfg *config.Config) []doctor.Check {
	return []doctor.Check{
		{Code: "no-token-key", Severity: doctor.Note, Find: always(func() []doctor.Finding { return noTokenKey(cfg) })},
		{Code: "guessable-secret", Severity: doctor.Error, Find: always(func() []doctor.Finding { return guessable(cfg) })},
		{Code: "several-token-keys", Severity: doctor.Note, Find: always(func() []doctor.Finding { return severalKeys(cfg) })},
		{Code: "token-audience", Severity: doctor.Warning, Find: always(func() []doctor.Finding { return audience(cfg) })},
		{Code: "powersync-url-insecure", Severity: doctor.Warning, Find: always(func() []doctor.Finding { return insecure(cfg) })},
	}
}

func noTokenKey(cfg *config.Config) []doctor.Finding {
	if cfg.Token.Enabled() {
		return nil
	}
	return []doctor.Finding{{
		Problem: "There is no token key: ferry takes uploads, and /token answers 404.",
		Remedy:  "Make one, unless the PowerSync Service accepts the sessions themselves:", Run: "ferry keygen",
	}}
}

// guessable also looks at the secrets of sessions.
func guessable(cfg *config.Config) (findings []doctor.Finding) {
	const means = "looks made up, or is from an example: whoever guesses it can read and write as any user."
	keys, err := cfg.Token.KeySet()
	if err == nil {
		for _, id := range keys.Guessable() {
			findings = append(findings, doctor.Finding{
				Problem: fmt.Sprintf("The secret of token key %q %s", id, means),
				Remedy:  "Make a random one, and give it to the PowerSync Service as well:", Run: "ferry keygen",
			})
		}
	}
	for _, secret := range sessionSecrets(cfg) {
		if tokens.Guessable(secret) {
			findings = append(findings, doctor.Finding{
				Problem: "A secret of sessions " + means,
				Remedy:  "Make a random one, and sign the app's sessions with it:", Run: "openssl rand -hex 32",
			})
		}
	}
	return findings
}

func severalKeys(cfg *config.Config) []doctor.Finding {
	keys, err := cfg.Token.KeySet()
	if err != nil || len(keys.IDs()) < 2 {
		return nil
	}
	return []doctor.Finding{{
		Problem: fmt.Sprintf("There are several token keys (%s); %q signs. The PowerSync Service refuses tokens whose kid it does not know.", strings.Join(keys.IDs(), ", "), keys.ActiveID()),
		Remedy:  "Compare the service's client_auth with this; retire keys that are no longer in use (ferry keys list):", Run: "ferry keys export --powersync",
	}}
}

func audience(cfg *config.Config) []doctor.Finding {
	if !cfg.Token.Enabled() || cfg.PowerSyncURL == "" || slices.Contains(cfg.Token.Audience, cfg.PowerSyncURL) {
		return nil
	}
	return []doctor.Finding{{
		Problem: fmt.Sprintf("FERRY_TOKEN_AUDIENCE (%s) lacks FERRY_POWERSYNC_URL (%s): PowerSync Cloud refuses such tokens, and a self-hosted service does unless its client_auth.audience has one of them.",
			strings.Join(cfg.Token.Audience, ", "), cfg.PowerSyncURL),
		Remedy: "Leave FERRY_TOKEN_AUDIENCE out, or add the URL; ignore this where the service's client_auth.audience says otherwise:",
		Run:    "FERRY_TOKEN_AUDIENCE=" + strings.Join(append(slices.Clone(cfg.Token.Audience), cfg.PowerSyncURL), ","),
	}}
}

func insecure(cfg *config.Config) []doctor.Finding {
	u, err := url.Parse(cfg.PowerSyncURL)
	if err != nil || u.Scheme != "http" || config.IsLoopback(u.Hostname()) {
		return nil
	}
	return []doctor.Finding{{
		Problem: fmt.Sprintf("FERRY_POWERSYNC_URL is %s: tokens and data travel in the clear, and phones refuse to connect.", cfg.PowerSyncURL),
		Remedy:  "Put TLS in front of the PowerSync Service:", Run: "FERRY_POWERSYNC_URL=https://" + u.Host,
	}}
}
