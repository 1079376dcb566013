package config

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValues(t *testing.T) {
	t.Parallel()
	cases := []struct {
		variable string
		good     []string
		bad      []string
	}{
		{
			"DATABASE_URL",
			[]string{
				"postgres://localhost", "postgresql:///app?host=/run/postgresql", "postgres://u:p%40ss@h:5432/app",
				"postgres://h1:5432,h2:5433/app", "postgres://u@[::1]:5432/app", "postgres://u:pa#ss@h/app", "host=h user=u",
			},
			[]string{
				"localhost", "mysql://u:hunter2@h/app", "postgres://u:hunter2@ss@h/app", "postgres://u:hun/ter2@h/app",
				"postgres://u:hunter2%zz@h/app", "postgres://h:port/app", "postgres://h:70000/app", "postgres://h\n/app", "://=",
			},
		},
		{"FERRY_LISTEN", []string{":0", "localhost:6060", "[::1]:6060"}, []string{"6060", ":", ":http", ":65536", "::1:80", "http://localhost:6060"}},
		{
			"FERRY_CORS_ORIGINS",
			[]string{"*", "https://a.example", "http://localhost:5173 , ionic://localhost"},
			[]string{"https://a.example/", "a.example", "https://a.example,*", "https://*.example.com", "null", ",", "https://", "https://u@a.example", "https://a.example?"},
		},
		{
			"FERRY_POWERSYNC_URL",
			[]string{"http://localhost:8080", "https://sync.example.com/"},
			[]string{"sync.example.com", "ws://a", "https://", "https://:8080", "https://u:hunter2@a", "https://a?b", "https://a#b", "https://a:b"},
		},
		{"FERRY_TOKEN_AUDIENCE", []string{"powersync-dev"}, []string{"a,,b", "a b", "a\x00", "/", "a,//"}},
		{"FERRY_TOKEN_TTL", []string{"60s", "24h", "1h30m"}, []string{"59s", "24h1s", "1", "3600", "-1h", "60500ms"}},
		{
			"FERRY_TOKEN_CLAIMS",
			[]string{"role", "org=app_metadata.org", "a=https://example.com/a.b"},
			[]string{"sub", "iat=x", "a,a", "a=", "=a", "a=b..c", "a.", "a b", "jti=https://a"},
		},
		{"FERRY_SESSION_ISSUER", []string{"https://auth.example.com/"}, []string{"a b", "a\tb", "\xff"}},
		{"FERRY_SESSION_USER_CLAIM", []string{"sub", "app_metadata.uid", "https://example.com/uid"}, []string{"a..b", ".", "a b"}},
		{
			"FERRY_SESSION_SECRET_TEXT",
			[]string{strings.Repeat("é", 16), strings.Repeat("a b ", 8)},
			[]string{strings.Repeat("a", 31)},
		},
		{"FERRY_UPLOAD_ROLE", []string{"authenticated", "App User", strings.Repeat("r", 63)}, []string{strings.Repeat("r", 64), `"r"`, "r\n"}},
		{"FERRY_UPLOAD_SCHEMAS", []string{"public", "app,public"}, []string{"a,", `"a"`, strings.Repeat("s", 64)}},
		{"FERRY_UPLOAD_TABLES", []string{"*", "todos", "app.todos, lists"}, []string{"*,todos", "a.b.c", ".todos", "app.", `app."Todos"`}},
		{"FERRY_UPLOAD_ACCEPTS_SYNC_TOKEN", []string{"true", "false", "1", "0"}, []string{"yes", "TRUE "}},
		{"FERRY_ACCOUNTS", []string{"true", "0"}, []string{"yes"}},
		{
			"FERRY_MAX_BODY_BYTES",
			[]string{"1024", "1KiB", "32MiB", "1GiB"},
			[]string{"1023", "0KiB", "2GiB", "32MB", "MiB", "1.5MiB", "-1", "9223372036854775807KiB", "32 MiB", "1KiBKiB"},
		},
		{"FERRY_MAX_OPERATIONS", []string{"1", "1000000"}, []string{"0", "1000001", "10,000", "1e3", "99999999999999999999"}},
		{"FERRY_DATABASE_POOL", []string{"session", "transaction"}, []string{"Session", "statement"}},
	}
	for _, c := range cases {
		for _, value := range c.good {
			if _, err := Load([]string{c.variable + "=" + value}); err != nil {
				t.Errorf("%s=%q is refused: %v", c.variable, value, err)
			}
		}
		for _, value := range c.bad {
			_, err := Load([]string{c.variable + "=" + value})
			if diff := cmp.Diff([]string{c.variable}, variablesOf(t, err)); diff != "" {
				t.Errorf("%s=%q: variables with problems (-want +got):\n%s", c.variable, value, diff)
			}
		}
	}
}

func TestTokenKeys(t *testing.T) {
	t.Parallel()
	const secret = "FERRY_TOKEN_SECRET"
	cases := []struct {
		name  string
		value string
		want  string
	}{
		{"padded", tokenKey + "=", ""},
		{"unpadded", tokenKey, ""},
		{"short", "c2hvcnQ", secret + ": 5 bytes after base64url decoding, at least 32 are needed; make one with: ferry keygen"},
		{"standard base64", strings.Repeat("+/ab", 11), secret + ": looks like standard base64, base64url is expected; convert it with: tr '+/' '-_', and give the same text to whoever else has it; make one with: ferry keygen"},
		{"both alphabets", strings.Repeat("+-ab", 11), notBase64url},
		{"quoted", `"` + tokenKey + `"`, notBase64url},
		{"with a line break", tokenKey[:20] + "\n" + tokenKey[20:], notBase64url},
		{"cut off", tokenKey + "aa", notBase64url},
		{"padding inside", tokenKey[:20] + "=" + tokenKey[20:], notBase64url},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Load([]string{"FERRY_TOKEN_KID=ferry-1", "FERRY_POWERSYNC_URL=https://a", secret + "=" + c.value})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

const notBase64url = "FERRY_TOKEN_SECRET: not base64url: only A-Z a-z 0-9 - and _ are expected, without quotes or spaces, and no cut-off end; make one with: ferry keygen"

func TestRulesBetweenVariables(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name    string
		environ []string
		want    []string
	}{
		{"a token key", withToken(), nil},
		{"kid without secret", minimal("FERRY_TOKEN_KID=k"), []string{"FERRY_TOKEN_SECRET"}},
		{"secret without kid and URL", minimal("FERRY_TOKEN_SECRET=" + tokenKey), []string{"FERRY_POWERSYNC_URL", "FERRY_TOKEN_KID"}},
		{"kid with a space", withToken("FERRY_TOKEN_KID=a b"), []string{"FERRY_TOKEN_KID"}},
		{"kid that is too long", withToken("FERRY_TOKEN_KID=" + strings.Repeat("k", 129)), []string{"FERRY_TOKEN_KID"}},
		{"guests without accounts", minimal("FERRY_ACCOUNTS_GUESTS=true", "FERRY_ACCOUNTS=false"), []string{"FERRY_ACCOUNTS_GUESTS"}},
		{"sign-up without accounts", minimal("FERRY_ACCOUNTS_SIGN_UP=true"), []string{"FERRY_ACCOUNTS_SIGN_UP"}},
		{"no accounts, said in full", minimal("FERRY_ACCOUNTS=false", "FERRY_ACCOUNTS_SIGN_UP=false", "FERRY_ACCOUNTS_GUESTS=0"), nil},
		{"two session secrets", minimal("FERRY_SESSION_SECRET_TEXT=" + strings.Repeat("x", 32)), []string{"FERRY_SESSION_SECRET"}},
		{"one key for both", withToken("FERRY_SESSION_SECRET=" + tokenKey), []string{"FERRY_SESSION_SECRET"}},
		{"one key for both, padded", withToken("FERRY_SESSION_SECRET=" + tokenKey + "="), []string{"FERRY_SESSION_SECRET"}},
		{"one key for both, decoded", withToken("FERRY_SESSION_SECRET=", "FERRY_SESSION_SECRET_TEXT=token-key-token-key-token-key-01"), []string{"FERRY_SESSION_SECRET_TEXT"}},
		{"one text for both", withToken("FERRY_SESSION_SECRET=", "FERRY_SESSION_SECRET_TEXT="+tokenKey), []string{"FERRY_SESSION_SECRET_TEXT"}},
		{"one key for both, as HMAC takes it", withToken("FERRY_SESSION_SECRET=dG9rZW4ta2V5LXRva2VuLWtleS10b2tlbi1rZXktMDEA"), []string{"FERRY_SESSION_SECRET"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := LoadServe(c.environ)
			if diff := cmp.Diff(c.want, variablesOf(t, err)); diff != "" {
				t.Errorf("variables with problems (-want +got):\n%s\n%v", diff, err)
			}
		})
	}
}

func TestSettingsAndTheListOfVariablesAgree(t *testing.T) {
	t.Parallel()
	var listed, parsed []string
	for _, v := range variables() {
		if !v.later {
			listed = append(listed, v.name)
		}
	}
	for field := range reflect.TypeFor[settings]().Fields() {
		parsed = append(parsed, field.Tag.Get("env"))
	}
	sorted := cmp.Transformer("set", func(list []string) map[string]bool {
		set := map[string]bool{}
		for _, name := range list {
			set[name] = true
		}
		return set
	})
	if diff := cmp.Diff(listed, parsed, sorted); diff != "" {
		t.Errorf("variables (-listed +parsed):\n%s", diff)
	}
	if len(listed) != len(parsed) {
		t.Errorf("%d variables are listed, %d are parsed", len(listed), len(parsed))
	}
}
