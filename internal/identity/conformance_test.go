package identity

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

// suiteNow is what the clock of every authenticator under test says.
var suiteNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// expectations are what the suite sets up an authenticator with.
type expectations struct {
	issuer, audience, userClaim string
}

// scheme is a way of signing session JWTs, as the conformance suite needs it.
type scheme struct {
	// alg and kid are the header's; kid is empty where the key has no name.
	alg, kid string
	// accepts are the algorithms that the authenticator says it accepts.
	accepts string
	// otherKey is what is said of a signature that does not verify.
	otherKey string
	// authenticator trusts what sign signs, at suiteNow.
	authenticator func(t *testing.T, e expectations) Authenticator
	// sign returns a token of this header and payload, whatever they say.
	sign func(header, payload string) string
	// signOther does so with a key that the authenticator does not know.
	signOther func(header, payload string) string
}

func (s scheme) header() string {
	if s.kid == "" {
		return fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, s.alg)
	}
	return fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"JWT"}`, s.alg, s.kid)
}

// bearing are the credentials of a request with a Bearer token.
func bearing(token string) Credentials {
	return Credentials{Authorization: []string{"Bearer " + token}}
}

// at is a NumericDate some seconds from suiteNow.
func at(seconds int64) string { return fmt.Sprint(suiteNow.Unix() + seconds) }

// requireRefusal fails the test unless the token was refused with the code
// InvalidSession, the detail, and nothing of the token in the error.
func requireRefusal(t *testing.T, p *Principal, err error, token, detail string) {
	t.Helper()
	if p != nil || err == nil {
		t.Fatalf("accepted: %+v", p)
	}
	f := fault.From(err)
	if diff := cmp.Diff([]string{string(fault.InvalidSession), detail}, []string{string(f.Code), f.Detail}); diff != "" {
		t.Errorf("code and detail (-want +got):\n%s", diff)
	}
	if len(token) > 20 && strings.Contains(err.Error(), token[:20]) {
		t.Errorf("the error repeats the token: %v", err)
	}
}

// testConformance holds an implementation for session JWTs to what all of them
// promise.
func testConformance(t *testing.T, s scheme) {
	t.Run("accepts", func(t *testing.T) { t.Parallel(); testAccepts(t, s) })
	t.Run("refuses claims", func(t *testing.T) { t.Parallel(); testRefusesClaims(t, s) })
	t.Run("refuses tokens", func(t *testing.T) { t.Parallel(); testRefusesTokens(t, s) })
}

func testAccepts(t *testing.T, s scheme) {
	both := expectations{issuer: "https://auth.example", audience: "app"}
	exp := `"exp":` + at(600)
	cases := []struct {
		name         string
		expectations expectations
		payload      string
		user         string
		claims       string // the payload itself where empty
		issuedAt     time.Time
	}{
		{name: "a plain session", payload: `{"sub":"u1",` + exp + `}`, user: "u1"},
		{name: "expired 59 s ago", payload: `{"sub":"u1","exp":` + at(-59) + `}`, user: "u1"},
		{name: "a fraction of a second in exp", payload: `{"sub":"u1","exp":` + at(-60) + `.5}`, user: "u1"},
		{name: "not valid for another 60 s", payload: `{"sub":"u1",` + exp + `,"nbf":` + at(60) + `,"iat":` + at(60) + `}`, user: "u1", issuedAt: suiteNow.Add(time.Minute)},
		{name: "a fraction of a second in iat", payload: `{"sub":"u1",` + exp + `,"iat":` + at(-1) + `.25}`, user: "u1", issuedAt: suiteNow.Add(-750 * time.Millisecond)},
		{name: "issued before the ages", payload: `{"sub":"u1",` + exp + `,"iat":-1e300}`, user: "u1"},
		{name: "issuer and audience as configured", expectations: both, payload: `{"sub":"u1","iss":"https://auth.example","aud":"app",` + exp + `}`, user: "u1"},
		{name: "the audience in a list", expectations: both, payload: `{"sub":"u1","iss":"https://auth.example","aud":["x","app"],` + exp + `}`, user: "u1"},
		{name: "issuer and audience that nothing is configured for", payload: `{"sub":"u1","iss":7,"aud":{},` + exp + `}`, user: "u1"},
		{name: "numbers over 2^53 and white space stay", payload: "\n {\"sub\": \"u1\", " + exp + `, "org": 9007199254740993, "rate": 1.10 }`, user: "u1"},
		{name: "unicode and quotes in the user id", payload: `{"sub":"Zoë \"\u005a\" 👩‍👧",` + exp + `}`, user: `Zoë "Z" 👩‍👧`},
		{name: "a user id of 1024 bytes", payload: `{"sub":"` + strings.Repeat("u", 1024) + `",` + exp + `}`, user: strings.Repeat("u", 1024)},
		{
			name: "a number as sub", payload: `{"a":1,"sub":9007199254740993,` + exp + `}`,
			user: "9007199254740993", claims: `{"a":1,"sub":"9007199254740993",` + exp + `}`,
		},
		{
			name: "a sub spelled with escapes is replaced, not doubled", expectations: expectations{userClaim: "uid"},
			payload: `{"\u0073ub":"other","uid":"u1",` + exp + `}`,
			user:    "u1", claims: `{"\u0073ub":"u1","uid":"u1",` + exp + `}`,
		},
		{
			name: "another user claim, sub missing", expectations: expectations{userClaim: "uid"},
			payload: ` {"uid":"u\"1",` + exp + `}`,
			user:    `u"1`, claims: ` {"sub":"u\"1","uid":"u\"1",` + exp + `}`,
		},
		{
			name: "a path, sub another", expectations: expectations{userClaim: "app_metadata.ids.uid"},
			payload: `{"sub": {"x":[1]} ,"app_metadata":{"ids":{"uid":42}},` + exp + `}`,
			user:    "42", claims: `{"sub": "42" ,"app_metadata":{"ids":{"uid":42}},` + exp + `}`,
		},
		{
			name: "a user claim named by a URL", expectations: expectations{userClaim: "https://app.example/uid"},
			payload: `{"https://app.example/uid":"u1","sub":"u1",` + exp + `}`, user: "u1",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want := &Principal{UserID: c.user, Claims: json.RawMessage(c.claims), IssuedAt: c.issuedAt}
			if c.claims == "" {
				want.Claims = json.RawMessage(c.payload)
			}
			want.IssuedAt = c.issuedAt
			got, err := s.authenticator(t, c.expectations).
				Authenticate(t.Context(), bearing(s.sign(s.header(), c.payload)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("principal (-want +got):\n%s", diff)
			}
		})
	}
}

func testRefusesClaims(t *testing.T, s scheme) {
	both := expectations{issuer: "https://auth.example", audience: "app"}
	exp := `"exp":` + at(600)
	const (
		expired      = "the session has expired (exp): sign in again"
		notYet       = "the session is not valid yet (nbf): do the clocks of its issuer and of this server agree?"
		future       = "the session was issued in the future (iat): do the clocks of its issuer and of this server agree?"
		issuer       = "the session is from another issuer (iss) than this server accepts"
		audience     = "the session is for another audience (aud) than this server's"
		unreadable   = "the session's payload is not one JSON object in UTF-8 in which no name stands twice"
		noUser       = "the session names no user: the user id (claim sub) "
		notSeconds   = "is not a number of seconds"
		neitherNorID = "is neither a string nor a whole number"
	)
	cases := []struct {
		name         string
		expectations expectations
		payload      string
		detail       string
	}{
		{name: "expired 60 s ago", payload: `{"sub":"u1","exp":` + at(-60) + `}`, detail: expired},
		{name: "expired 61 s ago", payload: `{"sub":"u1","exp":` + at(-61) + `}`, detail: expired},
		{name: "expired before the ages", payload: `{"sub":"u1","exp":-1e300}`, detail: expired},
		{name: "no exp", payload: `{"sub":"u1"}`, detail: "the session has no expiry (exp)"},
		{name: "exp as a string", payload: `{"sub":"u1","exp":"` + at(600) + `"}`, detail: "the session's exp " + notSeconds},
		{name: "exp null", payload: `{"sub":"u1","exp":null}`, detail: "the session's exp " + notSeconds},
		{name: "exp beyond any number", payload: `{"sub":"u1","exp":1e999}`, detail: "the session's exp " + notSeconds},
		{name: "not valid for another 61 s", payload: `{"sub":"u1",` + exp + `,"nbf":` + at(61) + `}`, detail: notYet},
		{name: "not valid for very long", payload: `{"sub":"u1",` + exp + `,"nbf":9223372036854775807}`, detail: notYet},
		{name: "nbf as a string", payload: `{"sub":"u1",` + exp + `,"nbf":"0"}`, detail: "the session's nbf " + notSeconds},
		{name: "issued 61 s from now", payload: `{"sub":"u1",` + exp + `,"iat":` + at(61) + `}`, detail: future},
		{name: "iat as a list", payload: `{"sub":"u1",` + exp + `,"iat":[0]}`, detail: "the session's iat " + notSeconds},
		{name: "wrong issuer", expectations: both, payload: `{"sub":"u1","iss":"https://auth.example/","aud":"app",` + exp + `}`, detail: issuer},
		{name: "no issuer", expectations: both, payload: `{"sub":"u1","aud":"app",` + exp + `}`, detail: issuer},
		{name: "wrong audience", expectations: both, payload: `{"sub":"u1","iss":"https://auth.example","aud":"ap",` + exp + `}`, detail: audience},
		{name: "wrong audiences", expectations: both, payload: `{"sub":"u1","iss":"https://auth.example","aud":["a","p"],` + exp + `}`, detail: audience},
		{name: "audiences that are no strings", expectations: both, payload: `{"sub":"u1","iss":"https://auth.example","aud":["app",1],` + exp + `}`, detail: audience},
		{name: "no audience", expectations: both, payload: `{"sub":"u1","iss":"https://auth.example",` + exp + `}`, detail: audience},
		{name: "no sub", payload: `{` + exp + `}`, detail: noUser + "is missing"},
		{name: "empty sub", payload: `{"sub":"",` + exp + `}`, detail: noUser + "is empty"},
		{name: "sub null", payload: `{"sub":null,` + exp + `}`, detail: noUser + neitherNorID},
		{name: "sub a fraction", payload: `{"sub":1.0,` + exp + `}`, detail: noUser + neitherNorID},
		{name: "sub with an exponent", payload: `{"sub":1e3,` + exp + `}`, detail: noUser + neitherNorID},
		{name: "sub negative", payload: `{"sub":-1,` + exp + `}`, detail: noUser + neitherNorID},
		{name: "sub an object", payload: `{"sub":{},` + exp + `}`, detail: noUser + neitherNorID},
		{name: "sub with NUL", payload: `{"sub":"u\u00001",` + exp + `}`, detail: noUser + "holds a control character"},
		{name: "sub with a line feed", payload: `{"sub":"u\n1",` + exp + `}`, detail: noUser + "holds a control character"},
		{name: "sub with a C1 control", payload: `{"sub":"u\u0085",` + exp + `}`, detail: noUser + "holds a control character"},
		{name: "sub of 1025 bytes", payload: `{"sub":"` + strings.Repeat("u", 1025) + `",` + exp + `}`, detail: noUser + "is over 1024 bytes"},
		{name: "sub with a lone surrogate", payload: `{"sub":"\ud800",` + exp + `}`, detail: unreadable},
		{name: "sub not UTF-8", payload: "{\"sub\":\"\xff\"," + exp + `}`, detail: unreadable},
		{
			name: "a path that leads nowhere", expectations: expectations{userClaim: "app_metadata.uid"},
			payload: `{"sub":"u1","app_metadata":[],` + exp + `}`,
			detail:  "the session names no user: the user id (claim app_metadata.uid) is missing",
		},
		{name: "a claim twice", payload: `{"sub":"u1","sub":"u2",` + exp + `}`, detail: unreadable},
		{name: "a claim twice, once escaped", payload: `{"sub":"u1","s\u0075b":"u2",` + exp + `}`, detail: unreadable},
		{name: "a nested member twice", payload: `{"sub":"u1","m":{"a":1,"a":2},` + exp + `}`, detail: unreadable},
		{name: "a list", payload: `["u1"]`, detail: unreadable},
		{name: "no payload", payload: ``, detail: unreadable},
		{name: "half an object", payload: `{"sub":"u1",` + exp, detail: unreadable},
		{name: "something after the object", payload: `{"sub":"u1",` + exp + `}{}`, detail: unreadable},
		{name: "deep nesting", payload: `{"sub":"u1",` + exp + `,"a":` + strings.Repeat("[", 11_000), detail: unreadable},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			token := s.sign(s.header(), c.payload)
			p, err := s.authenticator(t, c.expectations).Authenticate(t.Context(), bearing(token))
			requireRefusal(t, p, err, token, c.detail)
		})
	}
}

// unsignedPart is a token without its signature.
func unsignedPart(token string) string { return token[:strings.LastIndex(token, ".")] }

func testRefusesTokens(t *testing.T, s scheme) {
	payload := `{"sub":"u1","exp":` + at(600) + `}`
	good := s.sign(s.header(), payload)
	unsigned := unsignedPart(good)
	withHeader := func(members string) string {
		return s.sign(fmt.Sprintf(`{"alg":%q,%s}`, s.alg, members), payload)
	}
	const (
		notJWT    = "the session is not a signed JWT (header.payload.signature)"
		extension = "the session's header has %q, which this server does not support"
	)
	otherKey := s.otherKey
	cases := []struct{ name, token, detail string }{
		{"none", "", "no session: send the app's own session in the header `Authorization: Bearer <session>`"},
		{"wrong key", s.signOther(s.header(), payload), otherKey},
		{"another payload under the signature", unsignedPart(s.sign(s.header(), strings.Replace(payload, "u1", "u2", 1))) + good[len(unsigned):], otherKey},
		{"signature cut off", unsigned + ".", otherKey},
		{"half a signature", good[:len(good)-20], otherKey},
		{"a signature of another length", good + "AAAA", otherKey},
		{"alg none", s.sign(`{"alg":"none"}`, payload), "the session is signed with alg none, but this server accepts " + s.accepts},
		{"alg None", s.sign(`{"alg":"None"}`, payload), "the session is signed with an unknown alg, but this server accepts " + s.accepts},
		{"unknown alg", s.sign(`{"alg":"<script>"}`, payload), "the session is signed with an unknown alg, but this server accepts " + s.accepts},
		{"no alg", s.sign(`{}`, payload), "the session is signed with no alg, but this server accepts " + s.accepts},
		{"alg twice", s.sign(fmt.Sprintf(`{"alg":"none","alg":%q}`, s.alg), payload), notJWT},
		{"crit", withHeader(`"crit":["exp"]`), fmt.Sprintf(extension, "crit")},
		{"crit b64", withHeader(`"b64":false,"crit":["b64"]`), fmt.Sprintf(extension, "crit")},
		{"b64", withHeader(`"b64":false`), fmt.Sprintf(extension, "b64")},
		{"zip", withHeader(`"zip":"DEF"`), fmt.Sprintf(extension, "zip")},
		{"its own symmetric key in the header", withHeader(`"jwk":{"kty":"oct","k":"AAAA"}`), notJWT},
		{"header not JSON", s.sign(`alg`, payload), notJWT},
		{"two parts", unsigned, notJWT},
		{"four parts", good + ".e30", notJWT},
		{"five parts", good + ".e30.e30", "the session is an encrypted JWT (JWE): send a signed one"},
		{"JSON serialisation", `{"payload":"e30"}`, notJWT},
		{"not base64url", "a+b/." + good, notJWT},
		{"garbage", "\x00\xff garbage", notJWT},
		{"only dots", "..", "the session is signed with no alg, but this server accepts " + s.accepts},
		{"over 16 KiB", s.sign(s.header(), payload+strings.Repeat(" ", MaxSessionBytes)), "the session is over 16384 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := s.authenticator(t, expectations{}).Authenticate(t.Context(), bearing(c.token))
			requireRefusal(t, p, err, c.token, c.detail)
		})
	}
}
