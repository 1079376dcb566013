package postgres_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// interruption is what becomes of a server's connections.
type interruption string

const (
	cutConnections    interruption = "cut" // the network: COMMIT may take effect unseen
	terminateBackends interruption = "terminate"
	cancelQueries     interruption = "cancel"
)

// proxy stands between a store and Postgres. It interrupts at a message that
// the test chose, so that a program does the same each time.
type proxy struct {
	t     *testing.T
	admin *pgxpool.Pool
	dir   string // of its socket
	real  string // Postgres' socket

	mu       sync.Mutex
	links    map[net.Conn]*link
	messages int // to let pass until then; 0: all
	how      interruption
	pids     []uint32 // of backends that may outlive their connection
	ended    sync.WaitGroup
}

// link is one connection to Postgres.
type link struct {
	client, server net.Conn
	pid            uint32
}

const socketName = ".s.PGSQL.5432"

func newProxy(t *testing.T, b *bundle) *proxy {
	t.Helper()
	config := b.admin.Config().ConnConfig
	dir, err := os.MkdirTemp("", "ferry-proxy-") // t.TempDir's name may be too long for a socket's
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, admin: b.admin, dir: dir, links: map[net.Conn]*link{}}
	p.real = filepath.Join(config.Host, fmt.Sprintf(".s.PGSQL.%d", config.Port))
	listener, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	p.ended.Go(func() { p.accept(listener) })
	t.Cleanup(func() {
		listener.Close()
		p.closeLinks()
		p.ended.Wait()
		os.RemoveAll(dir)
	})
	return p
}

// urlFor returns a connection string that leads through the proxy.
func (p *proxy) urlFor(direct string) string {
	u, err := url.Parse(direct)
	if err != nil {
		p.t.Fatal(err)
	}
	query := u.Query()
	query.Set("host", p.dir)
	query.Set("port", "5432")
	query.Set("sslmode", "disable")
	u.Host, u.RawQuery = "", query.Encode()
	return u.String()
}

// interruptAfter lets messages of the server pass and then interrupts, once.
func (p *proxy) interruptAfter(messages int, how interruption) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.messages, p.how = messages, how
}

// settle calls off an interruption that has not come, and waits until the
// backends of connections that were cut have ended: with their transactions.
func (p *proxy) settle(ctx context.Context) error {
	p.mu.Lock()
	pids := p.pids
	p.messages, p.pids = 0, nil
	p.mu.Unlock()
	for left := len(pids); left > 0; {
		const countSQL = `SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1::int[])`
		if err := p.admin.QueryRow(ctx, countSQL, pids).Scan(&left); err != nil {
			return err
		}
	}
	return nil
}

func (p *proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.real)
		if err != nil {
			client.Close()
			continue
		}
		l := &link{client: client, server: server}
		p.mu.Lock()
		p.links[client] = l
		p.mu.Unlock()
		p.ended.Go(func() { p.forward(l) })
		p.ended.Go(func() {
			_, _ = io.Copy(server, client) // until either side closes
			p.drop(l)
		})
	}
}

// forward passes on what the server says, message by message.
func (p *proxy) forward(l *link) {
	defer p.drop(l)
	header := make([]byte, 5)
	for {
		if _, err := io.ReadFull(l.server, header); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(header[1:])-4)
		if _, err := io.ReadFull(l.server, body); err != nil {
			return
		}
		if header[0] == 'K' { // BackendKeyData
			p.mu.Lock()
			l.pid = binary.BigEndian.Uint32(body)
			p.mu.Unlock()
		}
		if !p.passes() {
			return
		}
		if _, err := l.client.Write(append(header, body...)); err != nil {
			return
		}
	}
}

// passes counts a message, and is false for the one at which connections are
// cut.
func (p *proxy) passes() bool {
	p.mu.Lock()
	if p.messages == 0 {
		p.mu.Unlock()
		return true
	}
	p.messages--
	now, how := p.messages == 0, p.how
	var pids []uint32
	if now {
		for _, l := range p.links {
			pids = append(pids, l.pid)
		}
		if how != cancelQueries {
			p.pids = append(p.pids, pids...)
		}
	}
	p.mu.Unlock()
	if !now {
		return true
	}
	switch how {
	case cutConnections:
		p.closeLinks()
		return false
	case terminateBackends:
		p.signal(`SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid`, pids)
	case cancelQueries:
		p.signal(`SELECT pg_cancel_backend(pid) FROM unnest($1::int[]) AS pid`, pids)
	}
	return true
}

func (p *proxy) signal(sql string, pids []uint32) {
	if _, err := p.admin.Exec(context.WithoutCancel(p.t.Context()), sql, pids); err != nil {
		p.t.Error(err)
	}
}

func (p *proxy) closeLinks() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		l.client.Close()
		l.server.Close()
	}
}

func (p *proxy) drop(l *link) {
	p.mu.Lock()
	delete(p.links, l.client)
	p.mu.Unlock()
	l.client.Close()
	l.server.Close()
}
