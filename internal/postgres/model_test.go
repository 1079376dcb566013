package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ferry/internal/fault"
	"ferry/internal/postgres"
	"ferry/internal/uploads"
)

// TestUploadsEqualASequentialModel runs random programs of clients, whose
// uploads are cut, repeated, delayed, doubled and interrupted, and compares
// each answer and the database with a model that applies every operation once,
// in order. More programs: go test -run SequentialModel -rapid.checks=5000
func TestUploadsEqualASequentialModel(t *testing.T) {
	t.Parallel()
	b := setup(t, modelSQL)
	proxy := newProxy(t, b)
	quiet := func(o *postgres.Options) { o.Log = slog.New(slog.DiscardHandler) }
	stores := [2]*postgres.Store{b.open(quiet), b.open(quiet)}
	interrupted := b.open(func(o *postgres.Options) { quiet(o); o.URL = proxy.urlFor(o.URL) })
	rapid.Check(t, func(rt *rapid.T) {
		if _, err := b.admin.Exec(t.Context(), emptyModelSQL); err != nil {
			rt.Fatal(err)
		}
		p := &program{T: rt, b: b, stores: stores, interrupted: interrupted, proxy: proxy, model: newModel()}
		for _, name := range []string{"phone", "laptop"} {
			p.devices = append(p.devices, &device{user: alice, client: name}, &device{user: bob, client: name})
		}
		actions := []string{
			"upload", "upload", "redeliver", "twice", "together", "interrupt", "copy", "reset", "discard", "replay",
		}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			p.act(rapid.SampledFrom(actions).Draw(rt, "action"))
			p.compare()
		}
	})
}

func (p *program) act(action string) {
	switch action {
	case "upload":
		p.upload()
	case "redeliver":
		p.redeliver()
	case "twice":
		p.deliverTwice()
	case "together":
		p.deliverTogether()
	case "interrupt":
		p.interrupt()
	case "copy":
		p.copyDevice()
	case "reset":
		p.reset()
	case "discard":
		p.discard()
	case "replay":
		p.replay()
	}
}

// program is one run of random actions beside its model.
type program struct {
	*rapid.T
	b           *bundle
	stores      [2]*postgres.Store
	interrupted *postgres.Store // behind proxy
	proxy       *proxy
	model       *model
	devices     []*device
	lives       int
	stale       []delivery // the queues of client databases that are gone
}

// device is a client database. Its queue grows as it is uploaded.
type device struct {
	user, client string
	life         int // tells its client transactions from those of other databases
	queue        []modelOp
	sent         []modelOp // what was acknowledged
	opID, txID   int       // the last ones given
}

// delivery is an upload as a client sends it.
type delivery struct {
	user, client string
	ops          []modelOp
}

// GoString is how a failing program shows a device.
func (d *device) GoString() string {
	return fmt.Sprintf("%s %s, database %d, %d queued, %d sent", userName(d.user), d.client, d.life, len(d.queue), len(d.sent))
}

func (d *device) delivery(ops []modelOp) delivery { return delivery{d.user, d.client, ops} }

func (p *program) drawDevice() *device { return rapid.SampledFrom(p.devices).Draw(p.T, "device") }

// fill makes the device's queue hold at least n operations.
func (p *program) fill(d *device, n int) {
	operations := rapid.Custom(drawOp)
	for len(d.queue) < n {
		txID := 0
		if rapid.IntRange(0, 4).Draw(p.T, "alone") > 0 {
			d.txID++
			txID = 1000*d.life + d.txID
		}
		count := 1
		if txID > 0 {
			count = rapid.IntRange(1, 6).Draw(p.T, "operations")
		}
		for range count {
			d.opID += rapid.SampledFrom([]int{1, 1, 1, 3}).Draw(p.T, "op id gap")
			o := operations.Draw(p.T, "operation")
			o.opID, o.txID = d.opID, txID
			d.queue = append(d.queue, o)
		}
	}
}

// front is what a client sends: the front of its queue, cut anywhere.
func (p *program) front(d *device) []modelOp {
	n := rapid.IntRange(1, 7).Draw(p.T, "count")
	p.fill(d, n)
	return beforeRepair(slices.Clone(d.queue[:n]))
}

// beforeRepair cuts off the client transactions from the first one on that
// touches what an earlier one left to be refused at COMMIT. What several
// transactions are committed as is judged together: what the later one mends
// was never there.
func beforeRepair(ops []modelOp) []modelOp {
	broken := map[string]bool{}
	n := 0
	for _, tx := range transactionsOf(ops) {
		if slices.ContainsFunc(tx, func(o modelOp) bool { return broken[o.row()] }) {
			return ops[:n]
		}
		for _, o := range tx {
			if fmt.Sprint(o.data["value"]) == unlucky {
				broken[o.row()] = true
			}
		}
		n += len(tx)
	}
	return ops
}

// acknowledge takes from the queue what was sent.
func (d *device) acknowledge(n int) {
	d.sent = append(d.sent, d.queue[:n]...)
	d.queue = slices.Clone(d.queue[n:])
}

// drawOp is for a generator, so that a failing program shows whole operations.
func drawOp(t *rapid.T) modelOp {
	o := modelOp{
		kind:  rapid.SampledFrom([]string{"PUT", "PATCH", "DELETE", "PUT", "PATCH"}).Draw(t, "kind"),
		table: rapid.SampledFrom([]string{"scores", "folders", "docs", "scores", "folders", "docs"}).Draw(t, "table"),
		data:  map[string]any{},
	}
	n := rapid.IntRange(1, 3).Draw(t, "row")
	o.id = map[string]string{"scores": strconv.Itoa(n), "folders": "f" + strconv.Itoa(n), "docs": uid(n)}[o.table]
	if o.kind == "DELETE" {
		return o
	}
	flaw := rapid.IntRange(0, 24).Draw(t, "flaw")
	if flaw == 24 {
		o.data["no_such_column"] = 1
	}
	if flaw == 23 {
		o.data["owner_id"] = rapid.SampledFrom([]string{alice, bob}).Draw(t, "owner")
	}
	sparse := flaw >= 20 && flaw <= 22
	some := func(name string) bool {
		return (o.kind == "PUT" && !sparse) || rapid.Bool().Draw(t, "has "+name)
	}
	switch o.table {
	case "scores":
		if some("value") {
			o.data["value"] = rapid.SampledFrom([]any{0, 7, 42, 1000, -1, "none", 13}).Draw(t, "value")
		}
		if tag := tagOf(n); o.kind == "PUT" && rapid.Bool().Draw(t, "has tag") {
			o.data["tag"] = tag
		}
	case "folders":
		if some("title") {
			o.data["title"] = rapid.SampledFrom([]any{"A", "Zoë / \"é\"\t😀", nil}).Draw(t, "title")
		}
		if rapid.Bool().Draw(t, "has size") {
			o.data["size"] = rapid.SampledFrom([]any{0, 42, 9007199254740993, nil}).Draw(t, "size")
		}
	case "docs":
		if some("folder_id") {
			o.data["folder_id"] = fmt.Sprint("f", rapid.IntRange(1, 3).Draw(t, "folder"))
		}
		if rapid.Bool().Draw(t, "has body") {
			o.data["body"] = rapid.SampledFrom([]any{"x", `{"a": [1]}`, nil}).Draw(t, "body")
		}
	}
	return o
}

// tagOf is the one tag that a row may have; two rows share one.
func tagOf(n int) string { return []string{"a", "a", "b"}[n-1] }

func (p *program) upload() {
	d := p.drawDevice()
	ops := p.front(d)
	p.deliver(d.delivery(ops))
	if rapid.IntRange(0, 4).Draw(p.T, "response arrives") > 0 {
		d.acknowledge(len(ops))
	}
}

// redeliver sends again what was sent before, by this or an earlier database
// of the client, perhaps with new operations behind it.
func (p *program) redeliver() {
	if len(p.stale) > 0 && rapid.Bool().Draw(p.T, "of a database that is gone") {
		old := rapid.SampledFrom(p.stale).Draw(p.T, "database")
		from := rapid.IntRange(0, len(old.ops)-1).Draw(p.T, "from")
		old.ops = beforeRepair(old.ops[from:rapid.IntRange(from+1, min(from+9, len(old.ops))).Draw(p.T, "to")])
		p.deliver(old)
		return
	}
	d := p.drawDevice()
	ops, fresh := p.again(d)
	p.deliver(d.delivery(ops))
	d.acknowledge(fresh)
}

// again draws what a client may send again, and how many of these operations
// are still in its queue.
func (p *program) again(d *device) (ops []modelOp, fresh int) {
	back := rapid.IntRange(0, min(9, len(d.sent))).Draw(p.T, "sent before")
	ops = slices.Clone(d.sent[len(d.sent)-back:])
	if len(ops) > 0 && rapid.Bool().Draw(p.T, "nothing new") {
		return beforeRepair(ops[:rapid.IntRange(1, len(ops)).Draw(p.T, "to")]), 0
	}
	ops = beforeRepair(append(ops, p.front(d)...))
	return ops, max(0, len(ops)-back)
}

// deliverTwice sends two cuts of one client's operations at the same time, to
// two servers.
func (p *program) deliverTwice() {
	d := p.drawDevice()
	long, fresh := p.again(d)
	n := len(long)
	if rapid.Bool().Draw(p.T, "cut differently") {
		n = rapid.IntRange(1, n).Draw(p.T, "shorter")
	}
	first, second := d.delivery(long), d.delivery(long[:n])
	results := p.atOnce(first, second)
	p.mustBeOneOf([]order{{first, second}, {second, first}}, results)
	d.acknowledge(fresh)
}

// deliverTogether sends uploads of two clients at the same time, if they have
// no rows in common: else their order would matter, and is not known.
func (p *program) deliverTogether() {
	one, other := p.drawDevice(), p.drawDevice()
	if one.user == other.user && one.client == other.client {
		return
	}
	a, b := one.delivery(p.front(one)), other.delivery(p.front(other))
	if p.meet(a, b) {
		p.deliver(a)
		p.deliver(b)
	} else {
		results := p.atOnce(a, b)
		p.mustBeOneOf([]order{{a, b}}, results)
	}
	one.acknowledge(len(a.ops))
	other.acknowledge(len(b.ops))
}

// meet is whether two uploads may influence each other.
func (p *program) meet(a, b delivery) bool {
	touched := func(d delivery) map[string]bool {
		names := map[string]bool{}
		for _, o := range d.ops {
			names[o.row()] = true
			if o.table == "scores" {
				names["tag "+tagOf(int(o.id[0]-'0'))] = true
			}
			if folder, ok := o.data["folder_id"].(string); ok {
				names["folders "+folder] = true
			}
			if row := p.model.rows[o.row()]; row["folder_id"] != "" {
				names["folders "+row["folder_id"]] = true
			}
			if o.table == "folders" && o.kind == "DELETE" {
				for other, row := range p.model.rows {
					if row["folder_id"] == o.id {
						names[other] = true
					}
				}
			}
		}
		return names
	}
	mine, theirs := touched(a), touched(b)
	for name := range mine {
		if theirs[name] {
			return true
		}
	}
	return false
}

// interrupt breaks the server's connections in the middle of an upload. The
// client tries again, perhaps with more of its queue.
func (p *program) interrupt() {
	d := p.drawDevice()
	ops := p.front(d)
	how := rapid.SampledFrom([]interruption{cutConnections, terminateBackends, cancelQueries}).Draw(p.T, "how")
	lost := rapid.Bool().Draw(p.T, "response is lost")
	body, bodyAgain := p.spell(d.delivery(ops)), p.spell(d.delivery(ops))
	p.proxy.interruptAfter(rapid.IntRange(1, 60).Draw(p.T, "messages"), how)
	result, err := p.apply(p.interrupted, d.user, body)
	if err := p.proxy.settle(p.b.t.Context()); err != nil {
		p.Fatal(err)
	}
	results := []*uploads.Result{}
	deliveries := order{d.delivery(ops)}
	if err == nil {
		results = append(results, result)
	} else if fault.From(err).Code != fault.Unavailable {
		p.fail("an interrupted upload fails otherwise", "%v", err)
	}
	if err != nil || lost {
		again, err := p.apply(p.stores[0], d.user, bodyAgain)
		if err != nil {
			p.fail("an upload fails after an interruption", "%v", err)
		}
		results = append(results, again)
		if len(results) == 2 {
			deliveries = append(deliveries, d.delivery(ops))
		}
	}
	p.mustBeAfterInterruption(deliveries, results, err != nil)
	d.acknowledge(len(ops))
}

// reset makes the device begin with an empty database, under its old client id.
func (p *program) reset() {
	d := p.drawDevice()
	if len(d.sent) == 0 {
		return
	}
	p.lives++
	p.stale = append(p.stale, d.delivery(d.sent))
	*d = device{user: d.user, client: d.client, life: p.lives}
}

// copyDevice makes a second device go on with a copy of the database.
func (p *program) copyDevice() {
	if len(p.devices) > 6 {
		return
	}
	d := *p.drawDevice()
	p.lives++
	d.life = p.lives
	d.queue, d.sent = slices.Clone(d.queue), slices.Clone(d.sent)
	p.devices = append(p.devices, &d)
}

func (p *program) discard() {
	r := p.drawOpen()
	if r == nil {
		return
	}
	r.state = "discarded"
	if settled, err := p.b.rejections().Discard(p.b.t.Context(), r.id); err != nil || !settled {
		p.fail("a rejection is not discarded", "%v %v", settled, err)
	}
}

// drawOpen draws an open rejection; nil if there is none.
func (p *program) drawOpen() *modelRejection {
	var open []*modelRejection
	for _, r := range p.model.rejections {
		if r.state == "open" {
			open = append(open, r)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return rapid.SampledFrom(open).Draw(p.T, "rejection")
}

// replay replays an open rejection.
func (p *program) replay() {
	r := p.drawOpen()
	if r == nil {
		return
	}
	var got *postgres.Replayed
	if err := p.b.rejections().Replay(p.b.t.Context(), r.id, true, func(replayed *postgres.Replayed) { got = replayed }); err != nil {
		p.fail("a replay fails", "%v", err)
	}
	want := postgres.Replayed{ID: r.id, State: uploads.Open}
	code := ""
	if got.Refusal != nil {
		code = got.Refusal.Code
	}
	if p.waits(r) {
		if code != "depends_on_rejected" {
			p.fail("a replay does not wait for what it depends on", "%+v", got)
		}
		return
	}
	applied, ignored, reasons := p.model.replay(r)
	if len(reasons) > 0 {
		r.told = code
		if !slices.ContainsFunc(reasons, func(reason modelReason) bool { return reason.Code == code }) {
			p.fail("a replay is refused for another reason", "%q, want one of %+v", code, reasons)
		}
		want.Refusal = got.Refusal
	} else {
		want.State, want.Applied, want.Ignored = uploads.Replayed, applied, ignored
	}
	if diff := cmp.Diff(want, *got); diff != "" {
		p.fail("a replay differs", "(-want +got):\n%s", diff)
	}
}

// waits is whether a rejection depends on another one that is open.
func (p *program) waits(r *modelRejection) bool {
	stored, err := p.b.rejections().Find(p.b.t.Context(), r.id)
	if err != nil {
		p.Fatal(err)
	}
	return slices.ContainsFunc(p.model.rejections, func(other *modelRejection) bool {
		return other.id == stored.DependsOn && other.state == "open"
	})
}

// deliver sends an upload and holds the answer against the model's.
func (p *program) deliver(d delivery) {
	result, err := p.apply(p.stores[0], d.user, p.spell(d))
	if err != nil {
		p.fail("an upload fails", "%v: %s", err, d)
	}
	want := p.model.deliver(d.user, d.client, d.ops)
	p.mustAnswer(d, want, result)
}

// mustAnswer compares an answer with the model's.
func (p *program) mustAnswer(d delivery, want expectation, got *uploads.Result) {
	if diff := differs(d, want, got); diff != "" {
		p.fail("the answer differs", "answer to %s (-want +got):\n%s", d, diff)
	}
	learn(want, got)
}

func (p *program) spell(d delivery) string { return d.spell(rapid.Uint8().Draw(p.T, "spelling")) }

func (p *program) apply(store *postgres.Store, user, body string) (*uploads.Result, error) {
	up, err := uploads.Decode([]byte(body))
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", body, err)
	}
	return store.Apply(p.b.t.Context(), callerOf(user), up)
}

// atOnce sends two uploads at the same time to the two servers.
func (p *program) atOnce(a, b delivery) []*uploads.Result {
	results, errs := make([]*uploads.Result, 2), make([]error, 2)
	var wg sync.WaitGroup
	for i, d := range []delivery{a, b} {
		body := p.spell(d)
		wg.Go(func() { results[i], errs[i] = p.apply(p.stores[i], d.user, body) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		p.b.t.Log(err) // which a repetition may not meet again
		p.fail("an upload fails beside another", "%v", err)
	}
	return results
}

// fail ends the program. What differs from run to run, ids among it, must not
// be in the message: rapid shrinks only what fails twice in the same way.
func (p *program) fail(message, format string, details ...any) {
	p.Logf(format, details...)
	p.Fatal(message)
}

// compare holds the database against the model.
func (p *program) compare() {
	if diff := cmp.Diff(p.model.lines(), p.database()); diff != "" {
		p.fail("the database differs", "(-model +database):\n%s", diff)
	}
}

func (p *program) database() []string {
	var lines []string
	if err := p.b.admin.QueryRow(p.b.t.Context(), modelLinesSQL).Scan(&lines); err != nil {
		p.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

// order is a sequence in which uploads may have been applied.
type order []delivery

// mustBeOneOf accepts the answers to uploads that ran at the same time if some
// order explains them and the database. results are those of orders[0].
func (p *program) mustBeOneOf(orders []order, results []*uploads.Result) {
	before := p.model
	explanation := ""
	for _, o := range orders {
		p.model = before.clone()
		applied, given := 0, 0
		var merged []expectation
		for _, d := range o {
			applied += p.model.deliver(d.user, d.client, d.ops).Applied
		}
		diff := ""
		for i, d := range orders[0] { // each again: what became of its operations in the end
			want := p.model.deliver(d.user, d.client, d.ops)
			got := *results[i]
			given += got.Applied
			got.Duplicates, got.Applied = got.Duplicates+got.Applied, 0
			diff += differs(d, want, &got)
			merged = append(merged, want)
		}
		if applied != given {
			diff += fmt.Sprintf("%d operations were told to be applied now, want %d\n", given, applied)
		}
		if diff == "" {
			for i, want := range merged {
				learn(want, results[i])
			}
			diff = cmp.Diff(p.model.lines(), p.database())
		}
		if diff == "" {
			return
		}
		explanation += fmt.Sprintf("if in the order %s (-want +got):\n%s", o, diff)
	}
	p.b.t.Log(explanation) // which a repetition may not meet again
	p.fail("two uploads at the same time differ from each order", "%s", explanation)
}

// mustBeAfterInterruption accepts the answers to an upload and its retry. After
// an error some of the operations that took effect count as duplicates.
func (p *program) mustBeAfterInterruption(deliveries order, results []*uploads.Result, failed bool) {
	d := deliveries[0]
	applied := p.model.deliver(d.user, d.client, d.ops).Applied
	given := 0
	for _, r := range results {
		want := p.model.deliver(d.user, d.client, d.ops) // all known by now
		got := *r
		given += got.Applied
		got.Duplicates, got.Applied = got.Duplicates+got.Applied, 0
		p.mustAnswer(d, want, &got)
	}
	if given > applied || (given < applied && !failed) {
		p.fail("operations are counted wrongly after an interruption", "applied %d, want %d: %s", given, applied, d)
	}
}

// differs compares an answer with what is expected, but for ids not yet known.
func differs(d delivery, want expectation, got *uploads.Result) string {
	type answer struct {
		Applied, Duplicates, Ignored int
		LastOpID                     int64
		ExactlyOnce                  bool
		Rejected                     []string
	}
	last := d.ops[len(d.ops)-1].opID
	w := answer{want.Applied, want.Duplicates, want.Ignored, int64(last), true, nil}
	g := answer{got.Applied, got.Duplicates, got.Ignored, -1, got.ExactlyOnce, nil}
	if got.LastOpID != nil {
		g.LastOpID = *got.LastOpID
	}
	for _, r := range want.rejections {
		line := r.String()
		if i := slices.IndexFunc(got.Rejected, r.explains); i >= 0 {
			line = shown(got.Rejected[i])
		}
		w.Rejected = append(w.Rejected, line)
	}
	for _, r := range got.Rejected {
		g.Rejected = append(g.Rejected, shown(r))
	}
	slices.Sort(w.Rejected) // within a client transaction their order says nothing
	slices.Sort(g.Rejected)
	return cmp.Diff(w, g)
}

func shown(r uploads.Rejection) string {
	b, _ := json.Marshal(r)
	return string(b)
}

func (r *modelRejection) String() string {
	return fmt.Sprintf("rejection %q (%s) of tx %d, %d to %d, for one of %+v", r.id, r.state, r.txID, r.first, r.last, r.reasons)
}

// GoString is how a failing program shows a rejection.
func (r *modelRejection) GoString() string {
	return fmt.Sprintf("of tx %d, %d to %d", r.txID, r.first, r.last)
}

// explains is whether an answer's rejection can be r.
func (r *modelRejection) explains(got uploads.Rejection) bool {
	if (r.id != "" && (got.ID != r.id || got.Code != r.told)) || string(got.State) != r.state || got.OpID == nil {
		return false
	}
	if (got.TxID == nil) != (r.txID == 0) || (got.TxID != nil && *got.TxID != int64(r.txID)) {
		return false
	}
	return slices.Contains(r.reasons, modelReason{
		Code: got.Code, OpID: int(*got.OpID), OpIndex: got.OpIndex, Table: got.Table, ID: got.RowID,
	})
}

// learn notes what the server calls the rejections.
func learn(want expectation, got *uploads.Result) {
	for _, r := range want.rejections {
		i := slices.IndexFunc(got.Rejected, r.explains)
		if r.id == "" {
			r.depends = got.Rejected[i].Code == "depends_on_rejected"
		}
		r.id, r.told = got.Rejected[i].ID, got.Rejected[i].Code
	}
}

func userName(user string) string { return map[string]string{alice: "alice", bob: "bob"}[user] }

func (d delivery) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s:", userName(d.user), d.client)
	for _, o := range d.ops {
		fmt.Fprintf(&b, "\n\t%s", o)
	}
	return b.String()
}

// spell writes the request in one of many ways; 0 is the plain one.
func (d delivery) spell(seed uint8) string {
	s := speller{rand.New(rand.NewPCG(uint64(seed), 0)), seed == 0} //nolint:gosec // repeatable on purpose
	entries := make([]string, len(d.ops))
	for i, o := range d.ops {
		members := []string{
			`"op_id":` + strconv.Itoa(o.opID), `"op":` + s.text(o.kind), `"type":` + s.text(o.table), `"id":` + s.text(o.id),
		}
		if o.txID != 0 {
			members = append(members, `"tx_id":`+strconv.Itoa(o.txID))
		}
		if len(o.data) > 0 || (!s.plain && s.IntN(2) == 0) {
			members = append(members, `"data":`+s.object(o.data))
		}
		entries[i] = s.members(members)
	}
	return `{"client_id":` + s.text(d.client) + `,"crud":[` + strings.Join(entries, ",") + `]}`
}

type speller struct {
	*rand.Rand
	plain bool
}

func (s speller) members(members []string) string {
	if !s.plain {
		s.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (s speller) object(data map[string]any) string {
	var members []string
	for _, name := range slices.Sorted(maps.Keys(data)) {
		value := "null"
		switch v := data[name].(type) {
		case string:
			value = s.text(v)
		case int:
			value = strconv.Itoa(v)
			if !s.plain {
				value += []string{"", ".0", ".000", "e0"}[s.IntN(4)]
			}
		}
		members = append(members, s.text(name)+":"+value)
	}
	return s.members(members)
}

func (s speller) text(text string) string {
	if s.plain || s.IntN(2) == 0 {
		b, _ := json.Marshal(text)
		return string(b)
	}
	return strings.ReplaceAll(strconv.QuoteToASCII(text), `\U0001f600`, `\uD83D\uDE00`)
}
