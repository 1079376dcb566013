package tokens

import (
	"crypto/hmac"
	"encoding/base64"
	"fmt"
	"strings"
)

// explain says what the signature of a token that is refused was made with,
// where that is one of the usual mistakes. It begins with a separator.
func (s KeySet) explain(signed, signature []byte) string {
	for _, k := range s.all {
		if k.verifies(signed, signature) {
			return fmt.Sprintf("; key %q does verify it: the kid is wrong", k.id)
		}
		if k.secret == nil {
			continue
		}
		for _, mistaken := range textsOf(k.secret()) {
			if equalMAC(k, mistaken, signed, signature) {
				return fmt.Sprintf("; it was signed with the text of the secret of key %q: decode that from base64url first, and sign with the bytes", k.id)
			}
		}
		for _, mistaken := range decodingsOf(k.secret()) {
			if equalMAC(k, mistaken, signed, signature) {
				return fmt.Sprintf("; it was signed with what the secret of key %q is once it is decoded twice: the configured text was encoded twice, or the signer decodes too often", k.id)
			}
		}
	}
	return ""
}

func equalMAC(k Key, secret, signed, signature []byte) bool {
	return hmac.Equal(mac(hmacHash(k.alg), secret, signed), signature)
}

// textsOf are the texts that stand for a secret.
func textsOf(secret []byte) [][]byte {
	var texts [][]byte
	for _, encoding := range encodings() {
		texts = append(texts, encoding.AppendEncode(nil, secret))
	}
	return texts
}

// decodingsOf are what a secret stands for, if it is itself such a text.
func decodingsOf(secret []byte) [][]byte {
	var decoded [][]byte
	text := strings.TrimSpace(string(secret))
	for _, encoding := range encodings() {
		if b, err := encoding.DecodeString(text); err == nil {
			decoded = append(decoded, b)
		}
	}
	return decoded
}

func encodings() []*base64.Encoding {
	return []*base64.Encoding{base64.RawURLEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.StdEncoding}
}
