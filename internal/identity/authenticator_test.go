package identity

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

// syncTokenFor accepts the token "sync" and nothing else; "expired" is one of
// its own that it refuses.
func syncTokenFor(claims string) SyncToken {
	return func(_ context.Context, token string) (json.RawMessage, error) {
		switch token {
		case "sync":
			return json.RawMessage(claims), nil
		case "expired":
			return nil, fault.New(fault.InvalidSession, "the sync token has expired")
		default:
			return nil, errors.New("unknown")
		}
	}
}

func TestSyncToken(t *testing.T) {
	t.Parallel()
	const claims = `{"sub":"u1","org":9007199254740993,"iat":1767323045}`
	p, err := syncTokenFor(claims).Authenticate(t.Context(), bearing("sync"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Principal{UserID: "u1", Claims: json.RawMessage(claims), IssuedAt: suiteNow}, p); diff != "" {
		t.Errorf("principal (-want +got):\n%s", diff)
	}

	refused := []struct{ name, claims, token, detail string }{
		{"no token", claims, "", "no session: send the app's own session in the header `Authorization: Bearer <session>`"},
		{"another token", claims, "x", "the session is not a sync token of this server"},
		{"expired", claims, "expired", "the sync token has expired"},
		{"no user", `{"sub":""}`, "sync", "the sync token names no user: the user id (claim sub) is empty"},
		{"no claims", `null`, "sync", "the sync token's payload is not one JSON object in UTF-8 in which no name stands twice"},
	}
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := syncTokenFor(c.claims).Authenticate(t.Context(), bearing(c.token))
			requireRefusal(t, p, err, c.token, c.detail)
		})
	}
}

// unavailable stands for a way of signing in whose server is away.
type unavailable struct{}

func (unavailable) Authenticate(context.Context, Credentials) (*Principal, error) {
	return nil, fault.Retry(nil, time.Second, "the issuer's keys cannot be fetched")
}

func TestChainLetsTheFirstThatRecognisesDecide(t *testing.T) {
	t.Parallel()
	chain := Chain{newSessionJWT(t, SessionIssuer{}), syncTokenFor(`{"sub":"from-sync-token"}`)}
	sign := func(now time.Time) string {
		session, err := SignSession(testKey, "from-session", "", "", now, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return session
	}

	accepted := []struct{ name, token, user string }{
		{"by the first", sign(suiteNow), "from-session"},
		{"by the second", "sync", "from-sync-token"},
	}
	for _, c := range accepted {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := chain.Authenticate(t.Context(), bearing(c.token))
			if err != nil {
				t.Fatal(err)
			}
			if p.UserID != c.user {
				t.Errorf("user %q, want %q", p.UserID, c.user)
			}
		})
	}

	refused := []struct {
		name   string
		chain  Chain
		token  string
		detail string
	}{
		{"recognised by the first", chain, sign(suiteNow.Add(-3 * time.Hour)), "the session has expired (exp): sign in again"},
		{"recognised by the second", chain, "expired", "the sync token has expired"},
		{"recognised by none", chain, "x", "the session is not a signed JWT (header.payload.signature)"},
		{"of a kind that the first does not look at", Chain{TrustedHeader{Name: "X-User"}, chain[0]}, "x", "the session is not a signed JWT (header.payload.signature)"},
		{"nothing to look at", Chain{TrustedHeader{Name: "X-User"}, chain[0]}, "", "no session: the authenticating proxy named no user"},
		{"nobody asked", nil, "x", "this server is not set up to accept any session"},
	}
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := c.chain.Authenticate(t.Context(), bearing(c.token))
			requireRefusal(t, p, err, c.token, c.detail)
		})
	}

	t.Run("a failure is not taken for a refusal", func(t *testing.T) {
		t.Parallel()
		_, err := Chain{unavailable{}, syncTokenFor(`{"sub":"u1"}`)}.Authenticate(t.Context(), bearing("sync"))
		if got := fault.From(err).Code; got != fault.Unavailable {
			t.Errorf("code %s, want %s", got, fault.Unavailable)
		}
	})
}
