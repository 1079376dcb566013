package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

const (
	// minRSABits is the least size of an RSA key (RFC 7518, section 3.3).
	minRSABits = 2048

	// maxCandidates bounds the signatures that are checked for a session
	// whose header names no key.
	maxCandidates = 16
)

// publicKey is a key of an identity provider.
type publicKey struct {
	id         string // kid, empty where it has none
	algorithms []jose.SignatureAlgorithm
	key        any
}

// parseKeySet reads a JWKS (RFC 7517, section 5) key by key: one that cannot
// be read, or that is not for signatures, does not disable the others. skipped
// counts those.
func parseKeySet(document []byte) (keys []publicKey, skipped int, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, 0, errors.New("the document is no JWKS: it must be {\"keys\": […]}")
	}
	for _, text := range set.Keys {
		if key, ok := parsePublicKey(text); ok {
			keys = append(keys, key)
		} else {
			skipped++
		}
	}
	if len(keys) == 0 {
		return nil, skipped, errors.New("the JWKS has no key that can verify a session")
	}
	return keys, skipped, nil
}

func parsePublicKey(text []byte) (publicKey, bool) {
	var jwk jose.JSONWebKey
	var uses struct {
		Operations []string `json:"key_ops"`
	}
	if jwk.UnmarshalJSON(text) != nil || json.Unmarshal(text, &uses) != nil || !jwk.Valid() {
		return publicKey{}, false
	}
	if jwk.Use != "" && jwk.Use != "sig" || uses.Operations != nil && !slices.Contains(uses.Operations, "verify") {
		return publicKey{}, false
	}
	public := jwk.Public() // whoever published a private key
	algorithms := algorithmsOf(public.Key)
	if jwk.Algorithm != "" {
		algorithms = slices.DeleteFunc(algorithms, func(a jose.SignatureAlgorithm) bool { return string(a) != jwk.Algorithm })
	}
	return publicKey{id: jwk.KeyID, algorithms: algorithms, key: public.Key}, len(algorithms) > 0
}

// algorithmsOf lists what a key of this type can verify: none for a symmetric
// one, which has no business in a published set.
func algorithmsOf(key any) []jose.SignatureAlgorithm {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() >= minRSABits {
			return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256}
		}
	case *ecdsa.PublicKey:
		switch key.Curve.Params().BitSize {
		case 256:
			return []jose.SignatureAlgorithm{jose.ES256}
		case 384:
			return []jose.SignatureAlgorithm{jose.ES384}
		case 521:
			return []jose.SignatureAlgorithm{jose.ES512}
		}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}
	}
	return nil
}

// publicKeyAlgorithms are all that a published key can be for.
func publicKeyAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}
}

// matching returns the keys that may have made a signature. A key without an
// id may always have; a header without one names none.
func matching(keys []publicKey, algorithm jose.SignatureAlgorithm, id string) []publicKey {
	var found []publicKey
	for _, k := range keys {
		if slices.Contains(k.algorithms, algorithm) && (k.id == id || k.id == "" || id == "") {
			found = append(found, k)
		}
	}
	return found[:min(len(found), maxCandidates)]
}

// isNamed is whether one of keys has the name that a header gives.
func isNamed(keys []publicKey, id string) bool {
	return id != "" && slices.ContainsFunc(keys, func(k publicKey) bool { return k.id == id })
}
