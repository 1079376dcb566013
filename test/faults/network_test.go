package faults_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// link is a network path that can be cut, delayed and throttled.
type link struct{ proxy *toxiproxy.Proxy }

// newLink leads to the address upstream.
func newLink(t *testing.T, name, upstream string) *link {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard))
	proxy := toxiproxy.NewProxy(server, name, freeAddress(t), upstream)
	if err := proxy.Start(); err != nil {
		t.Fatalf("start the proxy for %s: %v", name, err)
	}
	t.Cleanup(proxy.Stop)
	return &link{proxy}
}

func (l *link) address() string { return l.proxy.Listen }

// cut ends all connections and takes none until the link is mended.
func (l *link) cut() { l.proxy.Stop() }

func (l *link) mend() error { return l.proxy.Start() }

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
	added, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(string(text)))
	if err != nil {
		return nil, err
	}
	return func() error { return l.proxy.Toxics.RemoveToxic(context.Background(), added.Name) }, nil
}

// freeAddress is one on loopback at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
