package config

import (
	"crypto/hmac"
	"crypto/sha256"
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

// checkSecrets refuses a session secret that is the token key as well.
func checkSecrets(s settings, sessions []SessionIssuer, p *problems) {
	for _, issuer := range sessions {
		if sameKey(s.TokenSecret.key(), issuer.Secret.key()) {
			p.add(issuer.Secret.variable, "the same key as FERRY_TOKEN_SECRET; whoever holds a sync token's key could sign in as anyone, so make another token key with: ferry keygen")
		}
	}
}

// checkProxy holds the rules between the variables of proxies.
func checkProxy(env environment, p *problems) {
	const header, from = "FERRY_TRUSTED_HEADER", "FERRY_TRUSTED_HEADER_FROM"
	switch {
	case env.given[header] && !env.given[from]:
		p.add(from, "not set, though %s is; give the networks of the authenticating proxy, or everybody could sign in as anyone", header)
	case env.given[from] && !env.given[header]:
		p.add(header, "not set, though %s is; give the header in which the authenticating proxy names the user", from)
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
