package httpapi

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"ferry/internal/identity"
	"ferry/internal/tokens"
)

// BenchmarkToken is all that ferry does for a token, apart from the network.
func BenchmarkToken(b *testing.B) {
	key, err := tokens.NewHS256Key("key1", tokenKey)
	if err != nil {
		b.Fatal(err)
	}
	keys, err := tokens.NewKeySet(key)
	if err != nil {
		b.Fatal(err)
	}
	issuer, err := tokens.NewIssuer(tokens.Options{Keys: keys, Audience: []string{endpoint}, TTL: time.Hour, Endpoint: endpoint, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	sessions, err := identity.NewSessionJWT(identity.SessionJWTOptions{
		Issuers: []identity.SessionIssuer{{Secret: sessionKey}}, IsSyncToken: issuer.Signed, Now: time.Now,
	})
	if err != nil {
		b.Fatal(err)
	}
	handler := New(Options{
		Sessions: sessions, Tokens: issuer, Log: slog.New(slog.NewJSONHandler(nowhere{}, nil)),
		AllowOrigin: func(string) bool { return false },
	})
	requests := make([]*http.Request, 5000) // of as many users, or the limit would answer
	for i := range requests {
		session, err := identity.SignSession(sessionKey, time.Unix(int64(i), 0).String(), "", "", time.Now(), time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		requests[i] = httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/token", nil)
		requests[i].Header.Set("Authorization", "Bearer "+session)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, requests[i%len(requests)])
		if w.Code != http.StatusOK {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
	}
}

// nowhere is where a log costs its making and nothing more.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
