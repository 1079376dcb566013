package tokens

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

const maxKeyIDBytes = 128

// Key signs sync tokens. The PowerSync Service knows it, or its public half,
// under the same id. Make one with [NewHS256Key], or read several with
// [ParseKeySet].
type Key struct {
	id, alg string
	// header is the whole first part of a token that this key signs, and the
	// dot behind it. It is the same text in every token, so that a token's key
	// and algorithm are found by comparison, never by believing what a header
	// says.
	header string
	// What follows holds the key itself, where printing a Key does not reach.
	scheme
}

// scheme is what a key does by its kind.
type scheme struct {
	size     int // bytes of a signature
	sign     func(text []byte) (signature []byte, err error)
	verifies func(text, signature []byte) bool
	// jwk is what verifies the key's tokens (RFC 7517, section 4): its public
	// half, or, of a symmetric key, the key itself.
	jwk func() []byte
	// secret is nil but for symmetric keys.
	secret func() []byte
}

func newKey(id, alg string, s scheme) (Key, error) {
	if !isKeyID(id) {
		return Key{}, errKeyID
	}
	header := append([]byte(`{"alg":`), quote(alg)...)
	header = append(append(header, `,"kid":`...), quote(id)...)
	header = append(header, `,"typ":"JWT"}`...)
	return Key{id: id, alg: alg, header: base64.RawURLEncoding.EncodeToString(header) + ".", scheme: s}, nil
}

var errKeyID = fmt.Errorf("key id is not 1 to %d printable ASCII characters", maxKeyIDBytes)

func isKeyID(id string) bool {
	return len(id) >= 1 && len(id) <= maxKeyIDBytes && !strings.ContainsFunc(id, notPrintable)
}

// notPrintable reports whether r is outside of ASCII's printable characters.
func notPrintable(r rune) bool { return r < ' ' || r > '~' }

// token returns payload as a JWS in compact form (RFC 7515, section 7.1).
// Written out here because a general library takes several times as long:
// BenchmarkSign compares the two, and the tests hold them to the same text.
func (k Key) token(payload []byte) (string, error) {
	enc := base64.RawURLEncoding
	token := make([]byte, 0, len(k.header)+enc.EncodedLen(len(payload))+1+enc.EncodedLen(k.size))
	token = append(token, k.header...)
	token = enc.AppendEncode(token, payload)
	signature, err := k.sign(token)
	if err != nil {
		return "", fmt.Errorf("sign with key %q: %w", k.id, err)
	}
	token = append(token, '.')
	return string(enc.AppendEncode(token, signature)), nil
}

// open returns the payload of a token that this key signed.
func (k Key) open(token string) ([]byte, bool) {
	rest, ours := strings.CutPrefix(token, k.header)
	if !ours {
		return nil, false
	}
	encoded, text, _ := strings.Cut(rest, ".")
	signature, ok := decodeBase64url(text)
	if !ok || !k.verifies([]byte(token[:len(k.header)+len(encoded)]), signature) {
		return nil, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(encoded)
	return payload, err == nil
}

// decodeBase64url takes the one text of some bytes and none of the others that
// lenient readers take: padding, line breaks, bits that are left over.
func decodeBase64url(text string) ([]byte, bool) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return b, err == nil
}

// isZero is whether the key was not made by this package.
func (k Key) isZero() bool { return k.sign == nil }

var errEmptyKey = errors.New("a key of the set is empty: make it with NewHS256Key")
