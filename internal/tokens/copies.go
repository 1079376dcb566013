package tokens

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

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

// checkCopies refuses copies that overwrite ferry's own claims or each other.
func checkCopies(copies []ClaimCopy) error {
	for i, c := range copies {
		if c.Name == "" || len(c.Path) == 0 || slices.Contains(c.Path, "") {
			return fmt.Errorf("custom claim %q lacks a name, a path, or a part of its path", c.Name)
		}
		if _, err := jsontext.AppendQuote(nil, c.Name); err != nil {
			return errors.New("the name of a custom claim is not valid UTF-8")
		}
		if isReserved(c.Name) {
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
	claims, ok := parseObject(session)
	if !ok {
		return nil, errors.New("the session's claims are not a JSON object")
	}
	values := make([]jsontext.Value, len(copies))
	for i, c := range copies {
		values[i] = follow(claims.get(c.Path[0]), c.Path[1:])
	}
	return values, nil
}

// follow is the value at path under value, or nil.
func follow(value jsontext.Value, path []string) jsontext.Value {
	for _, name := range path {
		claims, _ := parseObject(value)
		value = claims.get(name)
	}
	return value
}

// appendCopies writes the claims copied from the session, each with a comma
// before it, but those that the source gave as well.
func (i *Issuer) appendCopies(payload []byte, session json.RawMessage, given object) ([]byte, error) {
	if len(i.claims) == 0 {
		return payload, nil
	}
	values, err := lookUp(i.claims, session)
	if err != nil {
		return nil, err
	}
	for n, value := range values {
		if name := i.claims[n].Name; value != nil && given.get(name) == nil {
			payload = i.appendClaim(payload, name, value)
		}
	}
	return payload, nil
}
