package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// claims is what to copy from a session into tokens.
type claims struct{ list []Claim }

func (c *claims) UnmarshalText(text []byte) error {
	list, err := splitList(string(text))
	if err != nil {
		return err
	}
	// Those that ferry sets by itself (RFC 7519 section 4.1).
	taken := map[string]bool{"sub": true, "aud": true, "iss": true, "iat": true, "exp": true, "nbf": true, "jti": true}
	for i, entry := range list {
		name, from, renamed := strings.Cut(entry, "=")
		if !renamed {
			from = name
		}
		path := claimPath(from)
		switch {
		case !isWord(name) || path == nil:
			return fmt.Errorf("entry %d is not name or name=path.to.claim", i+1)
		case taken[name]:
			return fmt.Errorf("entry %d names a claim that is taken: sub, aud, iss, iat, exp, nbf and jti are ferry's own, every other comes once; give it another name with name=path.to.claim", i+1)
		}
		taken[name] = true
		c.list = append(c.list, Claim{Name: name, Path: path})
	}
	return nil
}

// userClaim is a claim's name, or the dotted path to it.
type userClaim string

func (u *userClaim) UnmarshalText(text []byte) error {
	if claimPath(string(text)) == nil {
		return errors.New("expected a claim of the session, such as sub or app_metadata.uid")
	}
	*u = userClaim(text)
	return nil
}

// claimPath splits a claim's name at its dots, except where it is a URL, which
// names one claim, as namespaced claims do. It is nil where that is no path.
func claimPath(name string) []string {
	if !isWord(name) {
		return nil
	}
	if strings.Contains(name, "://") {
		return []string{name}
	}
	path := strings.Split(name, ".")
	if slices.Contains(path, "") {
		return nil
	}
	return path
}
