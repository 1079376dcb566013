// Command bench measures ferry over HTTP against bare Postgres, on a private
// cluster and with every guarantee switched on. Each figure is a ratio whose
// two sides alternate within one run. `make bench` runs it; it prints a table
// and writes bench/results.json, and how time grows with the rows of an upload
// and with the connections to bench/growth.json and growth.svg.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// figure is one line of bench/results.json.
type figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Target float64 `json:"target"`
	Unit   string  `json:"unit"`
	Pass   bool    `json:"pass"`
}

// atLeast and atMost make figures of which more, or less, is better.
func atLeast(name string, value, target float64, unit string) figure {
	return figure{name, value, target, unit, value >= target}
}

func atMost(name string, value, target float64, unit string) figure {
	return figure{name, value, target, unit, value <= target}
}

func main() {
	ferry := flag.String("ferry", "bin/ferry", "the ferry to measure")
	out := flag.String("out", "bench", "folder for the results")
	pairs := flag.Int("pairs", 5, "pairs of measurements for each ratio")
	phase := flag.Duration("phase", time.Second, "length of one side of a pair")
	profile := flag.Bool("profile", false, "only show where the time of uploads of 1,000 rows and of one goes")
	only := flag.String("only", "", "measure nothing else: start, tokens, puts, single, mixed or memory, and write nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *ferry, *out, *pairs, *phase, *profile, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, ferry, out string, pairs int, phase time.Duration, profile bool, only string) error {
	b, err := start(ctx, ferry)
	if err != nil {
		return err
	}
	defer b.stop()
	b.pairs, b.phase = pairs, phase
	if profile {
		return b.profile(ctx)
	}
	var figures []figure
	for _, m := range []struct {
		name    string
		measure func(context.Context) ([]figure, error)
	}{{"start", b.startup}, {"tokens", b.tokens}, {"puts", b.puts}, {"single", b.single}, {"mixed", b.mixed}, {"memory", b.memory}} {
		if only != "" && only != m.name {
			continue
		}
		some, err := m.measure(ctx)
		if err != nil {
			return err
		}
		figures = append(figures, some...)
		printFigures(some)
	}
	if only != "" {
		return nil
	}
	curves, err := b.growth(ctx)
	if err != nil {
		return err
	}
	if err := write(out, "results.json", figures); err != nil {
		return err
	}
	if err := write(out, "growth.json", curves); err != nil {
		return err
	}
	return writePlot(filepath.Join(out, "growth.svg"), curves)
}

func printFigures(figures []figure) {
	w := tabwriter.NewWriter(os.Stdout, 26, 0, 2, ' ', 0)
	for _, f := range figures {
		verdict := "pass"
		if !f.Pass {
			verdict = "MISS"
		}
		fmt.Fprintf(w, "%s\t%.3f %s\ttarget %g\t%s\n", f.Name, f.Value, f.Unit, f.Target, verdict)
	}
	_ = w.Flush()
}

func write(folder, name string, value any) error {
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // results are no secret
		return err
	}
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, name), append(content, '\n'), 0o644) //nolint:gosec // see above
}

// side is one of the two things that a ratio compares: work for so long, on so
// many connections, and the rate that came out.
type side func(ctx context.Context, phase time.Duration) (rate float64, err error)

// ratio runs a and b in turn and returns the median of the pairs' quotients.
func (b *bench) ratio(ctx context.Context, x, y side) (float64, error) {
	quotients := make([]float64, 0, b.pairs)
	for i := range b.pairs + 1 {
		rateX, err := x(ctx, b.phase)
		if err != nil {
			return 0, err
		}
		rateY, err := y(ctx, b.phase)
		if err != nil {
			return 0, err
		}
		if i > 0 { // the first pair warms up
			quotients = append(quotients, rateX/rateY)
		}
	}
	return median(quotients), nil
}
