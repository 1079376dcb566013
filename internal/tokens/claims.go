package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// ClaimSource gives further claims for a user's tokens, such as what the app's
// database knows of the user. Implementations are safe for concurrent use.
type ClaimSource interface {
	// Claims returns a JSON object, whose members become claims of the sync
	// token, or nothing. It is called for every token. An error that is a
	// [fault.Error] is the answer to the client.
	Claims(ctx context.Context, userID string, sessionClaims json.RawMessage) (json.RawMessage, error)
}

// reservedClaims are those of RFC 7519, section 4.1: ferry alone sets them, or
// a session could give itself another user or a longer life.
var reservedClaims = [...]string{"sub", "aud", "iss", "iat", "exp", "nbf", "jti"}

func isReserved(claim string) bool { return slices.Contains(reservedClaims[:], claim) }

// parametersClaim is the one custom claim whose type the PowerSync Service
// checks: a token in which it is not an object is refused (PSYNC_S2101).
const parametersClaim = "parameters"

var errNotClaims = errors.New("is not a JSON object in UTF-8 in which no name stands twice")

// given returns what the source says, if there is one.
func (i *Issuer) given(ctx context.Context, userID string, session json.RawMessage) (object, error) {
	if i.source == nil {
		return nil, nil
	}
	text, err := i.source.Claims(ctx, userID, session)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	claims, ok := parseObject(text)
	if !ok {
		return nil, fmt.Errorf("what gives tokens their custom claims %w", errNotClaims)
	}
	return claims, nil
}

// appendGiven writes the source's claims, each with a comma before it.
func (i *Issuer) appendGiven(payload []byte, given object) []byte {
	for _, claim := range given {
		if isReserved(claim.name) {
			i.reservedNoted.Do(func() {
				i.log.Warn("custom claims that ferry sets itself are left out of sync tokens", slog.String("claim", claim.name))
			})
			continue
		}
		payload = i.appendClaim(payload, claim.name, claim.value)
	}
	return payload
}

// appendClaim writes one custom claim, with a comma before it.
func (i *Issuer) appendClaim(payload []byte, name string, value jsontext.Value) []byte {
	if name == parametersClaim && value.Kind() != '{' {
		i.parametersNoted.Do(func() {
			i.log.Warn("a `parameters` claim that is not an object is left out of sync tokens, because the PowerSync Service would refuse them")
		})
		return payload
	}
	payload = append(payload, ',')
	payload = append(payload, quote(name)...)
	payload = append(payload, ':')
	return append(payload, value...)
}

// CheckClaims returns what keeps claims from being the custom claims of a sync
// token: they are no JSON object, one of them is ferry's own, or `parameters`
// is not an object. The error repeats no value.
func CheckClaims(claims json.RawMessage) error {
	given, ok := parseObject(claims)
	if !ok {
		return errNotClaims
	}
	for _, claim := range given {
		if isReserved(claim.name) {
			return fmt.Errorf("has %q, a claim that ferry sets itself", claim.name)
		}
		if claim.name == parametersClaim && claim.value.Kind() != '{' {
			return errors.New("has `parameters` that are not an object: the PowerSync Service would refuse the token")
		}
	}
	return nil
}
