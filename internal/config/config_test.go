package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const (
	tokenKey     = "dG9rZW4ta2V5LXRva2VuLWtleS10b2tlbi1rZXktMDE" // "token-key-token-key-token-key-01"
	sessionKey   = "c2Vzc2lvbi1rZXktc2Vzc2lvbi1rZXktc2Vzc2lvbi0" // "session-key-session-key-session-"
	databaseText = "postgres://app:hunter2hunter2@db.internal:5432/app"
)

// minimal is the least that serving needs.
func minimal(more ...string) []string {
	return append([]string{
		"DATABASE_URL=" + databaseText,
		"FERRY_SESSION_SECRET=" + sessionKey,
	}, more...)
}

// withToken is minimal with a token key.
func withToken(more ...string) []string {
	return minimal(append([]string{
		"FERRY_TOKEN_KID=ferry-1",
		"FERRY_TOKEN_SECRET=" + tokenKey,
		"FERRY_POWERSYNC_URL=https://sync.example.com",
	}, more...)...)
}

// defaults is what minimal gives.
func defaults() *Config {
	return &Config{
		Listen:      ":6060",
		AdminListen: "127.0.0.1:9090",
		Database:    Database{URL: NewSecret(databaseText), MigrateURL: NewSecret(databaseText), Pool: PoolSession},
		Token:       Token{TTL: time.Hour},
		Sessions:    []SessionIssuer{{Secret: minimalSecret(), UserClaim: "sub"}},
		Accounts:    Accounts{SignUp: true, SessionIdle: 90 * 24 * time.Hour, SessionMax: 365 * 24 * time.Hour},
		Upload: Upload{
			Role:          "authenticated",
			Schemas:       []string{"public"},
			MaxBodyBytes:  32 << 20,
			MaxOperations: 10_000,
		},
	}
}

// minimalSecret is the session secret that minimal gives.
func minimalSecret() SharedSecret {
	return encodedSecret("FERRY_SESSION_SECRET", "FERRY_SESSION_SECRET_TEXT", sessionKey)
}

// comparable lets cmp see all of a Config.
var comparable = cmp.Options{cmp.AllowUnexported(SharedSecret{}), cmpopts.EquateComparable(netip.Prefix{})}

func TestLoadServeGivesDefaultsForWhatIsNotSet(t *testing.T) {
	t.Parallel()
	got, err := LoadServe(minimal("FERRY_LISTEN=", "PATH=/bin", "NOT_FERRY=1", "no equals sign"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaults(), got, comparable); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if got.Token.Enabled() {
		t.Error("tokens are enabled without a key")
	}
}

func TestLoadServeReadsEveryVariable(t *testing.T) {
	t.Parallel()
	got, err := LoadServe([]string{
		"DATABASE_URL=" + databaseText,
		"FERRY_LISTEN=[::1]:80",
		"FERRY_ADMIN_LISTEN=0.0.0.0:0",
		"FERRY_CORS_ORIGINS=https://App.example.com, http://localhost:5173,capacitor://localhost",
		"FERRY_POWERSYNC_URL=https://sync.example.com/base//",
		"FERRY_TOKEN_KID=ferry-1",
		"FERRY_TOKEN_SECRET=" + tokenKey + "=",
		"FERRY_TOKEN_AUDIENCE=powersync-dev, https://sync.example.com/",
		"FERRY_TOKEN_ISSUER=https://ferry.example.com/",
		"FERRY_TOKEN_TTL=90m",
		"FERRY_TOKEN_CLAIMS_FUNCTION=app.Claims of",
		"FERRY_TOKEN_CLAIMS=role, org=app_metadata.org.id,https://example.com/plan",
		"FERRY_SESSION_ISSUER=https://auth.example.com/",
		"FERRY_SESSION_AUDIENCE=authenticated",
		"FERRY_SESSION_SECRET_TEXT=raw text of at least thirty-two bytes",
		"FERRY_SESSION_JWKS_URL=https://auth.example.com/jwks",
		"FERRY_SESSION_USER_CLAIM=app_metadata.uid",
		"FERRY_ACCOUNTS=true",
		"FERRY_ACCOUNTS_SIGN_UP=false",
		"FERRY_ACCOUNTS_GUESTS=1",
		"FERRY_ACCOUNTS_SESSION_IDLE=30m",
		"FERRY_ACCOUNTS_SESSION_MAX=12h",
		"FERRY_TRUSTED_HEADER=X-Forwarded-User",
		"FERRY_TRUSTED_HEADER_FROM=10.1.2.3/8, ::1",
		"FERRY_TRUSTED_PROXIES=192.0.2.1",
		"FERRY_UPLOAD_ROLE=app user",
		"FERRY_UPLOAD_SCHEMAS=app, public",
		"FERRY_UPLOAD_TABLES=todos,app.Lists",
		"FERRY_UPLOAD_ACCEPTS_SYNC_TOKEN=true",
		"FERRY_MAX_BODY_BYTES=1MiB",
		"FERRY_MAX_OPERATIONS=500",
		"FERRY_WRITE_CHECKPOINTS=true",
		"FERRY_DATABASE_POOL=transaction",
		"FERRY_MIGRATE_DATABASE_URL=host=db user=owner password=hunter3",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Listen:       "[::1]:80",
		AdminListen:  "0.0.0.0:0",
		CORSOrigins:  []string{"https://app.example.com", "http://localhost:5173", "capacitor://localhost"},
		PowerSyncURL: "https://sync.example.com/base",
		Database: Database{
			URL:        NewSecret(databaseText),
			MigrateURL: NewSecret("host=db user=owner password=hunter3"),
			Pool:       PoolTransaction,
		},
		Token: Token{
			KID:      "ferry-1",
			Key:      NewSecret("token-key-token-key-token-key-01"),
			Audience: []string{"powersync-dev", "https://sync.example.com"},
			Issuer:   "https://ferry.example.com/",
			TTL:      90 * time.Minute,
			Claims: []Claim{
				{Name: "role", Path: []string{"role"}},
				{Name: "org", Path: []string{"app_metadata", "org", "id"}},
				{Name: "https://example.com/plan", Path: []string{"https://example.com/plan"}},
			},
			ClaimsFunction: []string{"app", "Claims of"},
		},
		Sessions: []SessionIssuer{{
			Issuer:    "https://auth.example.com/",
			Audience:  "authenticated",
			Secret:    rawSecret("FERRY_SESSION_SECRET_TEXT", "FERRY_SESSION_SECRET", "raw text of at least thirty-two bytes"),
			JWKSURL:   "https://auth.example.com/jwks",
			UserClaim: "app_metadata.uid",
		}},
		Proxy: Proxy{
			UserHeader:  "X-Forwarded-User",
			UserFrom:    []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")},
			AddressFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")},
		},
		Accounts: Accounts{Enabled: true, Guests: true, SessionIdle: 30 * time.Minute, SessionMax: 12 * time.Hour},
		Upload: Upload{
			Role:             "app user",
			Schemas:          []string{"app", "public"},
			Tables:           []string{"todos", "app.Lists"},
			AcceptsSyncToken: true,
			WriteCheckpoints: true,
			MaxBodyBytes:     1 << 20,
			MaxOperations:    500,
		},
		Warnings: []string{
			"FERRY_POWERSYNC_URL: the trailing slash was dropped",
			"FERRY_TOKEN_AUDIENCE: the trailing slash was dropped",
		},
	}
	if diff := cmp.Diff(want, got, comparable); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestAudienceDefaultsToPowerSyncURL(t *testing.T) {
	t.Parallel()
	got, err := Load(withToken())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"https://sync.example.com"}, got.Token.Audience); diff != "" {
		t.Errorf("audience (-want +got):\n%s", diff)
	}
	if !got.Token.Enabled() {
		t.Error("tokens are off in spite of a key")
	}
}

func TestASessionThatIsNotUsedLastsNoLongerThanAnyOther(t *testing.T) {
	t.Parallel()
	got, err := LoadServe(minimal("FERRY_ACCOUNTS=true", "FERRY_ACCOUNTS_SESSION_MAX=12h"))
	if err != nil {
		t.Fatal(err)
	}
	want := Accounts{Enabled: true, SignUp: true, SessionIdle: 12 * time.Hour, SessionMax: 12 * time.Hour}
	if diff := cmp.Diff(want, got.Accounts); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
}

func TestTheLastEntryForANameCounts(t *testing.T) {
	t.Parallel()
	got, err := Load([]string{"FERRY_LISTEN=:1", "FERRY_LISTEN=:2"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Listen != ":2" {
		t.Errorf("listen = %q, want :2", got.Listen)
	}
}

func TestEachCommandDemandsWhatItNeeds(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name    string
		load    func([]string) (*Config, error)
		environ []string
		want    []string // the variables with a problem
	}{
		{"nothing", Load, nil, nil},
		{"serve", LoadServe, nil, []string{"DATABASE_URL", "FERRY_SESSION_ISSUER"}},
		{"serve with an audience alone", LoadServe, []string{"DATABASE_URL=" + databaseText, "FERRY_SESSION_AUDIENCE=a"}, []string{"FERRY_SESSION_ISSUER"}},
		{"serve with an issuer to discover", LoadServe, []string{"DATABASE_URL=" + databaseText, "FERRY_SESSION_ISSUER=https://a"}, nil},
		{"serve with a JWKS", LoadServe, []string{"DATABASE_URL=" + databaseText, "FERRY_SESSION_JWKS_URL=https://a/jwks"}, nil},
		{"serve with Supabase", LoadServe, []string{"DATABASE_URL=" + databaseText, "FERRY_SUPABASE_URL=https://a"}, nil},
		{"serve with accounts alone", LoadServe, []string{"DATABASE_URL=" + databaseText, "FERRY_ACCOUNTS=true"}, nil},
		{"serve without accounts", LoadServe, []string{"DATABASE_URL=" + databaseText, "FERRY_ACCOUNTS=false"}, []string{"FERRY_SESSION_ISSUER"}},
		{"serve behind an authenticating proxy", LoadServe, []string{"DATABASE_URL=" + databaseText, "FERRY_TRUSTED_HEADER=X-User", "FERRY_TRUSTED_HEADER_FROM=::1"}, nil},
		{"migrate", LoadMigrate, nil, []string{"DATABASE_URL"}},
		{"migrate with its own URL", LoadMigrate, []string{"FERRY_MIGRATE_DATABASE_URL=" + databaseText}, nil},
		{"migrate with the URL", LoadMigrate, []string{"DATABASE_URL=" + databaseText}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := c.load(c.environ)
			if diff := cmp.Diff(c.want, variablesOf(t, err)); diff != "" {
				t.Errorf("variables with problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAllProblemsComeAtOnceInTheTablesOrder(t *testing.T) {
	t.Parallel()
	_, err := LoadServe([]string{
		"FERRY_ZEBRA=1",
		"FERRY_MAX_OPERATIONS=0",
		"FERRY_TOKEN_SECRET=c2hvcnQtc2hvcnQtc2hvcnQtc2hvcnQt",
		"FERRY_ACCOUNTS_GUESTS=true",
		"FERRY_LISTEN=6060",
		"FERRY_AARDVARK=1",
	})
	want := strings.Join([]string{
		"DATABASE_URL: not set; it says where the app's Postgres is: postgres://user:password@host:5432/database",
		"FERRY_LISTEN: expected host:port or :port with a port from 0 to 65535, such as :6060 or 127.0.0.1:6060",
		"FERRY_POWERSYNC_URL: not set, though there is a token key; clients need it to find the PowerSync Service, such as https://powersync.example.com",
		"FERRY_TOKEN_KID: not set, though FERRY_TOKEN_SECRET is; it must be the kid of that key in the PowerSync Service's configuration",
		"FERRY_TOKEN_SECRET: 24 bytes after base64url decoding, at least 32 are needed; make one with: ferry keygen",
		"FERRY_SESSION_ISSUER: not set, nor any other way of signing in; give the URL of the identity provider, or FERRY_SUPABASE_URL, or the secret that the app's session JWTs are signed with (FERRY_SESSION_SECRET, FERRY_SESSION_SECRET_TEXT), or FERRY_TRUSTED_HEADER; an app without a sign-in of its own sets FERRY_ACCOUNTS=true",
		"FERRY_ACCOUNTS_GUESTS: on, though accounts are not; set FERRY_ACCOUNTS=true as well",
		"FERRY_MAX_OPERATIONS: expected a number from 1 to 1000000",
		"FERRY_AARDVARK: ferry knows no such variable; the nearest is FERRY_ACCOUNTS",
		"FERRY_ZEBRA: ferry knows no such variable; the nearest is FERRY_LISTEN",
	}, "\n")
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestMisspeltNamesGetTheNearestKnownName(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"FERRY_TOKEN_KEY":          "FERRY_TOKEN_KEYS",
		"FERRY_TOKEN_KEYID":        "FERRY_TOKEN_KID",
		"FERRY_UPLOAD_TABLE":       "FERRY_UPLOAD_TABLES",
		"FERRY_SESION_SECRET_FILE": "FERRY_SESSION_SECRET_FILE",
		"FERRY_DATABASE_URL":       "DATABASE_URL",
		"FERRY_DATABASE_URL_FILE":  "DATABASE_URL_FILE",
		"FERRY_PORT":               "FERRY_LISTEN",
	}
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := LoadServe(minimal(name + "=8080"))
			if err == nil || !strings.HasSuffix(err.Error(), "the nearest is "+want) {
				t.Errorf("error %v, want one that names %s", err, want)
			}
		})
	}
}

func TestKubernetesServiceLinksAreNoConfiguration(t *testing.T) {
	t.Parallel()
	_, err := LoadServe(minimal(
		"FERRY_SERVICE_HOST=10.0.0.1", "FERRY_SERVICE_PORT=6060", "FERRY_SERVICE_PORT_HTTP=6060",
		"FERRY_PORT=tcp://10.0.0.1:6060", "FERRY_PORT_6060_TCP=tcp://10.0.0.1:6060",
		"FERRY_PORT_6060_TCP_PROTO=tcp", "FERRY_PORT_6060_TCP_PORT=6060", "FERRY_PORT_6060_TCP_ADDR=10.0.0.1",
		"FERRY_ADMIN_SERVICE_HOST=10.0.0.2", "FERRY_ADMIN_PORT=udp://10.0.0.2:9090",
	))
	if err != nil {
		t.Errorf("service links are refused: %v", err)
	}
}

func TestFilesGiveValuesWithoutOneNewline(t *testing.T) {
	t.Parallel()
	const secret = "thirty-two bytes of text, or more than that"
	for name, content := range map[string]string{
		"bare": secret, "newline": secret + "\n", "windows": secret + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Load([]string{"FERRY_SESSION_SECRET_TEXT_FILE=" + write(t, content)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(secret, got.Sessions[0].Secret.Key.Reveal()); diff != "" {
				t.Errorf("secret (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("only one newline goes", func(t *testing.T) {
		t.Parallel()
		got, err := Load([]string{"FERRY_SESSION_SECRET_TEXT_FILE=" + write(t, secret+"\n\n")})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(secret+"\n", got.Sessions[0].Secret.Key.Reveal()); diff != "" {
			t.Errorf("secret (-want +got):\n%s", diff)
		}
	})
}

func TestEveryVariableCanComeFromAFile(t *testing.T) {
	t.Parallel()
	for _, v := range variables() {
		// A directory: each variable must be seen to open it.
		_, err := Load([]string{v.name + "_FILE=" + t.TempDir()})
		if got := variablesOf(t, err); len(got) == 0 || !strings.Contains(err.Error(), v.name+"_FILE: ") {
			t.Errorf("%s_FILE is not read: %v", v.name, err)
		}
	}
}

func TestFilesThatCannotServeAreNamed(t *testing.T) {
	t.Parallel()
	large := write(t, strings.Repeat("a", maxFileBytes+1))
	empty := write(t, "\n")
	missing := filepath.Join(t.TempDir(), "missing")
	cases := []struct{ name, path, want string }{
		{"missing", missing, missing + " does not exist, is not a regular file, or is out of reach"},
		{"too large", large, large + " is larger than 1 MiB"},
		{"empty", empty, empty + " is empty"},
		{"a device that never ends", "/dev/zero", "/dev/zero does not exist, is not a regular file, or is out of reach"},
		{"a secret in place of a path", sessionKey, "the file does not exist, is not a regular file, or is out of reach"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Load([]string{"FERRY_SESSION_SECRET_FILE=" + c.path})
			want := &Error{Problems: []Problem{{"FERRY_SESSION_SECRET_FILE", c.want + "; give the path of a readable file that holds the value"}}}
			if diff := cmp.Diff(error(want), err); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAVariableAndItsFileExcludeEachOther(t *testing.T) {
	t.Parallel()
	_, err := Load([]string{"FERRY_LISTEN=:1", "FERRY_LISTEN_FILE=/dev/null"})
	want := &Error{Problems: []Problem{{"FERRY_LISTEN", "set directly and as FERRY_LISTEN_FILE as well; unset one of them"}}}
	if diff := cmp.Diff(error(want), err); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestUsageListsEveryVariable(t *testing.T) {
	t.Parallel()
	usage := Usage()
	for _, v := range variables() {
		if !strings.Contains(usage, "\n  "+v.name+" ") && !strings.Contains(usage, "\n  "+v.name+"\n") {
			t.Errorf("%s is not listed", v.name)
		}
	}
}

// variablesOf returns the variables with a problem, nil without an error.
func variablesOf(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var all *Error
	if !errors.As(err, &all) {
		t.Fatalf("error is a %T, want *Error: %v", err, err)
	}
	names := make([]string, len(all.Problems))
	for i, p := range all.Problems {
		names[i] = p.Variable
	}
	return names
}

// write returns the path of a new file with this content.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
