// Package history records what clients sent, what they were told, what others
// saw meanwhile and what a database held in the end, and checks that the one
// follows from the other. It knows nothing of how any of it came about.
package history

import "sync"

// Op is one operation of a client's queue.
type Op struct {
	ID int // op_id, rising within its client
	// Effect is what the database's trigger notes each time the operation takes
	// effect, unique to the operation; empty where it has none, because the row
	// is gone.
	Effect string
	Row    string // the row that it writes: table and id
	// Counter is what the operation raises by one, if anything.
	Counter string
}

// Tx is a client transaction.
type Tx struct {
	Client int
	ID     int // tx_id, unique within its client
	Ops    []Op
	// Refused is the code that the database must refuse it with; empty where it
	// must be applied.
	Refused string
	// Register is what the transaction overwrites with Value, if anything: two
	// rows, in one of both orders.
	Register string
	Value    int
	// Cut is whether its client may send it in parts, each of which is then a
	// transaction of its own.
	Cut bool
}

// Delivery is one request with operations from the front of a client's queue.
type Delivery struct {
	Client         int
	First, Last    int // op ids
	Sent, Answered int64
	// Status is the HTTP status; 0 where the client saw no answer.
	Status                       int
	Applied, Duplicates, Ignored int
	Rejected                     []Rejection
	// Uncounted is whether the answer only tells applied from rejected, as that
	// of the reference write API does.
	Uncounted bool
}

// Acknowledged is whether the client was told that everything is decided.
func (d *Delivery) Acknowledged() bool { return d.Status == 200 }

// Rejection is a rejected transaction as a client is told of it; the ID and code
// are empty where the answer has none.
type Rejection struct {
	ID, Code string
	Tx       int
}

// Stored is a rejection as the database has it in the end.
type Stored struct {
	ID, Code string
	Client   int
	Tx       int
	Ops      []int // op ids
}

// Effect is what the database's trigger noted, in the order of Seq.
type Effect struct {
	Seq    int64
	DBTx   int64 // the database transaction
	Client int
	Row    string
	Name   string // as in Op
}

// Read is what a second connection saw in one snapshot.
type Read struct {
	Sent, Answered int64
	Registers      map[string][2]int // both rows of each
	Counters       map[string]int
	Seen           []Seen
}

// Seen is how many effects of a client transaction a read saw.
type Seen struct{ Client, Tx, Effects, Of int }

// History is all of it. Times are in nanoseconds of one clock that never goes
// back. It may be recorded from many goroutines.
type History struct {
	mu         sync.Mutex
	Txs        []Tx
	Deliveries []Delivery
	Reads      []Read
	Effects    []Effect
	Rejections []Stored
}

// Queued records a transaction that a client has put into its queue.
func (h *History) Queued(tx Tx) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Txs = append(h.Txs, tx)
}

// Delivered records a request that has ended, in whatever way.
func (h *History) Delivered(d Delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Deliveries = append(h.Deliveries, d)
}

// Saw records a read.
func (h *History) Saw(r Read) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Reads = append(h.Reads, r)
}
