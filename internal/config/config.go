package config

import "time"

// What FERRY_DATABASE_POOL can say.
const (
	// PoolSession: connections are ferry's own, prepared statements stay.
	PoolSession = "session"
	// PoolTransaction: a pooler hands out connections per transaction.
	PoolTransaction = "transaction"
)

// Config is the configuration, checked and ready to use.
type Config struct {
	Listen       string   // host:port of the API
	AdminListen  string   // host:port of metrics and profiles
	CORSOrigins  []string // scheme://host[:port] in lower case, or "*" alone
	PowerSyncURL string   // without a trailing slash; empty where not set
	Database     Database
	Token        Token
	Session      Session
	Accounts     Accounts
	Upload       Upload
	// Warnings are for the caller to log: they hold no secret.
	Warnings []string
}

// Database is where the app's Postgres is.
type Database struct {
	URL        Secret // empty where not set
	MigrateURL Secret // for migrations; URL where not set
	Pool       string // PoolSession or PoolTransaction
}

// Token is how sync tokens are made.
type Token struct {
	KID      string
	Key      Secret        // the HS256 key: its bytes, decoded, at least 32
	Audience []string      // without trailing slashes; empty only where tokens are off
	Issuer   string        // empty: no `iss`
	TTL      time.Duration // 60 s to 24 h
	Claims   []Claim       // never one of the registered claims
}

// Enabled says whether there is a key to sign tokens with.
func (t Token) Enabled() bool { return !t.Key.IsZero() }

// Claim is a claim of the session to copy into sync tokens.
type Claim struct {
	Name string   // its name in the token
	Path []string // where it is in the session, through nested objects; never empty
}

// Session is how the app's session JWTs are verified.
type Session struct {
	Key       Secret // the HS256 key's bytes, at least 32; empty where not set
	Issuer    string // the `iss` to insist on; empty: any
	Audience  string // the `aud` to insist on; empty: any
	UserClaim string // the claim that holds the user id
}

// Enabled says whether there is a key to verify sessions with.
func (s Session) Enabled() bool { return !s.Key.IsZero() }

// Accounts is whether ferry keeps accounts, and who may make one.
type Accounts struct {
	Enabled bool
	SignUp  bool // people themselves
	Guests  bool // devices, without an e-mail address
}

// Upload is what uploads may do.
type Upload struct {
	Role    string   // the database role that they act as
	Schemas []string // where the app's tables are, in order
	// Tables are the tables that take uploads: names, schema.table, or "*"
	// alone for every granted table; none: those with row-level security.
	Tables           []string
	AcceptsSyncToken bool
	WriteCheckpoints bool  // each raises its client's write checkpoint
	MaxBodyBytes     int64 // after decompression
	MaxOperations    int   // in one request of several transactions
}

// Load reads the configuration from entries of the form NAME=value, as
// os.Environ gives them. It checks what is there and demands nothing. Of two
// entries for a name the last one counts, so that a caller may put defaults
// of its own before the environment. The error is an *Error.
func Load(environ []string) (*Config, error) {
	return load(environ, func(environment, settings, *problems) {})
}

// LoadServe is Load for serving, which needs DATABASE_URL and a way of signing
// in: a session key, or ferry's own accounts.
func LoadServe(environ []string) (*Config, error) {
	return load(environ, func(env environment, s settings, p *problems) {
		if !env.given["DATABASE_URL"] {
			p.add("DATABASE_URL", "not set; it says where the app's Postgres is: %s", databaseURLForm)
		}
		if !env.given["FERRY_SESSION_SECRET"] && !env.given["FERRY_SESSION_SECRET_TEXT"] && !bool(s.Accounts) {
			p.add("FERRY_SESSION_SECRET", "not set; give the key that the app's session JWTs are signed with, in base64url here or as raw text in FERRY_SESSION_SECRET_TEXT (this version of ferry cannot find keys by the issuer); an app without a sign-in of its own sets FERRY_ACCOUNTS=true instead")
		}
	})
}

// LoadMigrate is Load for migrations, which need a database and nothing else.
func LoadMigrate(environ []string) (*Config, error) {
	return load(environ, func(env environment, _ settings, p *problems) {
		if !env.given["DATABASE_URL"] && !env.given["FERRY_MIGRATE_DATABASE_URL"] {
			p.add("DATABASE_URL", "not set, nor is FERRY_MIGRATE_DATABASE_URL; one of them says which Postgres to migrate: %s", databaseURLForm)
		}
	})
}

func load(environ []string, demand func(environment, settings, *problems)) (*Config, error) {
	var p problems
	env := readEnvironment(environ, &p)
	s := parseSettings(env, &p)
	demand(env, s, &p)
	checkToken(env, &p)
	checkSession(s, env, &p)
	checkAccounts(s, env, &p)
	if err := p.err(); err != nil {
		return nil, err
	}
	return s.config(), nil
}
