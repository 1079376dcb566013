//go:build linux

package faults_test

import (
	"context"
	"math/rand/v2"
	"time"
)

// networkFaults are of the paths between clients and the proxy, and between
// each ferry and Postgres, in one direction or the other.
func (w *world) networkFaults() []fault {
	return []fault{
		{name: "connections cut", begin: w.cutLink, longest: 2 * time.Second},
		{name: "connections cut after some bytes", begin: w.toxicFault(func(random *rand.Rand) toxic {
			return toxic{Type: "limit_data", Attributes: map[string]any{"bytes": 1 + random.IntN(20_000)}}
		})},
		{name: "network delayed", begin: w.toxicFault(func(random *rand.Rand) toxic {
			delay := 20 + random.IntN(2000)
			return toxic{Type: "latency", Attributes: map[string]any{"latency": delay, "jitter": delay / 2}}
		})},
		{name: "network throttled", begin: w.toxicFault(func(random *rand.Rand) toxic {
			return toxic{Type: "bandwidth", Attributes: map[string]any{"rate": 1 + random.IntN(50)}}
		})},
		{name: "network in small pieces", begin: w.toxicFault(func(random *rand.Rand) toxic {
			return toxic{Type: "slicer", Attributes: map[string]any{"average_size": 20, "size_variation": 10, "delay": random.IntN(2000)}}
		})},
		{name: "network silent", begin: w.toxicFault(func(*rand.Rand) toxic {
			return toxic{Type: "timeout", Attributes: map[string]any{"timeout": 0}}
		})},
	}
}

func (w *world) anyLink(random *rand.Rand) *link {
	if random.IntN(3) == 0 {
		return w.clients
	}
	return w.anyFerry(random).path
}

func (w *world) cutLink(_ context.Context, random *rand.Rand) (func(context.Context) error, error) {
	l := w.anyLink(random)
	l.cut()
	return func(context.Context) error { return l.mend() }, nil
}

func (w *world) toxicFault(draw func(*rand.Rand) toxic) func(context.Context, *rand.Rand) (func(context.Context) error, error) {
	return func(_ context.Context, random *rand.Rand) (func(context.Context) error, error) {
		l, what := w.anyLink(random), draw(random)
		what.Stream = []string{"upstream", "downstream"}[random.IntN(2)]
		cure, err := l.worsen(what)
		return func(context.Context) error { return cure() }, err
	}
}
