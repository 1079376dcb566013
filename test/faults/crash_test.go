//go:build linux

package faults_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"ferry/test/faults/history"
)

// TestCrashRightAfterTheAnswer crashes Postgres the moment that an upload is
// answered, while nothing else makes it write to the disk: not another client's
// commit, as under load, nor its own process for that, which sleeps for 10 s.
func TestCrashRightAfterTheAnswer(t *testing.T) {
	skipUnlessAsked(t)
	t.Parallel()
	database, f := newAlone(t, "wal_writer_delay=10s", "autovacuum=off")
	h := &history.History{}
	started := time.Now()
	d := &device{
		number: 1, session: signIn(t, "user 1"), url: "http://" + f.address, history: h,
		now:    func() int64 { return int64(time.Since(started)) },
		random: rand.New(rand.NewPCG(1, 1)), //nolint:gosec // no secret
	}
	d.restart()
	t.Cleanup(func() { d.client.CloseIdleConnections() })
	put := func(f *draft) { f.put("value", 1) }
	ignored := func(f *draft) { put(f); f.op("DELETE", "entries", "1.never", nil); f.last().Effect = "" }
	refused := func(f *draft) { f.put("value", -1); f.tx.Refused = "check_violation" }
	shapes := [][]func(*draft){
		{put},
		{put, put},
		{ignored},               // what it finds is looked at once more
		{put, refused, put},     // committed in parts
		{refused},               // only a rejection
		{put, ignored, refused}, // all of these
	}
	var before []queued
	for _, shape := range shapes {
		for _, compose := range shape {
			draft := d.draft()
			compose(draft)
			draft.enqueue()
		}
		for _, ops := range [][]queued{d.queue, slices.Concat(before, d.queue)} { // then again, behind what is old
			d.untilAcknowledged(t, ops)
			if err := database.crash(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := database.start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		before, d.queue = d.queue, nil
	}
	if err := collect(t.Context(), database.url("postgres"), h); err != nil {
		t.Fatal(err)
	}
	report(t, h, []*ferry{f})
}

// untilAcknowledged sends operations until they are.
func (d *device) untilAcknowledged(t *testing.T, ops []queued) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for d.send(ctx, d.client, ops) < len(ops) {
		if pause(ctx, 10*time.Millisecond); ctx.Err() != nil {
			t.Fatalf("operations %d to %d are not acknowledged", ops[0].op, ops[len(ops)-1].op)
		}
	}
}
