package tokens

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// day0 is when the rotations of the tests begin; the clock is what they say.
var day0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func parseFile(t *testing.T, text string) *KeyFile {
	t.Helper()
	f, err := ParseKeyFile([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func activeOf(t *testing.T, f *KeyFile) string {
	t.Helper()
	set, err := f.Set("")
	if err != nil {
		t.Fatal(err)
	}
	return set.ActiveID()
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refusedUntil fails the test unless a step is too early, and right at from.
func refusedUntil(t *testing.T, step func(now time.Time) error, from time.Time) {
	t.Helper()
	err := step(from.Add(-time.Second))
	early, ok := err.(*TooEarlyError) //nolint:errorlint // returned as it is
	if !ok || !early.From.Equal(from) || !strings.HasSuffix(err.Error(), ": wait until "+from.Format(time.RFC3339)) {
		t.Fatalf("a second too early: error %v, want one that names %s", err, from)
	}
	mustDo(t, step(from))
}

func TestRotationByOverlap(t *testing.T) {
	t.Parallel()
	const ttl = time.Hour
	f := parseFile(t, "")
	mustDo(t, f.Add(jwkOf("EdDSA", "old"), day0))
	if got := activeOf(t, f); got != "old" {
		t.Fatalf("the first key is not active: %q", got)
	}
	added := day0.Add(24 * time.Hour)
	mustDo(t, f.Add(jwkOf("ES256", "new"), added))
	if got := activeOf(t, f); got != "old" {
		t.Fatalf("a key that was only added signs: %q", got)
	}
	refusedUntil(t, func(now time.Time) error { return f.Activate("new", now, Consent{}) }, added.Add(SettleTime))
	activated := added.Add(SettleTime)
	if got := activeOf(t, f); got != "new" {
		t.Fatalf("active is %q", got)
	}
	mustDo(t, f.Activate("new", activated.Add(time.Hour), Consent{})) // changes nothing
	want := []KeyStatus{
		{ID: "old", Algorithm: "EdDSA", Added: day0, Activated: day0, Deactivated: activated},
		{ID: "new", Algorithm: "ES256", Active: true, Added: added, Activated: activated},
	}
	if diff := cmp.Diff(want, parseFile(t, string(f.Text())).Keys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if err := f.Retire("new", activated.AddDate(1, 0, 0), ttl, Consent{Force: true}); errorText(err) != `key "new" signs the tokens: activate another one first` {
		t.Errorf("retiring the active key: %v", err)
	}
	refusedUntil(t, func(now time.Time) error { return f.Retire("old", now, ttl, Consent{}) }, activated.Add(ttl+SettleTime))
	if diff := cmp.Diff(want[1:], f.Keys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestOnlyTheOperatorKnowsOfSymmetricKeysAndOfKeysWithoutATime(t *testing.T) {
	t.Parallel()
	noted := `{"active":"a","keys":[` + string(jwkOf("HS256", "a")) + `,` + string(jwkOf("EdDSA", "b")) + `]}`
	f := parseFile(t, noted)
	mustDo(t, f.Add(jwkOf("HS512", "c"), day0))
	for _, id := range []string{"b", "c"} {
		for _, c := range []Consent{{Known: true}, {Force: true}} {
			f := parseFile(t, string(f.Text()))
			want := `ferry cannot tell whether the PowerSync Service has key "` + id + `"`
			if err := f.Activate(id, day0.AddDate(1, 0, 0), Consent{}); errorText(err) != want {
				t.Errorf("error %v, want %s", err, want)
			}
			mustDo(t, f.Activate(id, day0, c))
			if got := activeOf(t, f); got != id {
				t.Errorf("active is %q, want %q", got, id)
			}
			// Back again: the service has what signed before. But when "a"
			// began to sign, the file does not say.
			mustDo(t, f.Activate("a", day0, Consent{Known: true}))
			mustDo(t, f.Activate(id, day0, Consent{}))
		}
	}
	want := `the file does not say since when key "b" has not signed: wait until that is 1h10m0s ago`
	if err := f.Retire("b", day0, time.Hour, Consent{}); errorText(err) != want {
		t.Errorf("error %v, want %s", err, want)
	}
	mustDo(t, f.Retire("b", day0, time.Hour, Consent{Force: true}))
	mustDo(t, f.Retire("c", day0, time.Hour, Consent{})) // it never signed
}

func TestForceTakesAnyStepAtOnce(t *testing.T) {
	t.Parallel()
	f := parseFile(t, "")
	mustDo(t, f.Add(jwkOf("EdDSA", "leaked"), day0))
	mustDo(t, f.Add(jwkOf("ES256", "new"), day0))
	mustDo(t, f.Activate("new", day0, Consent{Force: true}))
	mustDo(t, f.Retire("leaked", day0, time.Hour, Consent{Force: true}))
	if got := activeOf(t, f); got != "new" || len(f.Keys()) != 1 {
		t.Errorf("active is %q of %v", got, f.Keys())
	}
}

// A step back to the old key, and another attempt with the new one.
func TestAKeyThatSignedByForceIsNotKnownForThat(t *testing.T) {
	t.Parallel()
	f := parseFile(t, "")
	added := day0.Add(time.Hour)
	mustDo(t, f.Add(jwkOf("EdDSA", "old"), day0))
	mustDo(t, f.Add(jwkOf("ES256", "new"), added))
	mustDo(t, f.Activate("new", added, Consent{Force: true}))
	mustDo(t, f.Activate("old", added.Add(time.Second), Consent{}))
	refusedUntil(t, func(now time.Time) error { return f.Activate("new", now, Consent{}) }, added.Add(SettleTime))
}

func TestKeyFilesKeepWhatOthersNoted(t *testing.T) {
	t.Parallel()
	f := parseFile(t, `{"$comment":"ours <é>","keys":[`+changed(jwkOf("ES256", "a"), map[string]any{"note": []int{1, 2}, "n1": json.Number("1.10")})+`],"owner":{"team":"x"}}`)
	mustDo(t, f.Add(jwkOf("EdDSA", "b"), day0))
	mustDo(t, f.Activate("b", day0.Add(time.Hour), Consent{}))
	var got map[string]any
	mustDo(t, json.Unmarshal(f.Text(), &got))
	keys := got["keys"].([]any) //nolint:forcetypeassert // a panic fails the test
	type others map[string]any
	a := keys[0].(map[string]any) //nolint:forcetypeassert // as above
	want := others{"$comment": "ours <é>", "active": "b", "owner": map[string]any{"team": "x"}, "note": []any{1.0, 2.0}, "deactivated": "2026-01-02T04:04:05Z"}
	if diff := cmp.Diff(want, others{"$comment": got["$comment"], "active": got["active"], "owner": got["owner"], "note": a["note"], "deactivated": a["deactivated"]}); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if text := string(f.Text()); !strings.HasPrefix(text, "{\n  \"active\": \"b\",\n  \"$comment\": \"ours <é>\",\n") || !strings.Contains(text, `"n1": 1.10`) {
		t.Errorf("the file is\n%s", text)
	}
}

func TestKeyFilesWithoutAnActiveKeyCanBeMended(t *testing.T) {
	t.Parallel()
	f := parseFile(t, `{"active":"gone","keys":[`+string(jwkOf("EdDSA", "a"))+`,`+string(jwkOf("ES256", "b"))+`]}`)
	if _, err := f.Set(""); err == nil {
		t.Error("a server would take it")
	}
	mustDo(t, f.Activate("a", day0, Consent{Known: true}))
	if got := activeOf(t, f); got != "a" {
		t.Errorf("active is %q", got)
	}
}

func TestKeyFilesRefuse(t *testing.T) {
	t.Parallel()
	f := parseFile(t, string(setOf("a", jwkOf("EdDSA", "a"))))
	cases := []struct {
		name string
		err  error
		want string
	}{
		{"a key twice", f.Add(jwkOf("ES256", "a"), day0), `there is a key "a" already: choose another id`},
		{"a key that is none", f.Add([]byte(`{"kid":"b"}`), day0), `the key: its kty is none that ferry signs with: oct, OKP, EC or RSA`},
		{"no object", f.Add([]byte(`7`), day0), `the key is not a JSON object`},
		{"activating what is not there", f.Activate("c", day0, Consent{}), `there is no key "c" in the file (a)`},
		{"retiring what is not there", f.Retire("c", day0, time.Hour, Consent{}), `there is no key "c" in the file (a)`},
	}
	for _, c := range cases {
		if got := errorText(c.err); got != c.want {
			t.Errorf("%s: error %s, want %s", c.name, got, c.want)
		}
	}
	_, err := ParseKeyFile([]byte(`{"keys":[` + changed(jwkOf("EdDSA", "a"), map[string]any{"added": "yesterday"}) + `]}`))
	if want := `key 1 (kid "a"): its "added" is not a time such as 2026-01-02T03:04:05Z`; errorText(err) != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestNewKeys(t *testing.T) {
	t.Parallel()
	for _, alg := range Algorithms() {
		jwk, err := NewJWK("k", alg)
		mustDo(t, err)
		if set := parseSet(t, setOf("k", jwk)); set.active.alg != alg {
			t.Errorf("alg %s, want %s", set.active.alg, alg)
		}
	}
	for _, c := range []struct{ id, alg, want string }{
		{"", "EdDSA", "key id is not 1 to 128 printable ASCII characters"},
		{"k", "none", "the algorithm must be one of EdDSA, ES256, RS256, HS256, HS384, HS512"},
	} {
		if _, err := NewJWK(c.id, c.alg); errorText(err) != c.want {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
	jwk, err := HS256JWK("k", testSecret)
	mustDo(t, err)
	if diff := cmp.Diff(`{"kty":"oct","kid":"k","alg":"HS256","k":"dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHQ"}`, string(jwk)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
