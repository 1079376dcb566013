package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"ferry/internal/tokens"
)

const (
	// tokenSecretBytes is the key length of HS256: at least the hash's output
	// (RFC 7518 section 3.2).
	tokenSecretBytes = 32
	// maxKIDBytes keeps a token's header short.
	maxKIDBytes = 128
	// exampleAudience stands where the operator puts the PowerSync URL.
	exampleAudience = "https://powersync.example.com"
)

// signingKey is a new HS256 key for sync tokens.
type signingKey struct {
	KID    string
	Secret string // base64url without padding, as a JWK's `k` (RFC 7518 section 6.4.1)
}

func runKeygen(_ context.Context, app *app, args []string) error {
	flags := newFlags(app, "keygen", "make a key for sync tokens, for ferry and for the PowerSync Service")
	kid := flags.String("kid", "", "the key's `ID`; by default ferry- and 8 random hex digits")
	asJSON := flags.Bool("json", false, "print one JSON object")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if *kid == "" {
		*kid = newKID()
	}
	if err := checkKID(*kid); err != nil {
		return err
	}
	key := newSigningKey(*kid)
	if *asJSON {
		return key.writeJSON(app.stdout)
	}
	return key.writeText(app.stdout)
}

// newSigningKey returns a random key with this id.
func newSigningKey(kid string) signingKey {
	secret := make([]byte, tokenSecretBytes)
	rand.Read(secret) // never fails: it ends the program instead
	return signingKey{KID: kid, Secret: base64.RawURLEncoding.EncodeToString(secret)}
}

func newKID() string {
	id := make([]byte, 4)
	rand.Read(id)
	return "ferry-" + hex.EncodeToString(id)
}

// checkKID refuses an id that would need quoting in an environment file.
func checkKID(kid string) error {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"
	if len(kid) > maxKIDBytes || strings.Trim(kid, plain) != "" {
		return usageError{fmt.Sprintf("--kid takes 1 to %d letters, digits, and the characters - _ . :", maxKIDBytes)}
	}
	return nil
}

// jwk is the key as the PowerSync Service is configured with it.
func (k signingKey) jwk() (json.RawMessage, error) {
	secret, err := base64.RawURLEncoding.DecodeString(k.Secret)
	if err != nil {
		return nil, fmt.Errorf("the key: %w", err)
	}
	return tokens.HS256JWK(k.KID, secret)
}

func (k signingKey) writeText(w io.Writer) error {
	jwk, err := k.jwk()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, `# For ferry, as environment variables:
FERRY_TOKEN_KID=%s
FERRY_TOKEN_SECRET=%s

# For a self-hosted PowerSync Service, in its configuration file. The audience
# is what FERRY_TOKEN_AUDIENCE says, by default FERRY_POWERSYNC_URL:
%s
# For PowerSync Cloud, in the dashboard: Client Auth, HS256 authentication
# tokens, add one. KID is FERRY_TOKEN_KID and Shared Secret is FERRY_TOKEN_SECRET
# as it stands here. It is base64url already: do not encode it again.
`, k.KID, k.Secret, clientAuthYAML([]json.RawMessage{jwk}, []string{exampleAudience}))
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	return nil
}

func (k signingKey) writeJSON(w io.Writer) error {
	jwk, err := k.jwk()
	if err != nil {
		return err
	}
	type jwks struct {
		Keys []json.RawMessage `json:"keys"`
	}
	type clientAuth struct {
		JWKS jwks `json:"jwks"`
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	err = out.Encode(struct {
		KID         string            `json:"kid"`
		Secret      string            `json:"secret"`
		Environment map[string]string `json:"environment"`
		ClientAuth  clientAuth        `json:"client_auth"`
	}{
		KID:         k.KID,
		Secret:      k.Secret,
		Environment: map[string]string{"FERRY_TOKEN_KID": k.KID, "FERRY_TOKEN_SECRET": k.Secret},
		ClientAuth:  clientAuth{JWKS: jwks{Keys: []json.RawMessage{jwk}}},
	})
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	return nil
}
