package tokens

import (
	"encoding/json"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// madeKeys is one private key of each algorithm: RSA takes its time.
var madeKeys = sync.OnceValue(func() map[string]any {
	keys := map[string]any{}
	for _, alg := range Algorithms() {
		private, err := generate(alg)
		if err != nil {
			panic(err)
		}
		keys[alg] = private
	}
	return keys
})

// jwkOf is the key of an algorithm, under some id.
func jwkOf(alg, id string) json.RawMessage { return writeJWK(id, alg, madeKeys()[alg]) }

// setOf is a key set with an active key.
func setOf(active string, jwks ...json.RawMessage) []byte {
	text, err := json.Marshal(map[string]any{"active": active, "keys": jwks})
	if err != nil {
		panic(err)
	}
	return text
}

func parseSet(t testing.TB, text []byte) KeySet {
	t.Helper()
	set, err := ParseKeySet(text, "")
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// newTestKey returns the key of an algorithm, and its private half.
func newTestKey(t testing.TB, alg, id string) (Key, any) {
	t.Helper()
	return parseSet(t, setOf(id, jwkOf(alg, id))).active, madeKeys()[alg]
}

// verifying is the key that verifies, for go-jose.
func verifying(private any) any {
	jwk := jose.JSONWebKey{Key: private}
	if public := jwk.Public(); public.Valid() {
		return public.Key
	}
	return private
}
