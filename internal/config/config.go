package config

import (
	"net/netip"
	"time"

	"ferry/internal/tokens"
)

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
	Sessions     []SessionIssuer // who signs the app's session JWTs
	Accounts     Accounts
	Proxy        Proxy
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
	KID      string        // of Key, or of the one of Keys that signs; empty where Keys says so itself
	Key      Secret        // the HS256 key: its bytes, decoded, at least 32
	Keys     Secret        // instead of Key: a JWKS with private keys
	KeysFile string        // where Keys was read; empty where it was not in a file
	Audience []string      // without trailing slashes; empty only where tokens are off
	Issuer   string        // empty: no `iss`
	TTL      time.Duration // 60 s to 24 h
	Claims   []Claim       // never one of the registered claims
	// ClaimsFunction is the name of a SQL function, or its schema and name;
	// none where it is not set.
	ClaimsFunction []string
}

// Enabled says whether there is a key to sign tokens with.
func (t Token) Enabled() bool { return !t.Key.IsZero() || !t.Keys.IsZero() }

// KeySet returns the keys: those of Keys, or Key alone. It fails as
// tokens.ParseKeySet does, and where there is none.
func (t Token) KeySet() (tokens.KeySet, error) {
	if !t.Keys.IsZero() {
		return tokens.ParseKeySet([]byte(t.Keys.Reveal()), t.KID)
	}
	key, err := tokens.NewHS256Key(t.KID, []byte(t.Key.Reveal()))
	if err != nil {
		return tokens.KeySet{}, err
	}
	return tokens.NewKeySet(key)
}

// Claim is a claim of the session to copy into sync tokens.
type Claim struct {
	Name string   // its name in the token
	Path []string // where it is in the session, through nested objects; never empty
}

// SessionIssuer is who signs session JWTs, and how they are verified.
type SessionIssuer struct {
	Issuer    string // the `iss` to insist on; empty: any
	Audience  string // the `aud` to insist on; empty: any
	Secret    SharedSecret
	JWKSURL   string // where the public keys are; empty where Discover, or without any
	Discover  bool   // the public keys are found by the issuer's discovery document
	UserClaim string // the claim that holds the user id
	// UserPrefix stands in front of the user ids of this issuer.
	UserPrefix string
	Algorithms []string // the only ones to accept; none: all that the keys can verify
}

// SharedSecret is an HS256 key of sessions.
type SharedSecret struct {
	Key Secret // its bytes, at least 32; empty where not set
	// Misread is the key as it would be if the variable were of its other
	// form, and Advice what to say if that is the one that fits.
	Misread Secret
	Advice  string

	variable string // that gave it
}

// Proxy is what is believed of the proxies in front of ferry.
type Proxy struct {
	// UserHeader names the user, where an authenticating proxy does; empty: none.
	UserHeader string
	// UserFrom are the networks from which UserHeader is believed.
	UserFrom []netip.Prefix
	// AddressFrom are the networks whose X-Forwarded-For is believed.
	AddressFrom []netip.Prefix
}

// Accounts is whether ferry keeps accounts, and who may make one.
type Accounts struct {
	Enabled bool
	SignUp  bool // people themselves
	Guests  bool // devices, without an e-mail address
	// SessionIdle and SessionMax are how long a session lasts from its last use
	// and from its beginning: 5 minutes to 3650 days, and the former no longer
	// than the latter.
	SessionIdle, SessionMax time.Duration
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
	return load(environ, "", func(environment, *problems) {})
}

// LoadKeys is Load for whoever edits the file of FERRY_TOKEN_KEYS_FILE. That is
// not read, so that it need not be there yet, nor be right; and the key of
// FERRY_TOKEN_SECRET, which is to go into it, may be given as well.
func LoadKeys(environ []string) (*Config, error) {
	return load(environ, tokenKeys, func(environment, *problems) {})
}

// LoadServe is Load for serving, which needs DATABASE_URL and a way of signing
// in.
func LoadServe(environ []string) (*Config, error) { return load(environ, "", demandServing) }

// LoadDoctor is LoadServe for whoever looks for what is wrong. Beside the error
// it returns what is right: what is wrong or missing has zero values.
func LoadDoctor(environ []string) (*Config, error) {
	c, p := read(environ, "", demandServing)
	return c, p.err()
}

func demandServing(env environment, p *problems) {
	if !env.given["DATABASE_URL"] {
		p.add("DATABASE_URL", "not set; it says where the app's Postgres is: %s", databaseURLForm)
	}
	if !signsIn(env) {
		p.add("FERRY_SESSION_ISSUER", "not set, nor any other way of signing in; give the URL of the identity provider, or FERRY_SUPABASE_URL, or the secret that the app's session JWTs are signed with (FERRY_SESSION_SECRET, FERRY_SESSION_SECRET_TEXT), or FERRY_TRUSTED_HEADER; an app without a sign-in of its own sets FERRY_ACCOUNTS=true")
	}
}

// LoadMigrate is Load for migrations, which need a database and nothing else.
func LoadMigrate(environ []string) (*Config, error) {
	return load(environ, "", func(env environment, p *problems) {
		if !env.given["DATABASE_URL"] && !env.given["FERRY_MIGRATE_DATABASE_URL"] {
			p.add("DATABASE_URL", "not set, nor is FERRY_MIGRATE_DATABASE_URL; one of them says which Postgres to migrate: %s", databaseURLForm)
		}
	})
}

func load(environ []string, unread string, demand func(environment, *problems)) (*Config, error) {
	c, p := read(environ, unread, demand)
	if err := p.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// read returns what is right, and what is wrong.
func read(environ []string, unread string, demand func(environment, *problems)) (c *Config, p problems) {
	env := readEnvironment(environ, unread, &p)
	s := parseSettings(env, &p)
	demand(env, &p)
	checkToken(s, env, &p)
	c = s.config(env)
	c.Sessions = s.sessions(env, &p)
	checkSecrets(c, &p)
	checkProxy(s, env, &p)
	checkAccounts(s, env, &p)
	c.warnOfSessions(env)
	return c, p
}
