package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// stuckWriter writes nothing until it is let go.
type stuckWriter struct {
	bytes.Buffer
	letGo chan struct{}
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	<-w.letGo
	return w.Buffer.Write(p)
}

// Whoever logs does not wait for the writing; each one's records stay in order,
// and none is missing once the writer is closed.
func TestLogWriterKeepsAllRecords(t *testing.T) {
	t.Parallel()
	out := &stuckWriter{letGo: make(chan struct{})}
	w := newLogWriter(out)
	log := slog.New(slog.NewTextHandler(w, nil))
	const writers, records = 8, 200
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for n := range records {
				log.Info("record", slog.Int("writer", writer), slog.Int("n", n))
			}
		})
	}
	group.Wait() // though nothing is written yet
	close(out.letGo)
	w.Close()
	next := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var writer string
		var n int
		fields := strings.Fields(line)
		if _, err := fmt.Sscanf(fields[len(fields)-2]+" "+fields[len(fields)-1], "writer=%s n=%d", &writer, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if n != next[writer] {
			t.Fatalf("writer %s: record %d, want %d", writer, n, next[writer])
		}
		next[writer]++
	}
	if len(next) != writers || next["0"] != records {
		t.Errorf("records by writer: %v", next)
	}
}

// What waits is bounded: then whoever logs waits, too, and loses nothing.
func TestLogWriterBoundsWhatWaits(t *testing.T) {
	t.Parallel()
	out := &stuckWriter{letGo: make(chan struct{})}
	w := newLogWriter(out)
	record := bytes.Repeat([]byte("x"), maxLogWaiting)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for range 4 {
			_, _ = w.Write(record)
		}
	}()
	close(out.letGo)
	<-written
	w.Close()
	if out.Len() != 4*len(record) {
		t.Errorf("%d bytes are written, want %d", out.Len(), 4*len(record))
	}
}
