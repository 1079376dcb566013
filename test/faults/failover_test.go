//go:build linux

package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"ferry/test/faults/history"
)

// recoversWithin is how soon ferry takes uploads again once there is a new
// primary.
const recoversWithin = 10 * time.Second

// TestFailover kills the primary of a highly available Postgres again and
// again. Two ferries find the primary through haproxy; the third knows all
// three nodes and has to tell a primary from a standby itself.
func TestFailover(t *testing.T) {
	skipUnlessAsked(t)
	binary := build(t)
	cluster := newPatroni(t)
	w := &world{owner: databaseURL("postgres", cluster.address)}
	prepare(t, binary, w.owner)
	all := make([]string, len(cluster.nodes))
	for i, n := range cluster.nodes {
		all[i] = n.postgres
	}
	for i, addresses := range [][]string{{cluster.address}, {cluster.address}, all} {
		w.ferries = append(w.ferries, startFerry(t, binary, fmt.Sprint("ferry", i+1), databaseURL(login, addresses...)+"&pool_max_conns=6"))
	}
	w.clients = newLink(t, newProxy(t, "/readyz", w.ferries...))
	random := rand.New(rand.NewPCG(*seed, 0)) //nolint:gosec // no secret
	h := w.underLoad(t, random, func(h *history.History, now func() int64) {
		probes := w.probes(t, h, now)
		until := time.Now().Add(*duration / 2)
		for n := 0; n < 2 || time.Now().Before(until); n++ {
			if !w.failOver(t, cluster, n%3 == 2, probes) {
				return
			}
		}
	})
	report(t, h, w.ferries)
}

// failOver loses the primary, whole or its Postgres alone, and reports whether
// every ferry recovers in time.
func (w *world) failOver(t *testing.T, cluster *patroni, whole bool, probes []*device) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := cluster.replicated(ctx); err != nil {
		t.Error(err)
		return false
	}
	old, started, err := cluster.primary(ctx, "")
	if err != nil {
		t.Error(err)
		return false
	}
	lost := time.Now()
	what := "Postgres of " + old.name
	if whole {
		what = old.name
		old.kill()
	} else {
		old.killPostgres()
	}
	primary, _, err := cluster.primary(ctx, started)
	if err != nil {
		t.Errorf("after %s was killed: %v", what, err)
		return false
	}
	elected := time.Now()
	if err := old.start(); err != nil {
		t.Error(err)
		return false
	}
	var slowest time.Duration
	for i, probe := range probes {
		probe.fill(1)
		for len(probe.queue) > 0 && ctx.Err() == nil {
			probe.sendFront(ctx)
		}
		took := time.Since(elected)
		slowest = max(slowest, took)
		if took > recoversWithin {
			t.Errorf("%s took its first upload %.1f s after %s became the primary", w.ferries[i].name, took.Seconds(), primary.name)
		}
	}
	t.Logf("%s killed: %s is the primary after %.1f s, every ferry took uploads after another %.1f s",
		what, primary.name, elected.Sub(lost).Seconds(), slowest.Seconds())
	return ctx.Err() == nil
}

// probes are clients of one ferry each.
func (w *world) probes(t *testing.T, h *history.History, now func() int64) []*device {
	t.Helper()
	var probes []*device
	for i, f := range w.ferries {
		d := &device{
			number: 100 + i, session: signIn(t, fmt.Sprint("probe ", i)), url: "http://" + f.address,
			history: h, now: now, random: rand.New(rand.NewPCG(0, uint64(i))), //nolint:gosec // no secret
		}
		d.restart()
		t.Cleanup(func() { d.late.Wait(); d.client.CloseIdleConnections() })
		probes = append(probes, d)
	}
	return probes
}
