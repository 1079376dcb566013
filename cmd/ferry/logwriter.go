package main

import (
	"io"
	"sync"
	"time"
)

// logWriter writes what is logged in a goroutine of its own: at once where little
// is, and many records together where much is. Requests wait neither for the
// system nor, while one of them does, for each other: that took a tenth of the
// time of a sync token.
type logWriter struct {
	out     io.Writer
	mu      sync.Mutex
	changed sync.Cond // of what follows
	waiting []byte
	closing bool
	done    chan struct{}
}

const (
	// maxLogWaiting is how many bytes may wait to be written; then logging waits,
	// too.
	maxLogWaiting = 1 << 20
	// logPause is how long records gather behind a write: each write wakes a
	// processor.
	logPause = 2 * time.Millisecond
)

// newLogWriter writes to out until it is closed.
func newLogWriter(out io.Writer) *logWriter {
	w := &logWriter{out: out, done: make(chan struct{})}
	w.changed.L = &w.mu
	go w.run()
	return w
}

// Write implements [io.Writer]. Before Close it never fails: nobody could be told.
func (w *logWriter) Write(record []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.waiting) > maxLogWaiting && !w.closing {
		w.changed.Wait()
	}
	if w.closing { // what ends late has no hurry
		return w.out.Write(record)
	}
	w.waiting = append(w.waiting, record...)
	w.changed.Broadcast()
	return len(record), nil
}

// Close returns once all is written.
func (w *logWriter) Close() {
	w.mu.Lock()
	w.closing = true
	w.changed.Broadcast()
	w.mu.Unlock()
	<-w.done
}

func (w *logWriter) run() {
	defer close(w.done)
	var writing []byte
	for {
		w.mu.Lock()
		for len(w.waiting) == 0 && !w.closing {
			w.changed.Wait()
		}
		writing, w.waiting = w.waiting, writing[:0]
		w.changed.Broadcast()
		w.mu.Unlock()
		if len(writing) == 0 {
			return
		}
		_, _ = w.out.Write(writing)
		time.Sleep(logPause)
	}
}
