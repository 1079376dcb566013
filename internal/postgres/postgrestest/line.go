package postgrestest

import (
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Line is a way to a test's database over TCP.
type Line struct {
	URL   string
	trips atomic.Int64
}

// Trips is how many bursts the clients have sent so far, which are round trips.
func (l *Line) Trips() int64 { return l.trips.Load() }

// SlowLine forwards connections to the database at a socket, until the end of
// the test, and holds each direction's bytes back for delay: a database that is
// not on this machine.
func SlowLine(t testing.TB, socketURL string, delay time.Duration) *Line {
	t.Helper()
	l := &Line{}
	l.URL = Forward(t, socketURL, func(client, server net.Conn) (up, down func()) {
		// A burst is what the client sends after the server spoke.
		var serverSpoke atomic.Bool
		serverSpoke.Store(true)
		up = func() {
			carry(server, client, delay, func() {
				if serverSpoke.Swap(false) {
					l.trips.Add(1)
				}
			})
		}
		return up, func() { carry(client, server, delay, func() { serverSpoke.Store(true) }) }
	})
	return l
}

// Forward makes a TCP address lead to the database at a socket, until the end of
// the test, and returns the URL with it. For each connection, directions returns
// what carries the client's bytes up to the server and the server's down; both
// close the two ends when they end.
func Forward(t testing.TB, socketURL string, directions func(client, server net.Conn) (up, down func())) (tcpURL string) {
	t.Helper()
	u, err := url.Parse(socketURL)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(u.Query().Get("host"), ".s.PGSQL."+u.Query().Get("port"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { listener.Close(); running.Wait() })
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", socket)
			if err != nil {
				client.Close()
				return
			}
			up, down := directions(client, server)
			running.Go(up)
			running.Go(down)
		}
	})
	u.Host = listener.Addr().String()
	u.RawQuery = "sslmode=disable"
	return u.String()
}

// FreeAddress is one on loopback at which nobody listens, for a program that a
// test starts.
func FreeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// carry copies what arrives, each piece a delay later, and closes both ends.
func carry(to, from net.Conn, delay time.Duration, seen func()) {
	type piece struct {
		due  time.Time
		data []byte
	}
	pieces := make(chan piece, 1<<16)
	go func() {
		defer close(pieces)
		for {
			b := make([]byte, 64<<10)
			n, err := from.Read(b)
			if n > 0 {
				seen()
				pieces <- piece{time.Now().Add(delay), b[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		if delay > 0 {
			<-time.After(time.Until(p.due))
		}
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	for range pieces {
	}
}
