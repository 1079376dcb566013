package tokens

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// minSecretBytes is the least length of an HS256 key (RFC 7518, section
	// 3.2).
	minSecretBytes = 32
	maxKeyIDBytes  = 128
)

// Key signs sync tokens. The PowerSync Service knows it under the same id, in
// `client_auth.jwks.keys`. Make one with [NewHS256Key].
type Key struct {
	id string
	// header is the whole first part of a token that this key signs. It is the
	// same text in every token, so that a token's key and algorithm are found
	// by comparison, never by believing what a header says.
	header string
	// mac is the HMAC-SHA-256 of a text. The secret lives in it alone, where
	// printing a Key does not reach.
	mac func(text []byte) []byte
}

// NewHS256Key returns a key that signs with HMAC-SHA-256. The id is 1 to 128
// printable ASCII characters, the secret at least 32 bytes.
func NewHS256Key(id string, secret []byte) (Key, error) {
	if len(id) < 1 || len(id) > maxKeyIDBytes || strings.ContainsFunc(id, notPrintable) {
		return Key{}, fmt.Errorf("key id is not 1 to %d printable ASCII characters", maxKeyIDBytes)
	}
	if len(secret) < minSecretBytes {
		return Key{}, fmt.Errorf("key %q has %d bytes, HS256 needs at least %d: make one with `ferry keygen`", id, len(secret), minSecretBytes)
	}
	header := append([]byte(`{"alg":"HS256","kid":`), quote(id)...)
	header = append(header, `,"typ":"JWT"}`...)
	secret = bytes.Clone(secret)
	return Key{
		id:     id,
		header: base64.RawURLEncoding.EncodeToString(header),
		mac: func(text []byte) []byte {
			h := hmac.New(sha256.New, secret)
			h.Write(text)
			return h.Sum(nil)
		},
	}, nil
}

// notPrintable reports whether r is outside of ASCII's printable characters.
func notPrintable(r rune) bool { return r < ' ' || r > '~' }

// quote writes text that is known to be valid UTF-8 as a JSON string.
func quote(text string) []byte {
	quoted, _ := jsontext.AppendQuote(nil, text)
	return quoted
}

// sign returns payload as a JWS in compact form (RFC 7515, section 7.1).
// Written out here because a general library takes several times as long:
// BenchmarkSign compares the two, and the tests hold them to the same text.
func (k Key) sign(payload []byte) string {
	enc := base64.RawURLEncoding
	token := make([]byte, 0, len(k.header)+enc.EncodedLen(len(payload))+enc.EncodedLen(sha256.Size)+2)
	token = append(token, k.header...)
	token = append(token, '.')
	token = enc.AppendEncode(token, payload)
	mac := k.mac(token)
	token = append(token, '.')
	token = enc.AppendEncode(token, mac)
	return string(token)
}

// verify returns the payload of a token that this key signed.
func (k Key) verify(token string) ([]byte, bool) {
	end := strings.LastIndexByte(token, '.')
	if end < 0 {
		return nil, false
	}
	signed, signature := token[:end], token[end+1:]
	encoded, ours := strings.CutPrefix(signed, k.header+".")
	if !ours {
		return nil, false
	}
	// The texts are compared, because several texts decode to one signature.
	expected := base64.RawURLEncoding.AppendEncode(nil, k.mac([]byte(signed)))
	if !hmac.Equal([]byte(signature), expected) {
		return nil, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(encoded)
	return payload, err == nil
}

// KeySet holds the keys of a server: the active one signs, all of them verify.
type KeySet struct {
	active Key
	all    []Key
}

// NewKeySet returns a set of keys with ids of their own. The others are those
// whose tokens may still be in use, or will be.
func NewKeySet(active Key, others ...Key) (KeySet, error) {
	set := KeySet{active: active, all: append([]Key{active}, others...)}
	for i, k := range set.all {
		if k.id == "" {
			return KeySet{}, errors.New("a key of the set is empty: make it with NewHS256Key")
		}
		if slices.ContainsFunc(set.all[:i], func(other Key) bool { return other.id == k.id }) {
			return KeySet{}, fmt.Errorf("key id %q stands twice", k.id)
		}
	}
	return set, nil
}

// verify returns the payload of a token that one of the keys signed.
func (s KeySet) verify(token string) ([]byte, bool) {
	for _, k := range s.all {
		if payload, ok := k.verify(token); ok {
			return payload, true
		}
	}
	return nil, false
}
