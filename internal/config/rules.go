package config

import (
	"net/netip"
	"slices"
	"strings"

	"ferry/internal/tokens"
)

// tokenKeys is instead of the variables of a single key.
const tokenKeys = "FERRY_TOKEN_KEYS"

// checkToken holds the rules between the variables of sync tokens.
func checkToken(s settings, env environment, p *problems) {
	const kid, secret, service = "FERRY_TOKEN_KID", "FERRY_TOKEN_SECRET", "FERRY_POWERSYNC_URL"
	editing := env.unread == tokenKeys
	switch {
	case env.given[tokenKeys] && env.given[secret] && !editing:
		p.add(tokenKeys, "set, and %s as well; to keep using that key, put it into the set with: ferry keys add --from-env, and unset %[1]s", secret)
	case s.TokenKeys != "":
		checkKeySet(s, p)
	case env.given[tokenKeys]: // its file is not read, or cannot be
	case env.given[kid] && !env.given[secret]:
		p.add(secret, "not set, though %s is; make both with: ferry keygen", kid)
	case env.given[secret] && !env.given[kid]:
		p.add(kid, "not set, though %s is; it must be the kid of that key in the PowerSync Service's configuration", secret)
	}
	if (env.given[secret] || env.given[tokenKeys]) && !editing && !env.given[service] {
		p.add(service, "not set, though there is a token key; clients need it to find the PowerSync Service, such as https://powersync.example.com")
	}
}

// checkKeySet repeats of the set only the kids of its keys.
func checkKeySet(s settings, p *problems) {
	if _, err := tokens.ParseKeySet([]byte(s.TokenKeys), string(s.TokenKID)); err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			p.add(tokenKeys, "%s", line)
		}
	}
}

// checkSecrets refuses a session secret that is a token key as well.
func checkSecrets(c *Config, p *problems) {
	keys, err := c.Token.KeySet()
	if err != nil {
		return // there is none, or it is reported already
	}
	for _, issuer := range c.Sessions {
		if kid, shared := keys.SharedWith([]byte(issuer.Secret.Key.Reveal())); shared {
			p.add(issuer.Secret.variable, "the same key as token key %q; whoever holds a sync token's key could sign in as anyone, so make another token key with: ferry keygen, or ferry keys add", kid)
		}
	}
}

// checkProxy holds the rules between the variables of proxies.
func checkProxy(s settings, env environment, p *problems) {
	const header, from = "FERRY_TRUSTED_HEADER", "FERRY_TRUSTED_HEADER_FROM"
	switch {
	case env.given[header] && !env.given[from]:
		p.add(from, "not set, though %s is; give the networks of the authenticating proxy, or everybody could sign in as anyone", header)
	case env.given[from] && !env.given[header]:
		p.add(header, "not set, though %s is; give the header in which the authenticating proxy names the user", from)
	case slices.ContainsFunc(s.TrustedHeaderFrom, func(n netip.Prefix) bool { return n.Bits() == 0 }):
		p.add(from, "has a network of all addresses, from which everybody could sign in as anyone; give those of the authenticating proxy")
	}
}

// checkAccounts holds the rules between the variables of accounts: what is
// asked for must not be missing in silence.
func checkAccounts(s settings, env environment, p *problems) {
	const accounts, signUp, guests = "FERRY_ACCOUNTS", "FERRY_ACCOUNTS_SIGN_UP", "FERRY_ACCOUNTS_GUESTS"
	const idle, longest = "FERRY_ACCOUNTS_SESSION_IDLE", "FERRY_ACCOUNTS_SESSION_MAX"
	if env.given[idle] && s.AccountsMax > 0 && s.AccountsIdle > s.AccountsMax {
		p.add(idle, "longer than %s, so that no session would end by it; give less, or raise %[1]s", longest)
	}
	if s.Accounts {
		return
	}
	for _, name := range []string{idle, longest} {
		if env.given[name] {
			p.add(name, "set, though accounts are not on; set %s=true as well; the lifetime of session JWTs is their issuer's", accounts)
		}
	}
	if env.given[signUp] && bool(s.AccountsSignUp) {
		p.add(signUp, "on, though accounts are not; set %s=true as well", accounts)
	}
	if bool(s.AccountsGuests) {
		p.add(guests, "on, though accounts are not; set %s=true as well", accounts)
	}
}
