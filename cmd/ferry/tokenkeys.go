package main

import (
	"fmt"

	"ferry/internal/config"
	"ferry/internal/tokens"
)

// sessionSecrets are all secrets that sessions are verified with.
func sessionSecrets(cfg *config.Config) [][]byte {
	var secrets [][]byte
	for _, issuer := range cfg.Sessions {
		if !issuer.Secret.Key.IsZero() {
			secrets = append(secrets, []byte(issuer.Secret.Key.Reveal()))
		}
	}
	return secrets
}

// checkApart refuses token keys that are session secrets as well: whoever holds
// a sync token's key, the PowerSync Service among them, could sign in as anyone.
func checkApart(keys tokens.KeySet, sessionSecrets [][]byte) error {
	for _, secret := range sessionSecrets {
		if id, shared := keys.SharedWith(secret); shared {
			return fmt.Errorf("token key %q is a session secret as well: whoever holds a sync token's key could sign in as anyone; make another key with: ferry keys add", id)
		}
	}
	return nil
}

// servingKeys returns the configured keys, which are no session secrets.
func servingKeys(t config.Token, sessionSecrets [][]byte) (tokens.KeySet, error) {
	keys, err := t.KeySet()
	if err == nil {
		err = checkApart(keys, sessionSecrets)
	}
	return keys, err
}
