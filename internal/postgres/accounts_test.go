package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
	"ferry/internal/identity"
	"ferry/internal/postgres"
)

const (
	annEmail = "ann@example.com"
	annSays  = "correct horse battery"
	manySay  = "1qaz2wsx3edc"
)

var (
	home    = netip.MustParseAddr("192.0.2.1")
	library = netip.MustParseAddr("192.0.2.2")
)

// accountsBundle is a database with accounts, and one replica that keeps them.
type accountsBundle struct {
	*bundle
	*replica
}

// replica is one ferry's accounts.
type replica struct {
	*identity.Accounts
	denylist *identity.Denylist
	kept     *postgres.Accounts
}

func setupAccounts(t *testing.T, sql ...string) *accountsBundle {
	t.Helper()
	b := setup(t, sql...)
	return &accountsBundle{b, b.newReplica(b.store, quickly)}
}

// quickly is too little work for anything but tests.
var quickly = identity.Argon2id{MemoryKiB: 8, Passes: 1, Lanes: 1}

func (b *bundle) newReplica(store *postgres.Store, hashing identity.Argon2id) *replica {
	denylist := identity.NewDenylist(store, slog.New(slog.DiscardHandler), time.Now)
	lifetime := identity.SessionLifetime{Idle: 90 * 24 * time.Hour, Max: 365 * 24 * time.Hour}
	r := &replica{kept: &postgres.Accounts{Store: store, Lifetime: lifetime}, denylist: denylist}
	r.Accounts = identity.NewAccounts(identity.AccountOptions{
		Store: r.kept, Denylist: denylist, SignUp: true, Guests: true, Hashing: hashing, Now: time.Now,
	})
	return r
}

// freshly forgets what the replica remembers: it is another one.
func (b *accountsBundle) freshly() { b.replica = b.newReplica(b.store, quickly) }

func (b *accountsBundle) signUp(email, password string) *identity.StartedSession {
	b.t.Helper()
	s, err := b.SignUp(b.t.Context(), home, email, password)
	if err != nil {
		b.t.Fatalf("sign-up: %v", err)
	}
	secrets.Uses(password, s.Token)
	return s
}

func (b *accountsBundle) signIn(email, password string) (*identity.StartedSession, error) {
	secrets.Uses(password)
	s, _, err := b.SignIn(b.t.Context(), home, email, password)
	return s, err
}

func sessionIn(token string) identity.Credentials {
	return identity.Credentials{Authorization: []string{"Bearer " + token}}
}

// who is the user of a session, or the code of its refusal.
func (r *replica) who(ctx context.Context, token string) string {
	p, err := r.denylist.Guard(r.Accounts).Authenticate(ctx, sessionIn(token))
	if err != nil {
		return codeOf(err)
	}
	return p.UserID
}

// codeOf is the code of a fault, "" for none.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return string(fault.From(err).Code)
}

func (b *accountsBundle) expect(what string, err error, code fault.Code) {
	b.t.Helper()
	if err != nil {
		secrets.Wrote(b.t.Name(), err.Error())
	}
	if got := codeOf(err); got != string(code) {
		b.t.Errorf("%s: %v, want %q", what, err, code)
	}
}

func TestAccountsSignUpAndIn(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	up := b.signUp(" Ann@Example.com ", annSays)
	in, err := b.signIn("ann@EXAMPLE.COM", annSays)
	if err != nil {
		t.Fatal(err)
	}
	if up.UserID != in.UserID || up.Token == in.Token {
		t.Errorf("up %+v, in %+v", up, in)
	}
	for _, s := range []*identity.StartedSession{up, in} {
		if got := b.who(t.Context(), s.Token); got != up.UserID {
			t.Errorf("user %s, want %s", got, up.UserID)
		}
		if left := time.Until(s.ExpiresAt); left < 89*24*time.Hour || left > 91*24*time.Hour {
			t.Errorf("it ends in %s", left)
		}
		got, err := b.Session(t.Context(), sessionIn(s.Token))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&s.AccountSession, got); diff != "" || got.Email != "Ann@Example.com" {
			t.Errorf("session (-started +found):\n%s", diff)
		}
	}
	_, err = b.SignUp(t.Context(), home, "ANN@example.com", annSays)
	b.expect("the address again", err, fault.EmailTaken)
	_, unknown := b.signIn("bob@example.com", annSays)
	_, wrong := b.signIn(annEmail, "correct horse Battery")
	b.expect("wrong password", wrong, fault.InvalidCredentials)
	if diff := cmp.Diff(fault.From(wrong), fault.From(unknown)); diff != "" {
		t.Errorf("a wrong password and no account are told apart:\n%s", diff)
	}
}

func TestNothingOfASecretIsStored(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	s := b.signUp(annEmail, annSays)
	_, _ = b.signIn("stranger@example.com", "a password for elsewhere")
	stored := b.text(`
		SELECT string_agg(row::text, E'\n') FROM (
			SELECT a::text FROM ferry.accounts a UNION ALL SELECT s::text FROM ferry.sessions s UNION ALL SELECT t::text FROM ferry.attempts t
		) AS all_rows (row)`)
	for _, secret := range []string{annSays, s.Token, s.Token[20:], "stranger", "elsewhere", home.String()} {
		if strings.Contains(stored, secret) {
			t.Errorf("%q is stored:\n%s", secret, stored)
		}
	}
	if !strings.Contains(stored, annEmail) || !strings.Contains(stored, "$argon2id$v=19$m=8,t=1,p=1$") {
		t.Errorf("stored:\n%s", stored)
	}
}

func TestUnfitAccountsAreRefused(t *testing.T) {
	t.Parallel()
	secrets.Uses(manySay)
	b := setupAccounts(t)
	for name, c := range map[string]struct {
		email, password string
		code            fault.Code
	}{
		"no address":              {"ann", annSays, fault.InvalidEmail},
		"a short password":        {annEmail, "short", fault.WeakPassword},
		"the address as password": {annEmail, "ANN@example.com", fault.WeakPassword},
		"a common password":       {annEmail, manySay, fault.WeakPassword},
	} {
		_, err := b.SignUp(t.Context(), home, c.email, c.password)
		b.expect(name, err, c.code)
	}
	closed := identity.NewAccounts(identity.AccountOptions{Store: b.kept, Denylist: b.denylist, Now: time.Now})
	_, err := closed.SignUp(t.Context(), home, annEmail, annSays)
	b.expect("sign-up that is off", err, fault.SignUpDisabled)
	_, err = closed.Upgrade(t.Context(), home, sessionIn("ferry_session_x"), annEmail, annSays)
	b.expect("upgrade that is off", err, fault.SignUpDisabled)
	_, err = closed.Guest(t.Context(), home)
	b.expect("guests that are off", err, fault.GuestsDisabled)
	if n := b.text(`SELECT count(*)::text FROM ferry.accounts`); n != "0" {
		t.Errorf("%s accounts were made", n)
	}
}

func TestAGuestBecomesAnAccount(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	b.signUp("taken@example.com", annSays)
	guest, err := b.Guest(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Authenticate(t.Context(), sessionIn(guest.Token))
	if err != nil || !guest.Guest() || !strings.Contains(string(p.Claims), `"guest":true`) {
		t.Fatalf("guest %+v, %+v, %v", guest, p, err)
	}
	upgrade := func(token, email, password string) (*identity.StartedSession, error) {
		return b.Upgrade(t.Context(), home, sessionIn(token), email, password)
	}
	_, err = upgrade(guest.Token, "TAKEN@example.com", annSays)
	b.expect("an address that is taken", err, fault.EmailTaken)
	_, err = upgrade(guest.Token, annEmail, "short")
	b.expect("a short password", err, fault.WeakPassword)
	_, err = upgrade(guest.Token, annEmail, manySay)
	b.expect("a common password", err, fault.WeakPassword)
	if got := b.who(t.Context(), guest.Token); got != guest.UserID {
		t.Fatalf("the guest is gone: %s", got)
	}

	full, err := upgrade(guest.Token, annEmail, annSays)
	if err != nil {
		t.Fatal(err)
	}
	if full.UserID != guest.UserID || full.Guest() {
		t.Errorf("guest %+v became %+v", guest, full)
	}
	if before, now := b.who(t.Context(), guest.Token), b.who(t.Context(), full.Token); before != "invalid_session" || now != guest.UserID {
		t.Errorf("the guest's session is of %s, the new one of %s", before, now)
	}
	if in, err := b.signIn(annEmail, annSays); err != nil || in.UserID != guest.UserID {
		t.Errorf("sign-in: %+v, %v", in, err)
	}
	_, err = upgrade(full.Token, "other@example.com", annSays)
	b.expect("a full account", err, fault.AlreadySignedUp)
	_, err = upgrade(guest.Token, "other@example.com", annSays)
	b.expect("the guest's old session", err, fault.InvalidSession)
	b.expect("a guest's password", b.ChangePassword(t.Context(), home, sessionIn(b.guest()), annSays, annSays), fault.InvalidRequest)
}

func (b *accountsBundle) guest() string {
	b.t.Helper()
	s, err := b.Guest(b.t.Context(), home)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.Token
}

func TestOneGuestIsUpgradedOnce(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	guest := b.guest()
	const n = 8
	codes := make([]string, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			_, err := b.Upgrade(t.Context(), home, sessionIn(guest), fmt.Sprintf("ann%d@example.com", i), annSays)
			codes[i] = codeOf(err)
		})
	}
	group.Wait()
	upgraded := 0
	for _, code := range codes {
		switch code {
		case "":
			upgraded++
		case "invalid_session", "already_signed_up":
		default:
			t.Errorf("code %s", code)
		}
	}
	if upgraded != 1 {
		t.Errorf("upgraded %d times: %v", upgraded, codes)
	}
	if n := b.text(`SELECT count(*)::text FROM ferry.sessions`); n != "1" {
		t.Errorf("%s sessions", n)
	}
}

func TestANewPasswordEndsTheOtherSessions(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	here := b.signUp(annEmail, annSays)
	there, err := b.signIn(annEmail, annSays)
	if err != nil {
		t.Fatal(err)
	}
	other := b.newReplica(b.store, quickly)
	for _, token := range []string{here.Token, there.Token} { // remembered by both
		if b.who(t.Context(), token) != here.UserID || other.who(t.Context(), token) != here.UserID {
			t.Fatal("not signed in")
		}
	}
	before, err := b.Authenticate(t.Context(), sessionIn(here.Token))
	if err != nil {
		t.Fatal(err)
	}
	change := func(current, next string) error {
		return b.ChangePassword(t.Context(), home, sessionIn(here.Token), current, next)
	}
	b.expect("a wrong password", change("wrong wrong wrong", "a new password"), fault.InvalidCredentials)
	b.expect("a short one", change(annSays, "short"), fault.WeakPassword)
	b.expect("the address", change(annSays, annEmail), fault.WeakPassword)
	b.expect("a common one", change(annSays, manySay), fault.WeakPassword)
	if got := b.who(t.Context(), there.Token); got != here.UserID {
		t.Errorf("what failed ended the other session: %s", got)
	}
	if err := change(annSays, "a new password"); err != nil {
		t.Fatal(err)
	}
	if got := b.who(t.Context(), there.Token); got != "invalid_session" {
		t.Errorf("the other session is of %s", got)
	}
	// This one stays, wherever it is used from now on, and was issued anew: what
	// was issued before is void, such as a sync token.
	other.untilChanged(t)
	if got := other.who(t.Context(), here.Token); got != here.UserID {
		t.Errorf("this session is of %s", got)
	}
	if got := codeOf(other.denylist.Check(t.Context(), before)); got != "invalid_session" {
		t.Errorf("what was issued before: %q", got)
	}
	_, err = b.signIn(annEmail, annSays)
	b.expect("the old password", err, fault.InvalidCredentials)
	if _, err := b.signIn(annEmail, "a new password"); err != nil {
		t.Error(err)
	}
}

// untilChanged waits until the replica has read the denylist anew.
func (r *replica) untilChanged(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before, ended := r.denylist.Version(), make(chan struct{})
	go func() { r.denylist.Run(ctx); close(ended) }()
	for r.denylist.Version() == before {
		if err := r.denylist.Check(t.Context(), &identity.Principal{}); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-ended
}

// A sign-in that was right about a password which is replaced meanwhile must
// not get a session that outlives it.
func TestASignInThatIsOvertakenByANewPasswordGetsNoSession(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	here := b.signUp(annEmail, annSays)
	email, _ := identity.ParseEmail(annEmail)
	known, err := b.kept.FindPassword(t.Context(), email)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.ChangePassword(t.Context(), home, sessionIn(here.Token), annSays, "a new password"); err != nil {
		t.Fatal(err)
	}
	_, err = b.kept.StartSession(t.Context(), known, "", identity.TokenHash{1})
	if !errors.Is(err, identity.ErrPasswordChanged) {
		t.Errorf("start a session: %v", err)
	}
	if err := b.kept.ReplacePassword(t.Context(), known, known.Hash, identity.TokenHash{}); !errors.Is(err, identity.ErrPasswordChanged) {
		t.Errorf("replace the password: %v", err)
	}
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	first := b.signUp(annEmail, annSays)
	second, err := b.signIn(annEmail, annSays)
	if err != nil {
		t.Fatal(err)
	}
	principal, err := b.Authenticate(t.Context(), sessionIn(second.Token))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SignOut(t.Context(), sessionIn(first.Token)); err != nil {
		t.Fatal(err)
	}
	if one, two := b.who(t.Context(), first.Token), b.who(t.Context(), second.Token); one != "invalid_session" || two != first.UserID {
		t.Errorf("sessions of %s and %s", one, two)
	}
	if err := b.SignOutEverywhere(t.Context(), first.UserID); err != nil {
		t.Fatal(err)
	}
	if got := b.who(t.Context(), second.Token); got != "invalid_session" {
		t.Errorf("the other session is of %s", got)
	}
	b.freshly()
	if got := codeOf(b.denylist.Check(t.Context(), principal)); got != "invalid_session" {
		t.Errorf("what was issued before: %q", got)
	}
	again, err := b.signIn(annEmail, annSays)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.who(t.Context(), again.Token); got != first.UserID {
		t.Errorf("signed in again: %s", got)
	}
}

func TestDisabledUsersDoNotSignIn(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	s := b.signUp(annEmail, annSays)
	b.exec(`INSERT INTO ferry.denylist (user_id, disabled) VALUES ($1, true)`, s.UserID)
	b.freshly()
	_, err := b.signIn(annEmail, annSays)
	b.expect("sign-in", err, fault.UserDisabled)
	_, err = b.signIn(annEmail, "another password")
	b.expect("sign-in with a wrong password", err, fault.InvalidCredentials)
	if got := b.who(t.Context(), s.Token); got != "user_disabled" {
		t.Errorf("the session is of %s", got)
	}
	b.exec(`DELETE FROM ferry.denylist`)
	if _, err := b.signIn(annEmail, annSays); err != nil {
		t.Error(err)
	}
}

func TestAPasswordIsHashedAnewWhenTheWorkChanges(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	b.signUp(annEmail, annSays)
	hash := func() string { return b.text(`SELECT password_hash FROM ferry.accounts`) }
	old := hash()
	if _, err := b.signIn(annEmail, annSays); err != nil || hash() != old {
		t.Errorf("%s became %s, %v", old, hash(), err)
	}
	harder := b.newReplica(b.store, identity.Argon2id{MemoryKiB: 32, Passes: 2, Lanes: 1})
	if _, _, err := harder.SignIn(t.Context(), home, annEmail, "another password"); codeOf(err) != "invalid_credentials" || hash() != old {
		t.Errorf("a wrong password: %v, %s", err, hash())
	}
	// Two at once, neither of which may be refused.
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			if _, _, err := harder.SignIn(t.Context(), home, annEmail, annSays); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := hash(); !strings.HasPrefix(got, "$argon2id$v=19$m=32,t=2,p=1$") {
		t.Errorf("hash %s", got)
	}
	if _, err := b.signIn(annEmail, annSays); err != nil {
		t.Errorf("with the new hash: %v", err)
	}
}

func TestAccountsOfTheOperator(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	userID, err := b.Add(t.Context(), annEmail, annSays)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Add(t.Context(), annEmail, annSays)
	b.expect("again", err, fault.EmailTaken)
	_, err = b.Add(t.Context(), "bob@example.com", manySay)
	b.expect("a common password", err, fault.WeakPassword)
	b.expect("a common password instead", b.SetPassword(t.Context(), annEmail, manySay), fault.WeakPassword)
	if n := b.text(`SELECT count(*)::text FROM ferry.sessions`); n != "0" {
		t.Errorf("%s sessions", n)
	}
	s, err := b.signIn(annEmail, annSays)
	if err != nil || s.UserID != userID {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := b.SetPassword(t.Context(), "ANN@example.com", "a new password"); err != nil {
		t.Fatal(err)
	}
	if got := b.who(t.Context(), s.Token); got != "invalid_session" {
		t.Errorf("the session is of %s", got)
	}
	if err := b.SetPassword(t.Context(), "bob@example.com", annSays); !errors.Is(err, identity.ErrNoAccount) {
		t.Errorf("no account: %v", err)
	}
}

func TestAccountsWithoutTheirDatabase(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	s := b.signUp(annEmail, annSays)
	b.exec(`DROP TABLE ferry.sessions, ferry.accounts; DROP FUNCTION ferry.take_back_attempt; ALTER TABLE ferry.attempts RENAME TO gone`)
	b.freshly()
	c := sessionIn(s.Token)
	_, signUp := b.SignUp(t.Context(), home, annEmail, annSays)
	_, signIn := b.signIn(annEmail, annSays)
	_, guest := b.Guest(t.Context(), home)
	_, session := b.Session(t.Context(), c)
	_, authenticated := b.Authenticate(t.Context(), c)
	for what, err := range map[string]error{
		"sign-up": signUp, "sign-in": signIn, "guest": guest, "session": session, "authenticate": authenticated,
		"password": b.ChangePassword(t.Context(), home, c, annSays, annSays), "sign-out": b.SignOut(t.Context(), c),
		"everywhere": b.SignOutEverywhere(t.Context(), s.UserID),
	} {
		b.expect(what, err, fault.Unavailable)
		if strings.Contains(err.Error(), annEmail) || strings.Contains(err.Error(), annSays) || strings.Contains(err.Error(), s.Token) {
			t.Errorf("%s: the error tells a secret: %v", what, err)
		}
	}
}

func TestAccountsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	b.store = b.behindPgBouncer()
	b.freshly()
	guest := b.guest()
	s, err := b.Upgrade(t.Context(), home, sessionIn(guest), annEmail, annSays)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.ChangePassword(t.Context(), home, sessionIn(s.Token), annSays, "a new password"); err != nil {
		t.Fatal(err)
	}
	in, err := b.signIn(annEmail, "a new password")
	if err != nil {
		t.Fatal(err)
	}
	if got := b.who(t.Context(), in.Token); got != s.UserID {
		t.Errorf("user %s", got)
	}
}
