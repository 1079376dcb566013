// Package secrettest holds that no secret reaches a log or an error: the tests of
// a package note every secret that they use, and everything that ferry wrote,
// and at the end each is looked for in all of it.
//
// A package that uses it has
//
//	var secrets secrettest.Suite
//
//	func TestMain(m *testing.M) { postgrestest.Main(m, secrets.Check) }
package secrettest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// shortest is how many bytes a secret has at least: what is shorter stands in
// other words by chance, and no secret of ferry's is.
const shortest = 8

// Suite is what the tests of one package used and wrote. Its zero value is ready,
// and it may be used by tests that run in parallel.
type Suite struct {
	mu      sync.Mutex
	secrets map[string]bool
	written []piece
}

// piece is a text and the test whose ferry wrote it.
type piece struct{ test, text string }

// Uses notes secrets.
func (s *Suite) Uses(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets == nil {
		s.secrets = map[string]bool{}
	}
	for _, secret := range secrets {
		if len(secret) >= shortest {
			s.secrets[secret] = true
		}
	}
}

// UsesEnvironment notes the secrets among ferry's environment variables: the
// passwords in addresses of databases, secrets, and what is private in sets of
// keys.
func (s *Suite) UsesEnvironment(environ []string) {
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		switch {
		case strings.HasSuffix(name, "DATABASE_URL"):
			if u, err := url.Parse(value); err == nil {
				password, _ := u.User.Password()
				s.Uses(password)
			}
		case strings.HasSuffix(name, "_SECRET"), strings.HasSuffix(name, "_SECRET_TEXT"):
			s.Uses(value)
		case name == "FERRY_TOKEN_KEYS":
			s.UsesKeys([]byte(value))
		}
	}
}

// UsesKeys notes what is private in a JWKS (RFC 7518, section 6). What is no
// JWKS has no keys.
func (s *Suite) UsesKeys(set []byte) {
	var decoded struct {
		Keys []struct{ K, D, P, Q, DP, DQ, QI string }
	}
	if json.Unmarshal(set, &decoded) != nil {
		return
	}
	for _, k := range decoded.Keys {
		s.Uses(k.K, k.D, k.P, k.Q, k.DP, k.DQ, k.QI)
	}
}

// Wrote notes what ferry wrote in a test, for people who may not know its
// secrets: a log, an error, an answer.
func (s *Suite) Wrote(test, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = append(s.written, piece{test, text})
}

// Check returns an error that names each test in which a secret of any test was
// written.
func (s *Suite) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var leaks []error
	for _, p := range s.written {
		for secret := range s.secrets {
			if i := strings.Index(p.text, secret); i >= 0 {
				leaks = append(leaks, fmt.Errorf("%s: the secret %.12s… was written: …%.40s", p.test, secret, p.text[max(0, i-40):]))
			}
		}
	}
	slices.SortFunc(leaks, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(leaks...)
}
