package tokens

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const benchSession = `{"iss":"https://abcdefgh.supabase.co/auth/v1","sub":"6f1c8a52-4c3e-4e57-9bf3-1f6d3a4c9a11","aud":"authenticated","exp":1767400000,"iat":1767322000,"email":"a@example.com","app_metadata":{"provider":"email","org":{"id":42}},"user_metadata":{"email":"a@example.com"},"role":"authenticated"}`

func BenchmarkIssue(b *testing.B) {
	custom := []ClaimCopy{{Name: "role", Path: []string{"role"}}, {Name: "org_id", Path: []string{"app_metadata", "org", "id"}}}
	for name, copies := range map[string][]ClaimCopy{"plain": nil, "custom claims": custom} {
		b.Run(name, func(b *testing.B) {
			o := options(b)
			o.Claims = copies
			issuer := newIssuer(b, o)
			session := json.RawMessage(benchSession)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := issuer.Issue(b.Context(), "6f1c8a52-4c3e-4e57-9bf3-1f6d3a4c9a11", session); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSign reports what go-jose takes for the same payload, as a multiple.
func BenchmarkSign(b *testing.B) {
	for _, alg := range Algorithms() {
		b.Run(alg, func(b *testing.B) {
			key, private := newTestKey(b, alg, testKeyID)
			benchmarkSign(b, key, joseSigner(b, alg, private))
		})
	}
}

func benchmarkSign(b *testing.B, key Key, signer jose.Signer) {
	payload := []byte(benchSession)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := key.token(payload); err != nil {
			b.Fatal(err)
		}
	}
	perOp := b.Elapsed() / time.Duration(b.N)

	const rounds = 500
	start := time.Now()
	for range rounds {
		jws, err := signer.Sign(payload)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := jws.CompactSerialize(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(time.Since(start)/rounds)/float64(perOp), "go-jose/x")
}

func joseSigner(t testing.TB, alg string, private any) jose.Signer {
	t.Helper()
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: private},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", testKeyID),
	)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}
