package tokens

import (
	"fmt"
	"time"
)

// SettleTime is how long a change of the keys takes at most to reach every
// process of ferry and the PowerSync Service. What is published may be cached
// on the way for 5 minutes; the service fetches it again at the first request
// that comes 5 minutes after the last time, and at a token with an unknown kid.
const SettleTime = 10 * time.Minute

// TooEarlyError refuses a step of a rotation that would make the PowerSync
// Service refuse tokens.
type TooEarlyError struct {
	// From is when the step is right, zero where the file does not say when
	// the one before it was taken.
	From   time.Time
	Reason string
}

func (e *TooEarlyError) Error() string {
	if e.From.IsZero() {
		return e.Reason
	}
	return e.Reason + ": wait until " + e.From.Format(time.RFC3339)
}

// Consent is what an operator says about a step.
type Consent struct {
	// Known: the PowerSync Service has the key. It is asked for where ferry
	// cannot tell, see KeyStatus.NeedsConsent.
	Known bool
	// Force: take the step however early it is.
	Force bool
}

// NeedsConsent is whether only the operator can tell that the PowerSync Service
// has the key: it is symmetric, or the file does not say since when it is
// published; and it never signed.
func (s KeyStatus) NeedsConsent() bool {
	return !s.Active && s.Activated.IsZero() && (s.Symmetric || s.Added.IsZero())
}

// ActivateFrom is when a key may become active: once the PowerSync Service has
// it, which it may not yet where the key signed before by force. ok is false
// where only the operator can tell.
func (s KeyStatus) ActivateFrom() (from time.Time, ok bool) {
	switch {
	case s.NeedsConsent():
		return time.Time{}, false
	case s.Symmetric, s.Added.IsZero():
		return s.Activated, true
	}
	return s.Added.Add(SettleTime), true
}

// RetireFrom is when a key may be removed: once the last token that it signed,
// with a lifetime of ttl, has expired. ok is false for the active key, and where
// the file does not say since when the key has not signed.
func (s KeyStatus) RetireFrom(ttl time.Duration) (from time.Time, ok bool) {
	switch {
	case s.Active:
		return time.Time{}, false
	case !s.Deactivated.IsZero():
		return s.Deactivated.Add(ttl + SettleTime), true
	case s.Activated.IsZero() && !s.Added.IsZero(): // it never signed
		return s.Added, true
	}
	return time.Time{}, false
}

// Activate makes a key sign from now on. It fails with a TooEarlyError where
// the PowerSync Service may not have the key yet. Nothing changes if the key is
// active already.
func (f *KeyFile) Activate(id string, now time.Time, c Consent) error {
	key, err := f.Key(id)
	if err != nil || key.Active {
		return err
	}
	from, ok := key.ActivateFrom()
	switch {
	case c.Force:
	case !ok && !c.Known:
		return &TooEarlyError{Reason: fmt.Sprintf("ferry cannot tell whether the PowerSync Service has key %q", id)}
	case ok && now.Before(from):
		return &TooEarlyError{From: from, Reason: fmt.Sprintf(
			"key %q was added at %s, and the PowerSync Service may not have fetched it yet", id, key.Added.Format(time.RFC3339))}
	}
	f.note(f.active(), deactivatedMember, now)
	f.setActive(id)
	f.note(id, activatedMember, now)
	f.note(id, deactivatedMember, time.Time{})
	return nil
}

// Retire removes a key. It fails for the active key, and with a TooEarlyError
// while tokens that the key signed, with a lifetime of ttl, may be in use.
func (f *KeyFile) Retire(id string, now time.Time, ttl time.Duration, c Consent) error {
	key, err := f.Key(id)
	if err != nil {
		return err
	}
	from, ok := key.RetireFrom(ttl)
	switch {
	case key.Active:
		return fmt.Errorf("key %q signs the tokens: activate another one first", id)
	case c.Force:
	case !ok:
		return &TooEarlyError{Reason: fmt.Sprintf(
			"the file does not say since when key %q has not signed: wait until that is %s ago", id, ttl+SettleTime)}
	case now.Before(from):
		return &TooEarlyError{From: from, Reason: fmt.Sprintf(
			"key %q signed until %s, and its last tokens have not expired", id, key.Deactivated.Format(time.RFC3339))}
	}
	i := indexOfKey(f.keys, id)
	f.keys = append(f.keys[:i:i], f.keys[i+1:]...)
	f.jwks = append(f.jwks[:i:i], f.jwks[i+1:]...)
	return nil
}
