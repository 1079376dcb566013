package tokens

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Whatever the user is called and whatever the session claims, the token says
// exactly that, and nothing of it reaches a claim that ferry sets.
func TestTokensSayExactlyWhatWasAsked(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		userID := rapid.StringN(1, 200, -1).Draw(rt, "user")
		custom := rapid.MapOfN(rapid.String(), jsonValue(3), 0, 6).Draw(rt, "claims")
		session := maps.Clone(custom)
		for _, name := range reservedClaims {
			session[name] = "of the session"
		}
		text, err := json.Marshal(session)
		if err != nil {
			rt.Fatal(err)
		}
		o := options(t)
		want := map[string]any{
			"sub": userID, "aud": testEndpoint,
			"iat": json.Number("1767323045"), "exp": json.Number("1767326645"),
		}
		for name := range custom {
			if name == "" {
				continue
			}
			// Prefixed, so that no name is one that ferry refuses to copy to.
			o.Claims = append(o.Claims, ClaimCopy{Name: "c" + name, Path: []string{name}})
			want["c"+name] = session[name]
		}

		token := issue(t, newIssuer(t, o), userID, string(text))
		_, claims, err := open(token.JWT, testSecret)
		if err != nil {
			rt.Fatal(err)
		}
		delete(claims, "jti")
		if diff := cmp.Diff(want, claims); diff != "" {
			rt.Fatalf("claims (-want +got):\n%s", diff)
		}
		if err := acceptedByService(token.JWT, testNow); err != nil {
			rt.Fatalf("the service would refuse it: %v", err)
		}
	})
}

// jsonValue draws what JSON can hold, numbers longer than a float64 included.
func jsonValue(depth int) *rapid.Generator[any] {
	leaves := []*rapid.Generator[any]{
		rapid.Just(any(nil)),
		rapid.Bool().AsAny(),
		rapid.String().AsAny(),
		rapid.Map(rapid.StringMatching(`-?[1-9][0-9]{0,30}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?`), func(s string) any { return json.Number(s) }),
	}
	if depth == 0 {
		return rapid.OneOf(leaves...)
	}
	return rapid.OneOf(append(
		leaves,
		rapid.Map(rapid.SliceOfN(jsonValue(depth-1), 0, 3), func(s []any) any { return append([]any{}, s...) }),
		rapid.Map(rapid.MapOfN(rapid.String(), jsonValue(depth-1), 0, 3), func(m map[string]any) any { return m }),
	)...)
}
