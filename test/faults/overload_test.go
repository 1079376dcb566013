//go:build linux

package faults_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	uploadSize    = 500 // operations
	crowd         = 1500
	overload      = 10 // times what ferry can take
	acceptedIn    = 10 * time.Second
	refusedIn     = 100 * time.Millisecond // half of them
	refusedAllIn  = 2 * time.Second        // 99 of 100, however busy the machine
	overloadedMiB = 400
	normalWithin  = 5 * time.Second
)

// loadSQL is a table that notes whether a row was ever written again. Its
// database takes its time over the first row of each upload, so that it is what
// limits ferry and not the processor, which the clients here need as well.
const loadSQL = `
CREATE TABLE loads (id text PRIMARY KEY, device int NOT NULL, note text NOT NULL);
CREATE TABLE rewrites (id text);
CREATE FUNCTION note_rewrite() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.rewrites VALUES (new.id);
    RETURN NULL;
END $$;
CREATE TRIGGER note_rewrite AFTER UPDATE ON loads FOR EACH ROW EXECUTE FUNCTION note_rewrite();
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.2);
    RETURN NULL;
END $$;
CREATE TRIGGER take_time AFTER INSERT ON loads FOR EACH ROW WHEN (new.note = 'first') EXECUTE FUNCTION take_time();
ALTER TABLE loads ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON loads TO authenticated USING (true);
GRANT SELECT, INSERT, UPDATE ON loads TO authenticated;`

// TestOverload sends ten times the load that ferry can take.
func TestOverload(t *testing.T) {
	skipUnlessAsked(t)
	c := newCrowd(t)
	capacity := c.capacity()
	var during tally
	length := min(60*time.Second, max(15*time.Second, *duration/4))
	c.offer(&during, overload*capacity, length)
	ended := time.Now()
	if err := c.ordinary(time.Second); err != nil {
		t.Errorf("%.1f s after the overload: %v", time.Since(ended).Seconds(), err)
	}
	normal := time.Since(ended)
	t.Logf("capacity %.0f uploads/s of %d operations; %d times that for %s: %d accepted (%.0f/s, p50 %s, p99 %s), %d refused (p50 %s, p99 %s), other statuses %v; peak memory %.0f MiB; normal after %s",
		capacity, uploadSize, overload, length, len(during.accepted), float64(len(during.accepted))/length.Seconds(),
		quantile(during.accepted, 0.5), quantile(during.accepted, 0.99), len(during.refused),
		quantile(during.refused, 0.5), quantile(during.refused, 0.99), during.others, c.ferry.memoryMiB(t, "VmHWM"), normal)
	if len(during.refused) == 0 {
		t.Error("nothing was refused: ferry takes in more than it can do")
	}
	if len(during.others) > 0 {
		t.Errorf("answers other than 200, 429 and 503: %v", during.others)
	}
	if p99 := quantile(during.accepted, 0.99); p99 > acceptedIn {
		t.Errorf("p99 of accepted uploads is %s, over %s", p99, acceptedIn)
	}
	if p50, p99 := quantile(during.refused, 0.5), quantile(during.refused, 0.99); p50 > refusedIn || p99 > refusedAllIn {
		t.Errorf("refused uploads were answered in %s (p50) and %s (p99), over %s or %s", p50, p99, refusedIn, refusedAllIn)
	}
	if got := float64(len(during.accepted)) / length.Seconds(); got < capacity/2 {
		t.Errorf("%.0f uploads/s were accepted under overload, less than half of the %.0f/s without", got, capacity)
	}
	if peak := c.ferry.memoryMiB(t, "VmHWM"); peak > overloadedMiB {
		t.Errorf("peak memory is %.0f MiB, over %d", peak, overloadedMiB)
	}
	if normal > normalWithin {
		t.Errorf("ferry was back to normal after %s, over %s", normal, normalWithin)
	}
	c.checkRows()
}

// members of a crowd are clients with one upload on its way each.
type member struct {
	number, done int // operations that were acknowledged
	session      string
}

type crowdOfMembers struct {
	t       *testing.T
	owner   string
	ferry   *ferry
	client  *http.Client
	idle    chan *member
	members []*member
}

func newCrowd(t *testing.T) *crowdOfMembers {
	t.Helper()
	database, f := newAlone(t)
	owner := database.url("postgres")
	conn, err := pgx.Connect(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConnection(conn)
	if _, err := conn.Exec(t.Context(), loadSQL, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	c := &crowdOfMembers{
		t: t, owner: owner, ferry: f, idle: make(chan *member, crowd),
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConns: crowd, MaxIdleConnsPerHost: crowd}},
	}
	t.Cleanup(c.client.CloseIdleConnections)
	for i := range crowd {
		m := &member{number: i, session: signIn(t, fmt.Sprint("member ", i%50))}
		c.members = append(c.members, m)
		c.idle <- m
	}
	return c
}

// tally is how long answers took, by kind.
type tally struct {
	mu                sync.Mutex
	accepted, refused []time.Duration
	others            map[int]int // by status; 0 is none
}

func (a *tally) add(status int, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch status {
	case http.StatusOK:
		a.accepted = append(a.accepted, took)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		a.refused = append(a.refused, took)
	default:
		if a.others == nil {
			a.others = map[int]int{}
		}
		a.others[status]++
	}
}

// upload sends a member's next operations, the same again until they are
// acknowledged.
func (c *crowdOfMembers) upload(m *member, operations int, a *tally) int {
	started := time.Now()
	status := 0
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "http://"+c.ferry.address+"/upload",
		bytes.NewReader(loadBody(m.number, m.done, operations)))
	if err == nil {
		request.Header.Set("Authorization", "Bearer "+m.session)
		request.Header.Set("Content-Type", "application/json")
		response, err := c.client.Do(request)
		if err != nil {
			c.t.Log(err)
		} else {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			status = response.StatusCode
		}
	}
	a.add(status, time.Since(started))
	if status == http.StatusOK {
		m.done += operations
	}
	return status
}

// loadBody has a member's operations from first on.
func loadBody(number, first, operations int) []byte {
	b := fmt.Appendf(make([]byte, 0, 128*operations), `{"client_id":"member %d","crud":[`, number)
	for n := first; n < first+operations; n++ {
		if n > first {
			b = append(b, ',')
		}
		b = append(b, `{"op":"PUT","type":"loads","op_id":`...)
		b = strconv.AppendInt(b, int64(n)+1, 10)
		b = append(b, `,"id":"`...)
		b = strconv.AppendInt(b, int64(number), 10)
		b = append(b, '.')
		b = strconv.AppendInt(b, int64(n), 10)
		note := "as long as a line of text"
		if n == first {
			note = "first"
		}
		b = append(b, `","data":{"note":"`...)
		b = append(b, note...)
		b = append(b, `","device":`...)
		b = strconv.AppendInt(b, int64(number), 10)
		b = append(b, "}}"...)
	}
	return append(b, "]}"...)
}

// capacity is how many uploads a second ferry does for as many clients as it
// has connections, each of which waits for its answer.
func (c *crowdOfMembers) capacity() float64 {
	c.t.Helper()
	const length = 4 * time.Second
	var before, measured tally
	c.closedLoop(&before, time.Second) // plans, catalog
	c.closedLoop(&measured, length)
	if len(measured.refused)+len(measured.others) > 0 || len(measured.accepted) == 0 {
		c.t.Fatalf("without overload %d uploads were accepted, %d refused, others %v", len(measured.accepted), len(measured.refused), measured.others)
	}
	return float64(len(measured.accepted)) / length.Seconds()
}

func (c *crowdOfMembers) closedLoop(a *tally, length time.Duration) {
	var wg sync.WaitGroup
	until := time.Now().Add(length)
	for range 16 {
		wg.Go(func() {
			m := <-c.idle
			for time.Now().Before(until) {
				c.upload(m, uploadSize, a)
			}
			c.idle <- m
		})
	}
	wg.Wait()
}

// offer sends uploads at a rate, whether earlier ones were answered or not, as
// long as there is a client without one on its way.
func (c *crowdOfMembers) offer(a *tally, rate float64, length time.Duration) {
	c.t.Helper()
	var wg sync.WaitGroup
	var missed atomic.Int64
	started := time.Now()
	sent := 0.0
	for time.Since(started) < length {
		for ; sent < rate*time.Since(started).Seconds(); sent++ {
			select {
			case m := <-c.idle:
				wg.Go(func() { c.upload(m, uploadSize, a); c.idle <- m })
			default:
				missed.Add(1)
			}
		}
		pause(c.t.Context(), 2*time.Millisecond)
	}
	wg.Wait()
	if missed.Load() > int64(sent)/2 {
		c.t.Errorf("of %.0f uploads %d could not be sent, because %d clients waited for answers", sent, missed.Load(), crowd)
	}
}

// ordinary waits until small uploads are answered within a limit, several in
// turn.
func (c *crowdOfMembers) ordinary(limit time.Duration) error {
	const inTurn = 10
	m := <-c.idle
	defer func() { c.idle <- m }()
	deadline := time.Now().Add(2 * normalWithin)
	for good := 0; good < inTurn; {
		started := time.Now()
		status := c.upload(m, 1, &tally{})
		good++
		if status != http.StatusOK || time.Since(started) > limit {
			good = 0
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("an upload of one operation was answered %d after %s", status, time.Since(started))
		}
	}
	return nil
}

// checkRows holds that what was acknowledged is there, once.
func (c *crowdOfMembers) checkRows() {
	c.t.Helper()
	conn, err := pgx.Connect(c.t.Context(), c.owner)
	if err != nil {
		c.t.Fatal(err)
	}
	defer closeConnection(conn)
	rows, err := conn.Query(c.t.Context(), "SELECT device, count(*)::int FROM loads GROUP BY device")
	if err != nil {
		c.t.Fatal(err)
	}
	there := map[int]int{}
	var device, count int
	if _, err := pgx.ForEachRow(rows, []any{&device, &count}, func() error { there[device] = count; return nil }); err != nil {
		c.t.Fatal(err)
	}
	for _, m := range c.members {
		// What was refused or lost last may be there as well.
		if n := there[m.number]; n < m.done || n > m.done+uploadSize {
			c.t.Errorf("of member %d %d operations were acknowledged and %d rows are there", m.number, m.done, n)
		}
	}
	var rewrites int
	if err := conn.QueryRow(c.t.Context(), "SELECT count(*) FROM rewrites").Scan(&rewrites); err != nil {
		c.t.Fatal(err)
	}
	if rewrites > 0 {
		c.t.Errorf("%d rows were written again", rewrites)
	}
}

func quantile(took []time.Duration, q float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	return sorted[int(q*float64(len(sorted)-1))].Round(time.Millisecond)
}
