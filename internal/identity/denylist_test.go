package identity

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/fault"
)

// sharedList is the denylist that several replicas read.
type sharedList struct {
	mu    sync.Mutex
	list  DeniedUsers
	err   error
	takes time.Duration
	reads atomic.Int32
}

func (s *sharedList) ReadDenylist(_ context.Context, known string) (*DeniedUsers, error) {
	s.reads.Add(1)
	s.mu.Lock()
	list, err, takes := s.list, s.err, s.takes
	s.mu.Unlock()
	time.Sleep(takes) // synctest's clock
	if err != nil || list.Version == known {
		return nil, err
	}
	return &list, nil
}

func (s *sharedList) set(version string, users map[string]Denied) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = DeniedUsers{Version: version, Users: users}
}

func (s *sharedList) fail(err error, takes time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.takes = err, takes
}

func newDenylist(store DenylistStore) *Denylist {
	return NewDenylist(store, slog.New(slog.DiscardHandler), time.Now)
}

// verdictOn is the code and detail of a check, or "".
func verdictOn(t *testing.T, d *Denylist, p *Principal) string {
	t.Helper()
	err := d.Check(t.Context(), p)
	if err == nil {
		return ""
	}
	f := fault.From(err)
	return string(f.Code) + ": " + f.Detail
}

func TestDenylistJudgesBySessionsAndUsers(t *testing.T) {
	t.Parallel()
	const (
		disabled  = "user_disabled: this user is disabled"
		signedOut = "invalid_session: signed out: sign in again"
		undated   = signedOut + " (the session does not say when it was issued, so that a new one looks like an old one)"
	)
	store := &sharedList{}
	store.set("1", map[string]Denied{
		"disabled": {Disabled: true},
		"revoked":  {SessionsBefore: suiteNow},
		"both":     {Disabled: true, SessionsBefore: suiteNow},
		"neither":  {},
	})
	d := newDenylist(store)
	cases := []struct {
		user     string
		issuedAt time.Time
		want     string
	}{
		{"other", time.Time{}, ""},
		{"other", suiteNow, ""},
		{"disabled", suiteNow.Add(time.Hour), disabled},
		{"disabled", time.Time{}, disabled},
		{"revoked", suiteNow.Add(-time.Microsecond), signedOut},
		{"revoked", suiteNow, ""},
		{"revoked", suiteNow.Add(time.Second), ""},
		{"revoked", time.Time{}, undated},
		{"both", suiteNow.Add(time.Hour), disabled},
		{"neither", time.Time{}, ""},
		{"neither", suiteNow, ""},
	}
	for _, c := range cases {
		if got := verdictOn(t, d, &Principal{UserID: c.user, IssuedAt: c.issuedAt}); got != c.want {
			t.Errorf("%s, issued at %s: %q, want %q", c.user, c.issuedAt, got, c.want)
		}
	}
	if got := store.reads.Load(); got != 1 {
		t.Errorf("the list was read %d times, want once", got)
	}
}

func TestGuardChecksWhomTheOtherFound(t *testing.T) {
	t.Parallel()
	store := &sharedList{}
	store.set("1", map[string]Denied{"u1": {SessionsBefore: suiteNow}})
	sessions := newSessionJWT(t, SessionIssuer{})
	guard := newDenylist(store).Guard(Chain{sessions, syncTokenFor(`{"sub":"u1","iat":` + at(-1) + `}`)})
	cases := []struct{ name, token, detail string }{
		{"a session from before", signHS256(testKey)(`{"alg":"HS256"}`, `{"sub":"u1","iat":`+at(-1)+`,"exp":`+at(600)+`}`), "signed out: sign in again"},
		{"a sync token from before", "sync", "signed out: sign in again"},
		{"what is no session", "x", "the session is not a signed JWT (header.payload.signature)"},
	}
	for _, c := range cases {
		p, err := guard.Authenticate(t.Context(), bearing(c.token))
		requireRefusal(t, p, err, c.token, c.detail)
	}
	for _, payload := range []string{`{"sub":"u1","iat":` + at(0) + `,"exp":` + at(600) + `}`, `{"sub":"u2","exp":` + at(600) + `}`} {
		if _, err := guard.Authenticate(t.Context(), bearing(signHS256(testKey)(`{"alg":"HS256"}`, payload))); err != nil {
			t.Errorf("%s: %v", payload, err)
		}
	}
}

// Two replicas: one polls, the other's poll does not run.
func TestAChangeHoldsWithinASecond(t *testing.T) {
	t.Parallel()
	for _, polls := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			store := &sharedList{takes: 100 * time.Millisecond}
			store.set("1", nil)
			d := newDenylist(store)
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			if polls {
				running.Go(func() { d.Run(ctx) })
			}
			for range 20 { // the change meets the poll at many moments
				store.set("on", nil)
				time.Sleep(1100 * time.Millisecond)
				if got := verdictOn(t, d, &Principal{UserID: "u1"}); got != "" {
					t.Fatalf("polls %t: refused before the change: %s", polls, got)
				}
				store.set("off", map[string]Denied{"u1": {Disabled: true}})
				changed := time.Now()
				for verdictOn(t, d, &Principal{UserID: "u1"}) == "" {
					if time.Since(changed) > denylistAge {
						t.Fatalf("polls %t: the change does not hold after %s", polls, time.Since(changed))
					}
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(37 * time.Millisecond)
			}
			cancel()
			running.Wait()
		})
	}
}

func TestThePollSparesRequestsTheLook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &sharedList{}
		store.set("1", nil)
		d := newDenylist(store)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { d.Run(ctx) })
		time.Sleep(time.Millisecond)
		for range 1000 {
			time.Sleep(10 * time.Millisecond)
			if got := verdictOn(t, d, &Principal{UserID: "u1"}); got != "" {
				t.Fatal(got)
			}
		}
		if got, most := store.reads.Load(), int32(10*time.Second/denylistPoll)+2; got > most {
			t.Errorf("%d reads in 10 s, want at most %d", got, most)
		}
		cancel()
		running.Wait()
	})
}

func TestManyRequestsShareOneLook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &sharedList{takes: 50 * time.Millisecond}
		store.set("1", map[string]Denied{"u1": {Disabled: true}})
		d := newDenylist(store)
		var requests sync.WaitGroup
		for range 100 {
			requests.Go(func() {
				if got := verdictOn(t, d, &Principal{UserID: "u1"}); !strings.HasPrefix(got, "user_disabled") {
					t.Errorf("verdict %q", got)
				}
			})
		}
		requests.Wait()
		if got := store.reads.Load(); got != 1 {
			t.Errorf("%d reads, want 1", got)
		}
	})
}

// What cannot be told any more is not answered with what was true once.
func TestWithoutTheStoreTheAnswerIsTryAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		store := &sharedList{}
		store.set("1", nil)
		d := NewDenylist(store, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: withoutTime})), time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { d.Run(ctx) })
		p := &Principal{UserID: "u1"}
		time.Sleep(time.Millisecond)

		store.fail(errors.New("away"), 0)
		time.Sleep(900 * time.Millisecond)
		if got := verdictOn(t, d, p); got != "" {
			t.Errorf("with a copy of 0.9 s: %s", got)
		}
		time.Sleep(200 * time.Millisecond)
		const unknown = "unavailable: whether this user may use the app cannot be looked up right now; it is safe to try again"
		if got := verdictOn(t, d, p); got != unknown {
			t.Errorf("with a copy of 1.1 s: %q, want %q", got, unknown)
		}
		if got := fault.From(d.Check(t.Context(), p)).RetryAfter; got != time.Second {
			t.Errorf("try again after %s, want 1 s", got)
		}
		store.fail(nil, 0)
		if got := verdictOn(t, d, p); got != "" {
			t.Errorf("once it is back: %s", got)
		}
		cancel()
		running.Wait()
		want := "level=WARN msg=\"the denylist cannot be read; signed-in requests are answered 503 until it can\" error=away\n" +
			"level=INFO msg=\"the denylist can be read again\"\n"
		if diff := cmp.Diff(want, log.String()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func BenchmarkDenylistCheck(b *testing.B) {
	store := &sharedList{}
	store.set("1", map[string]Denied{"u1": {Disabled: true}})
	d := newDenylist(store)
	d.now = func() time.Time { return suiteNow }
	p := &Principal{UserID: "u2"}
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Check(b.Context(), p); err != nil {
			b.Fatal(err)
		}
	}
}
