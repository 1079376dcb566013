package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/tokens"
)

func tokenEnvironment(more ...string) []string {
	return append([]string{
		"FERRY_TOKEN_KID=k1", "FERRY_TOKEN_SECRET=" + encoded(tokenKey), "FERRY_POWERSYNC_URL=https://sync.example.com",
	}, more...)
}

func TestTokenMakesOneThatIsAccepted(t *testing.T) {
	t.Parallel()
	token := mustRun(t, tokenEnvironment("FERRY_TOKEN_CLAIMS=org"), "token", "--user", "u1", "--ttl", "5m", "--claims", `{"n":9007199254740993,"parameters":{"p":1}}`)
	got := runWithInput(t, token, tokenEnvironment(), "token", "inspect")
	want := `^header \{
  "alg": "HS256",
  "kid": "k1",
  "typ": "JWT"
\}
claims \{
  "sub": "u1",
  "aud": "https://sync.example.com",
  "iat": \d+,
  "exp": \d+,
  "jti": "[A-Z2-7]{26}",
  "n": 9007199254740993,
  "parameters": \{
    "p": 1
  \}
\}
iat    \S+Z, \ds ago
exp    \S+Z, in (5m0s|4m5\ds)

The PowerSync Service would accept it, with these keys and this audience.
$`
	if got.Code != exitOK || got.Stderr != "" || !regexp.MustCompile(want).MatchString(got.Stdout) {
		t.Errorf("exit code %d, stderr %s, stdout\n%s", got.Code, got.Stderr, got.Stdout)
	}
	for _, pasted := range []string{"Bearer " + token, `"` + strings.TrimSpace(token) + `"`, `{"endpoint":"x","token":"` + strings.TrimSpace(token) + `"}`} {
		if got := runWithInput(t, pasted, tokenEnvironment(), "token", "inspect", "-"); got.Code != exitOK {
			t.Errorf("%s…: %s%s", pasted[:9], got.Stdout, got.Stderr)
		}
	}
}

func TestTokenInspectSaysWhyTheServiceWouldRefuse(t *testing.T) {
	t.Parallel()
	token := strings.TrimSpace(mustRun(t, tokenEnvironment("FERRY_TOKEN_AUDIENCE=other"), "token", "--user", "u\u202e1"))
	got := run(t, tokenEnvironment(), "token", "inspect", token)
	if got.Code != exitError || got.Stderr != "ferry: the PowerSync Service would refuse this token\n" ||
		!strings.HasSuffix(got.Stdout, "\nThe PowerSync Service would refuse it:\n"+
			`- PSYNC_S2105: its aud "other" is not one that is configured (https://sync.example.com), which the service's client_auth.audience must list`+"\n") {
		t.Errorf("exit code %d, stderr %s, stdout\n%s", got.Code, got.Stderr, got.Stdout)
	}
	if !strings.Contains(got.Stdout, `"sub": "u\u202e1"`) {
		t.Errorf("control characters are printed:\n%q", got.Stdout)
	}
	if strings.Contains(got.Stdout, encoded(tokenKey)) {
		t.Error("the secret is printed")
	}
}

func TestTokenRefuses(t *testing.T) {
	t.Parallel()
	const usage = "ferry: token: "
	for _, c := range []struct {
		environ []string
		args    []string
		want    result
	}{
		{tokenEnvironment(), []string{"--user", "a\nb"}, result{exitUsage, "", usage + "--user holds a control character\n"}},
		{tokenEnvironment(), []string{"--user", "u", "--claims", "[]"}, result{exitUsage, "", usage + "--claims is not a JSON object in UTF-8 in which no name stands twice\n"}},
		{tokenEnvironment(), []string{"--user", "u", "--claims", `{"exp":1}`}, result{exitUsage, "", usage + "--claims has \"exp\", a claim that ferry sets itself\n"}},
		{tokenEnvironment(), []string{"--user", "u", "--ttl", "25h"}, result{exitError, "", usage + "the lifetime of a sync token is 1m0s to 24h0m0s in whole seconds, not 25h0m0s\n"}},
		{nil, []string{"--user", "u"}, result{exitError, "", "ferry: there is no token key: set FERRY_TOKEN_KEYS_FILE, or FERRY_TOKEN_KID and FERRY_TOKEN_SECRET, as for ferry serve; ferry dev keeps its own in .ferry/dev.json\n"}},
	} {
		if diff := cmp.Diff(c.want, run(t, c.environ, append([]string{"token"}, c.args...)...)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.args, diff)
		}
	}
}

func TestTokensOfEveryAlgorithmCanBeInspected(t *testing.T) {
	t.Parallel()
	for _, alg := range tokens.Algorithms() {
		k := newKeyring(t)
		k.must("add", "--alg", alg)
		token := strings.TrimSpace(mustRun(t, k.environ, "token", "--user", "u1"))
		mustRun(t, k.environ, "token", "inspect", token)
		k.environ = append(k.environ[:1:1], "FERRY_POWERSYNC_URL=https://other.example.com")
		if got := run(t, k.environ, "token", "inspect", token); got.Code != exitError {
			t.Errorf("%s: accepted for another audience", alg)
		}
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	got := []string{ago(now.Add(-90*time.Second), now), ago(now, now), ago(now.Add(1500*time.Millisecond), now)}
	if diff := cmp.Diff([]string{"1m30s ago", "0s ago", "in 2s"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPrintableEscapesAsJSONDoes(t *testing.T) {
	t.Parallel()
	text := "a\n\x1b\u202e\U000e0001é"
	var again string
	if err := json.Unmarshal([]byte(`"`+strings.ReplaceAll(printable(text), "\n", `\n`)+`"`), &again); err != nil || again != text {
		t.Errorf("%q: %v", printable(text), err)
	}
}
