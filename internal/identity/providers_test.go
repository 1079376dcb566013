package identity

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"
	"time"
)

var longID = strings.Repeat("u", MaxUserIDBytes)

// The documented shapes of the sessions of the providers in docs/sessions.md,
// under the settings that stand there.
//
// Sources: Supabase "JWT Claims Reference"; Auth0 "Access Tokens"; Firebase
// "Verify ID Tokens"; Clerk "Session tokens"; Keycloak "Server Administration
// Guide", protocol mappers; Amazon Cognito "Understanding the identity (ID)
// token" and "Understanding the access token".
func TestSessionsOfKnownProviders(t *testing.T) {
	t.Parallel()
	times := `"iat":` + at(-10) + `,"exp":` + at(3600)
	rsaKey := rsaKeys()[0]
	cases := []struct {
		name    string
		issuer  SessionIssuer
		alg     string
		payload string
		user    string
		refusal string
	}{
		{
			name:   "Supabase",
			issuer: SessionIssuer{Issuer: "https://abcdefgh.supabase.co/auth/v1", Audience: "authenticated"},
			alg:    "RS256",
			payload: `{"iss":"https://abcdefgh.supabase.co/auth/v1","sub":"6f1c8a52-4c3e-4e57-9bf3-1f6d3a4c9a11","aud":"authenticated",` + times +
				`,"email":"a@example.com","phone":"","app_metadata":{"provider":"email","providers":["email"]},"user_metadata":{},"role":"authenticated","aal":"aal1",` +
				`"amr":[{"method":"password","timestamp":1}],"session_id":"c5a0ee0c-6a64-4a2e-9a0e-6f3f8f6f2a55","is_anonymous":false}`,
			user: "6f1c8a52-4c3e-4e57-9bf3-1f6d3a4c9a11",
		},
		{
			name:    "Supabase's anon key, which is no session",
			issuer:  SessionIssuer{Issuer: "https://abcdefgh.supabase.co/auth/v1", Audience: "authenticated"},
			alg:     "RS256",
			payload: `{"iss":"supabase","ref":"abcdefgh","role":"anon",` + times + `}`,
			refusal: "the session is from another issuer (iss) than this server accepts",
		},
		{
			name:   "Auth0",
			issuer: SessionIssuer{Issuer: "https://tenant.eu.auth0.com/", Audience: "https://api.example.com"},
			alg:    "RS256",
			payload: `{"iss":"https://tenant.eu.auth0.com/","sub":"auth0|507f1f77bcf86cd799439020","aud":["https://api.example.com","https://tenant.eu.auth0.com/userinfo"],` +
				`"azp":"abc123","scope":"openid profile",` + times + `}`,
			user: "auth0|507f1f77bcf86cd799439020",
		},
		{
			name:    "Auth0, for another API of the tenant",
			issuer:  SessionIssuer{Issuer: "https://tenant.eu.auth0.com/", Audience: "https://api.example.com"},
			alg:     "RS256",
			payload: `{"iss":"https://tenant.eu.auth0.com/","sub":"auth0|507f1f77bcf86cd799439020","aud":"https://other.example.com",` + times + `}`,
			refusal: "the session is for another audience (aud) than this server's",
		},
		{
			name:   "Firebase",
			issuer: SessionIssuer{Issuer: "https://securetoken.google.com/my-project", Audience: "my-project"},
			alg:    "RS256",
			payload: `{"iss":"https://securetoken.google.com/my-project","aud":"my-project","auth_time":1,"user_id":"kF3vHkR7","sub":"kF3vHkR7",` + times +
				`,"email":"a@example.com","email_verified":true,"firebase":{"identities":{"email":["a@example.com"]},"sign_in_provider":"password"}}`,
			user: "kF3vHkR7",
		},
		{
			name:    "Firebase, of another project whose keys are the same",
			issuer:  SessionIssuer{Issuer: "https://securetoken.google.com/my-project", Audience: "my-project"},
			alg:     "RS256",
			payload: `{"iss":"https://securetoken.google.com/other","aud":"other","sub":"kF3vHkR7",` + times + `}`,
			refusal: "the session is from another issuer (iss) than this server accepts",
		},
		{
			name:   "Clerk",
			issuer: SessionIssuer{Issuer: "https://clerk.example.com"},
			alg:    "RS256",
			payload: `{"azp":"https://app.example.com","fva":[7,-1],` + times + `,"iss":"https://clerk.example.com","jti":"a1","nbf":` + at(-20) +
				`,"sid":"sess_123","sts":"active","sub":"user_2abc","v":2}`,
			user: "user_2abc",
		},
		{
			name:   "Keycloak",
			issuer: SessionIssuer{Issuer: "https://sso.example.com/realms/app", Audience: "ferry"},
			alg:    "RS256",
			payload: `{"exp":` + at(300) + `,"iat":` + at(-1) + `,"jti":"onrtac:1","iss":"https://sso.example.com/realms/app","aud":["ferry","account"],` +
				`"sub":"f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e","typ":"Bearer","azp":"web","sid":"1","acr":"1","realm_access":{"roles":["user"]},"scope":"openid"}`,
			user: "f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e",
		},
		{
			name:   "Cognito's ID token",
			issuer: SessionIssuer{Issuer: "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc123", Audience: "1example23456789"},
			alg:    "RS256",
			payload: `{"sub":"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee","cognito:groups":["g"],"iss":"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc123",` +
				`"cognito:username":"a","origin_jti":"1","aud":"1example23456789","event_id":"1","token_use":"id","auth_time":1,` + times + `,"jti":"1"}`,
			user: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
		},
		{
			name:   "Cognito's access token, which has no audience",
			issuer: SessionIssuer{Issuer: "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc123", Audience: "1example23456789"},
			alg:    "RS256",
			payload: `{"sub":"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee","iss":"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc123","client_id":"1example23456789",` +
				`"token_use":"access","scope":"openid",` + times + `,"username":"a"}`,
			refusal: "the session is for another audience (aud) than this server's",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.issuer.Keys = published(jwks(jwk("k1", rsaKey)))
			token := signPublic(c.alg, rsaKey)(`{"alg":"`+c.alg+`","kid":"k1","typ":"JWT"}`, c.payload)
			p, err := newSessionJWTOf(t, c.issuer).Authenticate(t.Context(), bearing(token))
			if c.refusal != "" {
				requireRefusal(t, p, err, token, c.refusal)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.UserID != c.user {
				t.Errorf("user %q, want %q", p.UserID, c.user)
			}
		})
	}
}

// Each issuer is held to its own keys, audience and prefix.
func TestSeveralIssuers(t *testing.T) {
	t.Parallel()
	first, second := newEdKey(), newEdKey()
	s := newSessionJWTOf(t,
		SessionIssuer{Issuer: "https://one.example", Audience: "app-one", Keys: published(jwks(jwk("k", first))), UserPrefix: "one|"},
		SessionIssuer{Issuer: "https://two.example", Audience: "app-two", Keys: published(jwks(jwk("k", second))), UserClaim: "uid"},
		SessionIssuer{Issuer: "https://two.example", Audience: "app-three", Keys: published(jwks(jwk("k", second))), UserPrefix: "three|"},
	)
	exp := `,"exp":` + at(600) + `}`
	const header = `{"alg":"EdDSA","kid":"k"}`
	cases := []struct{ name, token, user, refusal string }{
		{"the first", signPublic("EdDSA", first)(header, `{"iss":"https://one.example","aud":"app-one","sub":"u1"`+exp), "one|u1", ""},
		{"the second", signPublic("EdDSA", second)(header, `{"iss":"https://two.example","aud":"app-two","sub":"x","uid":"u1"`+exp), "u1", ""},
		{"another app of the second", signPublic("EdDSA", second)(header, `{"iss":"https://two.example","aud":"app-three","sub":"u1"`+exp), "three|u1", ""},
		{"the second in the first one's name", signPublic("EdDSA", second)(header, `{"iss":"https://one.example","aud":"app-one","sub":"u1"`+exp), "", otherPublished},
		{"one's audience at the other", signPublic("EdDSA", first)(header, `{"iss":"https://one.example","aud":"app-two","sub":"u1"`+exp), "", "the session is for another audience (aud) than this server's"},
		{"nobody", signPublic("EdDSA", first)(header, `{"iss":"https://three.example","aud":"app-one","sub":"u1"`+exp), "", "the session is from another issuer (iss) than this server accepts"},
		{"a prefix that makes the id too long", signPublic("EdDSA", first)(header, `{"iss":"https://one.example","aud":"app-one","sub":"`+longID+`"`+exp), "", "the session names no user: the user id (claim sub) is over 1024 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := s.Authenticate(t.Context(), bearing(c.token))
			if c.refusal != "" {
				requireRefusal(t, p, err, c.token, c.refusal)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			claims, err := readClaims(p.Claims)
			if err != nil {
				t.Fatal(err)
			}
			if sub, _ := text(claims.sub); p.UserID != c.user || sub != c.user {
				t.Errorf("user %q, sub %q, want %q", p.UserID, sub, c.user)
			}
		})
	}
}

// A secret in the wrong form is a mistake that the log names, once, and never
// with the secret in it.
func TestAMisreadSecretIsNamedInTheLog(t *testing.T) {
	t.Parallel()
	text := base64.RawURLEncoding.EncodeToString(testKey)
	var log bytes.Buffer
	s, err := NewSessionJWT(SessionJWTOptions{
		Issuers: []SessionIssuer{{
			Secret: testKey, Misreadings: []Misreading{{Secret: []byte(text), Advice: "set the other variable"}},
		}},
		Log: slog.New(slog.NewTextHandler(&log, nil)),
		Now: func() time.Time { return suiteNow },
	})
	if err != nil {
		t.Fatal(err)
	}
	payload := `{"sub":"u1","exp":` + at(600) + `}`
	for _, key := range [][]byte{otherKey, []byte(text), []byte(text)} {
		token := signHS256(key)(`{"alg":"HS256"}`, payload)
		p, err := s.Authenticate(t.Context(), bearing(token))
		requireRefusal(t, p, err, token, otherSecret)
	}
	const want = "sessions are refused because their secret is configured in the wrong form: set the other variable"
	if got := strings.Count(log.String(), want); got != 1 || strings.Contains(log.String(), text) {
		t.Errorf("logged %d times, want once:\n%s", got, log.String())
	}
}
