package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/config"
	"ferry/internal/doctor"
	"ferry/internal/tokens"
)

// newService judges tokens as the PowerSync Service does. It knows the keys k1
// (tokenKey), k2 (guessable), a and b, and takes tokens for itself, whatever
// name it is called by, or for powersync-dev.
func newService(t *testing.T) (url string) {
	t.Helper()
	var keys []tokens.Key
	for id, secret := range map[string]string{"k1": tokenKey, "k2": guessableKey, "a": "a" + tokenKey, "b": "b" + tokenKey} {
		key, err := tokens.NewHS256Key(id, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	set, err := tokens.NewKeySet(keys[0], keys[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		refusals := set.Inspect(token, []string{"http://" + r.Host, "powersync-dev"}, time.Now()).Refusals
		switch {
		case r.Method != http.MethodPost || r.URL.Path != "/sync/stream":
			http.NotFound(w, r)
		case len(refusals) > 0:
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error":{"code":%q,"status":401,"description":"Authentication failed"}}`, refusals[0].Code)
		default: // and go on until the client hangs up, which shows once the body is read
			_, _ = io.Copy(io.Discard, r.Body)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

const guessableKey = "my-super-secret-key-for-the-server"

// healthyEnvironment has no fault but that there is no database.
func healthyEnvironment(service string) []string {
	return []string{
		"DATABASE_URL=postgres://app:hidden-password@localhost/app?host=/nowhere",
		"FERRY_POWERSYNC_URL=" + service,
		"FERRY_TOKEN_KID=k1",
		"FERRY_TOKEN_SECRET=" + encoded(tokenKey),
		"FERRY_SESSION_SECRET=" + encoded(sessionKey),
		"FERRY_CORS_ORIGINS=https://app.example.com",
		"FERRY_TRUSTED_HEADER=X-User", "FERRY_TRUSTED_HEADER_FROM=10.0.0.0/8,fc00::/7",
		"FERRY_TRUSTED_PROXIES=127.0.0.1",
	}
}

// oneKey is a JWKS with a public key that can verify sessions.
const oneKey = `{"kty":"EC","crv":"P-256","kid":"a","use":"sig","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`

// newProvider serves documents of an identity provider.
func newProvider(t *testing.T, keys string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"keys":[%s]}`, keys) }))
	t.Cleanup(server.Close)
	return server.URL
}

// mistaken are environments, behind the healthy one, that provoke one finding.
func mistaken(t *testing.T, service string) map[string][]string {
	t.Helper()
	keySet := func(names ...string) string {
		var keys []string
		for _, name := range names {
			keys = append(keys, fmt.Sprintf(`{"kty":"oct","alg":"HS256","kid":%q,"k":%q}`, name, encoded(name+tokenKey)))
		}
		return fmt.Sprintf(`FERRY_TOKEN_KEYS={"active":%q,"keys":[%s]}`, names[0], strings.Join(keys, ","))
	}
	jwks := func(keys string) []string {
		return []string{"FERRY_SESSION_SECRET=", "FERRY_SESSION_ISSUER=us", "FERRY_SESSION_AUDIENCE=app", "FERRY_SESSION_JWKS_URL=" + newProvider(t, keys) + "/jwks?key=hidden-key"}
	}
	return map[string][]string{
		"configuration":         {"FERRY_TOKEN_TTL=1y"},
		"configuration-warning": {"FERRY_POWERSYNC_URL=" + service + "/"},
		"cors-any-origin":       {"FERRY_CORS_ORIGINS=*"},
		"trusted-header-wide":   {"FERRY_TRUSTED_HEADER_FROM=10.0.0.0/8,0.0.0.0/1"},
		"trusted-proxies-wide":  {"FERRY_TRUSTED_PROXIES=::/0"},
		"no-token-key":          {"FERRY_TOKEN_KID=", "FERRY_TOKEN_SECRET="},
		"guessable-secret":      {"FERRY_TOKEN_KID=k2", "FERRY_TOKEN_SECRET=" + encoded(guessableKey)},
		"several-token-keys":    {"FERRY_TOKEN_KID=", "FERRY_TOKEN_SECRET=", keySet("a", "b")},
		"token-audience":        {"FERRY_TOKEN_AUDIENCE=powersync-dev"},
		// The service listens there, too, but the name is none of this machine's.
		"powersync-url-insecure":   {"FERRY_POWERSYNC_URL=" + strings.Replace(service, "127.0.0.1", "0.0.0.0", 1)},
		"powersync-refuses-tokens": {"FERRY_TOKEN_KID=k3"},
		"powersync-unreachable":    {"FERRY_POWERSYNC_URL=" + service + "/somewhere/else"},
		"session-keys":             jwks(`{"kty":"oct","k":"c2VjcmV0"}`),
		"session-keys-skipped":     jwks(oneKey + `,{"kty":"oct","k":"c2VjcmV0"}`),
	}
}

// examineVariables makes the checks that need no database.
func examineVariables(t *testing.T, environ []string) []doctor.Finding {
	t.Helper()
	secrets.UsesEnvironment(environ)
	cfg, wrong := config.LoadDoctor(environ)
	checks := slices.Concat(configChecks(cfg, wrong), tokenChecks(cfg), serviceChecks(cfg), sessionChecks(cfg))
	findings := doctor.Examine(t.Context(), checks).Findings
	secrets.Wrote(t.Name(), fmt.Sprint(findings))
	return findings
}

func TestDoctorFindsEachMistakeInTheVariables(t *testing.T) {
	t.Parallel()
	service := newService(t)
	if got := examineVariables(t, healthyEnvironment(service)); len(got) > 0 {
		t.Errorf("findings of a healthy environment: %+v", got)
	}
	ok := append(healthyEnvironment(service), "FERRY_SESSION_SECRET=", "FERRY_SESSION_ISSUER=us", "FERRY_SESSION_AUDIENCE=app",
		"FERRY_SESSION_JWKS_URL="+newProvider(t, oneKey))
	if got := examineVariables(t, ok); len(got) > 0 {
		t.Errorf("findings of a healthy provider: %+v", got)
	}
	for code, more := range mistaken(t, service) {
		got := examineVariables(t, append(healthyEnvironment(service), more...))
		if len(got) != 1 || got[0].Code != code {
			t.Errorf("%s: findings %+v", code, got)
		}
		for _, f := range got {
			if f.Problem == "" || f.Remedy == "" || (f.Run != "") != strings.HasSuffix(f.Remedy, ":") || strings.Contains(fmt.Sprint(f), "hidden-") {
				t.Errorf("%s: finding %+v", code, f)
			}
		}
	}
}

func TestEveryCheckOfTheVariablesIsProvoked(t *testing.T) {
	t.Parallel()
	cfg, _ := config.LoadDoctor(nil)
	provoked := mistaken(t, newService(t))
	for _, c := range slices.Concat(configChecks(cfg, nil), tokenChecks(cfg), serviceChecks(cfg), sessionChecks(cfg)) {
		if provoked[c.Code] == nil {
			t.Errorf("nothing provokes %s", c.Code)
		}
	}
}

// The table in the documentation is all checks, in their order, and what is said
// of one that fails.
func TestTheDocumentationListsAllChecks(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed, want [][2]string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\| (\\w+) \\|").FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, [2]string{row[1], row[2]})
	}
	cfg, _ := config.LoadDoctor(nil)
	database := databaseDoctor(t.Context(), cfg)
	defer database.Close()
	for _, c := range doctorChecks(cfg, nil, database) {
		want = append(want, [2]string{c.Code, string(c.Severity)})
	}
	want = append(want, [2]string{doctor.CheckFailed, string(doctor.Warning)})
	if diff := cmp.Diff(want, listed); diff != "" {
		t.Errorf("docs/doctor.md (-checks +listed):\n%s", diff)
	}
}

// doctorReport is the JSON of `ferry doctor --json`.
type doctorReport struct {
	Findings []doctor.Finding `json:"findings"`
	Skipped  []string         `json:"skipped"`
}

func (r doctorReport) codes() []string {
	codes := []string{}
	for _, f := range r.Findings {
		codes = append(codes, f.Code)
	}
	return codes
}

func decodeReport(t *testing.T, out string) (r doctorReport) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return r
}

func TestDoctorGoesOnWithoutDatabaseAndWithABrokenConfiguration(t *testing.T) {
	t.Parallel()
	service := newService(t)
	for name, test := range map[string]struct {
		environ []string
		want    []string
		skips   string
	}{
		"no database":    {healthyEnvironment(service), []string{"database-unreachable"}, "wal-level"},
		"nothing at all": {nil, []string{"configuration", "configuration", "no-token-key"}, "powersync-refuses-tokens"},
		"not a URL": {
			append(healthyEnvironment(service), "DATABASE_URL=mysql://u:hidden-password@localhost", "FERRY_CORS_ORIGINS=*"),
			[]string{"configuration", "cors-any-origin"},
			"database-unreachable",
		},
		"not one for pgx": {
			append(healthyEnvironment(service), "DATABASE_URL=postgres://u:hidden-password@localhost/x?sslmode=none"),
			[]string{"database-unreachable"},
			"wal-level",
		},
	} {
		r := run(t, test.environ, "doctor", "--json")
		if r.Code != exitError || !strings.HasPrefix(r.Stderr, "ferry: doctor found ") {
			t.Errorf("%s: exit code %d, stderr %q", name, r.Code, r.Stderr)
		}
		got := decodeReport(t, r.Stdout)
		if diff := cmp.Diff(test.want, got.codes()); diff != "" || !slices.Contains(got.Skipped, test.skips) {
			t.Errorf("%s: codes (-want +got):\n%s\nskipped %v", name, diff, got.Skipped)
		}
		// Standard error is looked at in any case.
		secrets.Wrote(t.Name(), r.Stdout)
		secrets.Wrote(t.Name(), run(t, test.environ, "doctor").Stdout)
	}
}

func TestDoctorSaysWhatIsWrongAndExitsAccordingly(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	environ := append(serveEnvironment(db.URLAs(r.login, ""), r), "FERRY_MIGRATE_DATABASE_URL="+db.URL, "FERRY_POWERSYNC_URL="+newService(t))
	// What the tests' server lacks, and what is no warning here.
	const server = "crash-unsafe,wal-level"
	db.Exec(t, `CREATE PUBLICATION powersync FOR TABLE notes`)
	healthy := result{Stdout: "0 errors, 0 warnings, 0 notes\n"}
	warned := result{Stdout: `warning  not-published
  public.notes takes uploads but is not in publication powersync: what clients write to it never comes back to any device.
  Add it; ignore this where clients only write:
      ALTER PUBLICATION powersync ADD TABLE "public"."notes";

0 errors, 1 warning, 0 notes
`}
	strict := warned
	strict.Code, strict.Stderr = exitError, "ferry: doctor found 1 warning\n"
	for _, step := range []struct {
		sql  string
		args []string
		want result
	}{
		{"", []string{"--ignore", server}, healthy},
		{"", []string{"--ignore", server, "--strict"}, healthy},
		{`ALTER PUBLICATION powersync DROP TABLE notes`, []string{"--ignore", server}, warned},
		{"", []string{"--ignore", server, "--strict"}, strict},
		{"", []string{"--ignore", server + ",not-published", "--strict"}, healthy},
		{"", []string{"--ignore", "nope"}, result{Code: exitUsage, Stderr: "ferry: doctor: --ignore \"nope\": there is no such check; docs/doctor.md lists them\n"}},
	} {
		if step.sql != "" {
			db.Exec(t, step.sql)
		}
		got := run(t, environ, append([]string{"doctor"}, step.args...)...)

		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("doctor %v (-want +got):\n%s", step.args, diff)
		}
	}
	if r := run(t, environ, "doctor"); r.Code != exitError || r.Stderr != "ferry: doctor found 3 errors\n" {
		t.Errorf("with the server's faults: %+v", r)
	}
}
