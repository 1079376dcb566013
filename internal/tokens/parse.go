package tokens

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ParseKeySet reads a JSON Web Key Set (RFC 7517, section 5) whose keys are
// private: oct (HS256, HS384, HS512), OKP with Ed25519 (EdDSA), EC with P-256
// (ES256), and RSA from 2048 bits (RS256). Each has a kid and, where it is oct
// or RSA, an alg; other members are ignored.
//
// The active key is the one with the id active or, where that is empty, with
// the id in the set's member "active" or, where that is missing, the only one.
//
// An error names every key that is wrong by its place, and by its kid where it
// has a legal one, and says what to do. Nothing else of the text is in it.
func ParseKeySet(text []byte, active string) (KeySet, error) {
	set, _, keys, err := parseKeys(text)
	if err != nil {
		return KeySet{}, err
	}
	if active == "" {
		active = set.text(activeMember)
		if set.get(activeMember) != nil && !isKeyID(active) {
			return KeySet{}, errors.New(`"active" is not the kid of a key`)
		}
	}
	if active == "" && len(keys) == 1 {
		active = keys[0].id
	}
	if active == "" {
		return KeySet{}, fmt.Errorf(`there are %d keys, and nothing says which one signs: add "active": "<kid>" beside "keys"`, len(keys))
	}
	i := indexOfKey(keys, active)
	if i < 0 {
		return KeySet{}, fmt.Errorf("the key that is to sign, %q, is not in the set (%s)", active, idList(keys))
	}
	return KeySet{active: keys[i], all: keys, published: publish(keys)}, nil
}

// parseKeys reads the keys of a set, which are at least one.
func parseKeys(text []byte) (set object, members []object, keys []Key, err error) {
	set, ok := parseObject(text)
	var list []jsontext.Value
	if !ok || jsonv2.Unmarshal(set.get("keys"), &list) != nil {
		return nil, nil, nil, errors.New(`this is not a JSON Web Key Set, {"keys": […]} in UTF-8 and no name twice: make one with: ferry keys add`)
	}
	if len(list) == 0 {
		return nil, nil, nil, errors.New("there is no key in the set: make one with: ferry keys add")
	}
	var errs []error
	for i, jwk := range list {
		m, ok := parseObject(jwk)
		key, err := parseKey(m)
		switch {
		case !ok:
			err = errors.New("it is not a JSON object")
		case err == nil && indexOfKey(keys, key.id) >= 0:
			err = errors.New("an earlier key has the same kid: give each its own")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("key %d%s: %w", i+1, shownKeyID(m), err))
			continue
		}
		members, keys = append(members, m), append(keys, key)
	}
	return set, members, keys, errors.Join(errs...)
}

// shownKeyID is the kid for a message; what is none is not repeated.
func shownKeyID(jwk object) string {
	if id := jwk.text("kid"); isKeyID(id) {
		return fmt.Sprintf(" (kid %q)", id)
	}
	return ""
}

// parseKey reads one private JWK.
func parseKey(jwk object) (Key, error) {
	id := jwk.text("kid")
	switch {
	case jwk.get("kid") == nil:
		return Key{}, errors.New(`it lacks a kid: add "kid": "…", the same as in the PowerSync Service's configuration`)
	case !isKeyID(id):
		return Key{}, fmt.Errorf("its kid is not 1 to %d printable ASCII characters", maxKeyIDBytes)
	}
	algs, err := algorithmsOf(jwk)
	if err != nil {
		return Key{}, err
	}
	alg := jwk.text("alg")
	if jwk.get("alg") == nil && len(algs) == 1 && jwk.text("kty") != "RSA" {
		alg = algs[0]
	}
	if !slices.Contains(algs, alg) {
		return Key{}, fmt.Errorf("its alg must be %s, for its kty", strings.Join(algs, " or "))
	}
	if use := jwk.get("use"); use != nil && jwk.text("use") != "sig" {
		return Key{}, errors.New(`it is not for signing: its use is not "sig"`)
	}
	if jwk.text("kty") == "oct" {
		return parseSymmetricKey(id, alg, jwk)
	}
	var parsed jose.JSONWebKey
	if err := parsed.UnmarshalJSON(jwk.json()); err != nil {
		// go-jose's own error may quote a value.
		return Key{}, errors.New("its parameters are not those of a private key (RFC 7518, section 6; RFC 8037), or do not belong together: make another with: ferry keys add")
	}
	return newAsymmetricKey(id, parsed.Key)
}

// algorithmsOf are those that a key may have, by its type.
func algorithmsOf(jwk object) ([]string, error) {
	switch kty, crv := jwk.text("kty"), jwk.text("crv"); {
	case kty == "oct":
		return []string{"HS256", "HS384", "HS512"}, nil
	case kty == "RSA":
		return []string{"RS256"}, nil
	case kty == "OKP" && crv == "Ed25519":
		return []string{"EdDSA"}, nil
	case kty == "EC" && crv == "P-256":
		return []string{"ES256"}, nil
	case kty == "OKP", kty == "EC":
		return nil, errors.New("its curve (crv) is none that ferry signs with: Ed25519 for OKP, P-256 for EC")
	}
	return nil, errors.New("its kty is none that ferry signs with: oct, OKP, EC or RSA")
}

// parseSymmetricKey reads `k` (RFC 7518, section 6.4.1).
func parseSymmetricKey(id, alg string, jwk object) (Key, error) {
	text := jwk.text("k")
	secret, ok := decodeBase64url(text)
	switch {
	case text == "":
		return Key{}, errors.New("it lacks its secret (k)")
	case !ok && strings.HasSuffix(text, "="):
		return Key{}, errors.New("its secret (k) ends in =, which base64url has not in a JWK: leave it out")
	case !ok && strings.ContainsAny(text, "+/"):
		return Key{}, errors.New("its secret (k) looks like standard base64, base64url is expected; convert it with: tr '+/' '-_', and give the same text to the PowerSync Service")
	case !ok:
		return Key{}, errors.New("its secret (k) is not base64url: only A-Z a-z 0-9 - and _ are expected, and no cut-off end")
	}
	if need := hmacHash(alg)().Size(); len(secret) < need {
		return Key{}, fmt.Errorf("its secret (k) has %d bytes after base64url decoding, %s needs at least %d: make another with: ferry keys add --alg %[2]s", len(secret), alg, need)
	}
	return newSymmetricKey(id, alg, secret)
}
