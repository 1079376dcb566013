package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

// rsaKeys are made once: it takes some time.
var rsaKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	return [2]*rsa.PrivateKey{newRSAKey(2048), newRSAKey(2048)}
})

func newRSAKey(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

func newECKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func newEdKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// signPublic signs any header and payload with the standard library alone. The
// algorithm is not the header's.
func signPublic(algorithm string, key crypto.Signer) func(header, payload string) string {
	return func(header, payload string) string {
		enc := base64.RawURLEncoding
		signed := enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(payload))
		return signed + "." + enc.EncodeToString(signature(algorithm, key, []byte(signed)))
	}
}

func signature(algorithm string, key crypto.Signer, text []byte) []byte {
	if algorithm == "EdDSA" {
		return must(key.Sign(rand.Reader, text, crypto.Hash(0)))
	}
	h, id := digest(algorithm)
	h.Write(text)
	sum := h.Sum(nil)
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if strings.HasPrefix(algorithm, "PS") {
			return must(rsa.SignPSS(rand.Reader, key, id, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(rand.Reader, key, id, sum))
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, sum)
		if err != nil {
			panic(err)
		}
		size := (key.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	panic("no such key")
}

func digest(algorithm string) (hash.Hash, crypto.Hash) {
	switch algorithm[2:] {
	case "384":
		return sha512.New384(), crypto.SHA384
	case "512":
		return sha512.New(), crypto.SHA512
	}
	return sha256.New(), crypto.SHA256
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// jwk is a public key as an identity provider publishes it.
func jwk(kid string, key crypto.Signer) json.RawMessage {
	return must(jose.JSONWebKey{Key: key.Public(), KeyID: kid}.MarshalJSON())
}

func jwks(keys ...json.RawMessage) []byte {
	return must(json.Marshal(map[string]any{"keys": keys}))
}

// published are the keys of a provider whose JWKS this is.
func published(document []byte) *ProviderKeys {
	const url = "https://auth.example/jwks"
	return NewProviderKeys(ProviderKeysOptions{
		JWKSURL: url,
		Fetch: func(_ context.Context, asked string) ([]byte, error) {
			if asked != url {
				panic("asked for " + asked)
			}
			return document, nil
		},
		Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return suiteNow },
	})
}

const (
	otherPublished = "the session's signature does not verify: it was signed with a different key than its issuer publishes, or it was altered"
	allPublic      = "RS256, RS384, RS512, PS256, ES256, ES384, ES512, EdDSA"
)

func TestSessionJWTWithPublicKeysConforms(t *testing.T) {
	t.Parallel()
	rsaPair := rsaKeys()
	cases := map[string][2]crypto.Signer{
		"RS256": {rsaPair[0], rsaPair[1]},
		"RS384": {rsaPair[0], rsaPair[1]},
		"RS512": {rsaPair[0], rsaPair[1]},
		"PS256": {rsaPair[0], rsaPair[1]},
		"ES256": {newECKey(elliptic.P256()), newECKey(elliptic.P256())},
		"ES384": {newECKey(elliptic.P384()), newECKey(elliptic.P384())},
		"ES512": {newECKey(elliptic.P521()), newECKey(elliptic.P521())},
		"EdDSA": {newEdKey(), newEdKey()},
	}
	for algorithm, keys := range cases {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			provider := published(jwks(jwk("k1", keys[0]), jwk("another", newEdKey()), jwk("one more", rsaPair[1])))
			testConformance(t, scheme{
				alg: algorithm, kid: "k1", accepts: allPublic, otherKey: otherPublished,
				authenticator: func(t *testing.T, e expectations) Authenticator {
					return newSessionJWTOf(t, SessionIssuer{Keys: provider, Issuer: e.issuer, Audience: e.audience, UserClaim: e.userClaim})
				},
				sign:      signPublic(algorithm, keys[0]),
				signOther: signPublic(algorithm, keys[1]),
			})
		})
	}
}

// A session is only ever verified with a key that is for its algorithm.
func TestPublicKeysAreNotConfusedByTheHeader(t *testing.T) {
	t.Parallel()
	rsaKey, ecKey := rsaKeys()[0], newECKey(elliptic.P256())
	onlyRS512 := must(json.Marshal(map[string]any{
		"kty": "RSA", "kid": "strict", "alg": "RS512",
		"n": base64.RawURLEncoding.EncodeToString(rsaKey.N.Bytes()), "e": "AQAB",
	}))
	provider := published(jwks(jwk("rsa", rsaKey), jwk("ec", ecKey), onlyRS512))
	both := newSessionJWTOf(t, SessionIssuer{Secret: testKey, Keys: provider})
	strict := newSessionJWTOf(t, SessionIssuer{Secret: testKey, Keys: provider, Algorithms: []string{"ES256"}})
	payload := `{"sub":"u1","exp":` + at(600) + `}`
	const unknown = "the session is signed with a key (kid) that its issuer does not publish"
	cases := []struct {
		name          string
		authenticator Authenticator
		token, detail string
	}{
		{"HS256 with the modulus of a public key", both, signHS256(rsaKey.N.Bytes())(`{"alg":"HS256","kid":"rsa"}`, payload), otherSecret},
		{"HS256 with the published key's text", both, signHS256(jwk("rsa", rsaKey))(`{"alg":"HS256","kid":"rsa"}`, payload), otherSecret},
		{"RS256 with the kid of an EC key", both, signPublic("RS256", rsaKey)(`{"alg":"RS256","kid":"ec"}`, payload), unknown},
		{"RS256 with a key that is for RS512", both, signPublic("RS256", rsaKey)(`{"alg":"RS256","kid":"strict"}`, payload), unknown},
		{"an unknown kid", both, signPublic("RS256", rsaKey)(`{"alg":"RS256","kid":"x"}`, payload), unknown},
		{"an ES256 signature that claims RS256", both, signPublic("ES256", ecKey)(`{"alg":"RS256","kid":"rsa"}`, payload), otherPublished},
		{"HS256 over the right secret that claims RS256", both, signHS256(testKey)(`{"alg":"RS256","kid":"rsa"}`, payload), otherPublished},
		{
			"a key that the header brings along", both,
			signPublic("RS256", rsaKeys()[1])(`{"alg":"RS256","kid":"rsa","jwk":`+string(jwk("rsa", rsaKeys()[1]))+`}`, payload), otherPublished,
		},
		{
			"a key where the header says, which nobody asks", both,
			signPublic("RS256", rsaKeys()[1])(`{"alg":"RS256","kid":"theirs","jku":"https://evil.example/jwks","x5u":"https://evil.example/cert"}`, payload), unknown,
		},
		{"an algorithm that is not configured", strict, signPublic("RS256", rsaKey)(`{"alg":"RS256","kid":"rsa"}`, payload), "the session is signed with alg RS256, but this server accepts ES256"},
		{"the secret where it is not configured", strict, signHS256(testKey)(`{"alg":"HS256"}`, payload), "the session is signed with alg HS256, but this server accepts ES256"},
		{"PS384, which nobody may use", both, signPublic("PS384", rsaKey)(`{"alg":"PS384","kid":"rsa"}`, payload), "the session is signed with alg PS384, but this server accepts HS256, " + allPublic},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := c.authenticator.Authenticate(t.Context(), bearing(c.token))
			requireRefusal(t, p, err, c.token, c.detail)
		})
	}
	for name, token := range map[string]string{
		"the secret":               signHS256(testKey)(`{"alg":"HS256"}`, payload),
		"RS512 with its own key":   signPublic("RS512", rsaKey)(`{"alg":"RS512","kid":"strict"}`, payload),
		"a header without any kid": signPublic("ES256", ecKey)(`{"alg":"ES256"}`, payload),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := both.Authenticate(t.Context(), bearing(token)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParseKeySetTakesKeyByKey(t *testing.T) {
	t.Parallel()
	rsaKey := rsaKeys()[0]
	with := func(key json.RawMessage, member string) json.RawMessage {
		return json.RawMessage(strings.TrimSuffix(string(key), "}") + "," + member + "}")
	}
	var keys []json.RawMessage
	for kid, key := range map[string]crypto.Signer{
		"rsa": rsaKey, "p256": newECKey(elliptic.P256()), "p384": newECKey(elliptic.P384()), "p521": newECKey(elliptic.P521()), "ed": newEdKey(), "": newEdKey(),
	} {
		keys = append(keys, jwk(kid, key))
	}
	keys = append(keys,
		with(jwk("sig", rsaKey), `"use":"sig","key_ops":["verify"],"alg":"RS256"`),
		json.RawMessage(must(jose.JSONWebKey{Key: newECKey(elliptic.P256()), KeyID: "private"}.MarshalJSON())),
		// None of these may disable the others.
		json.RawMessage(`null`), json.RawMessage(`7`), json.RawMessage(`{}`), json.RawMessage(`{"kty":"XYZ","kid":"unknown type"}`),
		json.RawMessage(`{"kty":"RSA","kid":"broken","n":"!!","e":"AQAB"}`), json.RawMessage(`{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"off curve"}`),
		json.RawMessage(`{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA","kid":"unknown curve"}`), json.RawMessage(`{"kty":"oct","kid":"symmetric","k":"`+strings.Repeat("A", 43)+`"}`),
		with(jwk("enc", rsaKey), `"use":"enc"`), with(jwk("ops", rsaKey), `"key_ops":["encrypt"]`), with(jwk("no ops", rsaKey), `"key_ops":[]`),
		with(jwk("other alg", rsaKey), `"alg":"ES256"`), with(jwk("oaep", rsaKey), `"alg":"RSA-OAEP"`),
		jwk("small", newRSAKey(1024)),
	)
	got, skipped, err := parseKeySet(jwks(keys...))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, k := range got {
		kinds[k.id] = fmt.Sprintf("%T %v", k.key, k.algorithms)
	}
	want := map[string]string{
		"rsa": "*rsa.PublicKey [RS256 RS384 RS512 PS256]", "sig": "*rsa.PublicKey [RS256]",
		"p256": "*ecdsa.PublicKey [ES256]", "p384": "*ecdsa.PublicKey [ES384]", "p521": "*ecdsa.PublicKey [ES512]",
		"private": "*ecdsa.PublicKey [ES256]", "ed": "ed25519.PublicKey [EdDSA]", "": "ed25519.PublicKey [EdDSA]",
	}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if skipped != 14 {
		t.Errorf("skipped %d keys, want 14", skipped)
	}
}

func TestParseKeySetWantsAKey(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		`{"keys":[]}`:              "the JWKS has no key that can verify a session",
		`{}`:                       "the JWKS has no key that can verify a session",
		`{"keys":[{"kty":"oct"}]}`: "the JWKS has no key that can verify a session",
		`[]`:                       `the document is no JWKS: it must be {"keys": […]}`,
		`{"keys":{}}`:              `the document is no JWKS: it must be {"keys": […]}`,
		`<html>`:                   `the document is no JWKS: it must be {"keys": […]}`,
		``:                         `the document is no JWKS: it must be {"keys": […]}`,
	}
	for document, want := range cases {
		_, _, err := parseKeySet([]byte(document))
		if err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", document, err, want)
		}
	}
}

// FuzzKeySet holds that no document makes parsing panic, and that every key
// which it gives can be tried.
func FuzzKeySet(f *testing.F) {
	f.Add(jwks(jwk("a", newEdKey()), jwk("b", newECKey(elliptic.P256()))))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`))
	f.Add([]byte(`{"keys":[null]}`))
	token := signHS256(testKey)(`{"alg":"RS256"}`, `{"sub":"u1","exp":`+at(600)+`}`)
	f.Fuzz(func(t *testing.T, document []byte) {
		if _, _, err := parseKeySet(document); err != nil {
			return
		}
		p, err := newSessionJWTOf(t, SessionIssuer{Keys: published(document)}).Authenticate(t.Context(), bearing(token))
		if got := fault.From(err).Code; got != fault.InvalidSession || p != nil {
			t.Fatalf("code %s, principal %v", got, p)
		}
	})
}
