package tokens

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"strings"
)

// Algorithms are those of keys (RFC 7518, section 3.1; RFC 8037), the ones
// first whose public half the PowerSync Service can fetch by itself.
func Algorithms() []string {
	return []string{"EdDSA", "ES256", "RS256", "HS256", "HS384", "HS512"}
}

// NewJWK makes a private key, as a JWK (RFC 7517, section 4). It fails on an
// id that is no Key's, and on an algorithm that is not one of Algorithms.
func NewJWK(id, alg string) (json.RawMessage, error) {
	if !isKeyID(id) {
		return nil, errKeyID
	}
	private, err := generate(alg)
	if err != nil {
		return nil, err
	}
	return writeJWK(id, alg, private), nil
}

// HS256JWK returns an HS256 key that exists already as a JWK. It fails as
// NewHS256Key does.
func HS256JWK(id string, secret []byte) (json.RawMessage, error) {
	key, err := NewHS256Key(id, secret)
	if err != nil {
		return nil, err
	}
	return key.jwk(), nil
}

func generate(alg string) (private any, err error) {
	switch alg {
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "RS256":
		private, err = rsa.GenerateKey(rand.Reader, minRSABits)
	case "HS256", "HS384", "HS512":
		secret := make([]byte, hmacHash(alg)().Size())
		_, err = rand.Read(secret)
		private = secret
	default:
		return nil, fmt.Errorf("the algorithm must be one of %s", strings.Join(Algorithms(), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return private, nil
}
