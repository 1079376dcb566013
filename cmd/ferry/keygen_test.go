package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/config"
)

func TestKeygenPrintsOneKeyForBothSides(t *testing.T) {
	t.Parallel()
	out := keygen(t)
	kid := find(t, out, `(?m)^FERRY_TOKEN_KID=(ferry-[0-9a-f]{8})$`)
	secret := find(t, out, `(?m)^FERRY_TOKEN_SECRET=([A-Za-z0-9_-]{43})$`)
	if key, err := base64.RawURLEncoding.Strict().DecodeString(secret); err != nil || len(key) != 32 {
		t.Errorf("the secret decodes to %d bytes, error %v, want 32 bytes", len(key), err)
	}
	if block := clientAuthYAML(hs256JWKs(t, kid, secret), []string{exampleAudience}); !strings.Contains(out, block) {
		t.Errorf("output lacks the block\n%s\nin\n%s", block, out)
	}
	if !strings.Contains(out, "do not encode it again") {
		t.Error("output does not warn of encoding the secret again")
	}
}

func TestKeygenOutputIsConfigurationThatFerryTakes(t *testing.T) {
	t.Parallel()
	out := keygen(t, "--kid", "2026-01:a")
	environ := []string{"FERRY_POWERSYNC_URL=https://sync.example.com"}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "FERRY_") {
			environ = append(environ, strings.TrimSuffix(line, "\n"))
		}
	}
	c, err := config.Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	if c.Token.KID != "2026-01:a" || !c.Token.Enabled() {
		t.Errorf("key id %q, enabled %t", c.Token.KID, c.Token.Enabled())
	}
}

func TestKeygenMakesAnotherKeyEachTime(t *testing.T) {
	t.Parallel()
	if first, second := keygen(t), keygen(t); first == second {
		t.Errorf("the same key twice:\n%s", first)
	}
}

func TestKeygenJSON(t *testing.T) {
	t.Parallel()
	var got map[string]any
	if err := json.Unmarshal([]byte(keygen(t, "--kid", "k1", "--json")), &got); err != nil {
		t.Fatal(err)
	}
	secret := got["secret"]
	want := map[string]any{
		"kid":         "k1",
		"secret":      secret,
		"environment": map[string]any{"FERRY_TOKEN_KID": "k1", "FERRY_TOKEN_SECRET": secret},
		"client_auth": map[string]any{"jwks": map[string]any{"keys": []any{
			map[string]any{"kty": "oct", "alg": "HS256", "kid": "k1", "k": secret},
		}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if text, _ := secret.(string); len(text) != 43 {
		t.Errorf("secret has %d characters, want 43", len(text))
	}
}

func TestKeygenRefusesWhatItCannotUse(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--kid", "a b"},
		{"--kid", "a=b"},
		{"--kid", "a\nb"},
		{"--kid", strings.Repeat("k", 129)},
		{"leftover"},
	} {
		var out bytes.Buffer
		err := runKeygen(t.Context(), &app{stdout: &out, stderr: io.Discard}, args)
		if _, ok := errors.AsType[usageError](err); !ok {
			t.Errorf("%q: error %v, want a usageError", args, err)
		}
		if out.Len() > 0 {
			t.Errorf("%q: printed %q", args, out.String())
		}
	}
}

func TestClientAuthYAML(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("A", 43)
	got := clientAuthYAML(hs256JWKs(t, "123", secret), []string{"powersync-dev", `https://a/"b"`})
	want := `client_auth:
  jwks:
    keys:
      - kty: oct
        alg: HS256
        kid: "123"
        k: "` + secret + `"
  audience: ["powersync-dev", "https://a/\"b\""]
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("block (-want +got):\n%s", diff)
	}
}

// hs256JWKs is an HS256 key as the PowerSync Service is configured with it.
func hs256JWKs(t *testing.T, kid, secret string) []json.RawMessage {
	t.Helper()
	jwk, err := signingKey{KID: kid, Secret: secret}.jwk()
	if err != nil {
		t.Fatal(err)
	}
	return []json.RawMessage{jwk}
}

// keygen returns what `ferry keygen` prints.
func keygen(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := runKeygen(t.Context(), &app{stdout: &out, stderr: io.Discard}, args); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// find returns the first group of the pattern in text.
func find(t *testing.T, text, pattern string) string {
	t.Helper()
	match := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if match == nil {
		t.Fatalf("no match of %s in\n%s", pattern, text)
	}
	return match[1]
}
