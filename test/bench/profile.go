package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// profile prints where the time of a 1,000-row upload goes: the processor time
// of ferry and of Postgres, beside the bare statement's, and how long each took.
func (b *bench) profile(ctx context.Context) error {
	const size = 1000
	for _, s := range []struct {
		name string
		side side
	}{{"ferry", b.ferryPuts(1, size)}, {"bare", b.barePuts(1, size)}} {
		if _, err := s.side(ctx, b.phase); err != nil { // warms up
			return err
		}
		if s.name == "ferry" {
			go b.saveProfile(ctx)
		}
		ferry, postgres := processorTime(b.process.Process.Pid), b.postgresTime()
		rate, err := s.side(ctx, 4*b.phase)
		if err != nil {
			return err
		}
		uploads := rate * 4 * b.phase.Seconds() / size
		each := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / uploads }
		fmt.Printf("%-6s %.2f ms wall, %.2f ms ferry, %.2f ms Postgres\n", s.name, size/rate*1000,
			each(processorTime(b.process.Process.Pid)-ferry), each(b.postgresTime()-postgres))
	}
	return nil
}

// saveProfile keeps ferry's processor profile, for `go tool pprof`.
func (b *bench) saveProfile(ctx context.Context) {
	url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", b.admin, max(1, int(3*b.phase.Seconds())))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return
	}
	defer response.Body.Close()
	file, err := os.Create(filepath.Join(os.TempDir(), "ferry.pprof"))
	if err != nil {
		return
	}
	defer file.Close()
	_, _ = io.Copy(file, response.Body)
}

// postgresTime is the processor time of the cluster's processes that run.
func (b *bench) postgresTime() time.Duration {
	var total time.Duration
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		folder, err := os.Readlink(filepath.Join(filepath.Dir(path), "cwd"))
		if err != nil || !strings.HasPrefix(folder, b.folder) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		total += processorTime(pid)
	}
	return total
}

// processorTime is a process's, in user and system mode.
//
// Source: proc(5), /proc/pid/stat, fields 14 and 15 in hundredths of a second.
func processorTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, _ := strconv.ParseInt(f, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
