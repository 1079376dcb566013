package tokens

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

// sourceFunc is a ClaimSource.
type sourceFunc func(userID, session string) (string, error)

var _ ClaimSource = sourceFunc(nil)

func (f sourceFunc) Claims(_ context.Context, userID string, session json.RawMessage) (json.RawMessage, error) {
	claims, err := f(userID, string(session))
	return json.RawMessage(claims), err
}

func says(claims string) ClaimSource {
	return sourceFunc(func(string, string) (string, error) { return claims, nil })
}

// customClaims are those of a token that are not ferry's own.
func customClaims(t *testing.T, token string) map[string]any {
	t.Helper()
	_, claims, err := open(token, testSecret)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"sub": "u1", "aud": testEndpoint, "iat": json.Number("1767323045"), "exp": json.Number("1767326645")}
	for name, value := range want {
		if diff := cmp.Diff(value, claims[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		delete(claims, name)
	}
	delete(claims, "jti")
	return claims
}

func TestClaimsOfASource(t *testing.T) {
	t.Parallel()
	copies := []ClaimCopy{{Name: "org", Path: []string{"org"}}, {Name: "role", Path: []string{"role"}}, {Name: "parameters", Path: []string{"org"}}}
	const session = `{"org":"of the session","role":"member"}`
	cases := []struct {
		name, source string
		copies       []ClaimCopy
		want         map[string]any
		warnings     int
	}{
		{"alone", `{"n":9007199254740993,"r":1.10,"o":{"a":[null]},"Exp":0}`, nil, map[string]any{
			"n": json.Number("9007199254740993"), "r": json.Number("1.10"), "o": map[string]any{"a": []any{nil}}, "Exp": json.Number("0"),
		}, 0},
		{"over the session's", `{"org":7}`, copies[:2], map[string]any{"org": json.Number("7"), "role": "member"}, 0},
		{"null over the session's", `{"org":null}`, copies[:1], map[string]any{"org": nil}, 0},
		{"nothing", ``, copies[:1], map[string]any{"org": "of the session"}, 0},
		{"no members", ` {} `, copies[:1], map[string]any{"org": "of the session"}, 0},
		{"what ferry sets itself", `{"sub":"u2","aud":[],"iss":1,"iat":2,"exp":3,"nbf":4,"jti":5,"a":6}`, nil, map[string]any{"a": json.Number("6")}, 1},
		{"spelled in another way", `{"\u0073ub":"u2"}`, nil, map[string]any{}, 1},
		{"parameters that are no object", `{"parameters":"x"}`, nil, map[string]any{}, 1},
		{"parameters over the session's", `{"parameters":{"p":1}}`, copies[2:], map[string]any{"parameters": map[string]any{"p": json.Number("1")}}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			o := options(t)
			o.Claims, o.Source, o.Log = c.copies, says(c.source), slog.New(slog.NewTextHandler(&log, nil))
			issuer := newIssuer(t, o)
			for range 2 {
				token := issue(t, issuer, "u1", session).JWT
				if diff := cmp.Diff(c.want, customClaims(t, token)); diff != "" {
					t.Errorf("claims (-want +got):\n%s", diff)
				}
				if err := acceptedByService(token, testNow); err != nil {
					t.Errorf("the service would refuse it: %v", err)
				}
			}
			if got := strings.Count(log.String(), "level=WARN"); got != c.warnings {
				t.Errorf("%d warnings, want %d:\n%s", got, c.warnings, &log)
			}
		})
	}
}

func TestTheSourceIsAskedForTheUserWithTheSession(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Source = sourceFunc(func(userID, session string) (string, error) {
		return `{"asked":"` + userID + `","with":` + session + `}`, nil
	})
	got := customClaims(t, issue(t, newIssuer(t, o), "u1", `{"sub":"u1","a":1}`).JWT)
	want := map[string]any{"asked": "u1", "with": map[string]any{"sub": "u1", "a": json.Number("1")}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestASourceThatFailsGivesNoToken(t *testing.T) {
	t.Parallel()
	refusal := fault.New(fault.UserDisabled, "not today")
	o := options(t)
	o.Source = sourceFunc(func(string, string) (string, error) { return "", refusal })
	token, err := newIssuer(t, o).Issue(t.Context(), "u1", nil)
	if !errors.Is(err, refusal) || token != (Token{}) {
		t.Errorf("token %v, error %v", token, err)
	}
	for _, text := range []string{`[]`, `"secret"`, `{"secret":1,"secret":2}`, "{\"secret\":\"\xff\"}", `{"a":"\ud800"}`, `{} {}`, `null`} {
		o.Source = says(text)
		_, err := newIssuer(t, o).Issue(t.Context(), "u1", nil)
		const want = "issue sync token: what gives tokens their custom claims is not a JSON object in UTF-8 in which no name stands twice"
		if errorText(err) != want {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
}

func TestCheckClaims(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"org":1,"parameters":{}}`: "",
		`[]`:                        "is not a JSON object in UTF-8 in which no name stands twice",
		`{"a":1,"exp":2}`:           `has "exp", a claim that ferry sets itself`,
		`{"parameters":1}`:          "has `parameters` that are not an object: the PowerSync Service would refuse the token",
	} {
		if got := errorText(CheckClaims(json.RawMessage(text))); got != want {
			t.Errorf("%s: error %q, want %q", text, got, want)
		}
	}
}

// Keys change while tokens are issued and verified: each token is whole, of one
// set or the other.
func TestKeysChangeWhileTokensAreIssued(t *testing.T) {
	t.Parallel()
	o := options(t)
	first := parseSet(t, setOf("first", jwkOf("EdDSA", "first"), jwkOf("HS256", "second")))
	second := parseSet(t, setOf("second", jwkOf("EdDSA", "first"), jwkOf("HS256", "second")))
	o.Keys = first
	issuer := newIssuer(t, o)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			for _, keys := range []KeySet{second, first} {
				if err := issuer.UseKeys(keys); err != nil {
					t.Error(err)
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	signers := map[string]bool{}
	deadline := time.Now().Add(10 * time.Second)
	for len(signers) < 2 && time.Now().Before(deadline) {
		token := issue(t, issuer, "u1", `{}`).JWT
		if _, err := issuer.Verify(token); err != nil {
			t.Fatal(err)
		}
		signers[strings.Split(token, ".")[0]] = true
	}
	close(stop)
	<-done
	if len(signers) < 2 {
		t.Error("the keys did not change")
	}
	if err := issuer.UseKeys(KeySet{}); err == nil {
		t.Error("a set without keys is taken")
	}
	issue(t, issuer, "u1", `{}`)
}
