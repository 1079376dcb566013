package identity

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// The lengths that a password may have. Twelve characters are what OWASP ASVS
// (2.1.1) wants at least, and over the eight of NIST SP 800-63B (section 5.1.1.2).
const (
	MinPasswordChars = 12   // Unicode code points, after normalisation
	MaxPasswordBytes = 1024 // as sent
)

// CheckPassword reports what keeps a password from being chosen for an account
// with this address. The error does not repeat it.
func CheckPassword(password string, email Email) error {
	plain := strings.ToLower(strings.TrimSpace(normalPassword(password)))
	switch {
	case !utf8.ValidString(password):
		return errors.New("is not valid UTF-8")
	case len(password) > MaxPasswordBytes:
		return fmt.Errorf("is over %d bytes", MaxPasswordBytes)
	case utf8.RuneCountInString(normalPassword(password)) < MinPasswordChars:
		return fmt.Errorf("has under %d characters", MinPasswordChars)
	case plain == email.Key:
		return errors.New("is the e-mail address")
	case isCommonPassword(plain):
		return errors.New("is one of the most common ones, which are guessed first: choose another")
	}
	return nil
}

// normalPassword is the text that is hashed: the same for the same password,
// whichever keyboard it comes from. All spaces are plain ones, and composed
// and decomposed characters are alike, but nothing else is (RFC 8265, section
// 4.2.2: the profile OpaqueString).
func normalPassword(password string) string {
	return norm.NFC.String(strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Zs, r) {
			return ' '
		}
		return r
	}, password))
}
