package config

import (
	"fmt"
	"strings"
)

// variable is one environment variable that ferry knows.
type variable struct {
	name     string
	fallback string // the value where none is given
	help     string // its meaning, for people
	secret   bool   // better mounted as a file than given in the environment
}

// variables is the one list: it drives NAME_FILE, the finding of misspelt
// names, the order of errors, and Usage.
func variables() []variable {
	return []variable{
		{name: "DATABASE_URL", secret: true, help: "the app's Postgres; the role needs to be no owner and no superuser"},
		{name: "FERRY_LISTEN", fallback: ":6060", help: "host:port of the API"},
		{name: "FERRY_ADMIN_LISTEN", fallback: "127.0.0.1:9090", help: "host:port of metrics and profiles"},
		{name: "FERRY_CORS_ORIGINS", help: "web origins that may call the API: a comma list such as https://app.example.com, or *"},
		{name: "FERRY_POWERSYNC_URL", help: "the PowerSync Service, as clients reach it"},
		{name: "FERRY_TOKEN_KID", help: "the id of the key that signs sync tokens; make it and the secret with: ferry keygen"},
		{name: "FERRY_TOKEN_SECRET", secret: true, help: "the HS256 key itself, base64url, at least 32 bytes"},
		{name: "FERRY_TOKEN_KEYS", secret: true, help: "instead of FERRY_TOKEN_SECRET: several private keys, as a JWKS, for rotation and other algorithms; a FERRY_TOKEN_KEYS_FILE is read again when it changes; see: ferry keys --help"},
		{name: "FERRY_TOKEN_AUDIENCE", help: "the tokens' aud, a comma list; by default FERRY_POWERSYNC_URL"},
		{name: "FERRY_TOKEN_ISSUER", help: "the tokens' iss; by default none"},
		{name: "FERRY_TOKEN_TTL", fallback: "1h", help: "how long a token is valid, from 60s to 24h"},
		{name: "FERRY_TOKEN_CLAIMS", help: "session claims to copy into tokens: a comma list of name or name=path.to.claim"},
		{name: "FERRY_TOKEN_CLAIMS_FUNCTION", help: "a SQL function that gives tokens further claims: name or schema.name, called with the user id"},
		{name: "FERRY_SESSION_ISSUER", help: "the iss that the app's session JWTs must have; a URL whose discovery document has the keys, where nothing else below gives one"},
		{name: "FERRY_SESSION_AUDIENCE", help: "the aud that the app's session JWTs must have; by default any"},
		{name: "FERRY_SESSION_JWKS_URL", help: "where the public keys of the app's session JWTs are (a JWKS, over https)"},
		{name: "FERRY_SESSION_SECRET", secret: true, help: "the HS256 key of the app's session JWTs, base64url, at least 32 bytes"},
		{name: "FERRY_SESSION_SECRET_TEXT", secret: true, help: "the same as raw text instead, as Supabase's older projects give it"},
		{name: "FERRY_SESSION_USER_CLAIM", fallback: "sub", help: "the session claim that holds the user id"},
		{name: "FERRY_SESSION_ISSUERS", secret: true, help: "several issuers of session JWTs instead, a JSON list: see docs/sessions.md"},
		{name: "FERRY_SUPABASE_URL", help: "a Supabase project, such as https://abcdefgh.supabase.co: sets the issuer, audience and keys of sessions"},
		{name: "FERRY_ACCOUNTS", fallback: "false", help: "keep accounts and sessions for an app that has no sign-in of its own (/auth/sign-up and the like)"},
		{name: "FERRY_ACCOUNTS_SIGN_UP", fallback: "true", help: "let people make their accounts themselves; else: ferry users add"},
		{name: "FERRY_ACCOUNTS_GUESTS", fallback: "false", help: "let devices in without an e-mail address (/auth/guest)"},
		{name: "FERRY_ACCOUNTS_SESSION_IDLE", fallback: "90d", help: "how long a session of an account lasts without being used, from 5m to 3650d: a device that is offline for longer must sign in again"},
		{name: "FERRY_ACCOUNTS_SESSION_MAX", fallback: "365d", help: "how long it lasts at most, from 5m to 3650d"},
		{name: "FERRY_TRUSTED_HEADER", help: "the header in which an authenticating proxy names the user"},
		{name: "FERRY_TRUSTED_HEADER_FROM", help: "the networks of that proxy, a comma list such as 10.0.0.0/8: from elsewhere the header is not believed"},
		{name: "FERRY_TRUSTED_PROXIES", help: "networks of proxies whose X-Forwarded-For gives the client's address, for limits and logs only"},
		{name: "FERRY_UPLOAD_ROLE", fallback: "authenticated", help: "the database role that uploads act as"},
		{name: "FERRY_UPLOAD_SCHEMAS", fallback: "public", help: "where the app's tables are, a comma list in order"},
		{name: "FERRY_UPLOAD_TABLES", help: "tables that take uploads: a comma list of table or schema.table; empty: every granted table with row-level security; *: every granted table"},
		{name: "FERRY_UPLOAD_ACCEPTS_SYNC_TOKEN", fallback: "false", help: "take the sync token for uploads as well"},
		{name: "FERRY_MAX_BODY_BYTES", fallback: "32MiB", help: "the largest request after decompression, in bytes or with KiB, MiB, GiB"},
		{name: "FERRY_MAX_OPERATIONS", fallback: "10000", help: "the most operations in one request of several transactions"},
		{name: "FERRY_WRITE_CHECKPOINTS", fallback: "false", help: "keep PowerSync's custom write checkpoints, in ferry.checkpoints"},
		{name: "FERRY_DATABASE_POOL", fallback: PoolSession, help: "transaction behind a pooler in transaction mode, else session"},
		{name: "FERRY_MIGRATE_DATABASE_URL", secret: true, help: "where migrate connects to; by default DATABASE_URL"},
	}
}

// Usage lists every variable with its meaning and default, for --help.
func Usage() string {
	var b strings.Builder
	b.WriteString("Environment variables. Each NAME can be given as NAME_FILE instead, the path of a\nfile that holds the value, which is best for secrets.\n")
	for _, v := range variables() {
		fmt.Fprintf(&b, "\n  %s", v.name)
		if v.fallback != "" {
			fmt.Fprintf(&b, " (default %s)", v.fallback)
		}
		if v.secret {
			b.WriteString(" (secret)")
		}
		fmt.Fprintf(&b, "\n      %s\n", v.help)
	}
	return b.String()
}
