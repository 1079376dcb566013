package config

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is text that never prints: every way of formatting, logging or
// marshalling it gives "[redacted]". The zero value is a secret that is not
// set.
type Secret struct {
	// A pointer, because fmt prints the strings of unexported fields without
	// asking any method, but of a pointer only the address.
	text *string
}

var (
	_ fmt.Formatter  = Secret{}
	_ slog.LogValuer = Secret{}
)

// NewSecret returns a secret; empty text is a secret that is not set.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text itself, empty where the secret is not set.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero says whether the secret is not set.
func (s Secret) IsZero() bool { return s.text == nil }

// Equal says whether both secrets are the same text. It is for tests (go-cmp
// finds it) and takes no constant time.
func (s Secret) Equal(other Secret) bool { return s.Reveal() == other.Reveal() }

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format writes "[redacted]" whatever the verb: String alone would leave %d
// and %p to print what is inside.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]", for JSON and other encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
