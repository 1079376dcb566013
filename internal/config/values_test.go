package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

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
		{"FERRY_TOKEN_CLAIMS_FUNCTION", []string{"claims", "app.claims", "My App.Claims"}, []string{"a.b.c", ".f", "a.", `"f"`, strings.Repeat("f", 64)}},
		{"FERRY_SESSION_ISSUER", []string{"https://auth.example.com/"}, []string{"a b", "a\tb", "\xff", "auth.example.com", "http://auth.example.com"}},
		{
			"FERRY_SESSION_JWKS_URL",
			[]string{"https://a/jwks?x=1", "http://localhost:9/jwks", "http://127.0.0.1/jwks", "http://[::1]/jwks"},
			[]string{"http://a/jwks", "a/jwks", "https://", "https://u:hunter2@a/jwks", "https://a/#b", "file:///etc/passwd"},
		},
		{"FERRY_SUPABASE_URL", []string{"https://abcdefgh.supabase.co", "http://localhost:54321/"}, []string{"abcdefgh", "http://a"}},
		{
			"FERRY_SESSION_ISSUERS",
			[]string{
				`[{"issuer":"https://a","audience":"b"}]`,
				`[{"issuer":"a","audience":"b","jwks_url":"https://a/jwks","user_claim":"x.y","user_prefix":"a|","algorithms":["RS256","EdDSA"]}, {"issuer":"c","audience":"b","secret":"` + sessionKey + `"}]`,
				`[{"issuer":"a","audience":"b","secret_text":"` + strings.Repeat("s", 32) + `","algorithms":["HS256"]}]`,
				`[{"issuer":"https://a","audience":"b","jwks_url":"https://a/jwks","secret":"` + sessionKey + `","algorithms":["HS256","RS256"]}]`,
			},
			[]string{
				`[]`, `{}`, `null`, `[null]`, `[{"issuer":"https://a"}]`, `[{"audience":"b"}]`, `[{"issuer":"a","audience":"b"}]`, `[{"issuer":"http://a","audience":"b"}]`,
				`[{"issuer":"https://a","audience":"b","aud":"c"}]`, `[{"issuer":"https://a","audience":"b"}] []`, `[{"issuer":"https://a","audience":"b"}`,
				`[{"issuer":"https://a","audience":"b","secret":"short"}]`, `[{"issuer":"https://a","audience":"b","secret_text":"short"}]`,
				`[{"issuer":"https://a","audience":"b","secret":"` + sessionKey + `","secret_text":"` + strings.Repeat("s", 32) + `"}]`,
				`[{"issuer":"https://a","audience":"b","jwks_url":"http://a/jwks"}]`, `[{"issuer":"https://a","audience":"b","user_claim":"a..b"}]`,
				`[{"issuer":"https://a","audience":"b","user_prefix":"a b"}]`, `[{"issuer":"https://a","audience":"b","algorithms":["none"]}]`,
				`[{"issuer":"https://a","audience":"b","algorithms":["HS256"]}]`, `[{"issuer":"https://a","audience":"b","secret":"` + sessionKey + `","algorithms":["RS256"]}]`,
			},
		},
		{"FERRY_TRUSTED_PROXIES", []string{"10.0.0.0/8, fd00::/8", "127.0.0.1"}, []string{"10.0.0.0/33", "a", ",", "::ffff:10.0.0.1", "10.0.0.1%eth0"}},
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

func TestTimesOfSessions(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"5m": 5 * time.Minute, "300s": 5 * time.Minute, "1h30m": 90 * time.Minute, "1d": 24 * time.Hour, "3650d": 3650 * 24 * time.Hour,
		"4m59s": 0, "3651d": 0, "0d": 0, "d": 0, "-1d": 0, "+1d": 0, "1.5d": 0, "1d12h": 0, "90": 0, "90 d": 0, "1e9d": 0, "65536d": 0, "99999999999999999999d": 0, "300500ms": 0, "forever": 0,
	} {
		got, err := LoadServe(minimal("FERRY_ACCOUNTS=true", "FERRY_ACCOUNTS_SESSION_MAX="+value))
		switch {
		case want == 0 && (err == nil || err.Error() != "FERRY_ACCOUNTS_SESSION_MAX: expected a duration from 5m to 3650d in whole seconds, such as 30m, 12h or 90d"):
			t.Errorf("%q: %v", value, err)
		case want != 0 && (err != nil || got.Accounts.SessionMax != want):
			t.Errorf("%q: %+v, %v, want %s", value, got, err, want)
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

const issuers = `[{"issuer":"https://a","audience":"b"}]`

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
		{"token keys", minimal("FERRY_TOKEN_KEYS="+keySetText, "FERRY_POWERSYNC_URL=https://a"), nil},
		{"token keys, and which signs", minimal("FERRY_TOKEN_KEYS="+keySetText, "FERRY_TOKEN_KID=k", "FERRY_POWERSYNC_URL=https://a"), nil},
		{"token keys, and one that is not there", minimal("FERRY_TOKEN_KEYS="+keySetText, "FERRY_TOKEN_KID=x", "FERRY_POWERSYNC_URL=https://a"), []string{"FERRY_TOKEN_KEYS"}},
		{"token keys without a URL", minimal("FERRY_TOKEN_KEYS=" + keySetText), []string{"FERRY_POWERSYNC_URL"}},
		{"token keys and a secret", withToken("FERRY_TOKEN_KEYS=" + keySetText), []string{"FERRY_TOKEN_KEYS"}},
		{"two bad token keys", minimal(`FERRY_TOKEN_KEYS={"keys":[{"kid":"a"},{}]}`, "FERRY_POWERSYNC_URL=https://a"), []string{"FERRY_TOKEN_KEYS", "FERRY_TOKEN_KEYS"}},
		{"a header without networks", minimal("FERRY_TRUSTED_HEADER=X-User"), []string{"FERRY_TRUSTED_HEADER_FROM"}},
		{"networks without a header", minimal("FERRY_TRUSTED_HEADER_FROM=10.0.0.0/8"), []string{"FERRY_TRUSTED_HEADER"}},
		{"a header from everywhere", minimal("FERRY_TRUSTED_HEADER=X-User", "FERRY_TRUSTED_HEADER_FROM=10.0.0.0/8, 0.0.0.0/0"), []string{"FERRY_TRUSTED_HEADER_FROM"}},
		{"a header from everywhere over IPv6", minimal("FERRY_TRUSTED_HEADER=X-User", "FERRY_TRUSTED_HEADER_FROM=::/0"), []string{"FERRY_TRUSTED_HEADER_FROM"}},
		{"a header that is no name", minimal("FERRY_TRUSTED_HEADER=X User", "FERRY_TRUSTED_HEADER_FROM=10.0.0.0/8"), []string{"FERRY_TRUSTED_HEADER"}},
		{"the header of Bearers", minimal("FERRY_TRUSTED_HEADER=authorization", "FERRY_TRUSTED_HEADER_FROM=10.0.0.0/8"), []string{"FERRY_TRUSTED_HEADER"}},
		{"a list and single variables", minimal("FERRY_SESSION_ISSUERS="+issuers, "FERRY_SESSION_AUDIENCE=a"), []string{"FERRY_SESSION_AUDIENCE", "FERRY_SESSION_SECRET"}},
		{"Supabase and its issuer", minimal("FERRY_SUPABASE_URL=https://a", "FERRY_SESSION_ISSUER=https://a", "FERRY_SESSION_AUDIENCE=a"), []string{"FERRY_SESSION_ISSUER", "FERRY_SESSION_AUDIENCE"}},
		{"a token key in the list", withToken("FERRY_SESSION_SECRET=", `FERRY_SESSION_ISSUERS=[{"issuer":"a","audience":"b","secret":"`+tokenKey+`"}]`), []string{"FERRY_SESSION_ISSUERS"}},
		{"guests without accounts", minimal("FERRY_ACCOUNTS_GUESTS=true", "FERRY_ACCOUNTS=false"), []string{"FERRY_ACCOUNTS_GUESTS"}},
		{"sign-up without accounts", minimal("FERRY_ACCOUNTS_SIGN_UP=true"), []string{"FERRY_ACCOUNTS_SIGN_UP"}},
		{"times of sessions without accounts", minimal("FERRY_ACCOUNTS_SESSION_IDLE=30m", "FERRY_ACCOUNTS_SESSION_MAX=12h"), []string{"FERRY_ACCOUNTS_SESSION_IDLE", "FERRY_ACCOUNTS_SESSION_MAX"}},
		{"times of sessions", minimal("FERRY_ACCOUNTS=true", "FERRY_ACCOUNTS_SESSION_IDLE=12h", "FERRY_ACCOUNTS_SESSION_MAX=12h"), nil},
		{"sessions that end before they may be idle", minimal("FERRY_ACCOUNTS=true", "FERRY_ACCOUNTS_SESSION_IDLE=13h", "FERRY_ACCOUNTS_SESSION_MAX=12h"), []string{"FERRY_ACCOUNTS_SESSION_IDLE"}},
		{"sessions that may be idle for longer than a year", minimal("FERRY_ACCOUNTS=true", "FERRY_ACCOUNTS_SESSION_IDLE=366d"), []string{"FERRY_ACCOUNTS_SESSION_IDLE"}},
		{"sessions of a bad length", minimal("FERRY_ACCOUNTS=true", "FERRY_ACCOUNTS_SESSION_IDLE=30m", "FERRY_ACCOUNTS_SESSION_MAX=1m"), []string{"FERRY_ACCOUNTS_SESSION_MAX"}},
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
		listed = append(listed, v.name)
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

func TestSessionIssuers(t *testing.T) {
	t.Parallel()
	const raw = "dG9rZW4ta2V5LXRva2VuLWtleS10b2tlbi1rZXktMDE="
	cases := []struct {
		name     string
		environ  []string
		want     []SessionIssuer
		warnings []string
	}{
		{
			name:     "by discovery",
			environ:  []string{"FERRY_SESSION_ISSUER=https://a"},
			want:     []SessionIssuer{{Issuer: "https://a", Discover: true, UserClaim: "sub"}},
			warnings: []string{"FERRY_SESSION_AUDIENCE: not set, so that sessions which this issuer gave for other apps are accepted as well"},
		},
		{
			name:    "a secret needs no discovery",
			environ: []string{"FERRY_SESSION_ISSUER=https://a", "FERRY_SESSION_SECRET=" + sessionKey},
			want:    []SessionIssuer{{Issuer: "https://a", Secret: minimalSecret(), UserClaim: "sub"}},
		},
		{
			name:    "keys of whoever",
			environ: []string{"FERRY_SESSION_JWKS_URL=https://a/jwks"},
			want:    []SessionIssuer{{JWKSURL: "https://a/jwks", UserClaim: "sub"}},
			warnings: []string{
				"FERRY_SESSION_AUDIENCE: not set, so that sessions which this issuer gave for other apps are accepted as well",
				"FERRY_SESSION_ISSUER: not set, so that everybody whose sessions are signed with the keys at FERRY_SESSION_JWKS_URL is let in; some providers use the same keys for all their customers",
			},
		},
		{
			name:    "Supabase, on its way from a secret to keys",
			environ: []string{"FERRY_SUPABASE_URL=https://abcdefgh.supabase.co/", "FERRY_SESSION_SECRET_TEXT=" + raw},
			want: []SessionIssuer{{
				Issuer: "https://abcdefgh.supabase.co/auth/v1", Audience: "authenticated", JWKSURL: "https://abcdefgh.supabase.co/auth/v1/.well-known/jwks.json",
				Secret: SharedSecret{
					variable: "FERRY_SESSION_SECRET_TEXT", Key: NewSecret(raw), Misread: NewSecret("token-key-token-key-token-key-01"),
					Advice: "they are signed with what the text decodes to and not with the text; give it in base64url as FERRY_SESSION_SECRET instead",
				},
				UserClaim: "sub",
			}},
		},
		{
			name: "a list",
			environ: []string{"FERRY_SESSION_USER_CLAIM=uid", `FERRY_SESSION_ISSUERS=[
				{"issuer": "https://a", "audience": "x"},
				{"issuer": "b", "audience": "y", "secret": "` + sessionKey + `", "user_claim": "sub", "user_prefix": "b|", "algorithms": ["HS256"]}]`},
			want: []SessionIssuer{
				{Issuer: "https://a", Audience: "x", Discover: true, UserClaim: "uid"},
				{Issuer: "b", Audience: "y", Secret: encodedSecret("FERRY_SESSION_ISSUERS", "secret_text", sessionKey), UserClaim: "sub", UserPrefix: "b|", Algorithms: []string{"HS256"}},
			},
		},
		{
			name:    "a list without prefixes",
			environ: []string{`FERRY_SESSION_ISSUERS=[{"issuer": "https://a", "audience": "x"}, {"issuer": "https://b", "audience": "x"}]`},
			want: []SessionIssuer{
				{Issuer: "https://a", Audience: "x", Discover: true, UserClaim: "sub"},
				{Issuer: "https://b", Audience: "x", Discover: true, UserClaim: "sub"},
			},
			warnings: []string{"FERRY_SESSION_ISSUERS: two issuers have the same user_prefix, so that equal subjects of theirs are one user"},
		},
		{name: "none", environ: nil, want: nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := Load(c.environ)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Sessions, comparable); diff != "" {
				t.Errorf("sessions (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.warnings, got.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// keySetText is a key set with one key.
const keySetText = `{"keys":[{"kty":"oct","alg":"HS256","kid":"k","k":"` + tokenKey + `"}]}`

func TestKeySetsComeAsTextOrFromAFile(t *testing.T) {
	t.Parallel()
	path := write(t, keySetText+"\n")
	for name, want := range map[string]Token{
		"FERRY_TOKEN_KEYS=" + keySetText: {Keys: NewSecret(keySetText)},
		"FERRY_TOKEN_KEYS_FILE=" + path:  {Keys: NewSecret(keySetText), KeysFile: path},
	} {
		got, err := Load([]string{name, "FERRY_POWERSYNC_URL=https://a"})
		if err != nil {
			t.Fatal(err)
		}
		want.TTL, want.Audience = time.Hour, []string{"https://a"}
		if diff := cmp.Diff(want, got.Token); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if !got.Token.Enabled() {
			t.Error("tokens are off in spite of a key")
		}
	}
}

func TestMistakesInKeySetsAreNamed(t *testing.T) {
	t.Parallel()
	_, err := Load([]string{`FERRY_TOKEN_KEYS={"keys":[` + strings.Replace(keySetText[len(`{"keys":[`):len(keySetText)-2], "HS256", "HS512", 1) + `]}`, "FERRY_POWERSYNC_URL=https://a"})
	want := &Error{Problems: []Problem{{"FERRY_TOKEN_KEYS", `key 1 (kid "k"): its secret (k) has 32 bytes after base64url decoding, HS512 needs at least 64: make another with: ferry keys add --alg HS512`}}}
	if diff := cmp.Diff(error(want), err); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

// Whoever edits the file of keys may not have one yet, or a broken one, and
// still has the single key.
func TestLoadKeysDoesNotReadTheFile(t *testing.T) {
	t.Parallel()
	got, err := LoadKeys([]string{"FERRY_TOKEN_KEYS_FILE=/nowhere/keys.json", "FERRY_TOKEN_KID=k", "FERRY_TOKEN_SECRET=" + tokenKey})
	if err != nil {
		t.Fatal(err)
	}
	want := Token{KID: "k", Key: NewSecret("token-key-token-key-token-key-01"), KeysFile: "/nowhere/keys.json", TTL: time.Hour}
	if diff := cmp.Diff(want, got.Token); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
