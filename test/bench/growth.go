package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// curve is how a time changes with something.
type curve struct {
	Name string `json:"name"`
	// X and Y say what is counted, and in which unit.
	X      string  `json:"x"`
	Y      string  `json:"y"`
	Points []point `json:"points"`
}

type point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// growth measures time per row for uploads of more and more rows, and the time
// that one upload in a hundred takes longer than, over more and more connections.
func (b *bench) growth(ctx context.Context) ([]curve, error) {
	rows := curve{Name: "Time per row", X: "rows in an upload", Y: "µs"}
	for _, size := range []int{1, 10, 100, 1000, 10_000} {
		rate, err := b.ferryPuts(1, size)(ctx, b.phase)
		if err != nil {
			return nil, err
		}
		rows.Points = append(rows.Points, point{float64(size), 1e6 / rate})
	}
	latency := curve{Name: "p99 of one-row uploads", X: "connections", Y: "ms"}
	for _, connections := range []int{1, 16, 64, 256} {
		took, err := b.latencies(ctx, connections)
		if err != nil {
			return nil, err
		}
		p99 := took[len(took)*99/100]
		latency.Points = append(latency.Points, point{float64(connections), float64(p99.Microseconds()) / 1000})
	}
	curves := []curve{rows, latency}
	for _, c := range curves {
		for _, p := range c.Points {
			fmt.Printf("%s, %g %s: %.3g %s\n", c.Name, p.X, c.X, p.Y, c.Y)
		}
	}
	return curves, nil
}

// latencies are how long one-row uploads took, in order.
func (b *bench) latencies(ctx context.Context, connections int) ([]time.Duration, error) {
	run := uuid()
	f := newFeed(connections, 4000/connections, func(c int) []byte {
		return b.putsOf(fmt.Sprintf("%s-%d", run, c), newRows(1), "bench_a")
	})
	var mu sync.Mutex
	var took []time.Duration
	_, err := load(ctx, connections, 2*b.phase, func(ctx context.Context, c int) (int, error) {
		body := f.next(c)
		started := time.Now()
		err := b.send(ctx, "/upload", body)
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Since(started))
		return 1, err
	})
	slices.Sort(took)
	return took, err
}
