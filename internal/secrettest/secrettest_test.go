package secrettest

import (
	"strings"
	"testing"
)

func TestASecretOfAnyTestIsFoundInWhatAnyOtherWrote(t *testing.T) {
	t.Parallel()
	var s Suite
	s.Wrote("early", `{"error":"for hunter2hunter2 alone"}`)
	s.Uses("hunter2hunter2", "never written", "short")
	s.UsesEnvironment([]string{
		"DATABASE_URL=postgres://ferry:a-password@db/app", "FERRY_SESSION_SECRET=the-session-secret", "FERRY_LISTEN=127.0.0.1:6060",
		`FERRY_TOKEN_KEYS={"keys":[{"kty":"oct","k":"symmetric"},{"kty":"OKP","x":"public-half","d":"private-half"}]}`,
	})
	s.Wrote("late", "a-password, the-session-secret, symmetric, private-half; but short, public-half and 127.0.0.1:6060 may be seen")
	err := s.Check()
	if err == nil {
		t.Fatal("nothing was found")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{"early: the secret hunter2hunt", "late: the secret a-password", "late: the secret private-hal", "late: the secret symmetric", "late: the secret the-session-"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("found\n%s\nwant %s as line %d", err, want, i)
		}
	}
	if len(lines) != 5 {
		t.Errorf("%d leaks:\n%s", len(lines), err)
	}
}

func TestWhatHoldsNoSecretIsFine(t *testing.T) {
	t.Parallel()
	var s Suite
	s.Uses("a secret of some length")
	s.Wrote("a test", "a secret of")
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}
