package history

import (
	"cmp"
	"fmt"
	"slices"
)

// Property is something that must hold of every history.
type Property string

// The properties.
const (
	NothingLost    Property = "no acknowledged operation is lost"
	NothingTwice   Property = "no operation takes effect twice"
	NothingMade    Property = "nothing takes effect that nobody sent"
	InOrder        Property = "each client's operations take effect in its order"
	Atomic         Property = "client transactions are atomic"
	RejectedOnce   Property = "every rejection is stored once"
	NothingHalf    Property = "no read sees half a transaction"
	AnswersAgree   Property = "answers say what happened"
	NobodyBlocked  Property = "no client is blocked for ever"
	Linearizable   Property = "registers and counters are linearizable"
	OnlyTransience Property = "failures are never blamed on the client"
)

// Violation is a property that does not hold, and where.
type Violation struct {
	Property Property
	Where    string
}

func (v Violation) String() string { return string(v.Property) + ": " + v.Where }

// Check returns what is wrong with a history that has ended.
func (h *History) Check() []Violation {
	c := &check{History: h, ops: map[opKey]*opFate{}, byEffect: map[string]opKey{}, stored: map[string]*Stored{}}
	c.index()
	c.lostOrTwice()
	c.order()
	c.transactions()
	c.rejections()
	c.halves()
	c.answers()
	c.linearizable()
	return c.found
}

type opKey struct{ client, op int }

// opFate is what became of an operation.
type opFate struct {
	tx       *Tx
	op       *Op
	effects  int
	stored   int // rejections that hold it
	sent     int64
	acked    int64 // 0 where it never was
	attempts int
}

type check struct {
	*History
	ops      map[opKey]*opFate
	inOrder  []opKey // as they were queued
	byEffect map[string]opKey
	stored   map[string]*Stored // by id
	found    []Violation
}

func (c *check) violated(p Property, format string, args ...any) {
	c.found = append(c.found, Violation{p, fmt.Sprintf(format, args...)})
}

func (c *check) index() {
	for i := range c.Txs {
		tx := &c.Txs[i]
		for j := range tx.Ops {
			op := &tx.Ops[j]
			key := opKey{tx.Client, op.ID}
			c.inOrder = append(c.inOrder, key)
			c.ops[key] = &opFate{tx: tx, op: op}
			if op.Effect != "" {
				c.byEffect[op.Effect] = key
			}
		}
	}
	for i := range c.Deliveries {
		c.indexDelivery(&c.Deliveries[i])
	}
	for _, e := range c.Effects {
		key, ok := c.byEffect[e.Name]
		if !ok || key.client != e.Client {
			c.violated(NothingMade, "effect %d is %q of client %d", e.Seq, e.Name, e.Client)
			continue
		}
		c.ops[key].effects++
	}
	for i := range c.Rejections {
		c.indexStored(&c.Rejections[i])
	}
}

func (c *check) indexDelivery(d *Delivery) {
	for id := d.First; id <= d.Last; id++ {
		f := c.ops[opKey{d.Client, id}]
		if f == nil {
			continue // op ids may have gaps
		}
		f.attempts++
		if f.sent == 0 || d.Sent < f.sent {
			f.sent = d.Sent
		}
		if d.Acknowledged() && (f.acked == 0 || d.Answered < f.acked) {
			f.acked = d.Answered
		}
	}
}

func (c *check) indexStored(s *Stored) {
	c.stored[s.ID] = s
	for _, id := range s.Ops {
		f := c.ops[opKey{s.Client, id}]
		if f == nil || f.tx.ID != s.Tx {
			c.violated(NothingMade, "rejection %s has operation %d of transaction %d of client %d", s.ID, id, s.Tx, s.Client)
			continue
		}
		f.stored++
	}
}

// lostOrTwice looks at each operation by itself: it has taken effect once, or
// is stored as rejected once.
func (c *check) lostOrTwice() {
	for _, key := range c.inOrder {
		f := c.ops[key]
		where := fmt.Sprintf("operation %d of client %d (transaction %d, %d attempts)", key.op, key.client, f.tx.ID, f.attempts)
		if f.acked == 0 {
			c.violated(NobodyBlocked, "%s was never acknowledged", where)
		}
		if f.effects > 1 {
			c.violated(NothingTwice, "%s took effect %d times", where, f.effects)
		}
		if f.stored > 1 {
			c.violated(RejectedOnce, "%s is in %d rejections", where, f.stored)
		}
		if f.effects > 0 && f.stored > 0 {
			c.violated(Atomic, "%s took effect and is stored as rejected", where)
		}
		if f.acked != 0 && f.op.Effect != "" && f.effects+f.stored == 0 {
			c.violated(NothingLost, "%s was acknowledged and left no trace", where)
		}
	}
}

// order: what a client's later database transaction did comes from later
// operations alone; and operations on one row follow each other also within one
// database transaction. Operations on different rows may be grouped in there,
// where nobody can see it.
func (c *check) order() {
	effects := slices.Clone(c.Effects)
	slices.SortFunc(effects, func(a, b Effect) int { return cmp.Compare(a.Seq, b.Seq) })
	type progress struct {
		dbTx        int64
		before, now int // the greatest op ids, of earlier database transactions and of this one too
	}
	clients := map[int]*progress{}
	rows := map[string]map[int]int{} // row → client → greatest op id
	for _, e := range effects {
		key, ok := c.byEffect[e.Name]
		if !ok {
			continue
		}
		p := clients[e.Client]
		if p == nil {
			p = &progress{dbTx: e.DBTx, before: -1, now: -1}
			clients[e.Client] = p
		}
		if p.dbTx != e.DBTx {
			p.dbTx, p.before = e.DBTx, p.now
		}
		p.now = max(p.now, key.op)
		row := rows[e.Row]
		if row == nil {
			row = map[int]int{}
			rows[e.Row] = row
		}
		last, seen := row[e.Client]
		if key.op < p.before || seen && key.op < last {
			c.violated(InOrder, "operation %d of client %d took effect after operation %d", key.op, key.client, max(p.before, last))
		}
		row[e.Client] = max(last, key.op)
	}
}

// transactions are applied whole or rejected whole, as they must be.
func (c *check) transactions() {
	for i := range c.Txs {
		tx := &c.Txs[i]
		withEffect, effects, stored := 0, 0, 0
		for _, op := range tx.Ops {
			f := c.ops[opKey{tx.Client, op.ID}]
			if op.Effect != "" {
				withEffect++
			}
			effects += min(f.effects, 1)
			stored += min(f.stored, 1)
		}
		where := fmt.Sprintf("transaction %d of client %d", tx.ID, tx.Client)
		if tx.Refused == "" && stored > 0 {
			c.violated(OnlyTransience, "%s was rejected", where)
		}
		if tx.Cut {
			continue
		}
		if effects != 0 && effects != withEffect {
			c.violated(Atomic, "of %s %d of %d operations took effect", where, effects, withEffect)
		}
		if stored != 0 && stored != len(tx.Ops) {
			c.violated(Atomic, "of %s %d of %d operations are stored as rejected", where, stored, len(tx.Ops))
		}
		if tx.Refused != "" && effects > 0 {
			c.violated(Atomic, "%s took effect and had to be refused", where)
		}
	}
}

// rejections are stored once for each transaction, with its code.
func (c *check) rejections() {
	type txKey struct{ client, tx int }
	txs := map[txKey]*Tx{}
	for i := range c.Txs {
		txs[txKey{c.Txs[i].Client, c.Txs[i].ID}] = &c.Txs[i]
	}
	times := map[txKey]int{}
	for _, s := range c.Rejections {
		key := txKey{s.Client, s.Tx}
		times[key]++
		tx := txs[key]
		if tx == nil || tx.Cut {
			continue
		}
		if times[key] == 2 {
			c.violated(RejectedOnce, "transaction %d of client %d is stored more than once", s.Tx, s.Client)
		}
		if tx.Refused != "" && s.Code != tx.Refused {
			c.violated(OnlyTransience, "transaction %d of client %d was rejected as %s, not %s", s.Tx, s.Client, s.Code, tx.Refused)
		}
	}
	for i := range c.Deliveries {
		d := &c.Deliveries[i]
		for _, r := range d.Rejected {
			s := c.stored[r.ID]
			known := s != nil && s.Client == d.Client && s.Tx == r.Tx && s.Code == r.Code
			if d.Uncounted {
				known = times[txKey{d.Client, r.Tx}] > 0
			}
			if !known {
				c.violated(RejectedOnce, "client %d was told of rejection %s of transaction %d (%s), which is not stored",
					d.Client, r.ID, r.Tx, r.Code)
			}
		}
	}
}

func (c *check) halves() {
	for _, r := range c.Reads {
		for _, s := range r.Seen {
			if s.Effects != s.Of {
				c.violated(NothingHalf, "a read saw %d of %d effects of transaction %d of client %d", s.Effects, s.Of, s.Tx, s.Client)
			}
		}
		for name, rows := range r.Registers {
			if rows[0] != rows[1] {
				c.violated(NothingHalf, "a read saw %d and %d in register %s", rows[0], rows[1], name)
			}
		}
	}
}

// retried are the statuses upon which a client tries again, whichever of the
// server and the proxy in front of it answers; 0 is none.
var retried = []int{0, 408, 429, 502, 503, 504}

// answers: each operation counts once, and what was acknowledged before is a
// duplicate. Whatever fails, a sound request is not refused for it.
func (c *check) answers() {
	for i := range c.Deliveries {
		d := &c.Deliveries[i]
		if !d.Acknowledged() {
			if !slices.Contains(retried, d.Status) {
				c.violated(OnlyTransience, "operations %d to %d of client %d were answered %d", d.First, d.Last, d.Client, d.Status)
			}
			continue
		}
		rejected := map[int]bool{}
		for _, r := range d.Rejected {
			rejected[r.Tx] = true
		}
		ops, inRejected, before := 0, 0, true
		for id := d.First; id <= d.Last; id++ {
			f := c.ops[opKey{d.Client, id}]
			if f == nil {
				continue
			}
			ops++
			if rejected[f.tx.ID] {
				inRejected++
			} else if d.Uncounted && f.tx.Refused != "" {
				c.violated(AnswersAgree, "transaction %d of client %d was refused and is called a success", f.tx.ID, d.Client)
			}
			before = before && f.acked < d.Sent
		}
		where := fmt.Sprintf("operations %d to %d of client %d", d.First, d.Last, d.Client)
		// A transaction that was cut may be rejected in part.
		sum := d.Applied + d.Duplicates + d.Ignored
		if !d.Uncounted && (sum+inRejected < ops || sum > ops) {
			c.violated(AnswersAgree, "of %s %d were applied, %d duplicates, %d ignored, %d rejected",
				where, d.Applied, d.Duplicates, d.Ignored, inRejected)
		}
		if before && d.Applied > 0 {
			c.violated(AnswersAgree, "%s were acknowledged before, and %d of them applied again", where, d.Applied)
		}
	}
}
