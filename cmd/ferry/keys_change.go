package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"ferry/internal/tokens"
)

func runKeysAdd(_ context.Context, a *app, args []string) error {
	flags := newKeysFlags(a, "add", "make a key and publish it; the first one signs at once")
	kid := flags.String("kid", "", "the key's `ID`; by default ferry- and 8 random hex digits")
	alg := flags.String("alg", "EdDSA", "the `ALGORITHM`: "+strings.Join(tokens.Algorithms(), ", ")+"; the last three are secrets, which must be copied to the PowerSync Service")
	fromEnv := flags.Bool("from-env", false, "begin a file with the key of FERRY_TOKEN_KID and FERRY_TOKEN_SECRET instead")
	if err := parseFlags(flags.flagSet, args); err != nil {
		return err
	}
	if *kid == "" {
		*kid = newKID()
	}
	if err := checkKID(*kid); err != nil {
		return err
	}
	if !slices.Contains(tokens.Algorithms(), *alg) {
		return usageError{fmt.Sprintf("keys add: the algorithm must be one of %s", strings.Join(tokens.Algorithms(), ", "))}
	}
	k, err := flags.open(a)
	if err != nil {
		return err
	}
	first := len(k.file.keys.Keys()) == 0
	if *fromEnv {
		return k.addFromEnvironment(a, first)
	}
	jwk, err := tokens.NewJWK(*kid, *alg)
	if err != nil {
		return err
	}
	key, err := k.add(a, jwk)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "added key %q (%s) to %s\n%s", key.ID, key.Algorithm, k.file.path, k.afterAdd(key, first))
	return err
}

// add puts a key into the file, and returns it.
func (k *keysContext) add(a *app, jwk json.RawMessage) (tokens.KeyStatus, error) {
	if err := k.file.keys.Add(jwk, k.now); err != nil {
		return tokens.KeyStatus{}, err
	}
	if err := k.file.save(); err != nil {
		return tokens.KeyStatus{}, err
	}
	keys := k.file.keys.Keys()
	key := keys[len(keys)-1]
	auditKey(a, "key_add", key, false)
	return key, nil
}

// afterAdd says what comes next.
func (k *keysContext) afterAdd(key tokens.KeyStatus, first bool) string {
	switch {
	case first:
		return "It signs at once. The PowerSync Service needs it: ferry keys export --powersync\n"
	case key.Symmetric:
		return fmt.Sprintf("Next: put it into the PowerSync Service's configuration, which ferry keys export --powersync prints.\n"+
			"Once the service runs with it, sign with it: ferry keys activate %s\n", key.ID)
	}
	from, _ := key.ActivateFrom()
	return fmt.Sprintf("Next: wait until the PowerSync Service has fetched it, and sign with it %s: ferry keys activate %s\n", k.when(from), key.ID)
}

// addFromEnvironment moves the single key into the file, as the one that signs.
func (k *keysContext) addFromEnvironment(a *app, first bool) error {
	switch {
	case k.Token.Key.IsZero():
		return errors.New("keys add: FERRY_TOKEN_KID and FERRY_TOKEN_SECRET are not set, so that there is no key to move")
	case !first:
		return fmt.Errorf("keys add: %s has keys already: --from-env begins a file", k.file.path)
	}
	jwk, err := tokens.HS256JWK(k.Token.KID, []byte(k.Token.Key.Reveal()))
	if err != nil {
		return err
	}
	key, err := k.add(a, jwk)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "moved key %q (%s) to %s\n"+
		"Next: unset FERRY_TOKEN_KID and FERRY_TOKEN_SECRET, set FERRY_TOKEN_KEYS_FILE to that file, and restart\n"+
		"ferry: it signs with the same key. From then on, keys change without a restart: ferry keys add\n", key.ID, key.Algorithm, k.file.path)
	return err
}

func runKeysActivate(_ context.Context, a *app, args []string) error {
	flags := newKeysFlags(a, "activate", "sign with a key, by its KID, once the PowerSync Service has it")
	published := flags.Bool("published", false, "the PowerSync Service has the key: do not ask, where ferry cannot tell")
	force := flags.Bool("force", false, "do it now, even if the PowerSync Service refuses tokens for a while")
	k, key, err := flags.openKey(a, args)
	if err != nil {
		return err
	}
	if id := k.chosenElsewhere(); id != "" {
		return fmt.Errorf("keys activate: FERRY_TOKEN_KID says that %q signs, whatever the file says: unset it where ferry runs, and restart ferry once", id)
	}
	if key.Active {
		_, err := fmt.Fprintf(a.stdout, "key %q signs already\n", key.ID)
		return err
	}
	consent := tokens.Consent{Known: *published, Force: *force}
	if key.NeedsConsent() && !*published && !*force {
		if !confirmed(a, fmt.Sprintf("ferry cannot tell whether the PowerSync Service has key %q, and without it refuses its tokens.\n"+
			"ferry keys export --powersync prints what it needs. Does the running service have it?", key.ID)) {
			return errors.New("keys activate: nothing was done; where the service has the key, say --published")
		}
		consent.Known = true
	}
	before := k.activeKey()
	if err := k.file.keys.Activate(key.ID, k.now, consent); err != nil {
		return k.tooEarly(err, "the PowerSync Service may refuse tokens until it has fetched the key")
	}
	if err := k.file.save(); err != nil {
		return err
	}
	auditKey(a, "key_activate", key, *force)
	if from, ok := key.ActivateFrom(); *force && (!ok || k.now.Before(from)) {
		fmt.Fprintf(a.stderr, "warning: the PowerSync Service refuses tokens of key %q until it has it\n", key.ID)
	}
	fmt.Fprintf(a.stdout, "key %q signs from now on\n", key.ID)
	if old, err := k.file.keys.Key(before); err == nil {
		from, _ := old.RetireFrom(k.ttl)
		fmt.Fprintf(a.stdout, "Next: keep key %q for its last tokens; it can be retired %s: ferry keys retire %[1]s\n", old.ID, k.when(from))
	}
	return nil
}

// activeKey is the id of the key that signs, or empty where nothing says which.
func (k *keysContext) activeKey() string {
	for _, s := range k.file.keys.Keys() {
		if s.Active {
			return s.ID
		}
	}
	return ""
}

func runKeysRetire(_ context.Context, a *app, args []string) error {
	flags := newKeysFlags(a, "retire", "remove a key, by its KID, once the last token that it signed has expired")
	force := flags.Bool("force", false, "do it now: tokens that it signed, which may be in use, are refused. For a key that leaked")
	k, key, err := flags.openKey(a, args)
	if err != nil {
		return err
	}
	if id := k.chosenElsewhere(); id == key.ID {
		return fmt.Errorf("keys retire: FERRY_TOKEN_KID says that %q signs: choose another one first", id)
	}
	if err := k.file.keys.Retire(key.ID, k.now, k.ttl, tokens.Consent{Force: *force}); err != nil {
		return k.tooEarly(err, "clients whose tokens it signed are refused until they have fetched new ones")
	}
	if err := k.file.save(); err != nil {
		return err
	}
	auditKey(a, "key_retire", key, *force)
	if from, ok := key.RetireFrom(k.ttl); *force && (!ok || k.now.Before(from)) {
		fmt.Fprintf(a.stderr, "warning: tokens that key %q signed are refused from now on, and clients fetch new ones.\n"+
			"The PowerSync Service takes them until it fetches the keys again, some 5 minutes; restart it to be sure\n", key.ID)
	}
	fmt.Fprintf(a.stdout, "removed key %q\n", key.ID)
	if key.Symmetric {
		fmt.Fprintln(a.stdout, "Next: remove it from the PowerSync Service's configuration as well")
	}
	return nil
}

// auditKey writes the log record of a change: never the key itself.
func auditKey(a *app, event string, key tokens.KeyStatus, forced bool) {
	slog.New(slog.NewJSONHandler(a.stderr, nil)).Info("keys", slog.String("audit", event),
		slog.String("kid", key.ID), slog.String("alg", key.Algorithm), slog.Bool("forced", forced))
}

// tooEarly tells of --force, and of what it does.
func (k *keysContext) tooEarly(err error, consequence string) error {
	early, ok := errors.AsType[*tokens.TooEarlyError](err)
	if !ok {
		return err
	}
	left := ""
	if !early.From.IsZero() {
		left = fmt.Sprintf(" (in %s)", inWords(early.From.Sub(k.now)))
	}
	return fmt.Errorf("%w%s; in an emergency, --force does it now, and %s", err, left, consequence)
}
