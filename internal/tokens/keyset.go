package tokens

import (
	"bytes"
	"fmt"
	"slices"
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

// ActiveID is the id of the key that signs.
func (s KeySet) ActiveID() string { return s.active.id }

// IDs are those of all keys, the active one among them.
func (s KeySet) IDs() []string {
	ids := make([]string, len(s.all))
	for i, k := range s.all {
		ids[i] = k.id
	}
	return ids
}

// open returns the payload of a token that one of the keys signed.
func (s KeySet) open(token string) ([]byte, bool) {
	for _, k := range s.all {
		if payload, ok := k.open(token); ok {
			return payload, true
		}
	}
	return nil, false
}
