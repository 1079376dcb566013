package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ferry/internal/config"
	"ferry/internal/tokens"
)

const keysMore = "The file is FERRY_TOKEN_KEYS_FILE, or --file. A running ferry reads it again by itself, within\na second or two. See docs/tokens.md.\n"

const keysHelp = `ferry keys: change the keys of sync tokens, without refusing one that is in use

Usage: ferry keys list|add|activate|retire|export [KID] [FLAGS]

  list      list the keys, and when the next step of each is right
  add       make a key and publish it; the first one signs at once
  activate  sign with a key, once the PowerSync Service has it
  retire    remove a key, once the last token that it signed has expired
  export    print the public keys, or what the PowerSync Service needs of all

` + keysMore

func runKeys(ctx context.Context, a *app, args []string) error {
	const say = "keys: say list, add, activate, retire or export; see: ferry keys --help"
	if len(args) == 0 {
		return usageError{say}
	}
	switch name, rest := args[0], args[1:]; {
	case isHelp(name):
		fmt.Fprint(a.stdout, keysHelp)
		return nil
	case name == "list":
		return runKeysList(ctx, a, rest)
	case name == "add":
		return runKeysAdd(ctx, a, rest)
	case name == "activate":
		return runKeysActivate(ctx, a, rest)
	case name == "retire":
		return runKeysRetire(ctx, a, rest)
	case name == "export":
		return runKeysExport(ctx, a, rest)
	}
	return usageError{say}
}

// keysFlags are the flags of every subcommand.
type keysFlags struct {
	*flagSet
	file *string
}

func newKeysFlags(a *app, name, summary string) keysFlags {
	flags := newFlags(a, "keys "+name, summary, keysMore)
	return keysFlags{flags, flags.String("file", "", "the `PATH` of the keys (default FERRY_TOKEN_KEYS_FILE)")}
}

// keysContext is what the subcommands work with.
type keysContext struct {
	*config.Config
	file *keysFile
	ttl  time.Duration // the longest life of a token
	now  time.Time
}

// open reads the file of keys. Without a TTL in the environment, tokens may
// live for as long as any may.
func (f keysFlags) open(a *app) (*keysContext, error) {
	cfg, err := config.LoadKeys(a.environ)
	if err != nil {
		return nil, err
	}
	path := *f.file
	if path == "" {
		path = cfg.Token.KeysFile
	}
	if path == "" {
		return nil, errors.New(f.Name() + ": say which file, in FERRY_TOKEN_KEYS_FILE or with --file PATH")
	}
	file, err := openKeysFile(path)
	if err != nil {
		return nil, err
	}
	k := &keysContext{Config: cfg, file: file, ttl: tokens.MaxTTL, now: time.Now()}
	if isSet(a.environ, "FERRY_TOKEN_TTL") {
		k.ttl = cfg.Token.TTL
	}
	return k, nil
}

// openKey is open for a subcommand that takes the id of a key.
func (f keysFlags) openKey(a *app, args []string) (*keysContext, tokens.KeyStatus, error) {
	ids, err := parseMixed(f.flagSet, args)
	if err != nil {
		return nil, tokens.KeyStatus{}, err
	}
	if len(ids) != 1 {
		return nil, tokens.KeyStatus{}, usageError{f.Name() + ": say which key, by its KID; see: ferry keys list"}
	}
	k, err := f.open(a)
	if err != nil {
		return nil, tokens.KeyStatus{}, err
	}
	key, err := k.file.keys.Key(ids[0])
	return k, key, err
}

// chosenElsewhere is the id of the key that signs whatever the file says, or
// empty. With a secret beside it, it is the id of that one.
func (k *keysContext) chosenElsewhere() string {
	if k.Token.Key.IsZero() {
		return k.Token.KID
	}
	return ""
}

func runKeysExport(_ context.Context, a *app, args []string) error {
	flags := newKeysFlags(a, "export", "print the public keys, as ferry publishes them")
	powerSync := flags.Bool("powersync", false, "print the client_auth block of the PowerSync Service's configuration instead, WITH THE SECRETS of HS256, HS384 and HS512 keys")
	if err := parseFlags(flags.flagSet, args); err != nil {
		return err
	}
	cfg, keys, err := flags.configured(a)
	if err != nil {
		return err
	}
	if !*powerSync {
		_, err := fmt.Fprintf(a.stdout, "%s\n", keys.JWKS())
		return err
	}
	audience := cfg.Token.Audience
	if len(audience) == 0 {
		audience = []string{exampleAudience}
		fmt.Fprintln(a.stderr, "the audience is an example: set FERRY_POWERSYNC_URL, or FERRY_TOKEN_AUDIENCE")
	}
	_, err = fmt.Fprint(a.stdout, clientAuthYAML(keys.ServiceKeys(), audience))
	return err
}

// configured returns the keys of the file, or those that are given without one.
func (f keysFlags) configured(a *app) (*config.Config, tokens.KeySet, error) {
	cfg, err := config.LoadKeys(a.environ)
	if err != nil {
		return nil, tokens.KeySet{}, err
	}
	if cfg.Token.Enabled() && cfg.Token.KeysFile == "" && *f.file == "" {
		keys, err := cfg.Token.KeySet()
		return cfg, keys, err
	}
	k, err := f.open(a)
	if err != nil {
		return nil, tokens.KeySet{}, err
	}
	keys, err := k.file.set(k.chosenElsewhere())
	return cfg, keys, err
}
