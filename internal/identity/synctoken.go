package identity

import (
	"context"
	"encoding/json"
	"errors"

	"ferry/internal/fault"
)

// SyncToken accepts ferry's own sync tokens as sessions, for apps whose
// connector sends one token to both servers (FERRY_UPLOAD_ACCEPTS_SYNC_TOKEN).
//
// It is the function that verifies such a token, its signature, times, issuer
// and audience, and returns its claims. An error that carries a [fault.Error]
// is the answer to the client; any other means that the token is no sync token.
type SyncToken func(ctx context.Context, token string) (claims json.RawMessage, err error)

var _ Authenticator = SyncToken(nil)

// Authenticate implements [Authenticator].
func (verify SyncToken) Authenticate(ctx context.Context, c Credentials) (*Principal, error) {
	token, err := c.bearer()
	if err != nil {
		return nil, err
	}
	payload, err := verify(ctx, token)
	if refusal, ok := errors.AsType[*fault.Error](err); ok {
		return nil, refusal
	}
	if err != nil {
		return nil, notMine("the session is not a sync token of this server")
	}
	claims, err := readClaims(payload)
	if err != nil {
		return nil, fault.New(fault.InvalidSession, "the sync token's payload %v", err)
	}
	p, err := claims.principal([]string{"sub"}, "")
	if err != nil {
		return nil, fault.New(fault.InvalidSession, "the sync token names no user: %v", err)
	}
	return p, nil
}
