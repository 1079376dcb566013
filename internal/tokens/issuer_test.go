package tokens

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

var (
	testNow    = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	testSecret = bytes.Repeat([]byte("t"), 32)
)

const (
	testEndpoint = "https://sync.example.com"
	testKeyID    = `key "1"`
)

func newKeySet(t testing.TB, id string, secret []byte) KeySet {
	t.Helper()
	key, err := NewHS256Key(id, secret)
	if err != nil {
		t.Fatal(err)
	}
	set, err := NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// options are those of an issuer with one key and one audience.
func options(t testing.TB) Options {
	t.Helper()
	return Options{
		Keys:     newKeySet(t, testKeyID, testSecret),
		Audience: []string{testEndpoint},
		TTL:      time.Hour,
		Endpoint: testEndpoint,
		Now:      func() time.Time { return testNow },
	}
}

// signed returns a payload signed with a key.
func signed(t testing.TB, k Key, payload string) string {
	t.Helper()
	token, err := k.token([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func newIssuer(t testing.TB, o Options) *Issuer {
	t.Helper()
	issuer, err := NewIssuer(o)
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

func issue(t testing.TB, i *Issuer, userID, session string) Token {
	t.Helper()
	token, err := i.Issue(t.Context(), userID, json.RawMessage(session))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestIssue(t *testing.T) {
	t.Parallel()
	const session = `{"sub":"ignored","exp":1,"org":{"id":9007199254740993,"roles":["a", 1.10]},"email":"a@example.com","parameters":{"x":null},"nothing":null}`
	iat, exp := json.Number("1767323045"), json.Number("1767326645")
	cases := []struct {
		name    string
		options func(*Options)
		want    map[string]any
	}{
		{
			name: "the least", options: func(*Options) {},
			want: map[string]any{"sub": "u1", "aud": testEndpoint, "iat": iat, "exp": exp},
		},
		{
			name: "issuer and several audiences",
			options: func(o *Options) {
				o.Issuer = `ferry "x"`
				o.Audience = []string{"powersync-dev", testEndpoint}
			},
			want: map[string]any{"sub": "u1", "aud": []any{"powersync-dev", testEndpoint}, "iss": `ferry "x"`, "iat": iat, "exp": exp},
		},
		{
			name:    "the shortest life",
			options: func(o *Options) { o.TTL = time.Minute },
			want:    map[string]any{"sub": "u1", "aud": testEndpoint, "iat": iat, "exp": json.Number("1767323105")},
		},
		{
			name:    "the longest life",
			options: func(o *Options) { o.TTL = 24 * time.Hour },
			want:    map[string]any{"sub": "u1", "aud": testEndpoint, "iat": iat, "exp": json.Number("1767409445")},
		},
		{
			name: "custom claims",
			options: func(o *Options) {
				o.Claims = []ClaimCopy{
					{Name: "org_id", Path: []string{"org", "id"}},
					{Name: "org", Path: []string{"org"}},
					{Name: `mail "1"`, Path: []string{"email"}},
					{Name: "session_user", Path: []string{"sub"}},
					{Name: "parameters", Path: []string{"parameters"}},
					{Name: "nothing", Path: []string{"nothing"}},
					{Name: "missing", Path: []string{"missing"}},
					{Name: "missing too", Path: []string{"org", "id", "deeper"}},
				}
			},
			want: map[string]any{
				"sub": "u1", "aud": testEndpoint, "iat": iat, "exp": exp,
				"org_id":       json.Number("9007199254740993"),
				"org":          map[string]any{"id": json.Number("9007199254740993"), "roles": []any{"a", json.Number("1.10")}},
				`mail "1"`:     "a@example.com",
				"session_user": "ignored",
				"parameters":   map[string]any{"x": nil},
				"nothing":      nil,
			},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			c.options(&o)
			token := issue(t, newIssuer(t, o), "u1", session)

			header, claims, err := open(token.JWT, testSecret)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]any{"alg": "HS256", "kid": testKeyID, "typ": "JWT"}, header); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			if jti, _ := claims["jti"].(string); len(jti) < 26 {
				t.Errorf("jti %q has under 128 bits", jti)
			}
			delete(claims, "jti")
			if diff := cmp.Diff(c.want, claims); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
			if err := acceptedByService(token.JWT, testNow); err != nil {
				t.Errorf("the service would refuse it: %v", err)
			}
			want := Token{
				JWT:       token.JWT,
				ExpiresAt: testNow.Truncate(time.Second).Add(o.TTL),
				Endpoint:  testEndpoint,
				UserID:    "u1",
			}
			if diff := cmp.Diff(want, token); diff != "" {
				t.Errorf("token (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIssuedTokensVerifyWithGoJose(t *testing.T) {
	t.Parallel()
	token := issue(t, newIssuer(t, options(t)), "u1", `{}`)
	jws, err := jose.ParseSignedCompact(token.JWT, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := jws.Verify(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	if got := jws.Signatures[0].Header.KeyID; got != testKeyID {
		t.Errorf("kid %q, want %q", got, testKeyID)
	}
	// Signed by go-jose, the payload gives the very same text.
	again, err := joseSigner(t, "HS256", testSecret).Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := again.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, token.JWT); diff != "" {
		t.Errorf("token (-go-jose +ferry):\n%s", diff)
	}
}

func TestTokensOfOneSecondDiffer(t *testing.T) {
	t.Parallel()
	issuer := newIssuer(t, options(t))
	first, second := issue(t, issuer, "u1", `{}`), issue(t, issuer, "u1", `{}`)
	if first.JWT == second.JWT {
		t.Error("two calls gave the same token")
	}
}

func TestParametersThatAreNoObjectAreLeftOutWithOneWarning(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	o := options(t)
	o.Claims = []ClaimCopy{{Name: "parameters", Path: []string{"p"}}, {Name: "q", Path: []string{"p"}}}
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	issuer := newIssuer(t, o)
	for _, value := range []string{`"secret"`, `["secret"]`, `7`, `null`, `true`} {
		token := issue(t, issuer, "u1", `{"p":`+value+`}`)
		_, claims, err := open(token.JWT, testSecret)
		if err != nil {
			t.Fatal(err)
		}
		if _, found := claims["parameters"]; found {
			t.Errorf("parameters %s was copied", value)
		}
		if _, found := claims["q"]; !found {
			t.Errorf("%s was not copied to another claim", value)
		}
	}
	if got := strings.Count(log.String(), "level=WARN"); got != 1 {
		t.Errorf("%d warnings, want 1:\n%s", got, &log)
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the log repeats a claim:\n%s", &log)
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Claims = []ClaimCopy{{Name: "org", Path: []string{"org"}}}
	issuer := newIssuer(t, o)
	cases := []struct{ name, userID, session, want string }{
		{"no user", "", `{}`, "issue sync token: the user id is empty"},
		{"a user id that is not UTF-8", "\xff", `{}`, "issue sync token: the user id is not valid UTF-8"},
		{"no claims", "u1", ``, "issue sync token: the session's claims are not a JSON object"},
		{"claims that are null", "u1", `null`, "issue sync token: the session's claims are not a JSON object"},
		{"claims that are a list", "u1", `[]`, "issue sync token: the session's claims are not a JSON object"},
		{"a claim twice", "u1", `{"org":1,"org":2}`, "issue sync token: the session's claims are not a JSON object"},
		{"claims cut off", "u1", `{"org":1`, "issue sync token: the session's claims are not a JSON object"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			token, err := issuer.Issue(t.Context(), c.userID, json.RawMessage(c.session))
			if err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if token != (Token{}) {
				t.Errorf("token %+v beside an error", token)
			}
		})
	}
}

func TestNewIssuerNamesEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	const lifetime = "the lifetime of a sync token is 1m0s to 24h0m0s in whole seconds, not "
	const endpoint = "the endpoint is not the http(s) URL of a PowerSync Service, such as https://sync.example.com"
	path := []string{"x"}
	cases := []struct {
		name    string
		options func(*Options)
		want    string
	}{
		{"no key", func(o *Options) { o.Keys = KeySet{} }, "there is no token key"},
		{"no audience", func(o *Options) { o.Audience = nil }, "a sync token needs an audience: the URL of the PowerSync Service, or what its client_auth.audience says"},
		{"empty audience", func(o *Options) { o.Audience = []string{"a", ""} }, "a sync token needs an audience: the URL of the PowerSync Service, or what its client_auth.audience says"},
		{"audience not UTF-8", func(o *Options) { o.Audience = []string{"\xff"} }, "the audience or the issuer is not valid UTF-8"},
		{"issuer not UTF-8", func(o *Options) { o.Issuer = "\xff" }, "the audience or the issuer is not valid UTF-8"},
		{"59 s", func(o *Options) { o.TTL = 59 * time.Second }, lifetime + "59s"},
		{"over a day", func(o *Options) { o.TTL = 24*time.Hour + time.Second }, lifetime + "24h0m1s"},
		{"half a second", func(o *Options) { o.TTL = 90*time.Second + 500*time.Millisecond }, lifetime + "1m30.5s"},
		{"no endpoint", func(o *Options) { o.Endpoint = "" }, endpoint},
		{"endpoint without a scheme", func(o *Options) { o.Endpoint = "sync.example.com" }, endpoint},
		{"endpoint of a websocket", func(o *Options) { o.Endpoint = "wss://sync.example.com" }, endpoint},
		{"endpoint that is no URL", func(o *Options) { o.Endpoint = "https://u:secret@x:port" }, endpoint},
		{"endpoint with a slash", func(o *Options) { o.Endpoint += "/" }, "the endpoint ends in a slash, with which PowerSync's client SDK fails for ever: leave it out"},
		{"reserved claim", func(o *Options) { o.Claims = []ClaimCopy{{"jti", path}} }, `custom claim "jti" is one that ferry sets itself`},
		{"claim twice", func(o *Options) { o.Claims = []ClaimCopy{{"a", path}, {"a", path}} }, `custom claim "a" stands twice`},
		{"claim without a path", func(o *Options) { o.Claims = []ClaimCopy{{"a", nil}} }, `custom claim "a" lacks a name, a path, or a part of its path`},
		{"claim with half a path", func(o *Options) { o.Claims = []ClaimCopy{{"a", []string{"b", ""}}} }, `custom claim "a" lacks a name, a path, or a part of its path`},
		{"claim not UTF-8", func(o *Options) { o.Claims = []ClaimCopy{{"\xff", path}} }, "the name of a custom claim is not valid UTF-8"},
		{"no clock", func(o *Options) { o.Now = nil }, "issuing tokens needs a clock"},
		{
			"several at once",
			func(o *Options) { o.TTL, o.Now = 0, nil },
			lifetime + "0s\nissuing tokens needs a clock",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			c.options(&o)
			_, err := NewIssuer(o)
			if err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

func TestEveryReservedClaimIsRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sub", "aud", "iss", "iat", "exp", "nbf", "jti"} {
		o := options(t)
		o.Claims = []ClaimCopy{{Name: name, Path: []string{"x"}}}
		if _, err := NewIssuer(o); err == nil {
			t.Errorf("%s may be overridden", name)
		}
	}
}

func TestJWKSPublishesNoSymmetricKey(t *testing.T) {
	t.Parallel()
	if got := string(newIssuer(t, options(t)).JWKS()); got != `{"keys":[]}` {
		t.Errorf("JWKS %s", got)
	}
}
