package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"ferry/internal/fault"
)

// When an identity provider's keys are fetched again.
const (
	// refreshEvery is the pace while all is well.
	refreshEvery = 5 * time.Minute
	// refreshFailed is the pace while the provider cannot be reached.
	refreshFailed = 10 * time.Second
	// coolDown is how soon after an attempt a session that names an unknown
	// key may cause another: whoever makes up key ids must not make ferry
	// hammer the provider, and a rotated key must work within a minute.
	coolDown = 10 * time.Second
	// fetchTimeout bounds one refresh, discovery included.
	fetchTimeout = 5 * time.Second
)

// Fetch gets a document of an identity provider. It refuses to go anywhere but
// to https URLs, or http on this machine, and to read without end.
type Fetch func(ctx context.Context, url string) ([]byte, error)

// ProviderKeysOptions say where an identity provider's public keys are.
type ProviderKeysOptions struct {
	// JWKSURL is the URL of the JWKS. Where empty, it is the jwks_uri of the
	// Issuer's discovery document (OpenID Connect Discovery 1.0, section 4).
	JWKSURL, Issuer string
	Fetch           Fetch
	Log             *slog.Logger
	Now             func() time.Time
}

// ProviderKeys are the public keys of an identity provider. They are kept
// through an outage of the provider, and refreshed by Run and by sessions that
// name a key which is not there. It is safe for concurrent use.
type ProviderKeys struct {
	options    ProviderKeysOptions
	refreshing singleflight.Group

	mu        sync.Mutex
	keys      []publicKey
	attempted time.Time // when the latest refresh began
	failing   bool      // the latest refresh failed, or there was none yet
}

// NewProviderKeys returns keys that are not there yet: Run fetches them, or
// else the first session does.
func NewProviderKeys(o ProviderKeysOptions) *ProviderKeys {
	return &ProviderKeys{options: o, failing: true}
}

// Run keeps the keys fresh until ctx ends.
func (k *ProviderKeys) Run(ctx context.Context) {
	for {
		pause := refreshEvery
		if err := k.refresh(ctx); err != nil {
			pause = refreshFailed
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// check returns nil if one of the keys that may have made a signature fits it,
// or an error for the client: a fault.Unavailable where the provider must be
// asked and cannot be.
func (k *ProviderKeys) check(ctx context.Context, algorithm jose.SignatureAlgorithm, id string, fits func(publicKey) bool) error {
	found, _ := k.known(algorithm, id)
	if slices.ContainsFunc(found, fits) {
		return nil
	}
	// A key of that very name is the one. Any other session may be signed with a
	// key that is new, also where neither it nor the key has a name.
	if !isNamed(found, id) {
		k.refreshOnDemand(ctx)
		var failing bool
		found, failing = k.known(algorithm, id)
		switch {
		case slices.ContainsFunc(found, fits):
			return nil
		case failing && !isNamed(found, id):
			return fault.Retry(errors.New("the keys of the sessions' issuer are not there"), coolDown,
				"the keys of the sessions' issuer cannot be fetched right now; try again, the session may be good")
		}
	}
	if len(found) == 0 {
		return errors.New("the session is signed with a key (kid) that its issuer does not publish")
	}
	return errors.New("the session's signature does not verify: it was signed with a different key than its issuer publishes, or it was altered")
}

func (k *ProviderKeys) known(algorithm jose.SignatureAlgorithm, id string) (found []publicKey, failing bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return matching(k.keys, algorithm, id), k.failing
}

// refreshOnDemand refreshes the keys, unless that was tried just now. Requests
// that come meanwhile wait for the same answer.
func (k *ProviderKeys) refreshOnDemand(ctx context.Context) {
	refreshed := k.refreshing.DoChan("", func() (any, error) {
		k.mu.Lock()
		soon := k.options.Now().Sub(k.attempted) < coolDown
		k.mu.Unlock()
		if soon {
			return nil, nil
		}
		return nil, k.load(ctx)
	})
	select {
	case <-refreshed:
	case <-ctx.Done():
	}
}

func (k *ProviderKeys) refresh(ctx context.Context) error {
	_, err, _ := k.refreshing.Do("", func() (any, error) { return nil, k.load(ctx) })
	return err
}

// load fetches the keys and puts them in the place of the old ones. It goes on
// when the request that caused it is given up: others wait for it.
func (k *ProviderKeys) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	k.mu.Lock()
	k.attempted = k.options.Now()
	k.mu.Unlock()

	keys, skipped, err := k.fetch(ctx)

	k.mu.Lock()
	defer k.mu.Unlock()
	recovered := err == nil && k.failing
	if err != nil && (!k.failing || k.keys == nil) {
		k.options.Log.Error("the keys of the sessions' issuer cannot be fetched; those that are known stay in use",
			slog.String("issuer", k.name()), slog.Int("known", len(k.keys)), slog.Any("error", err))
	}
	if k.failing = err != nil; err != nil {
		return err
	}
	if ids := idsOf(keys); recovered || ids != idsOf(k.keys) {
		k.options.Log.Info("fetched the keys of the sessions' issuer",
			slog.String("issuer", k.name()), slog.String("kids", ids), slog.Int("skipped", skipped))
	}
	k.keys = keys
	return nil
}

// Look fetches the keys, as Run does, and keeps nothing. It returns how many of
// the provider's keys can verify a session, and how many cannot. It fails where
// there are none.
func (k *ProviderKeys) Look(ctx context.Context) (usable, skipped int, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	keys, skipped, err := k.fetch(ctx)
	return len(keys), skipped, err
}

func (k *ProviderKeys) fetch(ctx context.Context) (keys []publicKey, skipped int, err error) {
	url := k.options.JWKSURL
	if url == "" {
		if url, err = k.discover(ctx); err != nil {
			return nil, 0, err
		}
	}
	document, err := k.options.Fetch(ctx, url)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch the JWKS: %w", err)
	}
	return parseKeySet(document)
}

// discover finds the URL of the issuer's JWKS. The document must be of that
// very issuer (OpenID Connect Discovery 1.0, section 4.3).
func (k *ProviderKeys) discover(ctx context.Context) (string, error) {
	url := strings.TrimSuffix(k.options.Issuer, "/") + "/.well-known/openid-configuration"
	document, err := k.options.Fetch(ctx, url)
	if err != nil {
		return "", fmt.Errorf("fetch the discovery document: %w", err)
	}
	var provider struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(document, &provider); err != nil || provider.JWKSURI == "" {
		return "", fmt.Errorf("the discovery document at %s names no jwks_uri", url)
	}
	if provider.Issuer != k.options.Issuer {
		return "", fmt.Errorf("the discovery document at %s is of issuer %q: configure the issuer exactly so", url, provider.Issuer)
	}
	// Not even to this machine, which is the issuer's own only where it is here.
	if strings.HasPrefix(url, "https:") && !strings.HasPrefix(provider.JWKSURI, "https:") {
		return "", fmt.Errorf("the discovery document at %s leads to keys that are not at an https address", url)
	}
	return provider.JWKSURI, nil
}

// name is for people.
func (k *ProviderKeys) name() string {
	if k.options.Issuer != "" {
		return k.options.Issuer
	}
	return k.options.JWKSURL
}

func idsOf(keys []publicKey) string {
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.id
	}
	return strings.Join(ids, " ")
}
