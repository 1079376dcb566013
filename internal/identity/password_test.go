package identity

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

// quick is too little work for anything but tests.
func quick() Argon2id { return Argon2id{MemoryKiB: 8, Passes: 1, Lanes: 1} }

func TestCheckPassword(t *testing.T) {
	t.Parallel()
	email, err := ParseEmail("Ann.Example@example.com")
	if err != nil {
		t.Fatal(err)
	}
	const common = "is one of the most common ones, which are guessed first: choose another"
	for password, want := range map[string]string{
		"0123456789ab":                     "",
		"            ":                     "",
		"密码密码密码密码密码密码":                     "",
		strings.Repeat("a", 1024):          "",
		"ann.example@example.com!":         "",
		"0123456789a":                      "has under 12 characters",
		"":                                 "has under 12 characters",
		"👩‍👧👩‍👧":                           "has under 12 characters",
		strings.Repeat("e\u0301", 11):      "has under 12 characters",
		strings.Repeat("a", 1025):          "is over 1024 bytes",
		"0123456789\xff":                   "is not valid UTF-8",
		"ann.example@example.com":          "is the e-mail address",
		" ANN.example@EXAMPLE.com ":        "is the e-mail address",
		"ann.example@example.com\u3000":    "is the e-mail address",
		strings.Repeat("e\u0301", 12) + "": "",
		"1q2w3e4r5t6y":                     common,
		"1Q2W3E4R5T6Y":                     common,
		" Unbelievable\u3000":              common,
		"unbelievable!":                    "",
		"not unbelievable":                 "",
		"unbelievabl\u0435":                "", // a letter that looks like e
	} {
		got := ""
		if err := CheckPassword(password, email); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%.20q: %q, want %q", password, got, want)
		}
	}
}

// The list is one that CheckPassword can find each password of: those that it
// refuses anyway would only make it longer.
func TestCommonPasswords(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimSuffix(commonPasswords, "\n"), "\n")[1:] // without the heading
	if len(lines) != 10_000 {
		t.Errorf("%d passwords", len(lines))
	}
	for i, password := range lines {
		err := CheckPassword(password, Email{})
		if err == nil || !strings.Contains(err.Error(), "common") {
			t.Errorf("%q: %v", password, err)
		}
		if i > 0 && password <= lines[i-1] {
			t.Errorf("%q stands after %q", password, lines[i-1])
		}
	}
}

func TestTheSamePasswordFromAnotherKeyboardIsTheSame(t *testing.T) {
	t.Parallel()
	h := newPasswordHasher(quick())
	phc, err := h.hash(t.Context(), "Zoë's a b c")
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{
		"Zoë's a b c":             true,
		"Zoe\u0308's a b c":       true,
		"Zoë's\u00a0a\u3000b c":   true,
		"zoë's a b c":             false,
		"Zoë's a b c ":            false,
		"Zoë's a  b c":            false,
		"Zoë's a b \uff43":        false, // another character, however alike
		"":                        false,
		strings.Repeat("x", 9999): false,
	} {
		right, outdated, err := h.verify(t.Context(), password, phc)
		if err != nil || right != want || outdated {
			t.Errorf("%.20q: right %t, outdated %t, %v, want %t", password, right, outdated, err, want)
		}
	}
}

type foreignHash struct{ password, phc string }

// foreignHashes were made by the command line tool of the reference
// implementation, https://github.com/P-H-C/phc-winner-argon2.
func foreignHashes() []foreignHash {
	return []foreignHash{
		{"correct horse", "$argon2id$v=19$m=4096,t=3,p=4$c2FsdHlzYWx0$MEkFwLfFmFsw3b6256fH47k5BhNthvHyydidhFzfbas"},
		{"correct horse", "$argon2id$v=19$m=64,t=1,p=1$c2FsdHlzYWx0$w0pS2rlrg1J+LeA5MDTkQw"},
	}
}

func TestHashesOfOtherProgramsAreRead(t *testing.T) {
	t.Parallel()
	h := newPasswordHasher(quick())
	for _, c := range foreignHashes() {
		right, outdated, err := h.verify(t.Context(), c.password, c.phc)
		if err != nil || !right || !outdated {
			t.Errorf("%s: right %t, outdated %t, %v", c.phc, right, outdated, err)
		}
		if wrong, _, err := h.verify(t.Context(), c.password+"x", c.phc); err != nil || wrong {
			t.Errorf("%s: another password is right: %t, %v", c.phc, wrong, err)
		}
	}
}

func TestHashesAreSaltedAndReadBack(t *testing.T) {
	t.Parallel()
	h := newPasswordHasher(Argon2id{MemoryKiB: 16, Passes: 2, Lanes: 2})
	seen := map[string]bool{}
	for range 5 {
		phc, err := h.hash(t.Context(), "0123456789")
		if err != nil {
			t.Fatal(err)
		}
		if seen[phc] || !strings.HasPrefix(phc, "$argon2id$v=19$m=16,t=2,p=2$") {
			t.Errorf("hash %s", phc)
		}
		seen[phc] = true
		parsed, err := parseHash(phc)
		if err != nil || parsed.String() != phc {
			t.Errorf("%s is read as %v, %v", phc, parsed, err)
		}
	}
}

func TestRecommendedWork(t *testing.T) {
	t.Parallel()
	h := NewAccounts(AccountOptions{}).hasher
	if diff := cmp.Diff(Argon2id{MemoryKiB: 19456, Passes: 2, Lanes: 1}, h.work); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHashesThatCannotBeUsedAreRefused(t *testing.T) {
	t.Parallel()
	const salt, key = "$c29tZXNhbHQxMjM0", "$AAAAAAAAAAAAAAAAAAAAAA"
	for _, phc := range []string{
		"x", "$", "$$$$$", "plain text",
		"$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", // bcrypt
		"$argon2i$v=19$m=8,t=1,p=1" + salt + key,
		"$argon2id$m=8,t=1,p=1" + salt + key,
		"$argon2id$v=16$m=8,t=1,p=1" + salt + key,
		"$argon2id$v=19$m=8,t=1" + salt + key,
		"$argon2id$v=19$m=8,p=1,t=1" + salt + key,
		"$argon2id$v=19$m=8,t=1,p=1,keyid=a" + salt + key,
		"$argon2id$v=19$m=7,t=1,p=1" + salt + key,
		"$argon2id$v=19$m=65537,t=1,p=1" + salt + key,
		"$argon2id$v=19$m=4294967304,t=1,p=1" + salt + key,
		"$argon2id$v=19$m=8,t=0,p=1" + salt + key,
		"$argon2id$v=19$m=8,t=17,p=1" + salt + key,
		"$argon2id$v=19$m=8,t=1,p=0" + salt + key,
		"$argon2id$v=19$m=8,t=1,p=-1" + salt + key,
		"$argon2id$v=19$m=8,t=1,p=1$" + key,
		"$argon2id$v=19$m=8,t=1,p=1" + salt + "$",
		"$argon2id$v=19$m=8,t=1,p=1" + salt + "$AAAA",
		"$argon2id$v=19$m=8,t=1,p=1" + salt + key + "==",
		"$argon2id$v=19$m=8,t=1,p=1" + salt + key + "\n",
		"$argon2id$v=19$m=8,t=1,p=1" + salt + key + "$",
		"$argon2id$v=19$m=8,t=1,p=1" + salt + "$" + strings.Repeat("A", 88),
	} {
		_, _, err := newPasswordHasher(quick()).verify(t.Context(), "0123456789", phc)
		if !errors.Is(err, errNotHash) {
			t.Errorf("%q: %v", phc, err)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	for _, c := range foreignHashes() {
		f.Add(c.phc)
	}
	f.Add(newHash(quick()).String())
	f.Add("$argon2id$v=19$m=008,t=1,p=1$c29tZXNhbHQxMjM0$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHash(text)
		if err != nil {
			return
		}
		if h.MemoryKiB > maxArgonMemory || h.Passes > maxArgonWork || h.Lanes > maxArgonWork || len(h.salt) > 64 || len(h.key) > 64 {
			t.Fatalf("%q asks for too much: %+v", text, h)
		}
		again, err := parseHash(h.String())
		if err != nil || !cmp.Equal(h, again, cmp.AllowUnexported(passwordHash{})) {
			t.Fatalf("%q is read as %v, and that as %v, %v", text, h, again, err)
		}
	})
}

// All turns are taken: whoever waits is told to come back, and whoever does
// not want to wait goes.
func TestHashesWaitForTheirTurnButNotForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newPasswordHasher(quick())
		turns := 0
		for h.turns.TryAcquire(1) {
			turns++
		}
		if turns < 1 || turns > 4 {
			t.Errorf("%d turns at a time", turns)
		}
		started := time.Now()
		for _, phc := range []string{"", newHash(quick()).String()} { // also for accounts that do not exist
			_, _, err := h.verify(t.Context(), "0123456789", phc)
			if f := fault.From(err); f.Code != fault.Unavailable || f.RetryAfter != hashWait {
				t.Errorf("error %v", err)
			}
		}
		if took := time.Since(started); took != 2*hashWait {
			t.Errorf("waited %s, want twice %s", took, hashWait)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.hash(gone, "0123456789"); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		h.turns.Release(1)
		if _, err := h.hash(t.Context(), "0123456789"); err != nil {
			t.Error(err)
		}
	})
}
