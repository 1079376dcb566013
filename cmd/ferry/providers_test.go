package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"ferry/internal/config"
	"ferry/internal/fault"
	"ferry/internal/identity"
)

// provider is a row of the worked settings in docs/sessions.md, and what its
// provider serves and signs as the provider's own documentation has it.
type provider struct {
	// name is the row's, and stands for what is capitalised in its settings.
	name     string
	stands   []string // old, new, …
	settings map[string]string
	// documents are served by URL; a JWKS is one of the text "keys".
	documents map[string]string
	alg       string // of the published key
	header    string // of its sessions
	sessions  []sampleSession
}

// sampleSession is the payload of a session, without its times.
type sampleSession struct {
	name, payload string
	user          string // "" where the session is refused
	refusal       string
	secret        string // signs it with HS256 instead
}

// Sources: Supabase "JWT Claims Reference" and "JWT Signing Keys"; Auth0 "Access
// Token Profiles" and "JSON Web Key Sets"; Firebase "Verify ID Tokens"; Clerk
// "Session tokens"; Keycloak "Server Administration Guide", protocol mappers, and
// "Securing applications", endpoints; Amazon Cognito "Understanding the identity
// (ID) token", "Understanding the access token" and "Verifying JSON web tokens".
func providers() []provider {
	const (
		wrongAudience = "the session is for another audience (aud) than this server's"
		wrongIssuer   = "the session is from another issuer (iss) than this server accepts"
		legacySecret  = "super-secret-jwt-token-with-at-least-32-characters-long"
	)
	return []provider{
		{
			name: "Supabase",
			settings: map[string]string{
				"FERRY_SUPABASE_URL": "https://abcdefgh.supabase.co", "FERRY_SESSION_SECRET_TEXT": legacySecret,
			},
			documents: map[string]string{"https://abcdefgh.supabase.co/auth/v1/.well-known/jwks.json": "keys"},
			alg:       "ES256", header: `{"alg":"ES256","kid":"k1","typ":"JWT"}`,
			sessions: []sampleSession{
				{
					name: "a session",
					payload: `"iss":"https://abcdefgh.supabase.co/auth/v1","sub":"6f1c8a52-4c3e-4e57-9bf3-1f6d3a4c9a11","aud":"authenticated","email":"a@example.com","phone":"",` +
						`"app_metadata":{"provider":"email","providers":["email"]},"user_metadata":{},"role":"authenticated","aal":"aal1",` +
						`"amr":[{"method":"password","timestamp":1}],"session_id":"c5a0ee0c-6a64-4a2e-9a0e-6f3f8f6f2a55","is_anonymous":false`,
					user: "6f1c8a52-4c3e-4e57-9bf3-1f6d3a4c9a11",
				},
				{
					name: "one that the JWT secret signed", secret: legacySecret,
					payload: `"iss":"https://abcdefgh.supabase.co/auth/v1","sub":"6f1c8a52-4c3e-4e57-9bf3-1f6d3a4c9a11","aud":"authenticated","role":"authenticated"`,
					user:    "6f1c8a52-4c3e-4e57-9bf3-1f6d3a4c9a11",
				},
				{name: "the anon key, which is no session", secret: legacySecret, payload: `"iss":"supabase","ref":"abcdefgh","role":"anon"`, refusal: wrongIssuer},
			},
		},
		{
			name: "Auth0", stands: []string{"TENANT", "tenant"},
			settings: map[string]string{"FERRY_SESSION_ISSUER": "https://tenant.eu.auth0.com/", "FERRY_SESSION_AUDIENCE": "https://api.example.com"},
			documents: map[string]string{
				"https://tenant.eu.auth0.com/.well-known/openid-configuration": `{"issuer":"https://tenant.eu.auth0.com/","jwks_uri":"https://tenant.eu.auth0.com/.well-known/jwks.json"}`,
				"https://tenant.eu.auth0.com/.well-known/jwks.json":            "keys",
			},
			alg: "RS256", header: `{"alg":"RS256","typ":"at+jwt","kid":"k1"}`,
			sessions: []sampleSession{
				{
					name: "an access token",
					payload: `"iss":"https://tenant.eu.auth0.com/","sub":"auth0|507f1f77bcf86cd799439020","aud":["https://api.example.com","https://tenant.eu.auth0.com/userinfo"],` +
						`"azp":"abc123","scope":"openid profile","jti":"a","client_id":"abc123","permissions":["read:a"]`,
					user: "auth0|507f1f77bcf86cd799439020",
				},
				{
					name:    "one for another API of the tenant",
					payload: `"iss":"https://tenant.eu.auth0.com/","sub":"auth0|507f1f77bcf86cd799439020","aud":"https://other.example.com"`, refusal: wrongAudience,
				},
			},
		},
		{
			name: "Firebase", stands: []string{"PROJECT", "my-project"},
			settings: map[string]string{"FERRY_SESSION_ISSUER": "https://securetoken.google.com/my-project", "FERRY_SESSION_AUDIENCE": "my-project"},
			documents: map[string]string{
				"https://securetoken.google.com/my-project/.well-known/openid-configuration": `{"issuer":"https://securetoken.google.com/my-project",` +
					`"jwks_uri":"https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"}`,
				"https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com": "keys",
			},
			alg: "RS256", header: `{"alg":"RS256","kid":"k1","typ":"JWT"}`,
			sessions: []sampleSession{
				{
					name: "an ID token",
					payload: `"iss":"https://securetoken.google.com/my-project","aud":"my-project","auth_time":1,"user_id":"kF3vHkR7","sub":"kF3vHkR7",` +
						`"email":"a@example.com","email_verified":true,"firebase":{"identities":{"email":["a@example.com"]},"sign_in_provider":"password"}`,
					user: "kF3vHkR7",
				},
				{name: "one of another project, whose keys are the same", payload: `"iss":"https://securetoken.google.com/other","aud":"other","sub":"kF3vHkR7"`, refusal: wrongIssuer},
			},
		},
		{
			name:     "Clerk",
			settings: map[string]string{"FERRY_SESSION_ISSUER": "https://clerk.example.com"},
			documents: map[string]string{
				"https://clerk.example.com/.well-known/openid-configuration": `{"issuer":"https://clerk.example.com","jwks_uri":"https://clerk.example.com/.well-known/jwks.json"}`,
				"https://clerk.example.com/.well-known/jwks.json":            "keys",
			},
			alg: "RS256", header: `{"alg":"RS256","cat":"cl_B7d4PD111AAA","kid":"k1","typ":"JWT"}`,
			sessions: []sampleSession{{
				name:    "a session token",
				payload: `"azp":"https://app.example.com","fva":[7,-1],"iss":"https://clerk.example.com","jti":"a1","sid":"sess_123","sts":"active","sub":"user_2abc","v":2`,
				user:    "user_2abc",
			}},
		},
		{
			name: "Keycloak", stands: []string{"REALM", "app"},
			settings: map[string]string{"FERRY_SESSION_ISSUER": "https://sso.example.com/realms/app", "FERRY_SESSION_AUDIENCE": "ferry"},
			documents: map[string]string{
				"https://sso.example.com/realms/app/.well-known/openid-configuration": `{"issuer":"https://sso.example.com/realms/app",` +
					`"jwks_uri":"https://sso.example.com/realms/app/protocol/openid-connect/certs"}`,
				"https://sso.example.com/realms/app/protocol/openid-connect/certs": "keys",
			},
			alg: "RS256", header: `{"alg":"RS256","typ" : "JWT","kid" : "k1"}`,
			sessions: []sampleSession{
				{
					name: "an access token with an audience mapper",
					payload: `"jti":"onrtac:1","iss":"https://sso.example.com/realms/app","aud":["ferry","account"],` +
						`"sub":"f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e","typ":"Bearer","azp":"web","sid":"1","acr":"1","realm_access":{"roles":["user"]},"scope":"openid"`,
					user: "f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e",
				},
				{
					name:    "one without",
					payload: `"iss":"https://sso.example.com/realms/app","aud":"account","sub":"f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e","typ":"Bearer","azp":"web"`, refusal: wrongAudience,
				},
			},
		},
		{
			name: "Amazon Cognito", stands: []string{"REGION", "eu-west-1", "POOL", "eu-west-1_Abc123"},
			settings: map[string]string{
				"FERRY_SESSION_ISSUER": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc123", "FERRY_SESSION_AUDIENCE": "1example23456789",
			},
			documents: map[string]string{
				"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc123/.well-known/openid-configuration": `{"issuer":"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc123",` +
					`"jwks_uri":"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc123/.well-known/jwks.json"}`,
				"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc123/.well-known/jwks.json": "keys",
			},
			alg: "RS256", header: `{"kid":"k1","alg":"RS256"}`,
			sessions: []sampleSession{
				{
					name: "an ID token",
					payload: `"sub":"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee","cognito:groups":["g"],"iss":"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc123",` +
						`"cognito:username":"a","origin_jti":"1","aud":"1example23456789","event_id":"1","token_use":"id","auth_time":1,"jti":"1"`,
					user: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
				},
				{
					name: "an access token, which has no audience",
					payload: `"sub":"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee","iss":"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc123","client_id":"1example23456789",` +
						`"token_use":"access","scope":"openid","username":"a"`,
					refusal: wrongAudience,
				},
			},
		},
	}
}

// The settings are the documented ones, and accept sessions of the documented
// shapes, with keys from the documented places.
func TestSessionsOfKnownProviders(t *testing.T) {
	t.Parallel()
	documented := documentedSettings(t)
	for _, p := range providers() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.isDocumented(t, documented[p.name])
			sessions, sign := p.open(t)
			for _, s := range p.sessions {
				t.Run(s.name, func(t *testing.T) { s.judge(t, sessions, p.header, sign) })
			}
		})
	}
	if len(documented) != len(providers()) {
		t.Errorf("%d providers are documented, %d tested", len(documented), len(providers()))
	}
}

// documentedSettings are the settings of each provider as docs/sessions.md has
// them: name, and value where it is given.
func documentedSettings(t *testing.T) map[string]map[string]string {
	t.Helper()
	_, table, found := strings.Cut(readFile(t, "../../docs/sessions.md"), "### Worked settings")
	if !found {
		t.Fatal("docs/sessions.md has no worked settings")
	}
	table, _, _ = strings.Cut(table, "\n#")
	settings := map[string]map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([A-Z][A-Za-z0-9 ]+) \| (.+) \| .+ \|$`).FindAllStringSubmatch(table, -1) {
		values := map[string]string{}
		for _, setting := range regexp.MustCompile("(FERRY_[A-Z_]+)=?([^` ]*)").FindAllStringSubmatch(row[2], -1) {
			values[setting[1]] = setting[2]
		}
		settings[row[1]] = values
	}
	return settings
}

func (p provider) isDocumented(t *testing.T, documented map[string]string) {
	t.Helper()
	want := map[string]string{}
	for name, value := range documented {
		if want[name] = strings.NewReplacer(p.stands...).Replace(value); value == "" {
			want[name] = p.settings[name] // any
		}
	}
	if diff := cmp.Diff(want, p.settings); diff != "" {
		t.Errorf("settings (-documented +tested):\n%s", diff)
	}
}

// open returns what verifies the provider's sessions under its settings, and
// what signs them.
func (p provider) open(t *testing.T) (identity.Authenticator, func([]byte) []byte) {
	t.Helper()
	jwk, sign := newProviderKey(t, p.alg)
	// As Keycloak does, many publish a key for encryption beside it.
	encryption := jose.JSONWebKey{Key: rsaKeys()[1].Public(), KeyID: "k1", Use: "enc", Algorithm: "RSA-OAEP"}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{encryption, jwk}})
	if err != nil {
		t.Fatal(err)
	}
	environ := []string{"DATABASE_URL=postgres://localhost/app"}
	for name, value := range p.settings {
		environ = append(environ, name+"="+value)
	}
	cfg, err := config.LoadServe(environ)
	if err != nil {
		t.Fatal(err)
	}
	get := func(_ context.Context, url string) ([]byte, error) {
		document, found := p.documents[url]
		switch {
		case !found:
			return nil, errors.New("there is nothing at " + url)
		case document == "keys":
			return keys, nil
		}
		return []byte(document), nil
	}
	sessions, err := newSessionJWT(cfg, nil, get, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return sessions, sign
}

// newProviderKey returns the public half of a key, as it is published, and what
// signs with it.
func newProviderKey(t *testing.T, alg string) (jose.JSONWebKey, func([]byte) []byte) {
	t.Helper()
	published := func(key crypto.PublicKey) jose.JSONWebKey {
		return jose.JSONWebKey{Key: key, KeyID: "k1", Use: "sig", Algorithm: alg}
	}
	if alg == "RS256" {
		key := rsaKeys()[0]
		return published(key.Public()), rs256(key)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return published(key.Public()), func(text []byte) []byte {
		sum := sha256.Sum256(text)
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			panic(err)
		}
		return slices.Concat(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32)))
	}
}

func (s sampleSession) judge(t *testing.T, sessions identity.Authenticator, header string, sign func([]byte) []byte) {
	if s.secret != "" {
		header, sign = `{"alg":"HS256","typ":"JWT"}`, hs256(s.secret)
	}
	now := time.Now().Unix()
	times, err := json.Marshal(map[string]int64{"iat": now - 10, "nbf": now - 20, "exp": now + 3600})
	if err != nil {
		t.Fatal(err)
	}
	token := signedWith(sign, header, strings.TrimSuffix(string(times), "}")+","+s.payload+"}")
	got, err := sessions.Authenticate(t.Context(), identity.Credentials{Authorization: []string{"Bearer " + token}})
	switch {
	case s.refusal == "" && err != nil:
		t.Error(err)
	case s.refusal == "" && got.UserID != s.user:
		t.Errorf("user %q, want %q", got.UserID, s.user)
	case s.refusal != "" && (err == nil || fault.From(err).Detail != s.refusal):
		t.Errorf("error %v, want %s", err, s.refusal)
	}
}
