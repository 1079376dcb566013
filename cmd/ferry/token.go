package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"ferry/internal/config"
	"ferry/internal/identity"
	"ferry/internal/tokens"
)

const tokenMore = "The keys, the audience and the rest are those of ferry serve (FERRY_TOKEN_…, FERRY_POWERSYNC_URL).\n" +
	"No database is asked: FERRY_TOKEN_CLAIMS_FUNCTION gives nothing here.\n"

func runToken(ctx context.Context, a *app, args []string) error {
	if len(args) > 0 && args[0] == "inspect" {
		return runTokenInspect(ctx, a, args[1:])
	}
	flags := newFlags(a, "token", "make a sync token for development; or: ferry token inspect", tokenMore)
	user := flags.String("user", "", "the `ID` of the token's user")
	ttl := flags.Duration("ttl", 0, "the token's `LIFETIME`, from 1m to 24h (default FERRY_TOKEN_TTL)")
	claims := flags.String("claims", "", "custom claims, a `JSON` object")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	switch err := identity.CheckUserID(*user); {
	case *user == "":
		return usageError{"token: say whose, with --user ID; see: ferry token --help"}
	case err != nil:
		return usageError{fmt.Sprintf("token: --user %v", err)}
	case *claims == "":
	default:
		if err := tokens.CheckClaims(json.RawMessage(*claims)); err != nil {
			return usageError{fmt.Sprintf("token: --claims %v", err)}
		}
	}
	cfg, keys, err := loadTokenKeys(a)
	if err != nil {
		return err
	}
	options := tokenOptions(cfg, keys, slog.New(slog.NewTextHandler(a.stderr, nil)))
	options.Claims, options.Source = nil, fixedClaims(*claims)
	if *ttl != 0 {
		options.TTL = *ttl
	}
	issuer, err := tokens.NewIssuer(options)
	if err != nil {
		return fmt.Errorf("token: %w", err)
	}
	token, err := issuer.Issue(ctx, *user, nil)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, token.JWT)
	return err
}

// loadTokenKeys reads the configuration of tokens, which must have keys.
func loadTokenKeys(a *app) (*config.Config, tokens.KeySet, error) {
	cfg, err := config.Load(a.environ)
	if err != nil {
		return nil, tokens.KeySet{}, err
	}
	if !cfg.Token.Enabled() {
		return nil, tokens.KeySet{}, errors.New("there is no token key: set FERRY_TOKEN_KEYS_FILE, or FERRY_TOKEN_KID and FERRY_TOKEN_SECRET, as for ferry serve; ferry dev keeps its own in .ferry/dev.json")
	}
	keys, err := cfg.Token.KeySet()
	return cfg, keys, err
}

// fixedClaims are the same for everybody.
type fixedClaims string

var _ tokens.ClaimSource = fixedClaims("")

// Claims implements tokens.ClaimSource.
func (c fixedClaims) Claims(context.Context, string, json.RawMessage) (json.RawMessage, error) {
	return json.RawMessage(c), nil
}

// ago says how long before or after now something is.
func ago(t, now time.Time) string {
	if d := now.Sub(t).Truncate(time.Second); d >= 0 {
		return d.String() + " ago"
	}
	return "in " + inWords(t.Sub(now))
}
