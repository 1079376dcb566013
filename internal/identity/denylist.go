package identity

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"ferry/internal/fault"
)

const (
	// denylistAge is how old the copy may be that a request is judged by: the
	// longest time until a change holds on every replica.
	denylistAge = time.Second
	// denylistPoll is how often Run looks for a change, so that a request never
	// has to.
	denylistPoll = 400 * time.Millisecond
	// denylistTimeout is how long one look may take.
	denylistTimeout = 2 * time.Second
)

// Denied is what the denylist has of one user.
type Denied struct {
	// Disabled is whether the user may not use the app at all.
	Disabled bool
	// SessionsBefore voids the sessions that were issued before it. Zero: none.
	SessionsBefore time.Time
}

// DeniedUsers is the whole denylist. It is not changed once made.
type DeniedUsers struct {
	// Version is another one after each change. Never empty.
	Version string
	Users   map[string]Denied // by user id
}

// DenylistStore keeps the denylist for all replicas.
type DenylistStore interface {
	// ReadDenylist returns the list, or nil if its version is the known one.
	ReadDenylist(ctx context.Context, known string) (*DeniedUsers, error)
}

// Denylist keeps users out whom another Authenticator would let in: those who
// are disabled, and sessions from before a user's sessions were revoked. A
// change holds on every replica within a second. It is safe for concurrent use.
type Denylist struct {
	store   DenylistStore
	log     *slog.Logger
	now     func() time.Time
	newest  atomic.Pointer[denylistCopy]
	reading singleflight.Group
	failing atomic.Bool
}

type denylistCopy struct {
	*DeniedUsers
	readAt time.Time // when its reading began: every change until then is in it
}

// NewDenylist returns a Denylist. Its requests ask the store themselves for as
// long as Run does not run.
func NewDenylist(store DenylistStore, log *slog.Logger, now func() time.Time) *Denylist {
	return &Denylist{store: store, log: log, now: now}
}

// Run keeps the copy new until ctx ends.
func (d *Denylist) Run(ctx context.Context) {
	ticker := time.NewTicker(denylistPoll)
	defer ticker.Stop()
	for {
		_ = d.refresh(ctx) // logged; a request that needs it tries again
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Version is that of the newest copy, empty while there is none.
func (d *Denylist) Version() string {
	if c := d.newest.Load(); c != nil {
		return c.Version
	}
	return ""
}

// Check returns nil if the principal may use the app, or a [fault.Error]:
// UserDisabled; InvalidSession if the session was revoked; Unavailable if that
// cannot be told.
func (d *Denylist) Check(ctx context.Context, p *Principal) error {
	list, err := d.current(ctx)
	if err != nil {
		return fault.Retry(err, time.Second, "whether this user may use the app cannot be looked up right now; it is safe to try again")
	}
	denied, found := list.Users[p.UserID]
	switch {
	case !found:
		return nil
	case denied.Disabled:
		return fault.New(fault.UserDisabled, "this user is disabled")
	case p.IssuedAt.IsZero() && !denied.SessionsBefore.IsZero():
		return fault.New(fault.InvalidSession, "signed out: sign in again (the session does not say when it was issued, so that a new one looks like an old one)")
	case p.IssuedAt.Before(denied.SessionsBefore):
		return fault.New(fault.InvalidSession, "signed out: sign in again")
	}
	return nil
}

// Guard returns an Authenticator that checks whom a has found.
func (d *Denylist) Guard(a Authenticator) Authenticator { return guarded{a, d} }

type guarded struct {
	Authenticator
	denylist *Denylist
}

// Authenticate implements [Authenticator]. Its errors are those of both.
func (g guarded) Authenticate(ctx context.Context, c Credentials) (*Principal, error) {
	p, err := g.Authenticator.Authenticate(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := g.denylist.Check(ctx, p); err != nil {
		return nil, err
	}
	return p, nil
}

// current returns a copy that is not too old.
func (d *Denylist) current(ctx context.Context) (*DeniedUsers, error) {
	oldest := d.now().Add(-denylistAge)
	for {
		if c := d.newest.Load(); c != nil && !c.readAt.Before(oldest) {
			return c.DeniedUsers, nil
		}
		// Joining a look that began too early costs one more turn.
		if err := d.refresh(ctx); err != nil {
			return nil, err
		}
	}
}

// refresh makes the copy new, once for all who ask meanwhile.
func (d *Denylist) refresh(ctx context.Context) error {
	_, err, _ := d.reading.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), denylistTimeout)
		defer cancel()
		return nil, d.read(ctx)
	})
	return err
}

func (d *Denylist) read(ctx context.Context) error {
	next := &denylistCopy{readAt: d.now()}
	list, err := d.store.ReadDenylist(ctx, d.Version())
	if failed := err != nil; d.failing.Swap(failed) != failed {
		d.logTurn(err)
	}
	if err != nil {
		return err
	}
	if next.DeniedUsers = list; list == nil {
		next.DeniedUsers = d.newest.Load().DeniedUsers
	}
	d.newest.Store(next)
	return nil
}

// logTurn tells when looks begin to fail, and when they succeed again.
func (d *Denylist) logTurn(err error) {
	if err != nil {
		d.log.Warn("the denylist cannot be read; signed-in requests are answered 503 until it can", slog.Any("error", err))
		return
	}
	d.log.Info("the denylist can be read again")
}
