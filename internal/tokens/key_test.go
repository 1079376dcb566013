package tokens

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestNewHS256Key(t *testing.T) {
	t.Parallel()
	const badID = "key id is not 1 to 128 printable ASCII characters"
	cases := []struct {
		name, id string
		secret   []byte
		want     string
	}{
		{"the least", "k", testSecret, ""},
		{"the longest id", strings.Repeat("~", 128), bytes.Repeat(testSecret, 8), ""},
		{"no id", "", testSecret, badID},
		{"id of 129", strings.Repeat("k", 129), testSecret, badID},
		{"id with a line feed", "k\n", testSecret, badID},
		{"id not ASCII", "clé", testSecret, badID},
		{"id not UTF-8", "\xff", testSecret, badID},
		{"31 bytes", "k", testSecret[:31], "key \"k\" has 31 bytes, HS256 needs at least 32: make one with `ferry keygen`"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := NewHS256Key(c.id, c.secret)
			if got := fmt.Sprint(err); got != c.want && (c.want != "" || err != nil) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestNewKeySetRefuses(t *testing.T) {
	t.Parallel()
	key, err := NewHS256Key("k", testSecret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeySet(Key{}); err == nil {
		t.Error("an empty key")
	}
	if _, err := NewKeySet(key, key); err == nil {
		t.Error("two keys of one id")
	}
}

func TestAPrintedKeyShowsNoSecret(t *testing.T) {
	t.Parallel()
	secret := []byte("a secret of thirty-two bytes, or more")
	o := options(t)
	o.Keys = newKeySet(t, "k", secret)
	issuer := newIssuer(t, o)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed := fmt.Sprintf(strings.Repeat(verb+" ", 4), o.Keys.active, o.Keys, o, issuer)
		for _, form := range []string{string(secret), fmt.Sprintf("%x", secret[:4]), strings.Trim(fmt.Sprint(secret[:4]), "[]"), "0x61, 0x20, 0x73"} {
			if strings.Contains(printed, form) {
				t.Errorf("%s prints the secret", verb)
			}
		}
	}
}

func TestAKeyKeepsItsOwnSecret(t *testing.T) {
	t.Parallel()
	secret := bytes.Clone(testSecret)
	key, err := NewHS256Key("k", secret)
	if err != nil {
		t.Fatal(err)
	}
	before := signed(t, key, `{}`)
	clear(secret)
	if signed(t, key, `{}`) != before {
		t.Error("the key was changed from outside")
	}
}
