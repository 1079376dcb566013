package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/internal/identity"
)

// load calls work on so many connections for so long, and returns the sum of
// what it says to have done, per second. Bodies are made before the clock
// starts; the time that this takes is not counted.
func load(ctx context.Context, connections int, phase time.Duration, work func(ctx context.Context, connection int) (int, error)) (float64, error) {
	var done atomic.Int64
	var failed atomic.Value
	var group sync.WaitGroup
	started := time.Now()
	deadline := started.Add(phase)
	for c := range connections {
		group.Go(func() {
			for time.Now().Before(deadline) && failed.Load() == nil {
				n, err := work(ctx, c)
				if err != nil {
					failed.Store(err)
					return
				}
				done.Add(int64(n))
			}
		})
	}
	group.Wait()
	if err, ok := failed.Load().(error); ok {
		return 0, err
	}
	return float64(done.Load()) / time.Since(started).Seconds(), nil
}

// rows are new rows, as columns.
type rows struct{ id, owner, description, completed, amount, at []string }

func newRows(n int) *rows {
	r := &rows{}
	for range n {
		r.id = append(r.id, uuid())
		r.owner = append(r.owner, userID)
		r.description = append(r.description, fmt.Sprintf("buy %d things", rand.IntN(1_000_000)))
		r.completed = append(r.completed, "f")
		r.amount = append(r.amount, fmt.Sprint(rand.Int64()))
		r.at = append(r.at, "2026-01-02 03:04:05.678+00")
	}
	return r
}

func uuid() string {
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", rand.Uint32(), rand.Uint32()&0xffff, rand.Uint32()&0xfff, rand.Uint32()&0xfff, rand.Uint64()&0xffffffffffff)
}

// entry is one operation of an upload.
func (b *bench) entry(op, table, id, data string) string {
	n := atomic.AddInt64(&b.opID, 1)
	if data != "" {
		data = `,"data":` + data
	}
	return fmt.Sprintf(`{"op_id":%d,"tx_id":%d,"op":"%s","type":"%s","id":"%s"%s}`, n, n, op, table, id, data)
}

func (r *rows) data(i int) string {
	return fmt.Sprintf(`{"owner_id":"%s","description":"%s","completed":0,"amount":%s,"at":"2026-01-02T03:04:05.678Z"}`, r.owner[i], r.description[i], r.amount[i])
}

func (b *bench) putsOf(client string, r *rows, table string) []byte {
	entries := make([]string, len(r.id))
	for i := range r.id {
		entries[i] = b.entry("PUT", table, r.id[i], r.data(i))
	}
	return upload(client, entries)
}

func upload(client string, entries []string) []byte {
	return []byte(`{"client_id":"` + client + `","crud":[` + strings.Join(entries, ",") + `]}`)
}

const bareUnnest = `
INSERT INTO bench_b (id, owner_id, description, completed, amount, at)
SELECT a::uuid, b::uuid, c::text, d::boolean, e::bigint, f::timestamptz
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) AS d(a, b, c, d, e, f)
ON CONFLICT (id) DO UPDATE SET owner_id = excluded.owner_id, description = excluded.description,
    completed = excluded.completed, amount = excluded.amount, at = excluded.at`

const bareUpsert = `
INSERT INTO bench_b (id, owner_id, description, completed, amount, at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET owner_id = excluded.owner_id, description = excluded.description,
    completed = excluded.completed, amount = excluded.amount, at = excluded.at`

// feed makes what the connections of a side send, ahead of the clock.
type feed[T any] struct {
	make  func(connection int) T
	ready []chan T
}

// rowsAhead is more rows than Postgres takes in so long; there is room for so many
// small uploads as well, of which it takes fewer.
func rowsAhead(phase time.Duration) int { return int(250_000 * phase.Seconds()) }

const mostAhead = 4000 // for each connection

func newFeed[T any](connections, ahead int, produce func(connection int) T) *feed[T] {
	ahead = min(max(4, ahead), mostAhead)
	f := &feed[T]{make: produce, ready: make([]chan T, connections)}
	for c := range f.ready {
		f.ready[c] = make(chan T, ahead)
		for range ahead {
			f.ready[c] <- produce(c)
		}
	}
	return f
}

func (f *feed[T]) next(c int) T {
	select {
	case t := <-f.ready[c]:
		return t
	default:
		return f.make(c)
	}
}

func (b *bench) ferryPuts(connections, size int) side {
	return func(ctx context.Context, phase time.Duration) (float64, error) {
		run := uuid()
		f := newFeed(connections, rowsAhead(phase)/size/connections, func(c int) []byte {
			return b.putsOf(fmt.Sprintf("%s-%d", run, c), newRows(size), "bench_a")
		})
		return load(ctx, connections, phase, func(ctx context.Context, c int) (int, error) {
			return size, b.send(ctx, "/upload", f.next(c))
		})
	}
}

func (b *bench) barePuts(connections, size int) side {
	return func(ctx context.Context, phase time.Duration) (float64, error) {
		f := newFeed(connections, rowsAhead(phase)/size/connections, func(int) *rows { return newRows(size) })
		return load(ctx, connections, phase, func(ctx context.Context, c int) (int, error) {
			r := f.next(c)
			if size == 1 {
				_, err := b.pool.Exec(ctx, bareUpsert, r.id[0], r.owner[0], r.description[0], false, json.Number(r.amount[0]), time.Now())
				return 1, err
			}
			_, err := b.pool.Exec(ctx, bareUnnest, r.id, r.owner, r.description, r.completed, r.amount, r.at)
			return size, err
		})
	}
}

// sequential is what the official backends do: one awaited statement per row.
func (b *bench) sequential(ctx context.Context, phase time.Duration) (float64, error) {
	const size = 1000
	f := newFeed(1, int(15*phase.Seconds())+2, func(int) *rows { return newRows(size) })
	return load(ctx, 1, phase, func(ctx context.Context, c int) (int, error) {
		r := f.next(c)
		return size, pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
			for i := range r.id {
				if _, err := tx.Exec(ctx, bareUpsert, r.id[i], r.owner[i], r.description[i], false, json.Number(r.amount[i]), time.Now()); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (b *bench) puts(ctx context.Context) ([]figure, error) {
	one, err := b.ratio(ctx, b.ferryPuts(1, 1000), b.barePuts(1, 1000))
	if err != nil {
		return nil, err
	}
	four, err := b.ratio(ctx, b.ferryPuts(4, 1000), b.barePuts(4, 1000))
	if err != nil {
		return nil, err
	}
	sequential, err := b.ratio(ctx, b.ferryPuts(1, 1000), b.sequential)
	return []figure{
		atLeast("put1000_vs_unnest_c1", one, 0.85, "ratio"),
		atLeast("put1000_vs_unnest_c4", four, 0.9, "ratio"),
		atLeast("put1000_vs_sequential", sequential, 4, "ratio"),
	}, err
}

func (b *bench) single(ctx context.Context) ([]figure, error) {
	ratio, err := b.ratio(ctx, b.ferryPuts(16, 1), b.barePuts(16, 1))
	return []figure{atLeast("put1_vs_autocommit_c16", ratio, 0.3, "ratio")}, err
}

// mixed is batches of 40% PUT, 50% PATCH, 10% DELETE over three tables in runs
// of random length, on rows that are there.
func (b *bench) mixed(ctx context.Context) ([]figure, error) {
	const size = 1000
	names := []string{"bench_a", "bench_b", "bench_c"}
	known := map[string][]string{}
	for _, table := range names {
		r := newRows(20_000)
		known[table] = r.id
		for i := 0; i < len(r.id); i += 1000 {
			part := &rows{id: r.id[i : i+1000], owner: r.owner[i : i+1000], description: r.description[i : i+1000], amount: r.amount[i : i+1000]}
			if err := b.send(ctx, "/upload", b.putsOf("seed-"+table, part, table)); err != nil {
				return nil, err
			}
		}
	}
	if _, err := b.pool.Exec(ctx, `ANALYZE`); err != nil {
		return nil, err
	}
	batch := func(client string) []byte {
		var entries []string
		for len(entries) < size {
			table := names[rand.IntN(len(names))]
			ids := known[table]
			kind := rand.IntN(10)
			for range 1 + rand.IntN(40) {
				at := rand.IntN(len(ids))
				switch {
				case kind < 4:
					r := newRows(1)
					entries = append(entries, b.entry("PUT", table, r.id[0], r.data(0)))
					ids[at] = r.id[0]
				case kind < 9 || len(ids) == 1: // the last one stays
					entries = append(entries, b.entry("PATCH", table, ids[at], `{"completed":1}`))
				default:
					entries = append(entries, b.entry("DELETE", table, ids[at], ""))
					last := len(ids) - 1
					ids[at] = ids[last]
					ids = ids[:last]
				}
			}
			known[table] = ids
		}
		return upload(client, entries)
	}
	ferry := func(ctx context.Context, phase time.Duration) (float64, error) {
		client := uuid()
		// No more than are sent: what follows builds on them.
		f := newFeed(1, int(40*phase.Seconds())+2, func(int) []byte { return batch(client) })
		return load(ctx, 1, phase, func(ctx context.Context, c int) (int, error) { return size, b.send(ctx, "/upload", f.next(c)) })
	}
	ratio, err := b.ratio(ctx, ferry, b.sequential)
	return []figure{atLeast("mixed_vs_sequential", ratio, 2.5, "ratio")}, err
}

// tokens compares /token with a bare handler that does the same two HMACs and
// as much JSON.
func (b *bench) tokens(ctx context.Context) ([]figure, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // returns at once
	if err != nil {
		return nil, err
	}
	bare := &http.Server{Handler: http.HandlerFunc(bareToken), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = bare.Serve(listener) }()
	defer bare.Close()
	sessions, err := b.manySessions()
	if err != nil {
		return nil, err
	}
	var asked atomic.Int64
	asking := func(url string) side {
		return func(ctx context.Context, phase time.Duration) (float64, error) {
			return load(ctx, 8, phase, func(ctx context.Context, _ int) (int, error) {
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				if err != nil {
					return 0, err
				}
				request.Header.Set("Authorization", "Bearer "+sessions[asked.Add(1)%int64(len(sessions))])
				response, err := b.client.Do(request)
				if err != nil {
					return 0, err
				}
				defer response.Body.Close()
				var answer map[string]string
				return 1, json.NewDecoder(response.Body).Decode(&answer)
			})
		}
	}
	ratio, err := b.ratio(ctx, asking(b.url+"/token"), asking("http://"+listener.Addr().String()))
	return []figure{atLeast("token_vs_bare", ratio, 0.7, "ratio")}, err
}

// manySessions are as many users' sessions as can ask without reaching the limit
// of tokens per user and minute.
func (b *bench) manySessions() ([]string, error) {
	sessions := make([]string, 5000)
	for i := range sessions {
		var err error
		if sessions[i], err = identity.SignSession(b.sessionKey, uuid(), "", "", time.Now(), time.Hour); err != nil {
			return nil, err
		}
	}
	return sessions, nil
}

func bareToken(w http.ResponseWriter, r *http.Request) {
	key := []byte("0123456789abcdef0123456789abcdef")
	session := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(session, ".")
	check := hmac.New(sha256.New, key)
	check.Write([]byte(parts[0] + "." + parts[1]))
	check.Sum(nil)
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var claims map[string]any
	_ = json.Unmarshal(payload, &claims)
	now := time.Now()
	made, _ := json.Marshal(map[string]any{"sub": claims["sub"], "aud": "http://localhost:8080", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()})
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"bench","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(made)
	sign := hmac.New(sha256.New, key)
	sign.Write([]byte(text))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"endpoint": "http://localhost:8080", "token": text + "." + base64.RawURLEncoding.EncodeToString(sign.Sum(nil)),
		"expires_at": now.Add(time.Hour).UTC().Format(time.RFC3339), "user_id": claims["sub"],
	})
}

// startup restarts ferry a few times and takes the median.
func (b *bench) startup(ctx context.Context) ([]figure, error) {
	idle, err := b.memoryMiB("VmRSS")
	if err != nil {
		return nil, err
	}
	times := make([]float64, 0, 5)
	for range cap(times) {
		if err := b.endFerry(); err != nil {
			return nil, err
		}
		took, err := b.serve(ctx)
		if err != nil {
			return nil, err
		}
		times = append(times, float64(took.Microseconds())/1000)
	}
	return []figure{
		atMost("rss_idle_mib", idle, 25, "MiB"),
		atMost("startup_ms", median(times), 300, "ms"),
	}, nil
}

// memory drives 64 connections of 1,000-row uploads through a fresh ferry.
func (b *bench) memory(ctx context.Context) ([]figure, error) {
	if err := b.endFerry(); err != nil {
		return nil, err
	}
	if _, err := b.serve(ctx); err != nil {
		return nil, err
	}
	if _, err := b.ferryPuts(64, 1000)(ctx, 5*b.phase); err != nil {
		return nil, err
	}
	peak, err := b.memoryMiB("VmHWM")
	return []figure{atMost("rss_peak_mib", peak, 150, "MiB")}, err
}
