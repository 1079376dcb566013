//go:build linux

// Package faults_test breaks what ferry depends on, again and again, and checks
// that its promise holds: a 200 means decided and durable, and every operation
// takes effect once. README.md says how to run it and how to read it.
package faults_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ferry/test/faults/history"
)

var (
	duration = flag.Duration("duration", 0, "for how long faults are injected in all; 0 skips what needs a whole system")
	seed     = flag.Uint64("seed", 0, "the first round's schedule; 0 draws one")
)

func TestMain(m *testing.M) {
	flag.Parse()
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxiproxy's
	code := m.Run()
	_ = os.RemoveAll(built.folder)
	os.Exit(code)
}

func skipUnlessAsked(t *testing.T) {
	t.Helper()
	if *duration == 0 {
		t.Skip("takes a whole system for minutes: make test-faults")
	}
}

// A round begins with an empty database, so that what a history check costs
// does not grow, and so that a round can be had again by its seed alone.
const round = 45 * time.Second

// drainWithin is how long clients may take to empty their queues once all is
// mended: some still wait for answers that never come, which they do for 30 s.
const drainWithin = 90 * time.Second

// world is a whole system under fault.
type world struct {
	postgres *server
	owner    string // where the superuser finds the app's database
	ferries  []*ferry
	clients  *link // between the clients and the proxy in front of ferries
}

// TestFaults injects faults at random and in combination.
func TestFaults(t *testing.T) {
	skipUnlessAsked(t)
	t.Parallel() // with others that mostly wait
	binary := build(t)
	first := *seed
	for first == 0 {
		first = uint64(rand.Uint32()) //nolint:gosec // no secret
	}
	for n := uint64(0); time.Duration(n)*round < *duration; n++ { //nolint:gosec // small
		t.Run(fmt.Sprint("seed=", first+n), func(t *testing.T) { faultRound(t, binary, first+n) })
	}
}

func faultRound(t *testing.T, binary string, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // reproducible on purpose
	// By the one, no ferry is asked while the database is away; by the other, all
	// are.
	health := []string{"/readyz", "/healthz"}[random.IntN(2)]
	w := newWorld(t, binary, health)
	faults := append(append(w.processFaults(), w.networkFaults()...), w.postgresFaults()...)
	events := plan(random, faults, min(round, *duration))
	h := w.underLoad(t, random, func(*history.History, func() int64) {
		for _, e := range events {
			t.Log(e)
		}
		inject(t.Context(), t, events)
	})
	report(t, h, w.ferries)
}

func newWorld(t *testing.T, binary, health string) *world {
	t.Helper()
	w := &world{postgres: newServer(t)}
	w.owner = w.postgres.url("postgres")
	w.postgres.smallDisk(t)
	prepare(t, binary, w.owner)
	for i := range 3 {
		w.ferries = append(w.ferries, newFerry(t, binary, fmt.Sprint("ferry", i+1), w.postgres.address))
	}
	w.clients = newLink(t, newProxy(t, health, w.ferries...))
	return w
}

const devices = 20

// underLoad runs clients and an observer while disturb does, and until every
// client has emptied its queue after that.
func (w *world) underLoad(t *testing.T, random *rand.Rand, disturb func(h *history.History, now func() int64)) *history.History {
	t.Helper()
	ready, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := awaitReady(ready, w.clients.address()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	h := &history.History{}
	started := time.Now()
	now := func() int64 { return int64(time.Since(started)) }
	quiet, drained := make(chan struct{}), make(chan struct{})
	var sending, observing sync.WaitGroup
	for i := range devices {
		d := &device{
			number: i + 1, session: signIn(t, fmt.Sprint("user ", i/3)), url: "http://" + w.clients.address(),
			history: h, now: now, random: rand.New(rand.NewPCG(random.Uint64(), 0)), //nolint:gosec // no secret
			cuts: i%5 == 4, reference: i%5 == 3,
		}
		sending.Go(func() {
			if err := d.run(ctx, quiet); err != nil {
				t.Error(err)
			}
		})
	}
	observing.Go(func() { observe(ctx, w.owner, h, now, drained) })
	disturb(h, now)
	close(quiet)
	mended := time.Now()
	late := time.AfterFunc(drainWithin, stop)
	defer late.Stop()
	sending.Wait()
	close(drained)
	observing.Wait()
	t.Logf("queues were empty %.1f s after the last fault", time.Since(mended).Seconds())
	if err := collect(t.Context(), w.owner, h); err != nil {
		t.Fatal(err)
	}
	return h
}

// report fails the test for whatever is wrong with a history.
func report(t *testing.T, h *history.History, ferries []*ferry) {
	t.Helper()
	statuses := map[int]int{}
	for i := range h.Deliveries {
		statuses[h.Deliveries[i].Status]++
	}
	t.Logf("%d client transactions in %d requests, by status %v; %d effects, %d rejections, %d reads",
		len(h.Txs), len(h.Deliveries), statuses, len(h.Effects), len(h.Rejections), len(h.Reads))
	const most = 20 // one bug breaks many
	violations := h.Check()
	for _, v := range violations[:min(most, len(violations))] {
		t.Error(v)
	}
	if n := len(violations) - most; n > 0 {
		t.Errorf("and %d more", n)
	}
	states := map[string]int{}
	for _, f := range ferries {
		f.sqlStates(t, states)
		for _, line := range f.complaints(t) {
			t.Error(line)
		}
	}
	t.Logf("errors of Postgres that ferry met: %v", states)
}
