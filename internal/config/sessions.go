package config

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
)

// Where Supabase's own sessions come from, and whom they are for.
//
// Source: Supabase documentation, "JWT Claims Reference" and "JWT Signing Keys".
const (
	supabaseIssuerPath = "/auth/v1"
	supabaseJWKSPath   = "/.well-known/jwks.json" // below the issuer
	supabaseAudience   = "authenticated"
)

// signsIn is whether the environment gives any way of signing in.
func signsIn(env environment) bool {
	return slices.ContainsFunc([]string{
		"FERRY_SESSION_SECRET", "FERRY_SESSION_SECRET_TEXT", "FERRY_SESSION_JWKS_URL", "FERRY_SESSION_ISSUER",
		"FERRY_SESSION_ISSUERS", "FERRY_SUPABASE_URL", "FERRY_TRUSTED_HEADER",
	}, func(name string) bool { return env.given[name] }) || env.isOn("FERRY_ACCOUNTS")
}

// sessions returns who signs session JWTs: the list of FERRY_SESSION_ISSUERS,
// or the one issuer of the single variables.
func (s settings) sessions(env environment, p *problems) []SessionIssuer {
	single := slices.DeleteFunc([]string{
		"FERRY_SESSION_ISSUER", "FERRY_SESSION_AUDIENCE", "FERRY_SESSION_JWKS_URL",
		"FERRY_SESSION_SECRET", "FERRY_SESSION_SECRET_TEXT", "FERRY_SUPABASE_URL",
	}, func(name string) bool { return !env.given[name] })
	if env.given["FERRY_SESSION_ISSUERS"] {
		for _, name := range single {
			p.add(name, "set, and FERRY_SESSION_ISSUERS as well; put it into that list")
		}
		return s.SessionIssuers.list(string(s.SessionUserClaim))
	}
	if len(single) == 0 {
		return nil
	}
	return []SessionIssuer{s.singleIssuer(env, p)}
}

func (s settings) singleIssuer(env environment, p *problems) SessionIssuer {
	const encoded, raw, project = "FERRY_SESSION_SECRET", "FERRY_SESSION_SECRET_TEXT", "FERRY_SUPABASE_URL"
	one := SessionIssuer{
		Issuer:    string(s.SessionIssuer),
		Audience:  string(s.SessionAudience),
		JWKSURL:   string(s.SessionJWKSURL),
		UserClaim: string(s.SessionUserClaim),
	}
	switch {
	case env.given[encoded] && env.given[raw]:
		p.add(encoded, "set, and %s as well; keep the one that has the form of your key", raw)
	case env.given[encoded]:
		one.Secret = encodedSecret(encoded, raw, string(s.SessionSecret))
	case env.given[raw]:
		one.Secret = rawSecret(raw, encoded, string(s.SessionSecretText))
	}
	if env.given[project] {
		for _, name := range []string{"FERRY_SESSION_ISSUER", "FERRY_SESSION_AUDIENCE", "FERRY_SESSION_JWKS_URL"} {
			if env.given[name] {
				p.add(name, "set, and %s, which says the same, as well; unset one of them", project)
			}
		}
		one.Issuer = strings.TrimRight(string(s.SupabaseURL), "/") + supabaseIssuerPath
		one.Audience, one.JWKSURL = supabaseAudience, one.Issuer+supabaseJWKSPath
	}
	one.discover()
	if one.Discover && !isProviderURL(one.Issuer) {
		p.add("FERRY_SESSION_ISSUER", "no https URL, so it cannot tell where its keys are; set FERRY_SESSION_JWKS_URL, FERRY_SESSION_SECRET or FERRY_SESSION_SECRET_TEXT as well")
	}
	return one
}

// discover is how an issuer's keys are found where nothing says where they are.
func (i *SessionIssuer) discover() {
	i.Discover = i.Issuer != "" && i.JWKSURL == "" && i.Secret.Key.IsZero()
}

// warnOfSessions tells of settings that let in more people than is likely
// meant.
func (c *Config) warnOfSessions(env environment) {
	prefixes := map[string]bool{}
	for _, issuer := range c.Sessions {
		if publicKeys := issuer.JWKSURL != "" || issuer.Discover; publicKeys && issuer.Audience == "" {
			c.Warnings = append(c.Warnings, "FERRY_SESSION_AUDIENCE: not set, so that sessions which this issuer gave for other apps are accepted as well")
		}
		if issuer.JWKSURL != "" && issuer.Issuer == "" {
			c.Warnings = append(c.Warnings, "FERRY_SESSION_ISSUER: not set, so that everybody whose sessions are signed with the keys at FERRY_SESSION_JWKS_URL is let in; some providers use the same keys for all their customers")
		}
		if prefixes[issuer.UserPrefix] {
			c.Warnings = append(c.Warnings, "FERRY_SESSION_ISSUERS: two issuers have the same user_prefix, so that equal subjects of theirs are one user")
		}
		prefixes[issuer.UserPrefix] = true
	}
}

// issuerList is the JSON list of FERRY_SESSION_ISSUERS.
type issuerList []issuerEntry

// issuerEntry is one element. See docs/sessions.md.
type issuerEntry struct {
	Issuer     string   `json:"issuer"`
	Audience   string   `json:"audience"`
	JWKSURL    string   `json:"jwks_url"`
	Secret     string   `json:"secret"`
	SecretText string   `json:"secret_text"`
	UserClaim  string   `json:"user_claim"`
	UserPrefix string   `json:"user_prefix"`
	Algorithms []string `json:"algorithms"`
}

func (l *issuerList) UnmarshalText(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var list []issuerEntry
	// The decoder's own errors may repeat parts of a secret.
	if err := decoder.Decode(&list); err != nil || len(list) == 0 {
		return errors.New(`expected a JSON list such as [{"issuer": "https://auth.example.com", "audience": "my-app"}], with the members that docs/sessions.md names and no others`)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON list")
	}
	for n, entry := range list {
		if err := entry.check(); err != nil {
			return fmt.Errorf("element %d: %w", n+1, err)
		}
	}
	*l = list
	return nil
}

// sessionAlgorithms are all that sessions can be signed with.
var sessionAlgorithms = [...]string{"HS256", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"}

func (e issuerEntry) check() error {
	switch {
	case !isWord(e.Issuer):
		return errors.New(`"issuer" must be the iss of its sessions`)
	case !isWord(e.Audience):
		return errors.New(`"audience" must be the aud of its sessions, or those for other apps are accepted as well`)
	case e.Secret != "" && e.SecretText != "":
		return errors.New(`"secret" and "secret_text" exclude each other: keep the one that has the form of the key`)
	case e.JWKSURL != "" && !isProviderURL(e.JWKSURL):
		return errors.New(`"jwks_url" must be an https URL`)
	case e.JWKSURL == "" && e.Secret == "" && e.SecretText == "" && !isProviderURL(e.Issuer):
		return errors.New(`"issuer" is no https URL, so it cannot tell where its keys are: give "jwks_url", "secret" or "secret_text" as well`)
	case e.UserClaim != "" && claimPath(e.UserClaim) == nil:
		return errors.New(`"user_claim" must be a claim, such as sub or app_metadata.uid`)
	case e.UserPrefix != "" && !isWord(e.UserPrefix):
		return errors.New(`"user_prefix" must be text without spaces or control characters`)
	}
	if err := e.checkAlgorithms(); err != nil {
		return err
	}
	if e.Secret != "" {
		if err := checkKey(e.Secret); err != nil {
			return fmt.Errorf(`"secret": %w; where the key is given as plain text, call it "secret_text"`, err)
		}
	}
	if e.SecretText != "" && len(e.SecretText) < minKeyBytes {
		return fmt.Errorf(`"secret_text" has %d bytes, at least %d are needed`, len(e.SecretText), minKeyBytes)
	}
	return nil
}

func (e issuerEntry) checkAlgorithms() error {
	hasSecret := e.Secret != "" || e.SecretText != ""
	hasPublicKeys := e.JWKSURL != "" || !hasSecret // found by discovery
	for _, algorithm := range e.Algorithms {
		switch isHMAC := algorithm == "HS256"; {
		case !slices.Contains(sessionAlgorithms[:], algorithm):
			return fmt.Errorf(`"algorithms" may have %s`, strings.Join(sessionAlgorithms[:], ", "))
		case isHMAC && !hasSecret, !isHMAC && !hasPublicKeys:
			return errors.New(`"algorithms" has one that no key is given for: HS256 needs a secret, the others public keys`)
		}
	}
	return nil
}

func (l issuerList) list(userClaim string) []SessionIssuer {
	const variable = "FERRY_SESSION_ISSUERS"
	issuers := make([]SessionIssuer, len(l))
	for n, e := range l {
		i := SessionIssuer{
			Issuer: e.Issuer, Audience: e.Audience, JWKSURL: e.JWKSURL, UserClaim: userClaim,
			UserPrefix: e.UserPrefix, Algorithms: e.Algorithms,
		}
		if e.UserClaim != "" {
			i.UserClaim = e.UserClaim
		}
		switch {
		case e.Secret != "":
			i.Secret = encodedSecret(variable, "secret_text", e.Secret)
		case e.SecretText != "":
			i.Secret = rawSecret(variable, "secret", e.SecretText)
		}
		i.discover()
		issuers[n] = i
	}
	return issuers
}

// encodedSecret is a session secret that is given in base64url. The usual
// mistake is that the sessions are signed with its text.
func encodedSecret(variable, other, text string) SharedSecret {
	return SharedSecret{
		variable: variable,
		Key:      NewSecret(string(decodedKey(text))),
		Misread:  NewSecret(text),
		Advice:   "they are signed with the text itself and not with what it decodes to; give it as " + other + " instead",
	}
}

// rawSecret is one that is given as it is. The usual mistake is that it should
// have been decoded.
func rawSecret(variable, other, text string) SharedSecret {
	s := SharedSecret{
		variable: variable, Key: NewSecret(text),
		Advice: "they are signed with what the text decodes to and not with the text; give it in base64url as " + other + " instead",
	}
	urlAlphabet := strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	if decoded, err := base64.RawURLEncoding.DecodeString(urlAlphabet); err == nil {
		s.Misread = NewSecret(string(decoded))
	}
	return s
}

// providerURL is the URL of an identity provider's document.
type providerURL string

func (u *providerURL) UnmarshalText(text []byte) error {
	if !isProviderURL(string(text)) {
		return errors.New("expected an https URL without user or fragment, such as https://auth.example.com/jwks.json")
	}
	*u = providerURL(text)
	return nil
}

// isProviderURL allows http on this machine alone: on any other way somebody
// could put their own keys into the answer.
func isProviderURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && IsLoopback(u.Hostname())
}
