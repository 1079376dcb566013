package tokens

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

func TestVerifyReturnsTheClaimsOfAnIssuedToken(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Issuer = "ferry"
	o.Claims = []ClaimCopy{{Name: "Exp", Path: []string{"zero"}}, {Name: "n", Path: []string{"n"}}}
	issuer := newIssuer(t, o)
	token := issue(t, issuer, "u1", `{"n":9007199254740993,"zero":0}`)
	claims, err := issuer.Verify(token.JWT)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token.JWT, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(payload), string(claims)); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if !issuer.Signed(token.JWT) {
		t.Error("a token that verifies is not signed")
	}
}

// A token with a good signature is refused for what it says, with a fault.
func TestVerifyRefusesByClaims(t *testing.T) {
	t.Parallel()
	const (
		expired   = "the sync token has expired (exp): fetch a new one from /token"
		early     = "the sync token is not valid yet: do the clocks of ferry's processes agree?"
		audience  = "the sync token is for another audience (aud) than this server's"
		issuerIs  = "the sync token is from another issuer (iss) than this server"
		lacking   = "the sync token lacks sub, iat or exp"
		unread    = "the sync token's claims cannot be read"
		rest      = `,"aud":"` + testEndpoint + `","iss":"ferry"}`
		inTime    = `"iat":%d,"exp":%d`
		user      = `{"sub":"u1",`
		ourIssuer = `,"iss":"ferry"}`
	)
	times := func(iat, exp time.Duration) string {
		return fmt.Sprintf(inTime, testNow.Add(iat).Unix(), testNow.Add(exp).Unix())
	}
	good := times(0, time.Hour)
	cases := []struct{ name, payload, detail string }{
		{"expired 59 s ago", user + times(-time.Hour, -59*time.Second) + rest, ""},
		{"expired 61 s ago", user + times(-time.Hour, -61*time.Second) + rest, expired},
		{"issued 61 s from now", user + times(61*time.Second, time.Hour) + rest, early},
		{"one of our audiences", user + good + `,"aud":["x","` + testEndpoint + `"]` + ourIssuer, ""},
		{"another audience", user + good + `,"aud":"x"` + ourIssuer, audience},
		{"no audience", user + good + ourIssuer, audience},
		{"another issuer", user + good + `,"aud":"` + testEndpoint + `","iss":"x"}`, issuerIs},
		{"no issuer", user + good + `,"aud":"` + testEndpoint + `"}`, issuerIs},
		{"no user", `{` + good + rest, lacking},
		{"no exp", user + `"iat":1` + rest, lacking},
		{"no iat", user + `"exp":9999999999` + rest, lacking},
		{"exp as a string", user + `"iat":1,"exp":"9999999999"` + rest, unread},
		{"a claim twice", user + `"sub":"u2",` + good + rest, unread},
		{"not JSON", "x", unread},
	}
	o := options(t)
	o.Issuer = "ferry"
	issuer := newIssuer(t, o)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			token := signed(t, o.Keys.active, c.payload)
			claims, err := issuer.Verify(token)
			if !issuer.Signed(token) {
				t.Error("not recognised as signed")
			}
			if c.detail == "" {
				if err != nil || string(claims) != c.payload {
					t.Errorf("claims %s, error %v", claims, err)
				}
				return
			}
			f, ok := errors.AsType[*fault.Error](err)
			if !ok || claims != nil {
				t.Fatalf("claims %s, error %v", claims, err)
			}
			if diff := cmp.Diff(fault.New(fault.InvalidSession, "%s", c.detail), f); diff != "" {
				t.Errorf("fault (-want +got):\n%s", diff)
			}
		})
	}
}

// A token that no key signed is refused without a fault: it may be a session.
func TestVerifyRefusesWhatNoKeySigned(t *testing.T) {
	t.Parallel()
	o := options(t)
	issuer := newIssuer(t, o)
	good := issue(t, issuer, "u1", `{}`).JWT
	parts := strings.Split(good, ".")
	elsewhere := func(id string, secret []byte) string {
		o := options(t)
		o.Keys = newKeySet(t, id, secret)
		return issue(t, newIssuer(t, o), "u1", `{}`).JWT
	}
	resigned := func(header string) string {
		key := o.Keys.active
		key.header = base64.RawURLEncoding.EncodeToString([]byte(header)) + "."
		return signed(t, key, `{}`)
	}
	cases := map[string]string{
		"nothing":                   "",
		"garbage":                   "x",
		"dots":                      "..",
		"another secret":            elsewhere(testKeyID, bytes.Repeat([]byte("o"), 32)),
		"another kid":               elsewhere("other", testSecret),
		"no kid":                    resigned(`{"alg":"HS256","typ":"JWT"}`),
		"alg none":                  resigned(`{"alg":"none","kid":"key \"1\"","typ":"JWT"}`),
		"a critical extension":      resigned(`{"alg":"HS256","kid":"key \"1\"","typ":"JWT","crit":["exp"]}`),
		"no signature":              parts[0] + "." + parts[1] + ".",
		"another payload":           parts[0] + ".e30." + parts[2],
		"an altered signature":      good[:len(good)-5] + "AAAAA",
		"padding":                   good + "=",
		"a line feed":               good + "\n",
		"another text of the bytes": good[:len(good)-1] + nextInGroup(good[len(good)-1]),
		"a fourth part":             good + ".e30",
		"half":                      good[:len(good)/2],
	}
	for name, token := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claims, err := issuer.Verify(token)
			if _, isFault := errors.AsType[*fault.Error](err); err == nil || isFault || claims != nil {
				t.Errorf("claims %s, error %v", claims, err)
			}
			if issuer.Signed(token) {
				t.Error("taken for signed")
			}
		})
	}
}

// nextInGroup is a base64url character that decodes to the same last byte: 32
// bytes leave two bits of the last character unused.
func nextInGroup(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}

func TestTokensOfAllKeysOfTheSetVerify(t *testing.T) {
	t.Parallel()
	first, err := NewHS256Key("first", testSecret)
	if err != nil {
		t.Fatal(err)
	}
	second, err := NewHS256Key("second", bytes.Repeat([]byte("s"), 64))
	if err != nil {
		t.Fatal(err)
	}
	issuerWith := func(active Key, others ...Key) *Issuer {
		o := options(t)
		if o.Keys, err = NewKeySet(active, others...); err != nil {
			t.Fatal(err)
		}
		return newIssuer(t, o)
	}
	before, during, after := issuerWith(first), issuerWith(second, first), issuerWith(second)
	old := issue(t, before, "u1", `{}`).JWT
	fresh := issue(t, during, "u1", `{}`).JWT
	got := map[string]bool{
		"old before": before.Signed(old), "old during": during.Signed(old), "old after": after.Signed(old),
		"fresh before": before.Signed(fresh), "fresh during": during.Signed(fresh), "fresh after": after.Signed(fresh),
	}
	want := map[string]bool{
		"old before": true, "old during": true, "old after": false,
		"fresh before": false, "fresh during": true, "fresh after": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("recognised (-want +got):\n%s", diff)
	}
}

// FuzzVerify holds that only what a key signed is accepted, and that nothing
// makes it panic.
func FuzzVerify(f *testing.F) {
	issuer := newIssuer(f, options(f))
	good := issue(f, issuer, "u1", `{}`).JWT
	f.Add(good)
	f.Add(good + "=")
	f.Add(strings.Split(good, ".")[0] + "..")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := issuer.Verify(token)
		if err != nil {
			return
		}
		if _, _, err := open(token, testSecret); err != nil || !json.Valid(claims) {
			t.Fatalf("accepted %q: %v", token, err)
		}
	})
}
