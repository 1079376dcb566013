package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// clientAuthYAML is the part of a self-hosted PowerSync Service's
// configuration that makes it accept tokens signed with these keys, which are
// JWKs, and for one of these audiences.
//
// Source: https://docs.powersync.com/configuration/auth/custom
func clientAuthYAML(jwks []json.RawMessage, audience []string) string {
	var b strings.Builder
	b.WriteString("client_auth:\n")
	if slices.ContainsFunc(jwks, isPublicJWK) {
		b.WriteString(`  # ferry publishes its public keys (OKP, EC, RSA). With this instead of them, the
  # service fetches new ones by itself; the address is ferry's, as the service
  # reaches it. Secrets (oct) are never published, and stay below.
  # jwks_uri: https://ferry.example.com/.well-known/jwks.json
`)
	}
	b.WriteString("  jwks:\n    keys:\n")
	for _, jwk := range jwks {
		writeJWKYAML(&b, jwk)
	}
	quoted := make([]string, len(audience))
	for i, a := range audience {
		quoted[i] = yamlString(a)
	}
	fmt.Fprintf(&b, "  audience: [%s]\n", strings.Join(quoted, ", "))
	return b.String()
}

// writeJWKYAML writes the members of a JWK, which are all text, in an order for
// people. Types and algorithms need no quotes.
func writeJWKYAML(b *strings.Builder, jwk json.RawMessage) {
	members := jwkMembers(jwk)
	fmt.Fprintf(b, "      - kty: %s\n        alg: %s\n        kid: %s\n", members["kty"], members["alg"], yamlString(members["kid"]))
	for _, name := range []string{"crv", "x", "y", "n", "e", "k"} {
		if value, ok := members[name]; ok {
			fmt.Fprintf(b, "        %s: %s\n", name, yamlString(value))
		}
	}
}

func isPublicJWK(jwk json.RawMessage) bool { return jwkMembers(jwk)["kty"] != "oct" }

// jwkMembers reads a JWK that ferry wrote.
func jwkMembers(jwk json.RawMessage) map[string]string {
	var members map[string]string
	_ = json.Unmarshal(jwk, &members)
	return members
}

// yamlString quotes text so that YAML reads a string whatever it looks like:
// a key of digits alone would be a number. YAML takes every JSON string.
func yamlString(text string) string {
	// A string always marshals.
	quoted, _ := json.Marshal(text)
	return string(quoted)
}
