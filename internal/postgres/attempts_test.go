package postgres_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/postgres"
)

// guess tries a password from an address and returns the code of the answer.
func (r *replica) guess(t *testing.T, from netip.Addr, email, password string) string {
	t.Helper()
	_, _, err := r.SignIn(t.Context(), from, email, password)
	return codeOf(err)
}

// elapse lets time pass for the attempts.
func (b *accountsBundle) elapse(d time.Duration) {
	b.exec(`UPDATE ferry.attempts SET at = ARRAY(SELECT t - $1::interval FROM unnest(at) t ORDER BY t), forget_at = forget_at - $1::interval`, d)
}

// more adds to the attempts under every name that there is.
func (b *accountsBundle) more(n int) {
	b.exec(`UPDATE ferry.attempts SET at = at || ARRAY(SELECT clock_timestamp() + n * interval '1 microsecond' FROM generate_series(1, $1::int) n)`, n)
}

const wrongGuess = "a wrong guess"

func TestTenFailedSignInsLockAnAccountForAWhile(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	b.signUp(annEmail, annSays)
	other := b.newReplica(b.store, quickly)
	for _, email := range []string{annEmail, "nobody@example.com"} { // whether it has an account or not
		for i := range 10 {
			r := b.replica
			if i%2 == 1 {
				r = other
			}
			if got := r.guess(t, home, email, wrongGuess); got != "invalid_credentials" {
				t.Fatalf("%s, guess %d: %s", email, i, got)
			}
			b.elapse(time.Minute)
		}
		// From anywhere, for the right password as well, in any case.
		for from, spelling := range map[netip.Addr]string{home: email, library: strings.ToUpper(email)} {
			_, _, err := b.SignIn(t.Context(), from, spelling, annSays)
			f := fault.From(err)
			if f.Code != fault.TooManyRequests || f.RetryAfter <= 4*time.Minute || f.RetryAfter > 5*time.Minute {
				t.Errorf("%s: %v, try again after %s", email, err, f.RetryAfter)
			}
		}
	}
	// The guesses on ann were 20 to 11 minutes ago: six do not count any more.
	for i := range 7 {
		if got := b.guess(t, home, annEmail, wrongGuess); (i < 6) != (got == "invalid_credentials") {
			t.Errorf("guess %d once others are old: %s", i, got)
		}
	}
	b.elapse(15 * time.Minute)
	if got := b.guess(t, home, annEmail, annSays); got != "" {
		t.Errorf("a quarter of an hour later: %s", got)
	}
}

func TestSignInsThatAreRightDoNotCount(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	b.signUp(annEmail, annSays)
	for range 9 {
		b.guess(t, home, annEmail, wrongGuess)
	}
	for i := range 12 {
		if got := b.guess(t, home, annEmail, annSays); got != "" {
			t.Fatalf("right password %d: %s", i, got)
		}
	}
	if got := []string{b.guess(t, home, annEmail, wrongGuess), b.guess(t, home, annEmail, annSays)}; got[0] != "invalid_credentials" || got[1] != "too_many_requests" {
		t.Errorf("the tenth wrong one, and a right one: %v", got)
	}
}

// The guesses all arrive before any is judged, at two replicas.
func TestGuessesAtTheSameTimeDoNotGetPast(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	b.signUp(annEmail, annSays)
	replicas := []*replica{b.replica, b.newReplica(b.open(func(*postgres.Options) {}), quickly)}
	const n = 40
	codes := make([]string, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { codes[i] = replicas[i%2].guess(t, home, annEmail, wrongGuess) })
	}
	group.Wait()
	count := map[string]int{}
	for _, code := range codes {
		count[code]++
	}
	if diff := cmp.Diff(map[string]int{"invalid_credentials": 10, "too_many_requests": 30}, count); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

func TestAHundredFailedSignInsLockAnAddress(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	b.signUp(annEmail, annSays)
	network := netip.MustParsePrefix("2001:db8:1:2::/64").Addr()
	guesser := network
	for i := range 3 {
		guesser = guesser.Next() // another address of the same customer
		if got := b.guess(t, guesser, fmt.Sprintf("user%d@example.com", i), wrongGuess); got != "invalid_credentials" {
			t.Fatalf("guess %d: %s", i, got)
		}
		if i == 0 {
			b.more(97)
		}
	}
	for from, want := range map[string]string{
		"2001:db8:1:2:ffff:ffff:ffff:ffff": "too_many_requests",
		"2001:db8:1:2::1%eth0":             "too_many_requests",
		"2001:db8:1:3::1":                  "",
		"192.0.2.1":                        "",
	} {
		if got := b.guess(t, netip.MustParseAddr(from), annEmail, annSays); got != want {
			t.Errorf("from %s: %q, want %q", from, got, want)
		}
	}
}

// An IPv4 address is the same however it is written.
func TestAddressesAreOneByOne(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	for i, from := range []string{"192.0.2.1", "::ffff:192.0.2.1"} {
		b.guess(t, netip.MustParseAddr(from), fmt.Sprintf("user%d@example.com", i), wrongGuess)
	}
	b.guess(t, netip.Addr{}, "user2@example.com", wrongGuess)
	b.guess(t, library, "user3@example.com", wrongGuess)
	if got := b.text(`SELECT string_agg(cardinality(at)::text, ' ' ORDER BY cardinality(at)) FROM ferry.attempts`); got != "1 1 1 1 1 1 2" {
		t.Errorf("attempts: %s", got)
	}
}

func TestSignUpsAndGuestsAreLimitedByAddress(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	b.signUp(annEmail, annSays)
	guest := b.guest()
	b.more(97)
	for i, want := range []string{"email_taken", "", "too_many_requests"} { // also the address that is taken counts
		email := annEmail
		if i > 0 {
			email = fmt.Sprintf("user%d@example.com", i)
		}
		_, err := b.SignUp(t.Context(), home, email, annSays)
		b.expect(fmt.Sprintf("sign-up %d", i), err, fault.Code(want))
	}
	_, err := b.Upgrade(t.Context(), home, sessionIn(guest), "guest@example.com", annSays)
	b.expect("an upgrade", err, fault.TooManyRequests)
	for i, want := range []string{"", "", "too_many_requests"} {
		_, err := b.Guest(t.Context(), home)
		b.expect(fmt.Sprintf("guest %d", i), err, fault.Code(want))
		if want != "" && (fault.From(err).RetryAfter < 59*time.Minute || fault.From(err).RetryAfter > time.Hour) {
			t.Errorf("try again after %s", fault.From(err).RetryAfter)
		}
	}
	if _, err := b.SignUp(t.Context(), library, "other@example.com", annSays); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
	b.elapse(time.Hour)
	if _, err := b.SignUp(t.Context(), home, "late@example.com", annSays); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

func TestGuessingTheCurrentPasswordIsLimited(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	s := b.signUp(annEmail, annSays)
	for range 10 {
		b.expect("a guess", b.ChangePassword(t.Context(), home, sessionIn(s.Token), wrongGuess, "a new password"), fault.InvalidCredentials)
	}
	b.expect("the right one", b.ChangePassword(t.Context(), home, sessionIn(s.Token), annSays, "a new password"), fault.TooManyRequests)
}

func TestAttemptsAreForgottenInPassing(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	b.exec(`INSERT INTO ferry.attempts (key, at, forget_at)
		SELECT decode(md5(n::text), 'hex'), '{}', now() - interval '1 second' FROM generate_series(1, 20) n`)
	for i, want := range []string{"13", "5", "1"} {
		if _, err := b.Guest(t.Context(), home); err != nil {
			t.Fatal(err)
		}
		if got := b.text(`SELECT count(*)::text FROM ferry.attempts`); got != want {
			t.Errorf("after %d: %s rows, want %s", i+1, got, want)
		}
	}
}

// Attempts under the same names come in every order, and none may wait for
// another for ever.
func TestCountingDoesNotDeadlock(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 20 {
				from := netip.AddrFrom4([4]byte{192, 0, 2, byte((i + j) % 3)})
				if got := b.guess(t, from, fmt.Sprintf("user%d@example.com", (i*j)%7), wrongGuess); got != "invalid_credentials" && got != "too_many_requests" {
					t.Errorf("answer %s", got)
				}
			}
		})
	}
	group.Wait()
}
