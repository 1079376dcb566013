package identity

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

// onePassword is a store that has one account, and lets everybody try.
type onePassword struct {
	AccountStore
	email     string
	hash      string
	takenBack int
}

func (s *onePassword) TakeBack(context.Context, Attempt) error {
	s.takenBack++
	return nil
}

func (s *onePassword) CountAttempt(context.Context, time.Duration, []Limit) (time.Time, time.Duration, error) {
	return suiteNow, 0, nil
}

func (s *onePassword) FindPassword(_ context.Context, email Email) (*StoredPassword, error) {
	if email.Key != s.email {
		return nil, ErrNoAccount
	}
	return &StoredPassword{UserID: "u1", Hash: s.hash}, nil
}

func (s *onePassword) StartSession(_ context.Context, p *StoredPassword, _ string, _ TokenHash) (*AccountSession, error) {
	return &AccountSession{UserID: p.UserID}, nil
}

// The rules for a password are for choosing one: who has one from before them
// signs in with it.
func TestPasswordsFromBeforeTheRulesSignIn(t *testing.T) {
	t.Parallel()
	const ann = "ann@example.com"
	for _, password := range []string{"1q2w3e4r5t6y", "short", ann} {
		if CheckPassword(password, Email{Key: ann}) == nil {
			t.Errorf("%q may be chosen", password)
		}
		hash, err := newPasswordHasher(quick()).hash(t.Context(), password)
		if err != nil {
			t.Fatal(err)
		}
		a := NewAccounts(AccountOptions{Store: &onePassword{email: ann, hash: hash}, Hashing: quick(), Now: time.Now})
		if s, userID, err := a.SignIn(t.Context(), netip.MustParseAddr("192.0.2.1"), ann, password); err != nil || s.UserID != "u1" || userID != "u1" {
			t.Errorf("%q: %+v, %v", password, s, err)
		}
	}
}

// Whether an account exists shows neither in the answer nor in its time: who
// signs in waits for a turn to hash, and hashes once, either way.
func TestSignInDoesNotTellWhoHasAnAccount(t *testing.T) {
	t.Parallel()
	const ann = "ann@example.com"
	hash := newHash(quick()).String() // of no password
	type outcome struct {
		Code, Detail string
		Took         time.Duration
		TakenBack    int // attempts that do not count
	}
	signIn := func(t *testing.T, turns bool, email string) outcome {
		var got outcome
		synctest.Test(t, func(t *testing.T) {
			store := &onePassword{email: ann, hash: hash}
			a := NewAccounts(AccountOptions{
				Store: store, Denylist: NewDenylist(&sharedList{}, slog.New(slog.DiscardHandler), time.Now), Hashing: quick(), Now: time.Now,
			})
			for !turns && a.hasher.turns.TryAcquire(1) {
			}
			started := time.Now()
			s, _, err := a.SignIn(t.Context(), netip.MustParseAddr("192.0.2.1"), email, "0123456789")
			if s != nil || err == nil {
				t.Fatalf("signed in: %+v", s)
			}
			f := fault.From(err)
			got = outcome{string(f.Code), f.Detail, time.Since(started), store.takenBack}
		})
		return got
	}
	for _, c := range []struct {
		turns bool
		want  outcome
	}{
		{true, outcome{string(fault.InvalidCredentials), "the e-mail address or the password is wrong", 0, 0}},
		{false, outcome{string(fault.Unavailable), "too many people are signing in right now; try again", hashWait, 1}},
	} {
		for _, email := range []string{ann, "nobody@example.com"} {
			if diff := cmp.Diff(c.want, signIn(t, c.turns, email)); diff != "" {
				t.Errorf("%s, turns to hash %t (-want +got):\n%s", email, c.turns, diff)
			}
		}
	}
}
