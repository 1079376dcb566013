package tokens

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// anyToken signs a header and payload, whatever they say, as HMAC-SHA-256 does.
func anyToken(secret []byte, header, payload string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	signature := mac(hmacHash("HS256"), secret, []byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func TestInspect(t *testing.T) {
	t.Parallel()
	const (
		header = `{"typ":"JWT","alg":"HS256","kid":"k"}`
		s2101  = "PSYNC_S2101: "
	)
	at := func(offset time.Duration) int64 { return testNow.Add(offset).Unix() }
	claims := func(more string) string {
		return fmt.Sprintf(`{"sub":"u1","aud":"https://sync.example.com","iat":%d,"exp":%d%s}`, at(0), at(time.Hour), more)
	}
	times := func(iat, exp int64) string {
		return fmt.Sprintf(`{"sub":"u1","aud":"https://sync.example.com","iat":%d,"exp":%d}`, iat, exp)
	}
	aud := func(aud string) string {
		return fmt.Sprintf(`{"sub":"u1",%s"iat":%d,"exp":%d}`, aud, at(0), at(time.Hour))
	}
	good := anyToken(testSecret, header, claims(""))
	parts := strings.Split(good, ".")
	textOfSecret := encodedKey(testSecret)
	cases := []struct {
		name, token string
		want        []string
	}{
		{"a good one", good, nil},
		{"what ferry issues", issue(t, newIssuer(t, withKeys(t, "k")), "u1", `{}`).JWT, nil},
		{"several audiences, no user", anyToken(testSecret, header, aud(`"aud":["x","other"],`)), nil},
		{"an empty sub", anyToken(testSecret, header, strings.Replace(claims(""), `"u1"`, `""`, 1)), nil},
		{"a null sub", anyToken(testSecret, header, strings.Replace(claims(""), `"u1"`, `null`, 1)), nil},
		{"no claims", anyToken(testSecret, header, `{}`), []string{
			s2101 + "it has no sub", s2101 + "it has no iat", s2101 + "it has no exp",
			"PSYNC_S2105: it has no aud: it must be one of what the service's client_auth.audience lists (https://sync.example.com, other)",
		}},
		{"another aud", anyToken(testSecret, header, aud(`"aud":"x",`)), []string{
			`PSYNC_S2105: its aud "x" is not one that is configured (https://sync.example.com, other), which the service's client_auth.audience must list`,
		}},
		{"a trailing slash", anyToken(testSecret, header, aud(`"aud":["https://sync.example.com/"],`)), []string{
			"PSYNC_S2105: its aud has a trailing slash too many: the service compares the text (https://sync.example.com, other)",
		}},
		{"a day", anyToken(testSecret, header, times(at(0), at(24*time.Hour))), nil},
		{"over a day", anyToken(testSecret, header, times(at(0), at(24*time.Hour+time.Second))), []string{
			"PSYNC_S2104: it lives for 24h0m1s (exp − iat), at most 24h0m0s are allowed",
		}},
		{"milliseconds", anyToken(testSecret, header, times(at(0)*1000, at(10*time.Minute)*1000)), []string{
			"PSYNC_S2104: it lives for 166h40m0s (exp − iat), at most 24h0m0s are allowed; its exp looks like milliseconds, and seconds are expected (RFC 7519, section 2)",
		}},
		{"expired 59 s ago", anyToken(testSecret, header, times(at(-time.Hour), at(-59*time.Second))), nil},
		{"expired 61 s ago", anyToken(testSecret, header, times(at(-time.Hour), at(-61*time.Second))), []string{
			"PSYNC_S2103: it expired 1m1s ago (exp): fetch a new one",
		}},
		{"not valid yet", anyToken(testSecret, header, claims(fmt.Sprintf(`,"nbf":%d`, at(61*time.Second)))), []string{
			s2101 + "it is not valid before 1m1s from now (nbf)",
		}},
		{"valid from about now", anyToken(testSecret, header, claims(fmt.Sprintf(`,"nbf":%d`, at(60*time.Second)))), nil},
		{"times as strings", anyToken(testSecret, header, `{"sub":"u1","aud":"other","iat":"1767323045","exp":"1767326645"}`), []string{
			s2101 + "its iat is not a number: seconds since 1970 without quotes (RFC 7519, section 2)",
			s2101 + "its exp is not a number: seconds since 1970 without quotes (RFC 7519, section 2)",
		}},
		{"times that are none", anyToken(testSecret, header, `{"sub":"u1","aud":"other","iat":-1e300,"exp":1e400}`), []string{
			"PSYNC_S2104: it lives for +Inf s (exp − iat), at most 24h0m0s are allowed",
		}},
		{"parameters that are no object", anyToken(testSecret, header, claims(`,"parameters":"x"`)), []string{s2101 + "its `parameters` claim is not an object"}},
		{"parameters that are null", anyToken(testSecret, header, claims(`,"parameters":null`)), nil},
		{"no kid", anyToken(testSecret, `{"alg":"HS256"}`, claims("")), []string{
			s2101 + `its header has no kid, so that no key is found; key "k" does verify it: the kid is wrong`,
		}},
		{"unknown kid", anyToken([]byte("no key of ours"), `{"alg":"HS256","kid":"x"}`, claims("")), []string{
			s2101 + `its kid "x" is not that of a key here (k, e)`,
		}},
		{"another key's kid", anyToken(testSecret, `{"alg":"EdDSA","kid":"e"}`, claims("")), []string{
			s2101 + `its signature does not verify with key "e": it was signed with another key, or altered; key "k" does verify it: the kid is wrong`,
		}},
		{"wrong signature", parts[0] + "." + parts[1] + "." + "AAAA", []string{
			s2101 + `its signature does not verify with key "k": it was signed with another key, or altered`,
		}},
		{"wrong alg", anyToken(testSecret, `{"alg":"HS512","kid":"k"}`, claims("")), []string{
			s2101 + `its alg is "HS512", but key "k" is for HS256, and the two must be equal`,
		}},
		{"alg none", anyToken(testSecret, `{"alg":"none","kid":"k"}`, claims("")), []string{
			s2101 + "it is not signed: its header's alg is missing, or none",
		}},
		{"a critical extension", anyToken(testSecret, `{"alg":"HS256","kid":"k","crit":["x"]}`, claims("")), []string{
			s2101 + "its header has a critical extension (crit), which the service does not know",
		}},
		{"signed with the secret's text", anyToken(textOfSecret, header, claims("")), []string{
			s2101 + `its signature does not verify with key "k": it was signed with another key, or altered; ` +
				`it was signed with the text of the secret of key "k": decode that from base64url first, and sign with the bytes`,
		}},
		{"two dots", "..", []string{s2101 + "its header is not a JSON object in UTF-8 in which no name stands twice"}},
		{"encrypted", "a.b.c.d.e", []string{s2101 + "it is an encrypted JWT (JWE): the service takes signed ones"}},
		{"nothing", "", []string{s2101 + "it is not a signed JWT (header.payload.signature)"}},
		{"padding", parts[0] + "=." + parts[1] + "." + parts[2], []string{s2101 + "its header is not base64url without padding: was the token cut, or changed on its way?"}},
		{"cut", good[:len(good)-1], []string{s2101 + "its signature is not base64url without padding: was the token cut, or changed on its way?"}},
	}
	keys := withKeys(t, "k").Keys
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := keys.Inspect(c.token, []string{"https://sync.example.com", "other"}, testNow)
			if diff := cmp.Diff(c.want, texts(got.Refusals)); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}

func texts(refusals []Refusal) []string {
	var texts []string
	for _, r := range refusals {
		texts = append(texts, r.Code+": "+r.Text)
	}
	return texts
}

// withKeys are options with an HS256 and an EdDSA key.
func withKeys(t *testing.T, active string) Options {
	t.Helper()
	o := options(t)
	o.Keys = parseSet(t, setOf(active, writeJWK("k", "HS256", testSecret), jwkOf("EdDSA", "e")))
	return o
}

func TestInspectShowsHeaderAndClaimsAsTheyStand(t *testing.T) {
	t.Parallel()
	const header, payload = `{"kid":"k","alg":"HS256"}`, `{"n":9007199254740993,"r":1.10}`
	got := withKeys(t, "k").Keys.Inspect(anyToken(testSecret, header, payload), nil, testNow)
	if diff := cmp.Diff([]string{header, payload}, []string{string(got.Header), string(got.Claims)}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestInspectFindsASecretThatWasEncodedTwice(t *testing.T) {
	t.Parallel()
	keys := parseSet(t, setOf("k", writeJWK("k", "HS256", encodedKey(testSecret))))
	got := keys.Inspect(anyToken(testSecret, `{"alg":"HS256","kid":"k"}`, `{"sub":"","aud":"a","iat":1767323045,"exp":1767326645}`), []string{"a"}, testNow)
	want := []string{`PSYNC_S2101: its signature does not verify with key "k": it was signed with another key, or altered; ` +
		`it was signed with what the secret of key "k" is once it is decoded twice: the configured text was encoded twice, or the signer decodes too often`}
	if diff := cmp.Diff(want, texts(got.Refusals)); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
}

// What Inspect accepts and refuses must be what the tests of issuing take for
// the service's judgement.
func FuzzInspect(f *testing.F) {
	keys, err := ParseKeySet(setOf("k", writeJWK(testKeyID, "HS256", testSecret), jwkOf("EdDSA", "k")), "")
	if err != nil {
		f.Fatal(err)
	}
	header := `{"alg":"HS256","kid":"key \"1\""}`
	f.Add("x", header, `{"sub":"u1","aud":"https://sync.example.com","iat":1767323045,"exp":1767326645}`)
	f.Add("a.b.c", header, `{"sub":"u1","aud":["https://sync.example.com"],"iat":1767323045,"exp":1767326645,"nbf":"x","parameters":[]}`)
	f.Add("..", `{"alg":"none"}`, `{"iat":1e999,"exp":-1e999,"aud":{}}`)
	f.Fuzz(func(t *testing.T, token, header, payload string) {
		keys.Inspect(token, nil, testNow)
		signed := anyToken(testSecret, header, payload)
		got := keys.Inspect(signed, []string{testEndpoint}, testNow)
		if refused := acceptedByService(signed, testNow); refused == nil && len(got.Refusals) > 0 && !strings.Contains(header, "crit") && !strings.Contains(payload, "nbf") {
			t.Errorf("refused %s: %v", payload, got.Refusals)
		}
	})
}
