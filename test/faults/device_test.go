//go:build linux

package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"ferry/test/faults/history"
)

// device is a client with the upload queue of the SDK: it sends the front of
// its queue until a 200 takes it, cuts it another way each time, and may forget
// that it got a 200.
type device struct {
	number  int
	session string
	url     string
	history *history.History
	now     func() int64
	random  *rand.Rand
	cuts    bool // cuts client transactions, as getCrudBatch() does
	// reference is whether it speaks PowerSync's reference write API, which
	// answers each client transaction by itself.
	reference bool

	queue   []queued // what is to be sent
	sent    []queued // the end of what was acknowledged
	opID    int
	txID    int
	live    []string // rows that are there
	refused string   // a row whose PUT was refused
	client  *http.Client
	late    sync.WaitGroup
}

// queued is an operation with its place and its JSON.
type queued struct {
	op, tx int
	wire   json.RawMessage
}

// run fills and sends the queue until done is closed, and then empties it. It
// fails if ctx ends before that.
func (d *device) run(ctx context.Context, done <-chan struct{}) error {
	defer d.late.Wait()
	d.restart()
	defer func() { d.client.CloseIdleConnections() }()
	for {
		select {
		case <-done:
			if len(d.queue) == 0 {
				return nil
			}
		default:
			d.fill(1 + d.random.IntN(12))
		}
		if len(d.queue) > 0 {
			d.sendFront(ctx)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("device %d still has %d operations to send, from %d on: %w", d.number, len(d.queue), d.queue[0].op, err)
		}
		pause(ctx, time.Duration(d.random.IntN(40))*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// restart is what a new start of the app does to connections.
func (d *device) restart() {
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	d.client = &http.Client{Transport: &http.Transport{}}
}

// sendFront sends some of the queue, once.
func (d *device) sendFront(ctx context.Context) {
	n := d.cut(1 + d.random.IntN(20))
	front := d.queue[:n]
	n = d.send(ctx, d.client, front)
	front = front[:n]
	chance := d.random.IntN(100)
	switch {
	case n == 0:
		pause(ctx, time.Duration(50+d.random.IntN(250))*time.Millisecond)
		return
	case chance < 3: // the answer is lost, or the app ends before it notes it
		d.restart()
		return
	}
	d.sent = append(d.sent, front...)
	d.sent = d.sent[max(0, len(d.sent)-200):]
	d.queue = append([]queued(nil), d.queue[n:]...)
	switch {
	case chance < 8: // the request comes a second time, later
		again := append([]queued(nil), front...)
		wait := time.Duration(d.random.IntN(3000)) * time.Millisecond
		d.late.Go(func() {
			pause(ctx, wait)
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			d.send(ctx, client, again)
		})
	case chance < 10: // lost power: completed batches are in the queue again
		n := d.beginning(max(0, len(d.sent)-1-d.random.IntN(40)))
		d.queue = append(append([]queued(nil), d.sent[n:]...), d.queue...)
		d.sent = append([]queued(nil), d.sent[:n]...)
		d.restart()
	}
}

// cut returns how many operations to send, at least n if there are as many:
// whole transactions unless the device cuts them.
func (d *device) cut(n int) int {
	n = min(n, len(d.queue))
	for !d.cuts && n < len(d.queue) && d.queue[n].tx == d.queue[n-1].tx {
		n++
	}
	return n
}

// beginning returns the place of the first operation of the transaction at n in
// what was sent.
func (d *device) beginning(n int) int {
	for n > 0 && d.sent[n-1].tx == d.sent[n].tx {
		n--
	}
	return n
}

// send posts operations and records what came of it. It returns how many of
// them, from the first on, are decided.
func (d *device) send(ctx context.Context, client *http.Client, ops []queued) int {
	delivery := history.Delivery{Client: d.number, First: ops[0].op, Last: ops[len(ops)-1].op, Sent: d.now(), Uncounted: d.reference}
	decided := d.post(ctx, client, ops, &delivery)
	delivery.Answered = d.now()
	if rest := delivery; 0 < decided && decided < len(ops) {
		rest.First, rest.Status, rest.Rejected = ops[decided].op, http.StatusServiceUnavailable, nil
		d.history.Delivered(rest)
		delivery.Last = ops[decided-1].op
	}
	d.history.Delivered(delivery)
	return decided
}

// request is the body that carries operations, and where it goes.
func (d *device) request(ops []queued) (path string, body []byte) {
	if !d.reference {
		crud := make([]json.RawMessage, len(ops))
		for i := range ops {
			crud[i] = ops[i].wire
		}
		body, _ = json.Marshal(map[string]any{"client_id": fmt.Sprint("device ", d.number), "crud": crud})
		return "/upload", body
	}
	type transaction struct {
		ID   int               `json:"transaction_id"`
		Crud []json.RawMessage `json:"crud"`
	}
	var transactions []transaction
	for i, o := range ops {
		if i == 0 || o.tx != ops[i-1].tx {
			transactions = append(transactions, transaction{ID: o.tx})
		}
		last := &transactions[len(transactions)-1]
		last.Crud = append(last.Crud, o.wire)
	}
	body, _ = json.Marshal(map[string]any{"client_id": fmt.Sprint("device ", d.number), "transactions": transactions})
	return "/api/data", body
}

// patience is how long a client waits for an answer: mostly as long as
// PowerSync's connectors do, at times as long as an impatient user.
func patience() time.Duration {
	return []time.Duration{time.Second, 4 * time.Second, 30 * time.Second, 30 * time.Second}[rand.IntN(4)] //nolint:gosec // no secret
}

// post sends operations and returns how many of them are decided.
func (d *device) post(ctx context.Context, client *http.Client, ops []queued, delivery *history.Delivery) int {
	ctx, cancel := context.WithTimeout(ctx, patience())
	defer cancel()
	path, body := d.request(ops)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+path, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	request.Header.Set("Authorization", "Bearer "+d.session)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	var answer struct {
		Applied, Duplicates, Ignored int
		Rejected                     []struct {
			RejectionID string `json:"rejection_id"`
			Code        string
			TxID        int `json:"tx_id"`
		}
		Results []struct{ Status string }
	}
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode == http.StatusOK && json.Unmarshal(text, &answer) != nil {
		return 0 // cut off
	}
	delivery.Status = response.StatusCode
	if response.StatusCode != http.StatusOK {
		return 0
	}
	delivery.Applied, delivery.Duplicates, delivery.Ignored = answer.Applied, answer.Duplicates, answer.Ignored
	for _, r := range answer.Rejected {
		delivery.Rejected = append(delivery.Rejected, history.Rejection{ID: r.RejectionID, Code: r.Code, Tx: r.TxID})
	}
	if !d.reference {
		return len(ops)
	}
	// One result for each transaction, in order; what is behind a failure that
	// may pass was not attempted.
	decided := 0
	for _, result := range answer.Results {
		if result.Status != "success" && result.Status != "fatal_error" {
			break
		}
		tx := ops[decided].tx
		if result.Status == "fatal_error" {
			delivery.Rejected = append(delivery.Rejected, history.Rejection{Tx: tx})
		}
		for decided < len(ops) && ops[decided].tx == tx {
			decided++
		}
	}
	if decided == 0 {
		delivery.Status = http.StatusServiceUnavailable
	}
	return decided
}
