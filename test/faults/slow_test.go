//go:build linux

package faults_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// slowpokes is how many clients of each slow kind there are, and servedIn how
// soon another one must be answered beside them, and beside another test.
const (
	slowpokes = 300
	servedIn  = 3 * time.Second
)

// TestSlowClients lets clients do everything as slowly as they can, while
// another one must be served as always.
func TestSlowClients(t *testing.T) {
	skipUnlessAsked(t)
	t.Parallel()
	c := newCrowd(t)
	authorization := "Authorization: Bearer " + signIn(t, "slow")
	body := "POST /upload HTTP/1.1\r\nHost: ferry\r\n" + authorization + "\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"
	kinds := []struct {
		name   string
		within time.Duration // how soon ferry must have ended the connection
		say    string
		then   func(net.Conn) error // again and again, each second
	}{
		{"a head that never ends", 7 * time.Second, "POST /upload HTTP/1.1\r\nHost: ferry\r\n", dribble("X-Slow: yes\r\n")},
		{"nothing at all", 7 * time.Second, "", nil},
		{"a body that stalls", 12 * time.Second, body, nil},
		{"a body in drops", 27 * time.Second, body, dribble(" ")},
		{"answers that nobody reads", 65 * time.Second, strings.Repeat("GET /openapi.yaml HTTP/1.1\r\nHost: ferry\r\n\r\n", 200), nil},
	}
	before := c.ferry.memoryMiB(t, "VmRSS")
	var slow, served sync.WaitGroup
	took := make([]time.Duration, len(kinds))
	for i, kind := range kinds {
		var longest longest
		slow.Go(func() {
			var each sync.WaitGroup
			for range slowpokes {
				each.Go(func() {
					longest.note(endOf(t, c.ferry.address, kind.say, kind.then, kind.within))
				})
			}
			each.Wait()
			took[i] = longest.d
		})
	}
	ended := make(chan struct{})
	var a tally
	served.Go(func() {
		m := <-c.idle
		for {
			c.upload(m, 1, &a)
			select {
			case <-ended:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	slow.Wait()
	close(ended)
	served.Wait()
	for i, kind := range kinds {
		t.Logf("%s: ended within %.1f s", kind.name, took[i].Seconds())
		if took[i] > kind.within {
			t.Errorf("%s: %d connections, of which one was held for over %s", kind.name, slowpokes, kind.within)
		}
	}
	grown := c.ferry.memoryMiB(t, "VmHWM") - before
	t.Logf("meanwhile %d ordinary uploads, p50 %s, p99 %s; %.0f MiB more at most", len(a.accepted), quantile(a.accepted, 0.5), quantile(a.accepted, 0.99), grown)
	if len(a.refused) > 0 || len(a.others) > 0 || quantile(a.accepted, 0.99) > servedIn {
		t.Errorf("ordinary uploads met slow clients: %d accepted with a p99 of %s, %d refused, others %v",
			len(a.accepted), quantile(a.accepted, 0.99), len(a.refused), a.others)
	}
	if grown > 100 {
		t.Errorf("slow clients cost %.0f MiB", grown)
	}
}

func dribble(drop string) func(net.Conn) error {
	return func(c net.Conn) error {
		_, err := io.WriteString(c, drop)
		return err
	}
}

// longest is the longest of several durations.
type longest struct {
	mu sync.Mutex
	d  time.Duration
}

func (l *longest) note(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.d = max(l.d, d)
}

// endOf opens a connection that it never reads from, says something and goes on
// saying something. It returns how long the server took to end the connection,
// or a little more than limit.
func endOf(t *testing.T, address, say string, then func(net.Conn) error, limit time.Duration) time.Duration {
	conn, err := net.Dial("tcp", address) //nolint:noctx // loopback
	if err != nil {
		t.Error(err)
		return 0
	}
	defer conn.Close()
	started := time.Now()
	_ = conn.SetWriteDeadline(started.Add(limit + time.Second))
	if _, err := io.WriteString(conn, say); err != nil {
		return time.Since(started)
	}
	for time.Since(started) <= limit {
		if hungUp(conn) || then != nil && then(conn) != nil {
			return time.Since(started)
		}
		pause(t.Context(), 500*time.Millisecond)
	}
	return time.Since(started)
}

// hungUp is whether the other side has closed a connection, found without
// reading from it.
func hungUp(conn net.Conn) bool {
	raw, err := conn.(*net.TCPConn).SyscallConn() //nolint:forcetypeassert // dialed as TCP
	if err != nil {
		return true
	}
	state := byte(0)
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), syscall.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			state = info.State
		}
	})
	const established = 1 // TCP_ESTABLISHED of Linux' tcp_states.h
	return state != established
}

// idleConnections is how many connections may cost 200 MiB.
const idleConnections = 10_000

// TestIdleConnections keeps connections that each have asked something once.
func TestIdleConnections(t *testing.T) {
	skipUnlessAsked(t)
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	n := min(idleConnections, int(files.Cur)-500) //nolint:gosec // small, or far over
	_, f := newAlone(t)
	session := signIn(t, "idle")
	before := f.memoryMiB(t, "VmRSS")
	var mu sync.Mutex
	var connections []net.Conn
	t.Cleanup(func() {
		for _, conn := range connections {
			conn.Close()
		}
	})
	var opening sync.WaitGroup
	for range 8 {
		opening.Go(func() {
			for range n / 8 {
				conn, err := askOnce(t.Context(), f.address, session)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				connections = append(connections, conn)
				mu.Unlock()
			}
		})
	}
	opening.Wait()
	after := f.memoryMiB(t, "VmRSS")
	open := 0
	for _, conn := range connections {
		if !hungUp(conn) {
			open++
		}
	}
	t.Logf("%d idle connections cost %.0f MiB (%.0f before)", open, after-before, before)
	if open < n/8*8 {
		t.Errorf("of %d connections %d are left", n, open)
	}
	if most := 200 * float64(open) / idleConnections; after-before > most {
		t.Errorf("%d idle connections cost %.0f MiB, over %.0f", open, after-before, most)
	}
	if err := awaitReady(t.Context(), f.address); err != nil {
		t.Error(err)
	}
}

// askOnce leaves open a connection that was answered.
func askOnce(ctx context.Context, address, session string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	body := loadBody(0, 0, 0)
	_, err = fmt.Fprintf(conn, "POST /upload HTTP/1.1\r\nHost: ferry\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		session, len(body), body)
	if err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("an upload of nothing was answered %s", response.Status)
	}
	return conn, nil
}
