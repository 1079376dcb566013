package identity

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"ferry/internal/fault"
)

// AccountStore keeps accounts, their sessions and the attempts on them, for all
// replicas. Errors other than those named here mean that it is away.
type AccountStore interface {
	AttemptStore

	// CreateAccount makes an account, a guest's where the address is empty, and
	// its first session, unless the token is the zero hash. ErrEmailTaken.
	CreateAccount(ctx context.Context, email Email, passwordHash string, token TokenHash) (*AccountSession, error)
	// UpgradeGuest gives the guest of a session an address and a password. All
	// its sessions end, and a new one begins. ErrEmailTaken, ErrNotGuest,
	// ErrNoSession.
	UpgradeGuest(ctx context.Context, guest TokenHash, email Email, passwordHash string, token TokenHash) (*AccountSession, error)
	// FindPassword returns the password of the account with an address.
	// ErrNoAccount.
	FindPassword(ctx context.Context, email Email) (*StoredPassword, error)
	// StartSession begins a session of somebody who knows a password, which
	// must still be the account's. newHash replaces its hash where not empty.
	// ErrPasswordChanged, ErrUserDisabled.
	StartSession(ctx context.Context, p *StoredPassword, newHash string, token TokenHash) (*AccountSession, error)
	// ReplacePassword replaces a password, which must still be the account's,
	// and ends all sessions but one: the zero hash keeps none.
	// ErrPasswordChanged.
	ReplacePassword(ctx context.Context, p *StoredPassword, newHash string, keep TokenHash) error
	// FindSession returns a session and moves its end on. ErrNoSession,
	// ErrSessionExpired.
	FindSession(ctx context.Context, token TokenHash) (*AccountSession, error)
	// EndSession ends one session.
	EndSession(ctx context.Context, token TokenHash) error
	// EndSessions ends all sessions of a user.
	EndSessions(ctx context.Context, userID string) error
}

// What can keep an AccountStore from doing what it is asked.
var (
	ErrEmailTaken      = errors.New("another account has this e-mail address")
	ErrNoAccount       = errors.New("no such account")
	ErrNotGuest        = errors.New("the account is no guest's")
	ErrPasswordChanged = errors.New("the password was changed meanwhile")
	ErrUserDisabled    = errors.New("the user is disabled")
)

// StoredPassword is what a store has of an account's password.
type StoredPassword struct {
	UserID  string
	Hash    string // PHC
	Version int64  // another one for each password that is chosen
}

// AccountOptions are what Accounts are made of.
type AccountOptions struct {
	Store    AccountStore
	Denylist *Denylist
	// SignUp is whether people may make accounts, Guests whether a device may
	// get one without an address.
	SignUp, Guests bool
	// Hashing is the work that goes into new hashes; zero: the recommended.
	Hashing Argon2id
	// IsSyncToken is as that of SessionJWTOptions. May be nil.
	IsSyncToken func(token string) bool
	Now         func() time.Time
}

// Accounts are ferry's own accounts, for apps that have no sign-in: an e-mail
// address, which nobody checks, and a password; or a guest's, which has
// neither. It authenticates their sessions. It is safe for concurrent use.
type Accounts struct {
	store          AccountStore
	denylist       *Denylist
	signUp, guests bool
	isSyncToken    func(token string) bool
	now            func() time.Time
	hasher         *passwordHasher
	cache          sessionCache
}

// NewAccounts returns the accounts that a store keeps.
func NewAccounts(o AccountOptions) *Accounts {
	if o.Hashing == (Argon2id{}) {
		o.Hashing = RecommendedArgon2id()
	}
	return &Accounts{
		store: o.Store, denylist: o.Denylist, signUp: o.SignUp, guests: o.Guests,
		isSyncToken: o.IsSyncToken, now: o.Now, hasher: newPasswordHasher(o.Hashing),
	}
}

// StartedSession is a session that began just now.
type StartedSession struct {
	Token string // a secret: nothing else can be used as the session
	AccountSession
}

// SignUp makes an account from an address of a client. Its faults:
// SignUpDisabled, InvalidEmail, WeakPassword, EmailTaken, TooManyRequests,
// Unavailable.
func (a *Accounts) SignUp(ctx context.Context, from netip.Addr, email, password string) (*StartedSession, error) {
	return a.register(ctx, from, email, password, func(e Email, hash string, token TokenHash) (*AccountSession, error) {
		return a.store.CreateAccount(ctx, e, hash, token)
	})
}

// Upgrade turns the guest of a session into a full account, whose user id
// stays; its session ends and another one begins. Its faults are those of
// SignUp, and InvalidSession and AlreadySignedUp.
func (a *Accounts) Upgrade(ctx context.Context, from netip.Addr, c Credentials, email, password string) (*StartedSession, error) {
	guest, err := a.tokenHash(c)
	if err != nil {
		return nil, err
	}
	defer a.cache.clear()
	return a.register(ctx, from, email, password, func(e Email, hash string, token TokenHash) (*AccountSession, error) {
		return a.store.UpgradeGuest(ctx, guest, e, hash, token)
	})
}

// register is what SignUp and Upgrade have in common. It counts also where the
// address turns out to be taken: that tells who has an account.
func (a *Accounts) register(
	ctx context.Context, from netip.Addr, email, password string,
	create func(Email, string, TokenHash) (*AccountSession, error),
) (*StartedSession, error) {
	if !a.signUp {
		return nil, fault.New(fault.SignUpDisabled, "accounts of this server are made by its operator (FERRY_ACCOUNTS_SIGN_UP)")
	}
	e, err := a.choose(email, password)
	if err != nil {
		return nil, err
	}
	attempt, err := a.count(ctx, makingPeriod, addressLimit("sign-up", from, signUpsByAddress))
	if err != nil {
		return nil, err
	}
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		a.undecided(ctx, attempt)
		return nil, err
	}
	token, tokenHash := newSessionToken()
	session, err := create(e, hash, tokenHash)
	return started(token, session, err)
}

// choose reads an address and checks a password for its account.
func (a *Accounts) choose(email, password string) (Email, error) {
	e, err := ParseEmail(email)
	if err != nil {
		return Email{}, fault.New(fault.InvalidEmail, "the e-mail address %v", err)
	}
	if err := CheckPassword(password, e); err != nil {
		return Email{}, fault.New(fault.WeakPassword, "the password %v", err)
	}
	return e, nil
}

// Guest makes an account without an address and a password. Its faults:
// GuestsDisabled, TooManyRequests, Unavailable.
func (a *Accounts) Guest(ctx context.Context, from netip.Addr) (*StartedSession, error) {
	if !a.guests {
		return nil, fault.New(fault.GuestsDisabled, "this server has no guests (FERRY_ACCOUNTS_GUESTS)")
	}
	if _, err := a.count(ctx, makingPeriod, addressLimit("guest", from, guestsByAddress)); err != nil {
		return nil, err
	}
	token, tokenHash := newSessionToken()
	session, err := a.store.CreateAccount(ctx, Email{}, "", tokenHash)
	return started(token, session, err)
}

// SignIn begins a session of the account with an address. Its faults:
// InvalidEmail, InvalidCredentials for a wrong password and for an account
// that does not exist alike, UserDisabled, TooManyRequests, Unavailable.
// userID is the account's where there is one, beside an error as well: it is
// for the log alone.
func (a *Accounts) SignIn(ctx context.Context, from netip.Addr, email, password string) (s *StartedSession, userID string, err error) {
	e, err := ParseEmail(email)
	if err != nil {
		return nil, "", fault.New(fault.InvalidEmail, "the e-mail address %v", err)
	}
	stored, outdated, err := a.prove(ctx, from, e, password)
	if stored != nil {
		userID = stored.UserID
	}
	if err != nil {
		return nil, userID, err
	}
	newHash := ""
	if outdated {
		newHash, _ = a.hasher.hash(ctx, password) // empty where too many sign in: then the next time
	}
	token, tokenHash := newSessionToken()
	session, err := a.store.StartSession(ctx, stored, newHash, tokenHash)
	s, err = started(token, session, err)
	return s, userID, err
}

// prove is whether somebody knows the password of the account with an address,
// and whether its hash is out of date. An attempt counts until it turns out to
// be right, or is not decided at all, and the account is looked for whether or
// not it exists: neither the answer nor its time tells. stored is nil where it
// does not exist.
func (a *Accounts) prove(ctx context.Context, from netip.Addr, e Email, password string) (stored *StoredPassword, outdated bool, err error) {
	attempt, err := a.count(ctx, signInPeriod,
		newLimit("sign-in to account", e.Key, signInsByEmail), addressLimit("sign-in", from, signInsByAddress))
	if err != nil {
		return nil, false, err
	}
	hash := ""
	stored, err = a.store.FindPassword(ctx, e)
	switch {
	case err == nil:
		hash = stored.Hash
	case !errors.Is(err, ErrNoAccount):
		a.undecided(ctx, attempt)
		return nil, false, storeAway(err)
	}
	right, outdated, err := a.hasher.verify(ctx, password, hash)
	if err != nil {
		a.undecided(ctx, attempt)
		return stored, false, err
	}
	if !right || stored == nil {
		return stored, false, wrongCredentials()
	}
	if err := a.store.TakeBack(ctx, attempt); err != nil {
		return stored, false, storeAway(err)
	}
	return stored, outdated, nil
}

func wrongCredentials() *fault.Error {
	return fault.New(fault.InvalidCredentials, "the e-mail address or the password is wrong")
}

// started is a new session, or the fault for what kept it from beginning.
func started(token string, session *AccountSession, err error) (*StartedSession, error) {
	if err != nil {
		return nil, accountFault(err)
	}
	return &StartedSession{Token: token, AccountSession: *session}, nil
}

func accountFault(err error) error {
	switch {
	case errors.Is(err, ErrEmailTaken):
		return fault.New(fault.EmailTaken, "there is an account with this e-mail address already: sign in")
	case errors.Is(err, ErrNotGuest):
		return fault.New(fault.AlreadySignedUp, "this session is of an account that has signed up: send no session along to make another one")
	case errors.Is(err, ErrNoSession):
		return fault.New(fault.InvalidSession, "signed out: sign in again")
	case errors.Is(err, ErrPasswordChanged):
		return wrongCredentials()
	case errors.Is(err, ErrUserDisabled):
		return fault.New(fault.UserDisabled, "this user is disabled")
	}
	return storeAway(err)
}

// Session tells of a session. Its faults: InvalidSession, Unavailable.
func (a *Accounts) Session(ctx context.Context, c Credentials) (*AccountSession, error) {
	hash, err := a.tokenHash(c)
	if err != nil {
		return nil, err
	}
	return a.find(ctx, hash)
}

// ChangePassword replaces the password of a session's account, and ends its
// other sessions. Its faults: InvalidSession, InvalidRequest for a guest,
// WeakPassword, InvalidCredentials where the current one is wrong,
// TooManyRequests, Unavailable.
func (a *Accounts) ChangePassword(ctx context.Context, from netip.Addr, c Credentials, current, next string) error {
	hash, err := a.tokenHash(c)
	if err != nil {
		return err
	}
	session, err := a.find(ctx, hash)
	if err != nil {
		return err
	}
	if session.Guest() {
		return fault.New(fault.InvalidRequest, "a guest has no password: sign up first, with this session")
	}
	e, err := a.choose(session.Email, next)
	if err != nil {
		return err
	}
	stored, _, err := a.prove(ctx, from, e, current)
	if err != nil {
		return err
	}
	return a.replacePassword(ctx, stored, next, hash)
}

func (a *Accounts) replacePassword(ctx context.Context, stored *StoredPassword, next string, keep TokenHash) error {
	newHash, err := a.hasher.hash(ctx, next)
	if err != nil {
		return err
	}
	defer a.cache.clear()
	if err := a.store.ReplacePassword(ctx, stored, newHash, keep); err != nil {
		return accountFault(err)
	}
	return nil
}

// SignOut ends a session. Its faults: InvalidSession, Unavailable.
func (a *Accounts) SignOut(ctx context.Context, c Credentials) error {
	hash, err := a.tokenHash(c)
	if err != nil {
		return err
	}
	defer a.cache.clear()
	if err := a.store.EndSession(ctx, hash); err != nil {
		return storeAway(err)
	}
	return nil
}

// SignOutEverywhere ends all sessions of a user.
func (a *Accounts) SignOutEverywhere(ctx context.Context, userID string) error {
	defer a.cache.clear()
	if err := a.store.EndSessions(ctx, userID); err != nil {
		return storeAway(err)
	}
	return nil
}

// Add makes an account as the operator asks, with no limits and no session.
// Its faults: InvalidEmail, WeakPassword, EmailTaken, Unavailable.
func (a *Accounts) Add(ctx context.Context, email, password string) (userID string, err error) {
	e, err := a.choose(email, password)
	if err != nil {
		return "", err
	}
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return "", err
	}
	session, err := a.store.CreateAccount(ctx, e, hash, TokenHash{})
	if err != nil {
		return "", accountFault(err)
	}
	return session.UserID, nil
}

// SetPassword replaces the password of the account with an address as the
// operator asks, and ends its sessions. Its faults: InvalidEmail, WeakPassword,
// Unavailable. An account that does not exist is ErrNoAccount.
func (a *Accounts) SetPassword(ctx context.Context, email, password string) error {
	e, err := a.choose(email, password)
	if err != nil {
		return err
	}
	stored, err := a.store.FindPassword(ctx, e)
	if err != nil {
		return err
	}
	return a.replacePassword(ctx, stored, password, TokenHash{})
}
