//go:build linux

package faults_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"ferry/test/faults/history"
)

const (
	registers = 8
	counters  = 4
)

// draft is a client transaction on its way into the queue.
type draft struct {
	d   *device
	tx  history.Tx
	ops []map[string]any
}

// fill makes the queue hold at least n operations.
func (d *device) fill(n int) {
	for len(d.queue) < n {
		f := d.draft()
		switch {
		case d.refused != "" && !d.cuts && d.random.IntN(2) == 0:
			f.patch(d.refused)
			f.tx.Refused, d.refused = "depends_on_rejected", ""
		default:
			f.compose()
		}
		f.enqueue()
	}
}

func (d *device) draft() *draft {
	d.txID++
	return &draft{d: d, tx: history.Tx{Client: d.number, ID: d.txID, Cut: d.cuts}}
}

// compose draws what the transaction does.
func (f *draft) compose() {
	d := f.d
	live := slices.Clone(d.live)
	for range 1 + d.random.IntN(4) {
		f.entry()
	}
	if d.random.IntN(4) == 0 {
		f.increment(fmt.Sprint(d.random.IntN(counters)))
	}
	if !d.cuts && d.random.IntN(4) == 0 {
		f.overwrite(fmt.Sprint(d.random.IntN(registers)))
	}
	if !d.cuts && d.random.IntN(15) == 0 {
		f.op("DELETE", "entries", fmt.Sprintf("%d.never", d.number), nil)
		f.last().Effect = ""
	}
	switch d.random.IntN(20) {
	case 0:
		f.put("value", -1)
		f.tx.Refused = "check_violation"
	case 1:
		if !d.cuts { // shows at COMMIT
			f.increment("none")
			f.last().Counter = ""
			f.tx.Refused = "foreign_key_violation"
		}
	}
	if f.tx.Refused == "" {
		return
	}
	for _, id := range d.live {
		if !slices.Contains(live, id) {
			d.refused = id
		}
	}
	d.live = live
}

func (f *draft) last() *history.Op { return &f.tx.Ops[len(f.tx.Ops)-1] }

// entry makes, changes, replaces or deletes a row of the device's own.
func (f *draft) entry() {
	d := f.d
	if len(d.live) == 0 || d.cuts {
		f.put("value", d.random.IntN(1000))
		return
	}
	at := d.random.IntN(len(d.live))
	id := d.live[at]
	switch d.random.IntN(6) {
	case 0:
		f.patch(id)
	case 1:
		f.op("PUT", "entries", id, map[string]any{"value": d.random.IntN(1000), "body": "replaced"})
	case 2:
		f.op("DELETE", "entries", id, nil)
		f.last().Effect = "-entries/" + id
		d.live = slices.Delete(slices.Clone(d.live), at, at+1)
	default:
		f.put("value", d.random.IntN(1000))
	}
}

// put makes a row.
func (f *draft) put(column string, value any) {
	id := fmt.Sprintf("%d.%d", f.d.number, f.d.opID+1)
	f.op("PUT", "entries", id, map[string]any{column: value, "body": strings.Repeat("x", f.d.random.IntN(300))})
	f.d.live = append(f.d.live[max(0, len(f.d.live)-50):], id)
}

func (f *draft) patch(id string) {
	f.op("PATCH", "entries", id, map[string]any{"value": f.d.random.IntN(1000)})
}

func (f *draft) increment(counter string) {
	f.op("PUT", "increments", fmt.Sprintf("%d.%d", f.d.number, f.d.opID+1), map[string]any{"counter": counter})
	f.last().Counter = counter
}

// overwrite writes both rows of a register, in either order: devices that do so
// at the same time deadlock.
func (f *draft) overwrite(register string) {
	f.tx.Register, f.tx.Value = register, f.d.number*1_000_000+f.tx.ID
	halves := []string{"a", "b"}
	f.d.random.Shuffle(2, func(i, j int) { halves[i], halves[j] = halves[j], halves[i] })
	for _, half := range halves {
		f.op("PATCH", "registers", register+half, map[string]any{"value": f.tx.Value})
	}
}

// op appends an operation, which names itself in its data once the size of the
// transaction is known.
func (f *draft) op(kind, table, id string, data map[string]any) {
	f.d.opID++
	if data != nil {
		data["client"] = f.d.number
	}
	f.tx.Ops = append(f.tx.Ops, history.Op{ID: f.d.opID, Row: table + "/" + id, Effect: "itself"})
	f.ops = append(f.ops, map[string]any{"op_id": f.d.opID, "tx_id": f.tx.ID, "op": kind, "type": table, "id": id, "data": data})
}

// enqueue puts the transaction into the queue and the history.
func (f *draft) enqueue() {
	size := 0
	for _, op := range f.ops {
		if op["data"].(map[string]any) != nil && !f.tx.Cut { //nolint:forcetypeassert // set by op
			size++
		}
	}
	for i, op := range f.ops {
		if data := op["data"].(map[string]any); data != nil { //nolint:forcetypeassert // set by op
			writer := fmt.Sprintf("%d.%d.%d.%d", f.d.number, f.tx.ID, f.tx.Ops[i].ID, size)
			data["writer"], f.tx.Ops[i].Effect = writer, writer
		}
		wire, _ := json.Marshal(op)
		f.d.queue = append(f.d.queue, queued{op: f.tx.Ops[i].ID, tx: f.tx.ID, wire: wire})
	}
	f.d.history.Queued(f.tx)
	if f.d.random.IntN(10) == 0 {
		f.d.opID += 1 + f.d.random.IntN(3) // op ids have gaps
	}
}
