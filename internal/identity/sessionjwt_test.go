package identity

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

var (
	testKey  = bytes.Repeat([]byte("k"), 32)
	otherKey = bytes.Repeat([]byte("o"), 32)
)

// signHS256 signs any header and payload, with crypto/hmac alone.
func signHS256(key []byte) func(header, payload string) string {
	return func(header, payload string) string {
		enc := base64.RawURLEncoding
		signed := enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(payload))
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(signed))
		return signed + "." + enc.EncodeToString(mac.Sum(nil))
	}
}

// newSessionJWT accepts sessions that testKey signed, besides what o says.
func newSessionJWT(t testing.TB, o SessionIssuer) *SessionJWT {
	t.Helper()
	o.Secret = testKey
	return newSessionJWTOf(t, o)
}

func newSessionJWTOf(t testing.TB, issuers ...SessionIssuer) *SessionJWT {
	t.Helper()
	s, err := NewSessionJWT(SessionJWTOptions{Issuers: issuers, Now: func() time.Time { return suiteNow }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const otherSecret = "the session's signature does not verify: it was signed with a different key than this server's session secret, or it was altered"

func TestSessionJWTConforms(t *testing.T) {
	t.Parallel()
	testConformance(t, scheme{
		alg: "HS256", accepts: "HS256", otherKey: otherSecret,
		authenticator: func(t *testing.T, e expectations) Authenticator {
			return newSessionJWT(t, SessionIssuer{Issuer: e.issuer, Audience: e.audience, UserClaim: e.userClaim})
		},
		sign:      signHS256(testKey),
		signOther: signHS256(otherKey),
	})
}

// A verifier that lets the header choose the algorithm takes the text of a
// public key for an HMAC secret, or an HMAC for an RSA signature.
func TestSessionJWTIsNotConfusedByTheAlgorithm(t *testing.T) {
	t.Parallel()
	const publicKey = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
	payload := `{"sub":"u1","exp":` + at(600) + `}`
	cases := []struct{ name, token, detail string }{
		{
			"HS256 with a public key", signHS256([]byte(publicKey))(`{"alg":"HS256"}`, payload),
			otherSecret,
		},
		{
			"RS256 over the right HMAC", signHS256(testKey)(`{"alg":"RS256"}`, payload),
			"the session is signed with alg RS256, but this server accepts HS256",
		},
		{
			"HS512 over the right HMAC", signHS256(testKey)(`{"alg":"HS512"}`, payload),
			"the session is signed with alg HS512, but this server accepts HS256",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := newSessionJWT(t, SessionIssuer{}).Authenticate(t.Context(), bearing(c.token))
			requireRefusal(t, p, err, c.token, c.detail)
		})
	}
}

func TestSessionJWTNamesASyncToken(t *testing.T) {
	t.Parallel()
	payload := `{"sub":"u1","exp":` + at(600) + `}`
	syncToken := signHS256(otherKey)(`{"alg":"HS256","kid":"k1"}`, payload)
	edSyncToken := signHS256(otherKey)(`{"alg":"EdDSA","kid":"k1"}`, payload)
	s, err := NewSessionJWT(SessionJWTOptions{
		// Also where the keys of a session's issuer are those of sync tokens.
		Issuers:     []SessionIssuer{{Secret: testKey}, {Secret: otherKey}},
		IsSyncToken: func(token string) bool { return token == syncToken || token == edSyncToken },
		Now:         func() time.Time { return suiteNow },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{syncToken, edSyncToken} {
		p, err := s.Authenticate(t.Context(), bearing(token))
		requireRefusal(t, p, err, token, "this is a sync token for the PowerSync Service; send the app's own session")
	}
	foreign := signHS256([]byte("another key"))(`{"alg":"HS256"}`, payload)
	p, err := s.Authenticate(t.Context(), bearing(foreign))
	requireRefusal(t, p, err, foreign, otherSecret)
}

func TestNewSessionJWTRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return suiteNow }
	only := func(issuer SessionIssuer) SessionJWTOptions {
		return SessionJWTOptions{Issuers: []SessionIssuer{issuer}, Now: now}
	}
	cases := []struct {
		name    string
		options SessionJWTOptions
		want    string
	}{
		{"short key", only(SessionIssuer{Secret: testKey[:31]}), "session secret has 31 bytes, HS256 needs at least 32: choose a longer one where the sessions are signed"},
		{"no clock", SessionJWTOptions{Issuers: []SessionIssuer{{Secret: testKey}}}, "session verification needs a clock"},
		{"no issuer", SessionJWTOptions{Now: now}, "session verification needs an issuer"},
		{"no key", only(SessionIssuer{Issuer: "https://auth.example"}), "session verification needs a secret or public keys"},
		{"an algorithm without its key", only(SessionIssuer{Secret: testKey, Algorithms: []string{"RS256"}}), `sessions with alg "RS256" cannot be verified: HS256 needs a secret, the others public keys`},
		{"user claim with an empty part", only(SessionIssuer{Secret: testKey, UserClaim: "a..b"}), `user claim "a..b" has an empty part: write it like sub or app_metadata.uid`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := NewSessionJWT(c.options)
			if err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

func TestSessionJWTKeepsItsOwnKey(t *testing.T) {
	t.Parallel()
	key := bytes.Clone(testKey)
	s, err := NewSessionJWT(SessionJWTOptions{Issuers: []SessionIssuer{{Secret: key}}, Now: func() time.Time { return suiteNow }})
	if err != nil {
		t.Fatal(err)
	}
	clear(key)
	session, err := SignSession(testKey, "u1", "", "", suiteNow, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Authenticate(t.Context(), bearing(session)); err != nil {
		t.Errorf("the key was changed from outside: %v", err)
	}
}

func TestSignSession(t *testing.T) {
	t.Parallel()
	s := newSessionJWT(t, SessionIssuer{Issuer: "https://auth.example", Audience: "app"})
	session, err := SignSession(testKey, `Zoë <"1">`, "https://auth.example", "app", suiteNow, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Authenticate(t.Context(), bearing(session))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`Zoë <"1">`, p.UserID); diff != "" {
		t.Errorf("user id (-want +got):\n%s", diff)
	}
	for _, id := range []string{"", "a\x00b", "\xff", strings.Repeat("u", MaxUserIDBytes+1)} {
		if _, err := SignSession(testKey, id, "", "", suiteNow, time.Hour); err == nil {
			t.Errorf("signed a session for the user id %.10q", id)
		}
	}
	if _, err := SignSession(testKey[:31], "u1", "", "", suiteNow, time.Hour); err == nil {
		t.Error("signed with a short key")
	}
}

// FuzzSessionJWT holds that what is accepted was signed, by a verifier of its
// own, and that what is refused is refused with a fault.
func FuzzSessionJWT(f *testing.F) {
	good := signHS256(testKey)(`{"alg":"HS256"}`, `{"sub":"u1","exp":`+at(600)+`,"n":{"a":[1,2]}}`)
	f.Add(good)
	f.Add(good + "\n")
	f.Add(good[:len(good)-1] + "_")
	f.Add(signHS256(testKey)(`{"alg":"HS256","b64":false}`, `{"sub":1,"exp":`+at(600)+`}`))
	f.Add(signHS256(testKey)(`{"alg":"HS256"}`, `{"uid":"u2","exp":1e300}`))
	f.Add(signHS256(otherKey)(`{"alg":"HS256"}`, `{"sub":"u1","exp":`+at(600)+`}`))
	f.Add("..")
	f.Add("")
	s := newSessionJWT(f, SessionIssuer{})
	f.Fuzz(func(t *testing.T, token string) {
		p, err := s.Authenticate(t.Context(), bearing(token))
		if err != nil {
			if got := fault.From(err).Code; got != fault.InvalidSession || p != nil {
				t.Fatalf("code %s, principal %v", got, p)
			}
			return
		}
		if !signedHS256(t, testKey, token) {
			t.Fatalf("accepted a token that nobody signed")
		}
		if err := CheckUserID(p.UserID); err != nil {
			t.Fatalf("user id %v", err)
		}
	})
}

// FuzzClaims holds that whatever an issuer may sign, the principal's claims
// are one object whose sub is the user id, however they are read.
func FuzzClaims(f *testing.F) {
	for _, payload := range []string{
		`{}`, `{"sub":"a"}`, ` {"x":1}`, `{"uid":"u","sub":{"sub":"v"}}`, `{"uid":7,"\u0073ub":"a"}`,
		`{"a":{"sub":"x"},"uid":"\"}"}`, `[]`, `{"uid":"u"`,
	} {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		claims, err := readClaims([]byte(payload))
		if err != nil {
			return
		}
		p, err := claims.principal([]string{"uid"}, "")
		if err != nil {
			return
		}
		again, err := readClaims(p.Claims)
		if err != nil {
			t.Fatalf("claims %q: %v", p.Claims, err)
		}
		if sub, ok := text(again.sub); !ok || sub != p.UserID {
			t.Fatalf("claims %q do not name the user %q", p.Claims, p.UserID)
		}
	})
}

// signedHS256 verifies a token over its decoded parts: base64 has more than one
// text for the same bytes.
func signedHS256(t *testing.T, key []byte, token string) bool {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			return false
		}
	}
	expected := signHS256(key)(string(decoded[0]), string(decoded[1]))
	return expected[strings.LastIndex(expected, ".")+1:] == base64.RawURLEncoding.EncodeToString(decoded[2])
}

const benchPayload = `{"iss":"https://abcdefgh.supabase.co/auth/v1","sub":"6f1c8a52-4c3e-4e57-9bf3-1f6d3a4c9a11","aud":"authenticated","exp":1767400000,"iat":1767322000,"email":"a@example.com","phone":"","app_metadata":{"provider":"email","providers":["email"]},"user_metadata":{"email":"a@example.com","email_verified":true},"role":"authenticated","aal":"aal1","session_id":"c5a0ee0c-6a64-4a2e-9a0e-6f3f8f6f2a55","is_anonymous":false}`

// BenchmarkSessionJWT reports Authenticate as a multiple of the bare HMAC and
// base64 of the same token, which no verification can do without.
func BenchmarkSessionJWT(b *testing.B) {
	s := newSessionJWT(b, SessionIssuer{Audience: "authenticated"})
	token := signHS256(testKey)(`{"alg":"HS256","typ":"JWT"}`, benchPayload)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Authenticate(b.Context(), bearing(token)); err != nil {
			b.Fatal(err)
		}
	}
	perOp := b.Elapsed() / time.Duration(b.N)

	const rounds = 10_000
	start := time.Now()
	for range rounds {
		if !bareVerify(testKey, token) {
			b.Fatal("not verified")
		}
	}
	b.ReportMetric(float64(perOp)/float64(time.Since(start)/rounds), "x/bare")
}

func bareVerify(key []byte, token string) bool {
	end := strings.LastIndexByte(token, '.')
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(token[:end]))
	signature, err := base64.RawURLEncoding.DecodeString(token[end+1:])
	if err != nil || !hmac.Equal(signature, mac.Sum(nil)) {
		return false
	}
	_, err = base64.RawURLEncoding.DecodeString(token[strings.IndexByte(token, '.')+1 : end])
	return err == nil
}
