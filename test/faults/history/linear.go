package history

import (
	"maps"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// undecidedAfter is how long porcupine may search. A history is made so that it
// takes well under a second.
const undecidedAfter = time.Minute

// linearizable hands each register and counter to porcupine: every read must be
// explained by writes that take effect at one instant each, between the first
// time that they were sent and the first time that they were acknowledged.
func (c *check) linearizable() {
	registers, counters := map[string][]porcupine.Operation{}, map[string][]porcupine.Operation{}
	last := c.end()
	for i := range c.Txs {
		tx := &c.Txs[i]
		for _, op := range tx.Ops {
			f := c.ops[opKey{tx.Client, op.ID}]
			if op.Counter == "" || f.effects == 0 {
				continue
			}
			counters[op.Counter] = append(counters[op.Counter], f.write(tx.Client, f.effects, last))
		}
		first := c.ops[opKey{tx.Client, tx.Ops[0].ID}]
		if tx.Register != "" && first.effects > 0 {
			registers[tx.Register] = append(registers[tx.Register], first.write(tx.Client, tx.Value, last))
		}
	}
	for _, r := range c.Reads {
		read := porcupine.Operation{ClientId: -1, Input: read{}, Call: r.Sent, Return: r.Answered}
		for name, rows := range r.Registers {
			read.Output = rows[0]
			registers[name] = append(registers[name], read)
		}
		for name, n := range r.Counters {
			read.Output = n
			counters[name] = append(counters[name], read)
		}
	}
	overwrite := func(_, value int) int { return value }
	add := func(state, n int) int { return state + n }
	for _, name := range slices.Sorted(maps.Keys(registers)) {
		c.explain("register "+name, overwrite, registers[name])
	}
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		c.explain("counter "+name, add, counters[name])
	}
}

type (
	read  struct{}
	write struct{ value int }
)

func (f *opFate) write(client, value int, end int64) porcupine.Operation {
	acked := f.acked
	if acked == 0 {
		acked = end
	}
	return porcupine.Operation{ClientId: client, Input: write{value}, Call: f.sent, Return: acked}
}

// end is after everything that was recorded.
func (c *check) end() int64 {
	var end int64
	for i := range c.Deliveries {
		end = max(end, c.Deliveries[i].Answered)
	}
	for i := range c.Reads {
		end = max(end, c.Reads[i].Answered)
	}
	return end + 1
}

// explain looks for an order of operations on a value that starts at 0.
func (c *check) explain(name string, apply func(state, value int) int, operations []porcupine.Operation) {
	model := porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, input, output any) (bool, any) {
			s := state.(int) //nolint:forcetypeassert // of this model
			if w, ok := input.(write); ok {
				return true, apply(s, w.value)
			}
			return output == s, s
		},
	}
	switch porcupine.CheckOperationsTimeout(model, operations, undecidedAfter) {
	case porcupine.Ok:
	case porcupine.Illegal:
		c.violated(Linearizable, "no order explains the %d operations on %s", len(operations), name)
	case porcupine.Unknown:
		c.violated(Linearizable, "no order was found within %s that explains the %d operations on %s", undecidedAfter, len(operations), name)
	}
}
