package history

import (
	"slices"
	"testing"
)

// sound is a history in which all is well: two clients, a lost answer with its
// redelivery, a rejection told of twice, a transaction cut in two, reads.
func sound() *History {
	return &History{
		Txs: []Tx{
			{Client: 1, ID: 1, Ops: []Op{
				{ID: 1, Effect: "1.1", Row: "entries/1"},
				{ID: 2, Effect: "1.2", Row: "pairs/a", Counter: "c"},
				{ID: 3, Effect: "1.3", Row: "pairs/b"},
			}, Register: "r", Value: 11},
			{Client: 1, ID: 2, Ops: []Op{{ID: 4, Effect: "1.4", Row: "entries/4"}, {ID: 5, Effect: "1.5", Row: "entries/5"}}, Refused: "check_violation"},
			{Client: 1, ID: 3, Ops: []Op{{ID: 7, Effect: "1.7", Row: "entries/1"}, {ID: 8, Row: "entries/none"}}},
			{Client: 2, ID: 1, Ops: []Op{{ID: 1, Effect: "2.1", Row: "pairs/a", Counter: "c"}, {ID: 2, Effect: "2.2", Row: "pairs/b"}}, Register: "r", Value: 21},
			{Client: 2, ID: 2, Ops: []Op{{ID: 3, Effect: "2.3", Row: "entries/2"}, {ID: 4, Effect: "2.4", Row: "entries/3"}}, Cut: true},
		},
		Deliveries: []Delivery{
			{Client: 1, First: 1, Last: 5, Sent: 10, Answered: 20}, // lost
			{Client: 1, First: 1, Last: 5, Sent: 21, Answered: 30, Status: 200, Duplicates: 3, Rejected: []Rejection{{"x", "check_violation", 2}}},
			{Client: 1, First: 7, Last: 8, Sent: 31, Answered: 35, Status: 200, Applied: 1, Ignored: 1},
			{Client: 1, First: 1, Last: 5, Sent: 36, Answered: 40, Status: 200, Duplicates: 3, Rejected: []Rejection{{"x", "check_violation", 2}}},
			{Client: 1, First: 1, Last: 5, Sent: 41, Answered: 45, Status: 200, Uncounted: true, Rejected: []Rejection{{Tx: 2}}},
			{Client: 2, First: 1, Last: 3, Sent: 50, Answered: 60, Status: 200, Applied: 3},
			{Client: 2, First: 4, Last: 4, Sent: 61, Answered: 65, Status: 503},
			{Client: 2, First: 4, Last: 4, Sent: 66, Answered: 70, Status: 200, Applied: 1},
		},
		Reads: []Read{
			{Sent: 1, Answered: 2, Registers: map[string][2]int{"r": {0, 0}}, Counters: map[string]int{"c": 0}},
			{Sent: 41, Answered: 42, Registers: map[string][2]int{"r": {11, 11}}, Counters: map[string]int{"c": 1}, Seen: []Seen{{1, 1, 3, 3}}},
			{Sent: 71, Answered: 72, Registers: map[string][2]int{"r": {21, 21}}, Counters: map[string]int{"c": 2}},
		},
		Effects: []Effect{
			{Seq: 1, DBTx: 100, Client: 1, Row: "entries/1", Name: "1.1"},
			{Seq: 2, DBTx: 100, Client: 1, Row: "pairs/b", Name: "1.3"}, // grouped: nobody can tell
			{Seq: 3, DBTx: 100, Client: 1, Row: "pairs/a", Name: "1.2"},
			{Seq: 5, DBTx: 102, Client: 1, Row: "entries/1", Name: "1.7"},
			{Seq: 6, DBTx: 103, Client: 2, Row: "pairs/a", Name: "2.1"},
			{Seq: 7, DBTx: 103, Client: 2, Row: "pairs/b", Name: "2.2"},
			{Seq: 8, DBTx: 103, Client: 2, Row: "entries/2", Name: "2.3"},
			{Seq: 9, DBTx: 104, Client: 2, Row: "entries/3", Name: "2.4"},
		},
		Rejections: []Stored{{ID: "x", Code: "check_violation", Client: 1, Tx: 2, Ops: []int{4, 5}}},
	}
}

func TestASoundHistoryHasNoViolations(t *testing.T) {
	t.Parallel()
	if found := sound().Check(); len(found) > 0 {
		t.Errorf("violations of a sound history: %v", found)
	}
}

// Each way of breaking a history must be found, as the property that it breaks.
func TestEachBrokenHistoryIsCaught(t *testing.T) {
	t.Parallel()
	effect := func(h *History, name string) int {
		return slices.IndexFunc(h.Effects, func(e Effect) bool { return e.Name == name })
	}
	remove := func(h *History, names ...string) {
		h.Effects = slices.DeleteFunc(h.Effects, func(e Effect) bool { return slices.Contains(names, e.Name) })
	}
	tests := []struct {
		name   string
		breaks Property
		by     func(h *History)
	}{
		{"an acknowledged operation left nothing", NothingLost, func(h *History) { remove(h, "2.4") }},
		{"an acknowledged transaction left nothing", NothingLost, func(h *History) { remove(h, "2.1", "2.2") }},
		{"a rejected transaction was not stored", NothingLost, func(h *History) { h.Rejections = nil }},
		{"an effect came twice", NothingTwice, func(h *History) {
			h.Effects = append(h.Effects, Effect{Seq: 10, DBTx: 105, Client: 2, Row: "entries/3", Name: "2.4"})
		}},
		{"an effect came twice in one database transaction", NothingTwice, func(h *History) {
			h.Effects = append(h.Effects, Effect{Seq: 10, DBTx: 104, Client: 2, Row: "entries/3", Name: "2.4"})
		}},
		{"an effect came from nowhere", NothingMade, func(h *History) {
			h.Effects = append(h.Effects, Effect{Seq: 10, DBTx: 105, Client: 2, Row: "entries/9", Name: "2.9"})
		}},
		{"an effect is another client's", NothingMade, func(h *History) { h.Effects[effect(h, "2.4")].Client = 1 }},
		{"a rejection holds what was not in the transaction", NothingMade, func(h *History) { h.Rejections[0].Ops = []int{4, 5, 7} }},
		{"a later request took effect first", InOrder, func(h *History) {
			h.Effects[effect(h, "2.4")].Seq, h.Effects[effect(h, "2.4")].DBTx = 4, 101
		}},
		{"one row was written in the wrong order", InOrder, func(h *History) {
			i, j := effect(h, "1.1"), effect(h, "1.7")
			h.Effects[j].DBTx = 100
			h.Effects[i].Seq, h.Effects[j].Seq = h.Effects[j].Seq, h.Effects[i].Seq
		}},
		{"half a transaction took effect", Atomic, func(h *History) { remove(h, "1.2") }},
		{"half a transaction was rejected", Atomic, func(h *History) { h.Rejections[0].Ops = []int{5} }},
		{"a part of a refused transaction took effect", Atomic, func(h *History) {
			h.Effects = append(h.Effects, Effect{Seq: 4, DBTx: 101, Client: 1, Row: "entries/4", Name: "1.4"})
		}},
		{"a refused transaction was applied", Atomic, func(h *History) {
			h.Rejections = nil
			h.Effects = append(h.Effects,
				Effect{Seq: 4, DBTx: 101, Client: 1, Row: "entries/4", Name: "1.4"},
				Effect{Seq: 4, DBTx: 101, Client: 1, Row: "entries/5", Name: "1.5"})
		}},
		{"a rejection was stored twice", RejectedOnce, func(h *History) {
			again := h.Rejections[0]
			again.ID = "y"
			h.Rejections = append(h.Rejections, again)
		}},
		{"a redelivered rejection has another id", RejectedOnce, func(h *History) { h.Deliveries[3].Rejected = []Rejection{{"y", "check_violation", 2}} }},
		{"a good transaction was rejected", OnlyTransience, func(h *History) {
			remove(h, "2.1", "2.2")
			h.Rejections = append(h.Rejections, Stored{ID: "z", Code: "internal_error", Client: 2, Tx: 1, Ops: []int{1, 2}})
		}},
		{"a rejection has the wrong reason", OnlyTransience, func(h *History) { h.Rejections[0].Code = "internal_error" }},
		{"a failure is called the client's", OnlyTransience, func(h *History) { h.Deliveries[6].Status = 400 }},
		{"a failure is called the session's", OnlyTransience, func(h *History) { h.Deliveries[6].Status = 401 }},
		{"a read saw part of a transaction", NothingHalf, func(h *History) { h.Reads[1].Seen[0].Effects = 2 }},
		{"a read saw one of two rows", NothingHalf, func(h *History) { h.Reads[1].Registers["r"] = [2]int{11, 0} }},
		{"an answer counts too little", AnswersAgree, func(h *History) { h.Deliveries[2].Ignored = 0 }},
		{"an answer counts too much", AnswersAgree, func(h *History) { h.Deliveries[2].Applied = 5 }},
		{"what was acknowledged is applied again", AnswersAgree, func(h *History) { h.Deliveries[3].Applied, h.Deliveries[3].Duplicates = 3, 0 }},
		{"a refused transaction is called a success", AnswersAgree, func(h *History) { h.Deliveries[4].Rejected = nil }},
		{"a transaction is called rejected that is not", RejectedOnce, func(h *History) { h.Deliveries[4].Rejected[0].Tx = 1 }},
		{"an operation was never acknowledged", NobodyBlocked, func(h *History) { h.Deliveries[7].Status = 503 }},
		{"a read went back in time", Linearizable, func(h *History) { h.Reads[2].Registers["r"] = [2]int{11, 11} }},
		{"an acknowledged write is not seen", Linearizable, func(h *History) { h.Reads[1].Registers["r"] = [2]int{0, 0} }},
		{"a write is seen before it was sent", Linearizable, func(h *History) { h.Reads[0].Registers["r"] = [2]int{11, 11} }},
		{"a counter missed an increment", Linearizable, func(h *History) { h.Reads[2].Counters["c"] = 1 }},
		{"a counter counted twice", Linearizable, func(h *History) { h.Reads[2].Counters["c"] = 3 }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := sound()
			test.by(h)
			found := h.Check()
			if !slices.ContainsFunc(found, func(v Violation) bool { return v.Property == test.breaks }) {
				t.Errorf("found %v, want a violation of %q", found, test.breaks)
			}
		})
	}
}
