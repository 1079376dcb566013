package config

import (
	"errors"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// settings is every variable in a type whose UnmarshalText holds the rule for
// its value.
type settings struct {
	DatabaseURL        databaseURL   `env:"DATABASE_URL"`
	Listen             listenAddress `env:"FERRY_LISTEN"`
	AdminListen        listenAddress `env:"FERRY_ADMIN_LISTEN"`
	CORSOrigins        origins       `env:"FERRY_CORS_ORIGINS"`
	PowerSyncURL       webURL        `env:"FERRY_POWERSYNC_URL"`
	TokenKID           keyID         `env:"FERRY_TOKEN_KID"`
	TokenSecret        tokenSecret   `env:"FERRY_TOKEN_SECRET"`
	TokenKeys          keySet        `env:"FERRY_TOKEN_KEYS"`
	TokenAudience      audiences     `env:"FERRY_TOKEN_AUDIENCE"`
	TokenIssuer        word          `env:"FERRY_TOKEN_ISSUER"`
	TokenTTL           lifetime      `env:"FERRY_TOKEN_TTL"`
	TokenClaims        claims        `env:"FERRY_TOKEN_CLAIMS"`
	TokenFunction      function      `env:"FERRY_TOKEN_CLAIMS_FUNCTION"`
	SessionIssuer      word          `env:"FERRY_SESSION_ISSUER"`
	SessionAudience    word          `env:"FERRY_SESSION_AUDIENCE"`
	SessionJWKSURL     providerURL   `env:"FERRY_SESSION_JWKS_URL"`
	SessionIssuers     issuerList    `env:"FERRY_SESSION_ISSUERS"`
	SupabaseURL        providerURL   `env:"FERRY_SUPABASE_URL"`
	SessionSecret      sessionSecret `env:"FERRY_SESSION_SECRET"`
	SessionSecretText  secretText    `env:"FERRY_SESSION_SECRET_TEXT"`
	SessionUserClaim   userClaim     `env:"FERRY_SESSION_USER_CLAIM"`
	Accounts           onOff         `env:"FERRY_ACCOUNTS"`
	AccountsSignUp     onOff         `env:"FERRY_ACCOUNTS_SIGN_UP"`
	AccountsGuests     onOff         `env:"FERRY_ACCOUNTS_GUESTS"`
	AccountsIdle       sessionTime   `env:"FERRY_ACCOUNTS_SESSION_IDLE"`
	AccountsMax        sessionTime   `env:"FERRY_ACCOUNTS_SESSION_MAX"`
	TrustedHeader      headerName    `env:"FERRY_TRUSTED_HEADER"`
	TrustedHeaderFrom  networks      `env:"FERRY_TRUSTED_HEADER_FROM"`
	TrustedProxies     networks      `env:"FERRY_TRUSTED_PROXIES"`
	UploadRole         identifier    `env:"FERRY_UPLOAD_ROLE"`
	UploadSchemas      identifiers   `env:"FERRY_UPLOAD_SCHEMAS"`
	UploadTables       tables        `env:"FERRY_UPLOAD_TABLES"`
	AcceptsSyncToken   onOff         `env:"FERRY_UPLOAD_ACCEPTS_SYNC_TOKEN"`
	MaxBodyBytes       byteSize      `env:"FERRY_MAX_BODY_BYTES"`
	MaxOperations      operations    `env:"FERRY_MAX_OPERATIONS"`
	WriteCheckpoints   onOff         `env:"FERRY_WRITE_CHECKPOINTS"`
	DatabasePool       pool          `env:"FERRY_DATABASE_POOL"`
	MigrateDatabaseURL databaseURL   `env:"FERRY_MIGRATE_DATABASE_URL"`
}

// parseSettings puts every value through its type.
func parseSettings(e environment, p *problems) settings {
	var s settings
	err := env.ParseWithOptions(&s, env.Options{Environment: e.values})
	var all env.AggregateError
	if !errors.As(err, &all) {
		return s
	}
	for _, one := range all.Errors {
		var parse env.ParseError
		if !errors.As(one, &parse) {
			// Only a field of settings that env cannot fill.
			panic("config: " + one.Error())
		}
		field, _ := reflect.TypeFor[settings]().FieldByName(parse.Name)
		p.add(field.Tag.Get("env"), "%v", parse.Err)
	}
	return s
}

// config builds the Config of settings that are good.
func (s settings) config(env environment) *Config {
	c := &Config{
		Listen:      string(s.Listen),
		AdminListen: string(s.AdminListen),
		CORSOrigins: s.CORSOrigins,
		Database: Database{
			URL:        NewSecret(string(s.DatabaseURL)),
			MigrateURL: NewSecret(string(s.DatabaseURL)),
			Pool:       string(s.DatabasePool),
		},
		Token: Token{
			KID:            string(s.TokenKID),
			Key:            NewSecret(string(decodedKey(string(s.TokenSecret)))),
			Keys:           NewSecret(string(s.TokenKeys)),
			KeysFile:       env.files["FERRY_TOKEN_KEYS"],
			Issuer:         string(s.TokenIssuer),
			TTL:            time.Duration(s.TokenTTL),
			Claims:         s.TokenClaims.list,
			ClaimsFunction: s.TokenFunction,
		},
		Proxy: Proxy{
			UserHeader:  string(s.TrustedHeader),
			UserFrom:    s.TrustedHeaderFrom,
			AddressFrom: s.TrustedProxies,
		},
		Accounts: Accounts{
			Enabled: bool(s.Accounts), SignUp: bool(s.AccountsSignUp), Guests: bool(s.AccountsGuests),
			SessionIdle: time.Duration(min(s.AccountsIdle, s.AccountsMax)), SessionMax: time.Duration(s.AccountsMax),
		},
		Upload: Upload{
			Role:             string(s.UploadRole),
			Schemas:          s.UploadSchemas,
			Tables:           s.UploadTables,
			AcceptsSyncToken: bool(s.AcceptsSyncToken),
			WriteCheckpoints: bool(s.WriteCheckpoints),
			MaxBodyBytes:     int64(s.MaxBodyBytes),
			MaxOperations:    int(s.MaxOperations),
		},
	}
	if s.MigrateDatabaseURL != "" {
		c.Database.MigrateURL = NewSecret(string(s.MigrateDatabaseURL))
	}
	c.setPowerSync(s)
	return c
}

// setPowerSync drops trailing slashes, with a warning: the SDK never connects
// to an endpoint with one, and the PowerSync Service compares the audience as
// it stands.
func (c *Config) setPowerSync(s settings) {
	drop := func(name, text string) string {
		trimmed := strings.TrimRight(text, "/")
		if trimmed != text {
			c.Warnings = append(c.Warnings, name+": the trailing slash was dropped")
		}
		return trimmed
	}
	c.PowerSyncURL = drop("FERRY_POWERSYNC_URL", string(s.PowerSyncURL))
	for _, audience := range s.TokenAudience {
		c.Token.Audience = append(c.Token.Audience, drop("FERRY_TOKEN_AUDIENCE", audience))
	}
	if len(s.TokenAudience) == 0 && c.PowerSyncURL != "" {
		c.Token.Audience = []string{c.PowerSyncURL}
	}
}
