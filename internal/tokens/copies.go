package tokens

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ClaimCopy says which claim of the session becomes a claim of the sync token,
// where sync rules read it with request.jwt().
type ClaimCopy struct {
	// Name is the claim in the sync token, at its top level. It is none of the
	// claims that ferry sets itself, see [NewIssuer].
	Name string
	// Path leads to the session's claim, through nested objects where it has
	// several parts.
	Path []string
}

// reservedClaims are those of RFC 7519, section 4.1: ferry alone sets them, or
// a session could give itself another user or a longer life.
var reservedClaims = [...]string{"sub", "aud", "iss", "iat", "exp", "nbf", "jti"}

// parametersClaim is the one custom claim whose type the PowerSync Service
// checks: a token in which it is not an object is refused (PSYNC_S2101).
const parametersClaim = "parameters"

// checkCopies refuses copies that overwrite ferry's own claims or each other.
func checkCopies(copies []ClaimCopy) error {
	for i, c := range copies {
		if c.Name == "" || len(c.Path) == 0 || slices.Contains(c.Path, "") {
			return fmt.Errorf("custom claim %q lacks a name, a path, or a part of its path", c.Name)
		}
		if _, err := jsontext.AppendQuote(nil, c.Name); err != nil {
			return errors.New("the name of a custom claim is not valid UTF-8")
		}
		if slices.Contains(reservedClaims[:], c.Name) {
			return fmt.Errorf("custom claim %q is one that ferry sets itself", c.Name)
		}
		if slices.ContainsFunc(copies[:i], func(other ClaimCopy) bool { return other.Name == c.Name }) {
			return fmt.Errorf("custom claim %q stands twice", c.Name)
		}
	}
	return nil
}

// lookUp finds the value of each copy in the session's claims, as it is spelled
// there: a number keeps all its digits. What the session lacks is nil.
func lookUp(copies []ClaimCopy, session json.RawMessage) ([]jsontext.Value, error) {
	claims, ok := members(jsontext.Value(session))
	if !ok {
		// The reader's own error may quote the claims.
		return nil, errors.New("the session's claims are not a JSON object")
	}
	values := make([]jsontext.Value, len(copies))
	for i, c := range copies {
		values[i] = follow(claims[c.Path[0]], c.Path[1:])
	}
	return values, nil
}

// follow is the value at path under value, or nil.
func follow(value jsontext.Value, path []string) jsontext.Value {
	for _, name := range path {
		object, _ := members(value)
		value = object[name]
	}
	return value
}

// members are the members of a JSON object, each as it is spelled.
func members(object jsontext.Value) (map[string]jsontext.Value, bool) {
	var m map[string]jsontext.Value
	err := jsonv2.Unmarshal(object, &m)
	return m, err == nil && m != nil
}
