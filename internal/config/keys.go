package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// minKeyBytes is the least an HS256 key may have (RFC 7518 section 3.2).
const minKeyBytes = 32

const base64Letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// keyID is a key's id, as it stands in a token's header.
type keyID string

func (k *keyID) UnmarshalText(text []byte) error {
	notPlain := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(text) > 128 || strings.ContainsFunc(string(text), notPlain) {
		return errors.New("expected 1 to 128 printable ASCII characters without spaces; make one with: ferry keygen")
	}
	*k = keyID(text)
	return nil
}

// tokenSecret is the base64url text of the key that signs sync tokens.
type tokenSecret string

func (s *tokenSecret) UnmarshalText(text []byte) error {
	if err := checkKey(string(text)); err != nil {
		return fmt.Errorf("%w; make one with: ferry keygen", err)
	}
	*s = tokenSecret(text)
	return nil
}

// keySet is the text of a JWKS with private keys; checkToken reads it.
type keySet string

// sessionSecret is the base64url text of the key that signs the app's sessions.
type sessionSecret string

func (s *sessionSecret) UnmarshalText(text []byte) error {
	if err := checkKey(string(text)); err != nil {
		return fmt.Errorf("%w; it must be the key that the app's sessions are signed with: where that is given as plain text, set FERRY_SESSION_SECRET_TEXT instead", err)
	}
	*s = sessionSecret(text)
	return nil
}

// secretText is that key as raw text.
type secretText string

func (s *secretText) UnmarshalText(text []byte) error {
	if len(text) < minKeyBytes {
		return fmt.Errorf("%d bytes, at least %d are needed; make one with: openssl rand -hex 32, and sign the app's sessions with it", len(text), minKeyBytes)
	}
	*s = secretText(text)
	return nil
}

// decodedKey returns the key of a text that checkKey has passed, or none.
func decodedKey(text string) []byte {
	unpadded := strings.TrimRight(text, "=")
	bytes, err := base64.RawURLEncoding.DecodeString(unpadded)
	if err != nil {
		return nil
	}
	return bytes
}

// checkKey says what is wrong with the base64url text of an HS256 key.
func checkKey(text string) error {
	unpadded := strings.TrimRight(text, "=")
	switch {
	case strings.Trim(unpadded, base64Letters+"-_") == "" && len(unpadded)%4 != 1:
	case strings.ContainsAny(unpadded, "+/") && strings.Trim(unpadded, base64Letters+"+/") == "":
		return errors.New("looks like standard base64, base64url is expected; convert it with: tr '+/' '-_', and give the same text to whoever else has it")
	default:
		return errors.New("not base64url: only A-Z a-z 0-9 - and _ are expected, without quotes or spaces, and no cut-off end")
	}
	if n := len(decodedKey(text)); n < minKeyBytes {
		return fmt.Errorf("%d bytes after base64url decoding, at least %d are needed", n, minKeyBytes)
	}
	return nil
}
