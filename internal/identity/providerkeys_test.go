package identity

import (
	"bytes"
	"context"
	"crypto"
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

// provider is an identity provider whose documents a test changes. Each fetch
// takes as long as latency.
type provider struct {
	mu        sync.Mutex
	documents map[string][]byte
	away      bool
	latency   time.Duration
	fetched   atomic.Int64
}

func (p *provider) fetch(ctx context.Context, url string) ([]byte, error) {
	p.fetched.Add(1)
	select {
	case <-time.After(p.latency):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	document, ok := p.documents[url]
	if p.away || !ok {
		return nil, errors.New(url + " cannot be reached")
	}
	return document, nil
}

func (p *provider) publish(keys ...crypto.Signer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list [][]byte
	for i, key := range keys {
		list = append(list, jwk(string(rune('a'+i)), key))
	}
	p.documents = map[string][]byte{"https://auth.example/jwks": []byte(`{"keys":[` + string(bytes.Join(list, []byte(","))) + `]}`)}
}

func (p *provider) setAway(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
}

// asking is an authenticator over a provider's keys, in a bubble whose clock
// stands still unless the test waits.
type asking struct {
	t   *testing.T
	jwt *SessionJWT
	log bytes.Buffer
}

func ask(t *testing.T, p *provider) *asking {
	t.Helper()
	a := &asking{t: t}
	keys := NewProviderKeys(ProviderKeysOptions{
		JWKSURL: "https://auth.example/jwks", Fetch: p.fetch, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(&a.log, nil)),
	})
	jwt, err := NewSessionJWT(SessionJWTOptions{Issuers: []SessionIssuer{{Keys: keys}}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	a.jwt = jwt
	return a
}

// code is that of the answer to a session signed with a key; "" if it is good.
func (a *asking) code(kid string, key crypto.Signer) fault.Code {
	a.t.Helper()
	token := signPublic("EdDSA", key)(`{"alg":"EdDSA","kid":"`+kid+`"}`, `{"sub":"u1","exp":9999999999}`)
	if _, err := a.jwt.Authenticate(a.t.Context(), bearing(token)); err != nil {
		return fault.From(err).Code
	}
	return ""
}

func TestKeysAreKeptThroughAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := newEdKey()
		p := &provider{}
		p.publish(key)
		a := ask(t, p)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { a.jwt.Run(ctx); close(ended) }()
		synctest.Wait()
		if got := a.code("a", key); got != "" {
			t.Fatalf("a good session: %s", got)
		}
		p.setAway(true)
		time.Sleep(24 * time.Hour)
		if got := a.code("a", key); got != "" {
			t.Errorf("during an outage: %s", got)
		}
		if got := a.code("b", newEdKey()); got != fault.Unavailable {
			t.Errorf("a key that nobody knows during an outage: %q, want %q", got, fault.Unavailable)
		}
		if got := strings.Count(a.log.String(), "cannot be fetched"); got != 1 {
			t.Errorf("the outage was logged %d times, want once:\n%s", got, a.log.String())
		}
		p.setAway(false)
		time.Sleep(refreshFailed)
		synctest.Wait()
		if got := a.code("b", newEdKey()); got != fault.InvalidSession {
			t.Errorf("a key that nobody knows: %q, want %q", got, fault.InvalidSession)
		}
		stop()
		<-ended
	})
}

func TestKeysAreRefreshedInTheBackground(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := newEdKey(), newEdKey()
		p := &provider{}
		p.publish(first)
		a := ask(t, p)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { a.jwt.Run(ctx); close(ended) }()
		synctest.Wait()
		p.publish(second) // a key was withdrawn
		time.Sleep(refreshEvery)
		synctest.Wait()
		if got := a.code("a", first); got != fault.InvalidSession {
			t.Errorf("a session of a withdrawn key: %q, want %q", got, fault.InvalidSession)
		}
		if got, want := p.fetched.Load(), int64(2); got != want {
			t.Errorf("fetched %d times, want %d", got, want)
		}
		stop()
		<-ended
	})
}

func TestARotatedKeyWorksWithinAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := newEdKey(), newEdKey()
		p := &provider{}
		p.publish(first)
		a := ask(t, p)
		if got := a.code("a", first); got != "" {
			t.Fatalf("the first session: %s", got)
		}
		// Just now somebody made up a key id, so that ferry has looked already.
		if got := a.code("made-up", first); got != fault.InvalidSession {
			t.Fatalf("a made-up key id: %q, want %q", got, fault.InvalidSession)
		}
		p.publish(first, second)
		var waited time.Duration
		for a.code("b", second) != "" {
			time.Sleep(time.Second)
			if waited += time.Second; waited > time.Minute {
				t.Fatal("the new key does not work after a minute")
			}
		}
		if waited > coolDown {
			t.Errorf("waited %s for the new key, want %s at most", waited, coolDown)
		}
	})
}

// Some providers name neither their keys nor the key of a session, so that
// only the signature tells that a key is new.
func TestARotatedKeyWithoutANameWorksWithinAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := newEdKey(), newEdKey()
		p := &provider{}
		publish := func(key crypto.Signer) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.documents = map[string][]byte{"https://auth.example/jwks": jwks(jwk("", key))}
		}
		publish(first)
		a := ask(t, p)
		for _, kid := range []string{"", "named"} {
			if got := a.code(kid, first); got != "" {
				t.Fatalf("kid %q, the first session: %s", kid, got)
			}
		}
		publish(second)
		time.Sleep(coolDown)
		for _, kid := range []string{"", "named"} {
			if got := a.code(kid, second); got != "" {
				t.Errorf("kid %q, the new key: %s", kid, got)
			}
			if got := a.code(kid, first); got != fault.InvalidSession {
				t.Errorf("kid %q, the withdrawn key: %q, want %q", kid, got, fault.InvalidSession)
			}
		}
		if got := p.fetched.Load(); got != 2 {
			t.Errorf("fetched %d times, want twice", got)
		}
		p.setAway(true)
		time.Sleep(coolDown)
		if got := a.code("", newEdKey()); got != fault.Unavailable {
			t.Errorf("a third key during an outage: %q, want %q", got, fault.Unavailable)
		}
	})
}

func TestMadeUpKeyIDsDoNotHammerTheProvider(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := newEdKey()
		p := &provider{latency: 100 * time.Millisecond}
		p.publish(key)
		a := ask(t, p)
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				for range 600 {
					a.code("made-up", key)
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		group.Wait()
		if got := p.fetched.Load(); got < 5 || got > 7 {
			t.Errorf("fetched %d times in a minute, want one each %s", got, coolDown)
		}
	})
}

func TestFirstSessionsWaitForOneFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := newEdKey()
		p := &provider{latency: time.Second}
		p.publish(key)
		a := ask(t, p)
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if got := a.code("a", key); got != "" {
					t.Errorf("a good session: %s", got)
				}
			})
		}
		group.Wait()
		if got := p.fetched.Load(); got != 1 {
			t.Errorf("fetched %d times, want once", got)
		}
	})
}

func TestAProviderThatNeverAnswersIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{latency: time.Hour}
		a := ask(t, p)
		started := time.Now()
		if got := a.code("a", newEdKey()); got != fault.Unavailable {
			t.Errorf("code %q, want %q", got, fault.Unavailable)
		}
		if took := time.Since(started); took != fetchTimeout {
			t.Errorf("took %s, want %s", took, fetchTimeout)
		}
	})
}

func TestAnEmptySetDoesNotTakeTheKeysAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := newEdKey()
		p := &provider{}
		p.publish(key)
		a := ask(t, p)
		if got := a.code("a", key); got != "" {
			t.Fatalf("a good session: %s", got)
		}
		p.publish()
		time.Sleep(coolDown)
		if got := a.code("b", key); got != fault.Unavailable {
			t.Errorf("a key that is not there: %q, want %q", got, fault.Unavailable)
		}
		if got := a.code("a", key); got != "" {
			t.Errorf("a good session after an empty set: %s", got)
		}
	})
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	key := newEdKey()
	const discovery = "https://auth.example/tenant/.well-known/openid-configuration"
	cases := []struct {
		name, issuer, document, want string
	}{
		{"an issuer", "https://auth.example/tenant", `{"issuer":"https://auth.example/tenant","jwks_uri":"https://keys.example/jwks"}`, ""},
		{"an issuer with a slash", "https://auth.example/tenant/", `{"issuer":"https://auth.example/tenant/","jwks_uri":"https://keys.example/jwks"}`, ""},
		{
			"another issuer's document", "https://auth.example/tenant", `{"issuer":"https://auth.example/tenant/","jwks_uri":"https://keys.example/jwks"}`,
			"the discovery document at " + discovery + ` is of issuer "https://auth.example/tenant/": configure the issuer exactly so`,
		},
		{"no jwks_uri", "https://auth.example/tenant", `{"issuer":"https://auth.example/tenant"}`, "the discovery document at " + discovery + " names no jwks_uri"},
		{
			"keys that only this machine has", "https://auth.example/tenant", `{"issuer":"https://auth.example/tenant","jwks_uri":"http://127.0.0.1/jwks"}`,
			"the discovery document at " + discovery + " leads to keys that are not at an https address",
		},
		{"no JSON", "https://auth.example/tenant", `<html>`, "the discovery document at " + discovery + " names no jwks_uri"},
		{"nothing there", "https://auth.example/other", ``, "fetch the discovery document: https://auth.example/other/.well-known/openid-configuration cannot be reached"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := &provider{documents: map[string][]byte{
				discovery: []byte(c.document), "https://keys.example/jwks": jwks(jwk("a", key)),
			}}
			keys := NewProviderKeys(ProviderKeysOptions{Issuer: c.issuer, Fetch: p.fetch, Log: slog.New(slog.DiscardHandler), Now: time.Now})
			got := ""
			if err := keys.refresh(t.Context()); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}
