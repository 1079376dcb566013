package config

import (
	"crypto/hmac"
	"crypto/sha256"
)

// checkToken holds the rules between the variables of sync tokens.
func checkToken(env environment, p *problems) {
	const kid, secret, service = "FERRY_TOKEN_KID", "FERRY_TOKEN_SECRET", "FERRY_POWERSYNC_URL"
	switch {
	case env.given[kid] && !env.given[secret]:
		p.add(secret, "not set, though %s is; make both with: ferry keygen", kid)
	case env.given[secret] && !env.given[kid]:
		p.add(kid, "not set, though %s is; it must be the kid of that key in the PowerSync Service's configuration", secret)
	}
	if env.given[secret] && !env.given[service] {
		p.add(service, "not set, though there is a token key; clients need it to find the PowerSync Service, such as https://powersync.example.com")
	}
}

// checkSession holds the rules between the variables of sessions.
func checkSession(s settings, env environment, p *problems) {
	const encoded, raw = "FERRY_SESSION_SECRET", "FERRY_SESSION_SECRET_TEXT"
	name, session := encoded, s.SessionSecret.key()
	if env.given[raw] {
		name, session = raw, s.SessionSecretText.key()
	}
	switch {
	case env.given[encoded] && env.given[raw]:
		p.add(encoded, "set, and %s as well; keep the one that has the form of your key", raw)
	case sameKey(s.TokenSecret.key(), session):
		p.add(name, "the same key as FERRY_TOKEN_SECRET; whoever holds a sync token's key could sign in as anyone, so make another token key with: ferry keygen")
	}
}

// checkAccounts holds the rules between the variables of accounts: what is
// asked for must not be missing in silence.
func checkAccounts(s settings, env environment, p *problems) {
	const accounts, signUp, guests = "FERRY_ACCOUNTS", "FERRY_ACCOUNTS_SIGN_UP", "FERRY_ACCOUNTS_GUESTS"
	if s.Accounts {
		return
	}
	if env.given[signUp] && bool(s.AccountsSignUp) {
		p.add(signUp, "on, though accounts are not; set %s=true as well", accounts)
	}
	if bool(s.AccountsGuests) {
		p.add(guests, "on, though accounts are not; set %s=true as well", accounts)
	}
}

// key is a secret as its owner wrote it and as the bytes that sign.
type key struct {
	text  string
	bytes []byte
}

// sameKey says whether who knows one secret knows the other: both make the
// same signatures, or they are the same text, read in two ways. HMAC takes
// some different byte strings for the same key (RFC 2104 section 2), hence the
// comparison of signatures.
func sameKey(a, b key) bool {
	if len(a.bytes) == 0 || len(b.bytes) == 0 {
		return false
	}
	sign := func(bytes []byte) []byte {
		mac := hmac.New(sha256.New, bytes)
		mac.Write([]byte("ferry"))
		return mac.Sum(nil)
	}
	return hmac.Equal(sign(a.bytes), sign(b.bytes)) || hmac.Equal(sign([]byte(a.text)), sign([]byte(b.text)))
}
