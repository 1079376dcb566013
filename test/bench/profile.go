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

// profile prints where the time of an upload goes: the processor time of ferry, of
// Postgres and of this program, beside the bare statement's, and how long each took.
func (b *bench) profile(ctx context.Context) error {
	for _, m := range []struct {
		name              string
		connections, size int
	}{{"puts", 1, 1000}, {"single", 16, 1}} {
		if err := b.profileSide(ctx, m.name+" ferry", m.size, b.ferryPuts(m.connections, m.size)); err != nil {
			return err
		}
		if err := b.profileSide(ctx, m.name+" bare", m.size, b.barePuts(m.connections, m.size)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) profileSide(ctx context.Context, name string, size int, s side) error {
	if _, err := s(ctx, b.phase); err != nil { // warms up
		return err
	}
	if strings.HasSuffix(name, "ferry") {
		go b.saveProfile(ctx, name)
	}
	ferry, postgres, own := processorTime(b.process.Process.Pid), b.postgresTime(), processorTime(os.Getpid())
	rate, err := s(ctx, 4*b.phase)
	if err != nil {
		return err
	}
	uploads := rate * 4 * b.phase.Seconds() / float64(size)
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / uploads }
	fmt.Printf("%-12s %.3f ms between two, %.3f ms ferry, %.3f ms Postgres, %.3f ms load\n", name, float64(size)/rate*1000,
		each(processorTime(b.process.Process.Pid)-ferry), each(b.postgresTime()-postgres), each(processorTime(os.Getpid())-own))
	return nil
}

// saveProfile keeps ferry's processor profile, for `go tool pprof`.
func (b *bench) saveProfile(ctx context.Context, name string) {
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
	file, err := os.Create(filepath.Join(os.TempDir(), strings.ReplaceAll(name, " ", "-")+".pprof"))
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
