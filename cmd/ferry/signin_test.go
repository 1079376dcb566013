package main

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

// signedWith writes a JWT of any header and payload with the standard library
// alone. sign is not what the header says.
func signedWith(sign func(text []byte) []byte, header, payload string) string {
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	return text + "." + b64.EncodeToString(sign([]byte(text)))
}

func hs256(key string) func([]byte) []byte {
	return func(text []byte) []byte {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write(text)
		return mac.Sum(nil)
	}
}

func rs256(key *rsa.PrivateKey) func([]byte) []byte {
	return func(text []byte) []byte {
		sum := sha256.Sum256(text)
		signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		if err != nil {
			panic(err)
		}
		return signature
	}
}

func unsigned([]byte) []byte { return nil }

// rsaKeys are made once: it takes some time.
var rsaKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = key
	}
	return keys
})

// credentials are what one request carries to say who sends it.
type credentials struct {
	from   string // the address of the direct peer, 127.0.0.1 where empty
	header http.Header
}

func bearing(session string) credentials {
	return credentials{header: http.Header{"Authorization": {"Bearer " + session}}}
}

// askAs sends a request with credentials, and returns status and body.
func askAs(t *testing.T, method, url string, c credentials) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(`{"crud":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = c.header.Clone()
	request.Header.Set("Content-Type", "application/json")
	dialer := &net.Dialer{}
	if c.from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(c.from)}
	}
	client := http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body strings.Builder
	if err := response.Write(&body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body.String()
}

// requirements are what each way of signing in is held to.
func requirements() []string {
	return []string{
		"good", "expired", "not yet valid", "wrong key", "wrong issuer", "wrong audience", "no sub", "unknown kid",
		"alg none", "algorithm confusion", "oversized", "revoked",
	}
}

// wayIn is one way of signing in, over HTTP.
type wayIn struct {
	name string
	// paths are where it opens anything; at others its good ones are refused.
	paths, refusedAt []string
	// cases are the credentials for each requirement; of those that the way has
	// nothing like, inapplicable says why.
	cases        map[string]credentials
	inapplicable map[string]string
	// revoked is the user of the case of that name.
	revoked string
}

// jwtWay has the cases of a JWT, with the claims iss, aud, iat, exp and sub.
func jwtWay(name, issuer, audience string, header func(alg, kid string) string, sign, signOther, confused func([]byte) []byte, alg, kid, confusedAlg string) wayIn {
	now := time.Now().Unix()
	payload := func(sub, iss, aud string, from, until int64) string {
		claims := map[string]any{"iss": iss, "aud": aud, "iat": now + from, "exp": now + until}
		if sub != "" {
			claims["sub"] = sub
		}
		text, err := json.Marshal(claims)
		if err != nil {
			panic(err)
		}
		return string(text)
	}
	good := payload("good-"+name, issuer, audience, -5, 600)
	session := func(sign func([]byte) []byte, header, payload string) credentials {
		return bearing(signedWith(sign, header, payload))
	}
	h := header(alg, kid)
	return wayIn{
		name: name, revoked: "revoked-" + name,
		cases: map[string]credentials{
			"good":                session(sign, h, good),
			"expired":             session(sign, h, payload("u", issuer, audience, -600, -61)),
			"not yet valid":       session(sign, h, payload("u", issuer, audience, 120, 600)),
			"wrong key":           session(signOther, h, good),
			"wrong issuer":        session(sign, h, payload("u", issuer+"/", audience, -5, 600)),
			"wrong audience":      session(sign, h, payload("u", issuer, audience+"/", -5, 600)),
			"no sub":              session(sign, h, payload("", issuer, audience, -5, 600)),
			"unknown kid":         session(signOther, header(alg, "made-up"), good),
			"alg none":            session(unsigned, header("none", kid), good),
			"algorithm confusion": session(confused, header(confusedAlg, kid), good),
			"oversized":           session(sign, h, good+strings.Repeat(" ", 16<<10)),
			"revoked":             session(sign, h, payload("revoked-"+name, issuer, audience, -5, 600)),
		},
	}
}

// Every way of signing in is held to the same, all at once, over HTTP.
func TestEveryWayOfSigningInConforms(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	key, other := rsaKeys()[0], rsaKeys()[1]
	mux := http.NewServeMux()
	provider := httptest.NewServer(mux)
	t.Cleanup(provider.Close) // once the parallel tests have ended
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/jwks"}`, provider.URL, provider.URL)
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "rsa"}}})
	})
	issuers, err := json.Marshal([]map[string]string{
		{"issuer": "own", "audience": "app", "secret": encoded(sessionKey)},
		{"issuer": provider.URL, "audience": "app"},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, api := startServing(t, append(serveEnvironment(u.db.URLAs(u.roles.login, ""), u.roles),
		"FERRY_SESSION_SECRET=", "FERRY_SESSION_ISSUERS="+string(issuers), "FERRY_ACCOUNTS=true",
		"FERRY_TRUSTED_HEADER=X-Forwarded-User", "FERRY_TRUSTED_HEADER_FROM=127.0.0.2/32",
		"FERRY_UPLOAD_ACCEPTS_SYNC_TOKEN=true", "FERRY_TOKEN_ISSUER=ferry"))

	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicText := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	header := func(alg, kid string) string { return fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"JWT"}`, alg, kid) }
	noKid := func(alg, kid string) string {
		if kid == "" {
			return fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, alg)
		}
		return header(alg, kid)
	}
	token, upload := []string{"/token"}, []string{"/upload"}
	both := []string{"/token", "/upload"}
	secret := jwtWay("secret", "own", "app", noKid, hs256(sessionKey), hs256(tokenKey), hs256(sessionKey), "HS256", "", "RS256")
	published := jwtWay("published", provider.URL, "app", header, rs256(key), rs256(other), hs256(publicText), "RS256", "rsa", "HS256")
	syncToken := jwtWay("sync", "ferry", "https://sync.example.com", header, hs256(tokenKey), hs256(sessionKey), hs256(tokenKey), "HS256", "k1", "HS512")
	secret.paths, published.paths = both, both
	syncToken.paths, syncToken.refusedAt = upload, token

	for _, way := range []wayIn{secret, published, syncToken, accountWay(t, u, api), headerWay()} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			way.conforms(t, u, api)
		})
	}
	t.Run("a header and a Bearer", func(t *testing.T) { t.Parallel(); testHeaderAndBearer(t, api, secret.cases["good"]) })
}

// conforms holds a way to every requirement, or to the reason why not.
func (way wayIn) conforms(t *testing.T, u *usersOf, api string) {
	if got := u.ferry("", "revoke --id "+way.revoked); got.Code != exitOK {
		t.Fatalf("%+v", got)
	}
	changed := time.Now()
	codes := func(c credentials, paths []string) []int {
		got := make([]int, len(paths))
		for i, path := range paths {
			got[i], _ = askAs(t, http.MethodPost, api+path, c)
		}
		return got
	}
	all := func(code, n int) []int {
		codes := make([]int, n)
		for i := range codes {
			codes[i] = code
		}
		return codes
	}
	for _, requirement := range requirements() {
		c, applies := way.cases[requirement]
		if !applies {
			if way.inapplicable[requirement] == "" {
				t.Errorf("%s: neither tried nor said why not", requirement)
			}
			continue
		}
		want := 401
		if requirement == "good" {
			want = 200
			if diff := cmp.Diff(all(401, len(way.refusedAt)), codes(c, way.refusedAt)); diff != "" {
				t.Errorf("good, at %v (-want +got):\n%s", way.refusedAt, diff)
			}
		}
		asked, got := time.Now(), codes(c, way.paths)
		for requirement == "revoked" && asked.Sub(changed) <= time.Second && !cmp.Equal(got, all(want, len(way.paths))) {
			asked, got = time.Now(), codes(c, way.paths) // it holds for what is asked a second later
		}
		if diff := cmp.Diff(all(want, len(way.paths)), got); diff != "" {
			t.Errorf("%s, at %v (-want +got):\n%s", requirement, way.paths, diff)
		}
	}
}

// accountWay has the cases of a session of an account.
func accountWay(t *testing.T, u *usersOf, api string) wayIn {
	t.Helper()
	session := func(email string) (string, string) {
		id := u.add(email)
		code, session := signIn(t, api, email, annSays)
		if code != 200 {
			t.Fatalf("sign-in: %d", code)
		}
		return session, id
	}
	good, _ := session(annEmail)
	expired, expiredID := session("old@example.com")
	revoked, revokedID := session("revoked@example.com")
	u.db.Exec(t, `UPDATE ferry.sessions SET expires_at = now() WHERE user_id = '`+expiredID+`'`)
	swapped := []byte(good)
	swapped[len(swapped)-2] ^= 1 // still base64url, or at least no control character
	return wayIn{
		name: "account", paths: []string{"/token", "/upload"}, revoked: revokedID,
		cases: map[string]credentials{
			"good":                bearing(good),
			"expired":             bearing(expired),
			"wrong key":           bearing(string(swapped)),
			"wrong issuer":        bearing("ferry_session_" + strings.Repeat("A", 43)), // as another server's
			"no sub":              bearing("ferry_session_"),
			"alg none":            bearing(signedWith(unsigned, `{"alg":"none"}`, `{"sub":"`+revokedID+`"}`)),
			"algorithm confusion": bearing(signedWith(hs256(good), `{"alg":"HS256"}`, `{"sub":"`+revokedID+`"}`)),
			"oversized":           bearing("ferry_session_" + strings.Repeat("A", 16<<10)),
			"revoked":             bearing(revoked),
		},
		inapplicable: map[string]string{
			"not yet valid":  "a session is good from its beginning on",
			"wrong audience": "an opaque token has no audience: another server does not know it",
			"unknown kid":    "an opaque token has no key",
		},
	}
}

// headerWay has the cases of a proxy's header.
func headerWay() wayIn {
	const proxy = "127.0.0.2"
	named := func(from string, users ...string) credentials {
		return credentials{from, http.Header{"X-Forwarded-User": users}}
	}
	forwarded := named("127.0.0.1", "good-header")
	forwarded.header.Set("X-Forwarded-For", proxy)
	forwarded.header.Set("X-Real-Ip", proxy)
	forwarded.header.Set("Forwarded", "for="+proxy)
	return wayIn{
		name: "header", paths: []string{"/token", "/upload"}, revoked: "revoked-header",
		cases: map[string]credentials{
			"good":                named(proxy, "good-header"),
			"wrong key":           named("127.0.0.1", "good-header"), // the peer is what a key is elsewhere
			"wrong issuer":        forwarded,
			"no sub":              named(proxy, ""),
			"algorithm confusion": named(proxy, "good-header", "other"), // two who say who it is
			"alg none":            named(proxy, "good-header, other"),
			"oversized":           named(proxy, strings.Repeat("u", 1025)),
			"revoked":             named(proxy, "revoked-header"), // it does not say since when it is good
		},
		inapplicable: map[string]string{
			"expired":        "the proxy's own session may, and then it names nobody",
			"not yet valid":  "the proxy names users while they are signed in",
			"wrong audience": "a header has none",
			"unknown kid":    "a header has no key",
		},
	}
}

// The proxy goes before a Bearer; whoever is not it says nothing by the header.
func testHeaderAndBearer(t *testing.T, api string, bearer credentials) {
	with := func(from, user string) credentials {
		header := bearer.header.Clone()
		header.Set("X-Forwarded-User", user)
		return credentials{from, header}
	}
	for _, c := range []struct {
		name string
		credentials
		user string
	}{
		{"from the proxy", with("127.0.0.2", "u1"), "u1"},
		{"from the proxy, which names nobody", with("127.0.0.2", ""), "good-secret"},
		{"from elsewhere", with("127.0.0.1", "u1"), "good-secret"},
	} {
		if code, body := askAs(t, http.MethodGet, api+"/token", c.credentials); code != 200 || !strings.Contains(body, `"user_id":"`+c.user+`"`) {
			t.Errorf("%s: %d %s", c.name, code, body)
		}
	}
}

// A secret in the form of the other variable is told to the log at the first
// session that it does not fit, and once.
func TestServeNamesASessionSecretInTheWrongForm(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	text := encoded(sessionKey)
	for variable, c := range map[string]struct{ signedWith, advice string }{
		"FERRY_SESSION_SECRET":      {text, "they are signed with the text itself and not with what it decodes to; give it as FERRY_SESSION_SECRET_TEXT instead"},
		"FERRY_SESSION_SECRET_TEXT": {sessionKey, "they are signed with what the text decodes to and not with the text; give it in base64url as FERRY_SESSION_SECRET instead"},
	} {
		b, api := startServing(t, append(serveEnvironment(db.URLAs(r.login, ""), r), "FERRY_SESSION_SECRET=", variable+"="+text))
		session := signedWith(hs256(c.signedWith), `{"alg":"HS256"}`, `{"sub":"u1","exp":9999999999}`)
		for range 2 {
			if code, body := ask(t, http.MethodGet, api+"/token", session, ""); code != 401 || strings.Contains(body, "form") {
				t.Errorf("%s: %d %s", variable, code, body)
			}
		}
		b.stderr.waitFor(t, `"level":"ERROR","msg":"sessions are refused because their secret is configured in the wrong form: `+c.advice)
		if log := b.stderr.String(); strings.Count(log, "wrong form") != 1 || strings.Contains(log, text) || strings.Contains(log, sessionKey) {
			t.Errorf("%s: the log says it more than once, or the secret:\n%s", variable, log)
		}
	}
}
