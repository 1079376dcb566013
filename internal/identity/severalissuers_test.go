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
		{"expired, for the first of two audiences", signPublic("EdDSA", second)(header, `{"iss":"https://two.example","aud":"app-two","uid":"u1","exp":`+at(-600)+`}`), "", "the session has expired (exp): sign in again"},
		{"for none of two audiences", signPublic("EdDSA", second)(header, `{"iss":"https://two.example","aud":"app","uid":"u1"`+exp), "", "the session is for another audience (aud) than this server's"},
		{"a user of another issuer", signPublic("EdDSA", second)(header, `{"iss":"https://two.example","aud":"app-two","uid":"one|u1"`+exp), "", "the session names a user of another issuer"},
		{"a subject like another issuer's user", signPublic("EdDSA", first)(header, `{"iss":"https://one.example","aud":"app-one","sub":"three|u1"`+exp), "one|three|u1", ""},
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
