package tokens

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

// allKinds is a set with a key of each algorithm, whose id it has.
func allKinds(active string) []byte {
	var jwks []json.RawMessage
	for _, alg := range Algorithms() {
		jwks = append(jwks, jwkOf(alg, alg))
	}
	return setOf(active, jwks...)
}

func TestTokensOfEveryAlgorithmVerifyWithGoJoseAndByTheirOwnKey(t *testing.T) {
	t.Parallel()
	for _, alg := range Algorithms() {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			o.Keys = parseSet(t, allKinds(alg))
			issuer := newIssuer(t, o)
			token := issue(t, issuer, "u1", `{}`).JWT
			jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			if err != nil {
				t.Fatal(err)
			}
			payload, err := jws.Verify(verifying(madeKeys()[alg]))
			if err != nil {
				t.Fatal(err)
			}
			header := jws.Signatures[0].Header
			if header.KeyID != alg || header.ExtraHeaders["typ"] != "JWT" {
				t.Errorf("kid %q, header %v", header.KeyID, header.ExtraHeaders)
			}
			claims, err := issuer.Verify(token)
			if err != nil || string(claims) != string(payload) || !issuer.Signed(token) {
				t.Errorf("claims %s, error %v, want %s", claims, err, payload)
			}
			for _, altered := range []string{token + "=", token + "\n", token + "A", token[:len(token)-4], token[:len(token)-8] + "AAAAAAAA"} {
				if issuer.Signed(altered) {
					t.Errorf("%s…%s is taken for signed", altered[:10], altered[len(altered)-8:])
				}
			}
		})
	}
}

// The PowerSync Service takes a published key only if its alg is the token's,
// and drops the whole set for one malformed key.
func TestPublishedKeysAreExactlyThePublicHalves(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Keys = parseSet(t, allKinds("HS256"))
	published := newIssuer(t, o).JWKS()
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(published, &set); err != nil {
		t.Fatal(err)
	}
	var members []string
	for _, key := range set.Keys {
		members = append(members, key["alg"]+" "+key["kty"]+" "+key["kid"]+": "+strings.Join(slices.Sorted(maps.Keys(key)), " "))
	}
	want := []string{
		"EdDSA OKP EdDSA: alg crv kid kty x",
		"ES256 EC ES256: alg crv kid kty x y",
		"RS256 RSA RS256: alg e kid kty n",
	}
	if diff := cmp.Diff(want, members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	var parsed jose.JSONWebKeySet
	if err := json.Unmarshal(published, &parsed); err != nil {
		t.Fatal(err)
	}
	for _, key := range parsed.Keys {
		if !key.IsPublic() || !key.Valid() {
			t.Errorf("%s is not a public key", key.KeyID)
		}
	}
}

func TestTheActiveKeyIsChosenByKid(t *testing.T) {
	t.Parallel()
	one := jwkOf("EdDSA", "a")
	two := []json.RawMessage{one, jwkOf("ES256", "b")}
	cases := []struct {
		name, text, active, want, err string
	}{
		{"the only one", string(setOf("", one)), "", "", `"active" is not the kid of a key`},
		{"the only one, unsaid", `{"keys":[` + string(one) + `]}`, "", "a", ""},
		{"by the set", string(setOf("b", two...)), "", "b", ""},
		{"by the caller", string(setOf("b", two...)), "a", "a", ""},
		{"of several, unsaid", `{"keys":[` + string(two[0]) + `,` + string(two[1]) + `]}`, "", "", `there are 2 keys, and nothing says which one signs: add "active": "<kid>" beside "keys"`},
		{"unknown to the set", string(setOf("c", two...)), "", "", `the key that is to sign, "c", is not in the set (a, b)`},
		{"unknown to the caller", string(setOf("b", two...)), "c", "", `the key that is to sign, "c", is not in the set (a, b)`},
		{"a number", `{"active":1,"keys":[` + string(one) + `]}`, "", "", `"active" is not the kid of a key`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			set, err := ParseKeySet([]byte(c.text), c.active)
			if set.ActiveID() != c.want || errorText(err) != c.err {
				t.Errorf("active %q, error %v; want %q, %s", set.ActiveID(), err, c.want, c.err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// changed is a JWK with other members; nil removes one.
func changed(jwk json.RawMessage, members map[string]any) string {
	var all map[string]any
	if err := json.Unmarshal(jwk, &all); err != nil {
		panic(err)
	}
	for name, value := range members {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestParseKeySetNamesEachKeyThatIsWrong(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // it is to be refused
	if err != nil {
		t.Fatal(err)
	}
	other, err := generate("ES256")
	if err != nil {
		t.Fatal(err)
	}
	otherHalf := map[string]any{}
	if err := json.Unmarshal(writeJWK("k", "ES256", other), &otherHalf); err != nil {
		t.Fatal(err)
	}
	const (
		noSet   = `this is not a JSON Web Key Set, {"keys": […]} in UTF-8 and no name twice: make one with: ferry keys add`
		private = "its parameters are not those of a private key (RFC 7518, section 6; RFC 8037), or do not belong together: make another with: ferry keys add"
	)
	hs, ed, ec, rs := jwkOf("HS256", "k"), jwkOf("EdDSA", "k"), jwkOf("ES256", "k"), jwkOf("RS256", "k")
	public := func(alg string) string { return string(writeJWK("k", alg, verifying(madeKeys()[alg]))) }
	cases := []struct{ name, key, want string }{
		{"no object", `"k"`, `key 1: it is not a JSON object`},
		{"a name twice", `{"kid":"k","kid":"k"}`, `JSON`},
		{"no kid", changed(hs, map[string]any{"kid": nil}), `key 1: it lacks a kid: add "kid": "…", the same as in the PowerSync Service's configuration`},
		{"a long kid", changed(hs, map[string]any{"kid": strings.Repeat("k", 129)}), `key 1: its kid is not 1 to 128 printable ASCII characters`},
		{"a kid that is a number", changed(hs, map[string]any{"kid": 1}), `key 1: its kid is not 1 to 128 printable ASCII characters`},
		{"no kty", changed(hs, map[string]any{"kty": nil}), `its kty is none that ferry signs with: oct, OKP, EC or RSA`},
		{"another curve", changed(ed, map[string]any{"crv": "X25519"}), `its curve (crv) is none that ferry signs with: Ed25519 for OKP, P-256 for EC`},
		{"P-384", string(writeJWK("k", "ES384", p384)), `its curve (crv) is none that ferry signs with: Ed25519 for OKP, P-256 for EC`},
		{"oct without alg", changed(hs, map[string]any{"alg": nil}), `its alg must be HS256 or HS384 or HS512, for its kty`},
		{"RSA without alg", changed(rs, map[string]any{"alg": nil}), `its alg must be RS256, for its kty`},
		{"another alg", changed(ed, map[string]any{"alg": "Ed25519"}), `its alg must be EdDSA, for its kty`},
		{"the alg of another type", changed(hs, map[string]any{"alg": "RS256"}), `its alg must be HS256 or HS384 or HS512, for its kty`},
		{"for encryption", changed(ec, map[string]any{"use": "enc"}), `it is not for signing: its use is not "sig"`},
		{"no secret", changed(hs, map[string]any{"k": nil}), `it lacks its secret (k)`},
		{"a padded secret", changed(hs, map[string]any{"k": strings.Repeat("A", 43) + "="}), `its secret (k) ends in =, which base64url has not in a JWK: leave it out`},
		{"standard base64", changed(hs, map[string]any{"k": strings.Repeat("+/", 22)}), `its secret (k) looks like standard base64, base64url is expected; convert it with: tr '+/' '-_', and give the same text to the PowerSync Service`},
		{"no base64", changed(hs, map[string]any{"k": "a secret with spaces"}), `its secret (k) is not base64url: only A-Z a-z 0-9 - and _ are expected, and no cut-off end`},
		{"a short secret", changed(hs, map[string]any{"k": "AAAA"}), `its secret (k) has 3 bytes after base64url decoding, HS256 needs at least 32: make another with: ferry keys add --alg HS256`},
		{"a secret too short for its hash", changed(hs, map[string]any{"alg": "HS512"}), `its secret (k) has 32 bytes after base64url decoding, HS512 needs at least 64: make another with: ferry keys add --alg HS512`},
		{"public Ed25519", public("EdDSA"), `it lacks its private half (d), without which nothing can be signed`},
		{"public EC", public("ES256"), `it lacks its private half (d), without which nothing can be signed`},
		{"public RSA", public("RS256"), `it lacks its private half (d), without which nothing can be signed`},
		{"halves of two keys", changed(ec, map[string]any{"d": otherHalf["d"]}), `its private half (d) does not belong to its public half`},
		{"d of zeros", changed(ec, map[string]any{"d": strings.Repeat("A", 43)}), `its private half (d) does not belong to its public half`},
		{"x of another", changed(ed, map[string]any{"x": otherHalf["x"]}), private},
		{"RSA without primes", changed(rs, map[string]any{"p": nil}), private},
		{"a short modulus", string(writeJWK("k", "RS256", small)), `its modulus (n) has 1024 bits, RS256 needs at least 2048`},
		{"a member of another type", changed(ec, map[string]any{"x": 7}), private},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			set, err := ParseKeySet([]byte(`{"keys":[`+c.key+`]}`), "")
			want := c.want
			switch {
			case want == "JSON":
				want = noSet
			case !strings.HasPrefix(want, "key 1"):
				want = `key 1 (kid "k"): ` + want
			}
			if diff := cmp.Diff(want, errorText(err)); diff != "" || len(set.all) > 0 {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
	for _, text := range []string{"", "x", "[]", "{}", `{"keys":{}}`, string(hs), "{\"keys\":[],\"a\":\"\xff\"}"} {
		if _, err := ParseKeySet([]byte(text), ""); errorText(err) != noSet {
			t.Errorf("%q: error %v, want %s", text, err, noSet)
		}
	}
	if _, err := ParseKeySet([]byte(`{"keys":[]}`), ""); errorText(err) != "there is no key in the set: make one with: ferry keys add" {
		t.Errorf("an empty set: error %v", err)
	}
	several := fmt.Sprintf(`{"keys":[%s,{"kid":"b"},%s,7]}`, hs, ec)
	want := "key 2 (kid \"b\"): its kty is none that ferry signs with: oct, OKP, EC or RSA\n" +
		"key 3 (kid \"k\"): an earlier key has the same kid: give each its own\n" +
		"key 4: it is not a JSON object"
	if _, err := ParseKeySet([]byte(several), ""); errorText(err) != want {
		t.Errorf("several: error %v, want %s", err, want)
	}
}

func TestTypesThatDecideTheAlgorithmNeedNoAlg(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"EdDSA", "ES256"} {
		set := parseSet(t, []byte(`{"keys":[`+changed(jwkOf(alg, "k"), map[string]any{"alg": nil, "note": "ours"})+`]}`))
		if set.active.alg != alg {
			t.Errorf("alg %q, want %q", set.active.alg, alg)
		}
	}
}

func TestPrintedKeysOfASetShowNoSecret(t *testing.T) {
	t.Parallel()
	set := parseSet(t, allKinds("HS256"))
	file, err := ParseKeyFile(allKinds("HS256"))
	if err != nil {
		t.Fatal(err)
	}
	secret := set.active.id
	for _, k := range set.all {
		if k.id == "HS256" {
			secret = string(encodedKey(k.secret()))
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed := fmt.Sprintf(verb+verb, set, file)
		raw, _ := decodeBase64url(secret)
		for _, form := range []string{secret, fmt.Sprintf("%x", raw[:4]), strings.Trim(fmt.Sprint(raw[:4]), "[]"), fmt.Sprintf("%x", secret)} {
			if strings.Contains(printed, form) {
				t.Errorf("%s prints the secret", verb)
			}
		}
	}
}

func TestSharedSecretsAreFound(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte("s"), 64)
	text := encodedKey(secret)
	set := func(alg string, secret []byte) KeySet {
		return parseSet(t, setOf("k", jwkOf("EdDSA", "e"), writeJWK("k", alg, secret)))
	}
	cases := []struct {
		name   string
		set    KeySet
		secret []byte
		want   bool
	}{
		{"the same bytes", set("HS256", secret), secret, true},
		{"the same bytes for another hash", set("HS512", secret), secret, true},
		{"as HMAC takes them", set("HS256", secret[:40]), append(bytes.Clone(secret[:40]), 0), true},
		{"the text of the secret", set("HS256", secret), text, true},
		{"the padded text of the secret", set("HS256", secret), append(bytes.Clone(text), "=="...), true},
		{"the secret is the other's text", set("HS256", text), secret, true},
		{"another", set("HS256", secret), bytes.Repeat([]byte("t"), 64), false},
		{"a part", set("HS256", secret), secret[:63], false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			id, shared := c.set.SharedWith(c.secret)
			if shared != c.want || (shared && id != "k") {
				t.Errorf("shared %t, key %q", shared, id)
			}
		})
	}
}

// FuzzParseKeySet holds that no text makes a reader of key sets panic, that
// errors repeat nothing but kids, and that rewriting a file changes no key.
func FuzzParseKeySet(f *testing.F) {
	const marker = "qZx7"
	f.Add([]byte(`{"keys":[{"kty":"oct","kid":"k","alg":"HS256","k":"` + marker + strings.Repeat("A", 39) + `","note":["n"]}],"comment":"c"}`))
	f.Add([]byte(`{"active":"k","keys":[{"kty":"` + marker + `","kid":"k"},{"kty":"oct","kid":"a","alg":"HS256","k":"` + marker + `"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"k","alg":"RS256","n":"AQAB","e":"AQAB","d":"` + marker + `","p":"Aw","q":"Aw"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","kid":"k","crv":"Ed25519","x":"` + strings.Repeat("A", 43) + `","d":"` + strings.Repeat("A", 43) + `"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","kid":"k","crv":"P-256","x":"","y":"","d":""}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, setErr := ParseKeySet(text, "")
		file, fileErr := ParseKeyFile(text)
		for _, err := range []error{setErr, fileErr} {
			if err != nil && strings.Contains(err.Error(), marker) && !namesKey(text, marker) {
				t.Errorf("the error repeats what is no kid: %v", err)
			}
		}
		if fileErr != nil || len(file.keys) == 0 {
			return
		}
		again, err := ParseKeyFile(file.Text())
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if diff := cmp.Diff(file.Keys(), again.Keys()); diff != "" {
			t.Errorf("written and read again (-want +got):\n%s", diff)
		}
	})
}

// namesKey is whether a kid of the set has the marker in it.
func namesKey(text []byte, marker string) bool {
	var set struct {
		Active any
		Keys   []struct{ KID any }
	}
	_ = json.Unmarshal(text, &set)
	names := fmt.Sprint(set.Active)
	for _, k := range set.Keys {
		names += fmt.Sprint(k.KID)
	}
	return strings.Contains(names, marker)
}
