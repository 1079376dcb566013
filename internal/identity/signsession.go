package identity

import (
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// SignSession returns a session JWT as an app's own sign-in would make it, for
// the demo sessions of `ferry dev` and for tests. Nothing that serves an app
// may call it: ferry does not issue sessions in that app's name. issuer and
// audience are left out where empty; ttl counts in whole seconds. It fails on
// a user id that is no Principal's, and on a key under 32 bytes.
func SignSession(key []byte, userID, issuer, audience string, now time.Time, ttl time.Duration) (string, error) {
	if err := CheckUserID(userID); err != nil {
		return "", fmt.Errorf("sign session: user id %w", err)
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.HS256, Key: key},
		(&jose.SignerOptions{}).WithType("JWT"),
	)
	if err != nil {
		return "", fmt.Errorf("sign session: %w", err)
	}
	claims := jwt.Claims{
		Issuer:   issuer,
		Subject:  userID,
		IssuedAt: jwt.NewNumericDate(now),
		Expiry:   jwt.NewNumericDate(now.Add(ttl)),
	}
	if audience != "" {
		claims.Audience = jwt.Audience{audience}
	}
	session, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign session: %w", err)
	}
	return session, nil
}
