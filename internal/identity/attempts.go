package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/netip"
	"slices"
	"time"

	"ferry/internal/fault"
)

// What accounts may be tried, over all replicas together. Many people share an
// address (RFC 6269), so that only sign-ins that fail count there, and what
// makes an account may happen often.
const (
	signInPeriod     = 15 * time.Minute
	signInsByEmail   = 10  // that fail
	signInsByAddress = 100 // that fail

	makingPeriod     = time.Hour
	signUpsByAddress = 100
	guestsByAddress  = 100
)

// Limit is how often something may be tried under a name.
type Limit struct {
	// Key stands for the name, without telling it: what is kept of attempts
	// must not become a list of who tried to sign in.
	Key  [sha256.Size]byte
	Most int
}

// Attempt is one that was counted, under each of its limits.
type Attempt struct {
	Limits []Limit
	At     time.Time
}

// AttemptStore counts attempts for all replicas.
type AttemptStore interface {
	// CountAttempt counts an attempt under all limits, which are sorted by
	// their keys, or under none where one is used up: it then returns how long
	// until it no longer is. A limit is used up by Most attempts within the
	// period.
	CountAttempt(ctx context.Context, period time.Duration, limits []Limit) (at time.Time, wait time.Duration, err error)
	// TakeBack makes an attempt one that never was.
	TakeBack(ctx context.Context, a Attempt) error
}

// addressLimit limits an address of a client. All addresses of an IPv6 /64 are
// one: a single customer has at least that many (RFC 6177, section 2). Clients
// of which no address is known are one as well.
func addressLimit(what string, from netip.Addr, most int) Limit {
	from = from.Unmap().WithZone("")
	if from.Is6() {
		prefix, _ := from.Prefix(64) // 64 is in range
		from = prefix.Addr()
	}
	return newLimit(what+" from address", from.String(), most)
}

func newLimit(what, name string, most int) Limit {
	return Limit{Key: sha256.Sum256([]byte(what + "\x00" + name)), Most: most}
}

// count counts an attempt, before anything is decided on it: of attempts at
// the same time none gets past the limit. The error is a [fault.Error].
func (a *Accounts) count(ctx context.Context, period time.Duration, limits ...Limit) (Attempt, error) {
	slices.SortFunc(limits, func(x, y Limit) int { return bytes.Compare(x.Key[:], y.Key[:]) })
	at, wait, err := a.store.CountAttempt(ctx, period, limits)
	if err != nil {
		return Attempt{}, storeAway(err)
	}
	if wait > 0 {
		return Attempt{}, &fault.Error{
			Code: fault.TooManyRequests, RetryAfter: wait,
			Detail: "too many attempts: wait before the next one, as long as Retry-After says",
		}
	}
	return Attempt{Limits: limits, At: at}, nil
}

// undecided takes back an attempt that told nobody anything, or retries of it
// would lock out whoever comes while too many do. Where that fails, it counts.
func (a *Accounts) undecided(ctx context.Context, attempt Attempt) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = a.store.TakeBack(ctx, attempt)
}

// storeAway is the answer to a failure of the store.
func storeAway(err error) *fault.Error {
	return fault.Retry(err, 2*time.Second, "accounts cannot be looked up right now; try again")
}
