package config

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// marker stands inside of every value, and in no text of ferry's.
const marker = "qZx7"

// FuzzLoad gives an arbitrary value to one variable, directly and as a file's
// path, and to all at once: Load must not panic, nor say a word of the value.
func FuzzLoad(f *testing.F) {
	list := variables()
	for i, seed := range valueSeeds() {
		f.Add(uint(i%len(list)), seed) //nolint:gosec // small
	}
	f.Fuzz(func(t *testing.T, which uint, value string) {
		checkValueOf(t, list[which%uint(len(list))].name, value)
		checkValueOfAll(t, value)
	})
}

// TestLoadRepeatsNoValue is FuzzLoad for each variable and each kind of value.
func TestLoadRepeatsNoValue(t *testing.T) {
	t.Parallel()
	for _, seed := range valueSeeds() {
		for _, v := range variables() {
			checkValueOf(t, v.name, seed)
		}
		checkValueOfAll(t, seed)
	}
}

// valueSeeds are values with the marker in them, short and long enough for a
// key.
func valueSeeds() []string {
	var seeds []string
	for _, seed := range []string{
		"postgres://app:%s@db/app", "postgres://app:%s@x@db:port/app", "host=%s", ":%s", "https://%s/", "https://u:%s@a",
		"%s,%s", "*,%s", "sub,%s=a.b", "1h%s", "%s==", "+/%s", "%s", "a\n%s", "\xff%s", "12%sMiB", "%s\x00", "",
		`{"keys":[{"kty":"oct","kid":"k","alg":"HS256","k":"%s"}]}`, `{"active":"a","keys":[{"kid":"%s"}]}`, "%s.%s",
	} {
		seeds = append(seeds, strings.ReplaceAll(seed, "%s", marker), strings.ReplaceAll(seed, "%s", strings.Repeat(marker, 11)))
	}
	return seeds
}

func checkValueOf(t *testing.T, name, value string) {
	t.Helper()
	checkSilence(t, name+"="+value)
	if !strings.HasPrefix(value, "/") { // the path of a file is shown
		checkSilence(t, name+fileSuffix+"="+value)
	}
}

func checkValueOfAll(t *testing.T, value string) {
	t.Helper()
	checkSilence(t, "FERRY_UNKNOWN="+value, "FERRY_TOKEN_SECRET: "+value+"=")
	everything := []string{}
	for _, v := range variables() {
		everything = append(everything, v.name+"="+value)
	}
	checkSilence(t, everything...)
	// The names of variables may be shown, but must do no harm.
	_, _ = Load([]string{value, "FERRY_" + value, value + "=" + value})
}

// checkSilence loads an environment and looks for the marker in all that is
// said of it.
func checkSilence(t *testing.T, environ ...string) {
	t.Helper()
	for _, load := range []func([]string) (*Config, error){Load, LoadServe, LoadMigrate} {
		c, err := load(environ)
		if (c == nil) == (err == nil) {
			t.Fatalf("%q: config %v and error %v", environ, c, err)
		}
		said := fmt.Sprint(err)
		if c != nil {
			said = fmt.Sprintf("%+v %#v %q", c.Database, c.Token.Key, c.Warnings)
			for _, issuer := range c.Sessions {
				said += fmt.Sprintf(" %+v %#v", issuer.Secret, issuer.Secret)
			}
		}
		// Of a key set, ids are shown.
		said = regexp.MustCompile(`kid "[^"]*"|to sign, "[^"]*"|in the set \(.*\)`).ReplaceAllString(said, "")
		if strings.Contains(said, marker) {
			t.Fatalf("%q: the value is repeated: %s", environ, said)
		}
	}
}
