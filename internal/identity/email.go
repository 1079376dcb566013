package identity

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxEmailBytes is the longest e-mail address in bytes: RFC 5321, section
// 4.5.3.1.3, ends a path at 256, two of which are angle brackets.
const MaxEmailBytes = 254

// Email is an address that somebody signs in with. Nobody has checked that it
// is theirs.
type Email struct {
	// Text is the address as it was given, without spaces around it.
	Text string
	// Key is the same for two addresses that differ in case alone.
	Key string
}

// ParseEmail reads an address: at most MaxEmailBytes bytes with one @ in it
// and something before and behind that, without spaces and control
// characters. It knows no more of the grammar (RFC 5322, section 3.4.1), since
// no mail is sent. The error does not repeat the address.
func ParseEmail(text string) (Email, error) {
	if !utf8.ValidString(text) {
		return Email{}, errors.New("is not valid UTF-8")
	}
	text = strings.TrimSpace(text)
	local, domain, _ := strings.Cut(text, "@")
	switch {
	case text == "":
		return Email{}, errors.New("is empty")
	case len(text) > MaxEmailBytes:
		return Email{}, fmt.Errorf("is over %d bytes", MaxEmailBytes)
	case strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return Email{}, errors.New("has a space or a control character in it")
	case local == "" || domain == "" || strings.Contains(domain, "@"):
		return Email{}, errors.New("is not of the form name@example.com")
	}
	return Email{Text: text, Key: strings.ToLower(norm.NFC.String(text))}, nil
}
