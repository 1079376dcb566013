package tokens

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// KeySet holds the keys of a server: the active one signs, all of them verify,
// and the public halves are published.
type KeySet struct {
	active    Key
	all       []Key
	published []byte // a JWKS
}

// NewKeySet returns a set of keys with ids of their own. The others are those
// whose tokens may still be in use, or will be.
func NewKeySet(active Key, others ...Key) (KeySet, error) {
	all := append([]Key{active}, others...)
	for i, k := range all {
		if k.isZero() {
			return KeySet{}, errEmptyKey
		}
		if indexOfKey(all[:i], k.id) >= 0 {
			return KeySet{}, fmt.Errorf("key id %q stands twice", k.id)
		}
	}
	return KeySet{active: active, all: all, published: publish(all)}, nil
}

func indexOfKey(keys []Key, id string) int {
	return slices.IndexFunc(keys, func(k Key) bool { return k.id == id })
}

// publish writes the public halves of the keys (RFC 7517, section 5), each with
// exactly kty, kid, alg and its parameters. A symmetric key has none, and must
// never appear.
func publish(keys []Key) []byte {
	var public [][]byte
	for _, k := range keys {
		if k.secret == nil {
			public = append(public, k.jwk())
		}
	}
	return slices.Concat([]byte(`{"keys":[`), bytes.Join(public, []byte(",")), []byte(`]}`))
}

// JWKS is the set to publish (RFC 7517, section 5): the public halves of the
// keys. Symmetric keys have none, and are never in it.
func (s KeySet) JWKS() []byte { return s.published }

// ServiceKeys are what the PowerSync Service needs of each key, as JWKs: its
// public half, or, of a symmetric key, the secret itself.
func (s KeySet) ServiceKeys() []json.RawMessage {
	jwks := make([]json.RawMessage, len(s.all))
	for i, k := range s.all {
		jwks[i] = k.jwk()
	}
	return jwks
}

// ActiveID is the id of the key that signs.
func (s KeySet) ActiveID() string { return s.active.id }

// IDs are those of all keys, the active one among them.
func (s KeySet) IDs() []string { return idsOf(s.all) }

func idsOf(keys []Key) []string {
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.id
	}
	return ids
}

// idList is for messages.
func idList(keys []Key) string { return strings.Join(idsOf(keys), ", ") }

// open returns the payload of a token that one of the keys signed.
func (s KeySet) open(token string) ([]byte, bool) {
	for _, k := range s.all {
		if payload, ok := k.open(token); ok {
			return payload, true
		}
	}
	return nil, false
}
