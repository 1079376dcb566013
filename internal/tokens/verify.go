package tokens

import (
	"encoding/json"
	"errors"

	"github.com/go-jose/go-jose/v4/jwt"
	jsonv2 "github.com/go-json-experiment/json"

	"ferry/internal/fault"
)

// errNotOurs refuses a token that none of the keys signed.
var errNotOurs = errors.New("not a sync token of this server")

// Signed reports whether one of the keys signed token, be it expired or not.
func (i *Issuer) Signed(token string) bool {
	_, ok := i.keys.Load().open(token)
	return ok
}

// Verify returns the claims of a sync token of this server. It must be as
// ferry itself writes them, with a known key, one of the audiences, the issuer,
// and times that are right within 60 s, as much as the PowerSync Service
// allows.
//
// A token that one of the keys signed and that is refused all the same gives a
// [fault.Error] InvalidSession; any other error means that none signed it.
func (i *Issuer) Verify(token string) (claims json.RawMessage, err error) {
	payload, ok := i.keys.Load().open(token)
	if !ok {
		return nil, errNotOurs
	}
	if detail := i.refusal(payload); detail != "" {
		return nil, fault.New(fault.InvalidSession, "%s", detail)
	}
	return payload, nil
}

// refusal says what is wrong with the claims of a token with a good signature,
// or nothing.
func (i *Issuer) refusal(payload []byte) string {
	var claims jwt.Claims
	// Not encoding/json, to which a custom claim `Exp` is an `exp`.
	if err := jsonv2.Unmarshal(payload, &claims); err != nil {
		return "the sync token's claims cannot be read"
	}
	if claims.Subject == "" || claims.IssuedAt == nil || claims.Expiry == nil {
		return "the sync token lacks sub, iat or exp"
	}
	err := claims.Validate(jwt.Expected{Issuer: i.issuer, AnyAudience: i.audience, Time: i.now()})
	switch {
	case err == nil:
		return ""
	case errors.Is(err, jwt.ErrExpired):
		return "the sync token has expired (exp): fetch a new one from /token"
	case errors.Is(err, jwt.ErrInvalidAudience):
		return "the sync token is for another audience (aud) than this server's"
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return "the sync token is from another issuer (iss) than this server"
	default:
		return "the sync token is not valid yet: do the clocks of ferry's processes agree?"
	}
}
