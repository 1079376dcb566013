package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretsNeverPrint(t *testing.T) {
	t.Parallel()
	const text = "hunter2hunter2"
	secret := NewSecret(text)
	hidden := struct{ inner struct{ secret Secret } }{struct{ secret Secret }{secret}}
	var out bytes.Buffer
	for _, verb := range []string{"v", "+v", "#v", "s", "q", "d", "x", "X", "p", "t", "c", "10s", "e"} {
		fmt.Fprintf(&out, "%"+verb+" %"+verb+" %"+verb+" %"+verb+"\n", secret, &secret, []Secret{secret}, struct{ S Secret }{secret})
		fmt.Fprintf(&out, "%"+verb+"\n", hidden)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "secret", secret, "config", Config{Database: Database{URL: secret}})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "secret", secret, "config", Config{Database: Database{URL: secret}})
	if err := json.NewEncoder(&out).Encode(map[Secret]any{secret: secret}); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text), fmt.Sprint([]byte(text))} {
		if strings.Contains(out.String(), strings.Trim(form, "[]")) {
			t.Errorf("the secret was printed as %q:\n%s", form, out.String())
		}
	}
	if want := "[redacted]"; secret.String() != want || secret.GoString() != want || fmt.Sprint(secret) != want {
		t.Errorf("secret prints %q, %q, %q, want %q", secret.String(), secret.GoString(), fmt.Sprint(secret), want)
	}
	if secret.Reveal() != text {
		t.Errorf("Reveal gives %q", secret.Reveal())
	}
}

func TestASecretThatIsNotSet(t *testing.T) {
	t.Parallel()
	if s := NewSecret(""); !s.IsZero() || s.Reveal() != "" || !s.Equal(Secret{}) {
		t.Errorf("NewSecret(\"\") is set or reveals %q", s.Reveal())
	}
	if NewSecret("a").Equal(NewSecret("b")) || NewSecret("a").IsZero() {
		t.Error("different secrets are equal, or a secret is not set")
	}
}
