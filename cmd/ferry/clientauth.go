package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// clientAuthYAML is the part of a self-hosted PowerSync Service's
// configuration that makes it accept tokens signed with this key: secret is
// the base64url text, the same string as FERRY_TOKEN_SECRET, and audience
// lists the `aud` values to accept.
//
// Source: https://docs.powersync.com/configuration/auth/custom
func clientAuthYAML(kid, secret string, audience []string) string {
	quoted := make([]string, len(audience))
	for i, a := range audience {
		quoted[i] = yamlString(a)
	}
	return fmt.Sprintf(`client_auth:
  jwks:
    keys:
      - kty: oct
        alg: HS256
        kid: %s
        k: %s
  audience: [%s]
`, yamlString(kid), yamlString(secret), strings.Join(quoted, ", "))
}

// yamlString quotes text so that YAML reads a string whatever it looks like:
// a key of digits alone would be a number. YAML takes every JSON string.
func yamlString(text string) string {
	// A string always marshals.
	quoted, _ := json.Marshal(text)
	return string(quoted)
}
