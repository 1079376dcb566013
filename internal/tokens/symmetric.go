package tokens

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"hash"
	"slices"
	"sync"

	"github.com/go-jose/go-jose/v4"
)

// NewHS256Key returns a key that signs with HMAC-SHA-256. The id is 1 to 128
// printable ASCII characters, the secret at least 32 bytes.
func NewHS256Key(id string, secret []byte) (Key, error) {
	return newSymmetricKey(id, "HS256", secret)
}

// hmacHash returns the hash of an HMAC algorithm (RFC 7518, section 3.2), and
// nil for any other algorithm.
func hmacHash(alg string) func() hash.Hash {
	switch alg {
	case "HS256":
		return sha256.New
	case "HS384":
		return sha512.New384
	case "HS512":
		return sha512.New
	}
	return nil
}

func newSymmetricKey(id, alg string, secret []byte) (Key, error) {
	newHash := hmacHash(alg)
	size := newHash().Size()
	// A key shorter than the hash is forbidden: RFC 7518, section 3.2.
	if isKeyID(id) && len(secret) < size {
		return Key{}, fmt.Errorf("key %q has %d bytes, %s needs at least %d: make one with `ferry keygen`", id, len(secret), alg, size)
	}
	secret = bytes.Clone(secret)
	macs := sync.Pool{New: func() any { return hmac.New(newHash, secret) }}
	// A hash that was used keeps what it derived of the secret: half of the work.
	sum := func(text []byte) []byte {
		h := macs.Get().(hash.Hash)
		defer macs.Put(h)
		h.Reset()
		h.Write(text)
		return h.Sum(nil)
	}
	return newKey(id, alg, scheme{
		size: size,
		sign: func(text []byte) ([]byte, error) { return sum(text), nil },
		verifies: func(text, signature []byte) bool {
			return hmac.Equal(signature, sum(text))
		},
		jwk:    func() []byte { return writeJWK(id, alg, secret) },
		secret: func() []byte { return secret },
	})
}

func mac(newHash func() hash.Hash, secret, text []byte) []byte {
	h := hmac.New(newHash, secret)
	h.Write(text)
	return h.Sum(nil)
}

// writeJWK writes a key of a type that go-jose knows. It has then written the
// same type before, or read it, so that it cannot fail.
func writeJWK(id, alg string, key any) []byte {
	text, err := jose.JSONWebKey{Key: key, KeyID: id, Algorithm: alg}.MarshalJSON()
	if err != nil {
		panic("tokens: a key that cannot be written as a JWK")
	}
	return text
}

// SharedWith returns the id of a key that whoever knows secret can sign with,
// and whether there is one. secret is the HS256 key of the app's sessions: who
// may make sync tokens must not be able to sign in as anyone, nor the other
// way round.
func (s KeySet) SharedWith(secret []byte) (id string, shared bool) {
	for _, k := range s.all {
		if k.secret != nil && len(secret) > 0 && knowsSecret(k, secret) {
			return k.id, true
		}
	}
	return "", false
}

// knowsSecret compares the bytes, and each one's bytes with the other's
// base64url text, because one text may have been read in two ways.
func knowsSecret(k Key, secret []byte) bool {
	own := k.secret()
	return sameHMACKey(hmacHash(k.alg), own, secret) ||
		sameHMACKey(sha256.New, own, secret) ||
		sameHMACKey(sha256.New, encodedKey(own), bytes.TrimRight(secret, "=")) ||
		sameHMACKey(sha256.New, bytes.TrimRight(own, "="), encodedKey(secret))
}

func encodedKey(key []byte) []byte { return base64.RawURLEncoding.AppendEncode(nil, key) }

// sameHMACKey is whether two keys make the same signatures. HMAC takes some
// different byte strings for the same key (RFC 2104, section 2).
func sameHMACKey(newHash func() hash.Hash, a, b []byte) bool {
	return hmac.Equal(mac(newHash, a, []byte("ferry")), mac(newHash, b, []byte("ferry")))
}

// fewBytes is how many different ones a secret must have not to look made up:
// of 32 random bytes some 30 differ, of random hexadecimal text 16.
const fewBytes = 10

// Guessable is whether a symmetric secret looks like one that somebody made up.
// Whoever guesses it signs in as anyone.
func Guessable(secret []byte) bool {
	different := map[byte]bool{}
	for _, b := range secret {
		different[b] = true
	}
	text := bytes.ToLower(secret)
	return len(different) < fewBytes || slices.ContainsFunc(
		[]string{"secret", "password", "passwort", "changeme", "example", "powersync", "default", "development", "qwerty"},
		func(word string) bool { return bytes.Contains(text, []byte(word)) })
}

// Guessable lists the ids of the symmetric keys that look made up.
func (s KeySet) Guessable() []string {
	var ids []string
	for _, k := range s.all {
		if k.secret != nil && Guessable(k.secret()) {
			ids = append(ids, k.id)
		}
	}
	return ids
}
