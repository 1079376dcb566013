package tokens

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

func TestSecretsThatSomebodyMadeUpAreGuessable(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{
		strings.Repeat("a", 64), "0123456701234567012345670123456701234567", strings.Repeat("\x00", 32),
		"a-32-character-long-SECRET-of-mine", "super-jwt-token-with-at-least-32-characters-changeme", "powersync-dev-key-powersync-dev-key",
	} {
		if !Guessable([]byte(secret)) {
			t.Errorf("%q passes", secret)
		}
	}
	for range 1000 {
		b := make([]byte, 32)
		if _, err := rand.Read(b); err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{string(b), hex.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b)} {
			if Guessable([]byte(secret)) {
				t.Fatalf("%q, which is random, does not pass", secret)
			}
		}
	}
}
