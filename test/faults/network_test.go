//go:build linux

package faults_test

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"ferry/internal/postgres/postgrestest"
)

// link is a network path that can be cut, delayed and throttled.
type link struct {
	listen, upstream string
	worse            sync.Mutex // held while it is made worse: toxics that stand in a row may block each other

	mu    sync.Mutex
	proxy *toxiproxy.Proxy
}

// newLink leads to the address upstream.
func newLink(t *testing.T, upstream string) *link {
	t.Helper()
	l := &link{listen: freeAddress(t), upstream: upstream}
	if err := l.mend(); err != nil {
		t.Fatalf("start a proxy for %s: %v", upstream, err)
	}
	t.Cleanup(l.cut)
	return l
}

func (l *link) address() string { return l.listen }

// mend makes a path that was cut, or whose proxy is stuck, anew.
func (l *link) mend() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proxy != nil {
		within(l.proxy.Stop)
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard))
	var err error
	for range 100 { // until the last one has given up the address
		l.proxy = toxiproxy.NewProxy(server, "", l.listen, l.upstream)
		if err = l.proxy.Start(); err == nil {
			return nil
		}
		pause(context.Background(), 10*time.Millisecond)
	}
	return err
}

// cut ends all connections and takes none until the link is mended.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	within(l.proxy.Stop)
}

// within reports whether f ends soon. A proxy waits for ever for a connection
// that ended just when a toxic came or went.
func within(f func()) bool {
	ended := make(chan struct{})
	go func() { f(); close(ended) }()
	select {
	case <-ended:
		return true
	case <-time.After(5 * time.Second):
		return false
	}
}

// toxic is what a link does to one direction: see toxiproxy's documentation.
type toxic struct {
	Type       string         `json:"type"`
	Stream     string         `json:"stream"` // upstream: towards the server; downstream
	Attributes map[string]any `json:"attributes"`
}

// worsen adds a toxic until cure is called.
func (l *link) worsen(what toxic) (cure func() error, err error) {
	text, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	l.worse.Lock()
	proxy := l.current()
	added := make(chan string, 1) // its name
	if !within(func() {
		wrapper, err := proxy.Toxics.AddToxicJson(strings.NewReader(string(text)))
		if err != nil {
			panic(err) // the text above is wrong
		}
		added <- wrapper.Name
	}) {
		defer l.worse.Unlock()
		return func() error { return nil }, l.mend()
	}
	return func() error {
		defer l.worse.Unlock()
		if proxy != l.current() { // it was cut, and the next one is well
			return nil
		}
		if within(func() { _ = proxy.Toxics.RemoveToxic(context.Background(), <-added) }) {
			return nil
		}
		return l.mend()
	}, nil
}

func (l *link) current() *toxiproxy.Proxy {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proxy
}

func freeAddress(t *testing.T) string { return postgrestest.FreeAddress(t) }
