package postgres_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// modelSQL makes the model's tables. Rows belong to whoever made them; the
// trigger notes every write, by whomever.
//
// A tag never moves from one row to another without a DELETE between (see
// tagOf): in one statement the rows of an UPDATE have no order, so that whether
// two of them collide is not for a sequential model to tell.
const modelSQL = `
CREATE TABLE folders (
    id       text PRIMARY KEY,
    title    text NOT NULL,
    size     numeric,
    owner_id text NOT NULL DEFAULT current_setting('app.user_id')
);
CREATE TABLE docs (
    id        uuid PRIMARY KEY,
    folder_id text NOT NULL REFERENCES folders ON DELETE CASCADE,
    body      text,
    owner_id  text NOT NULL DEFAULT current_setting('app.user_id')
);
CREATE TABLE scores (
    id       int PRIMARY KEY,
    value    int NOT NULL CHECK (value >= 0),
    tag      text UNIQUE,
    owner_id text NOT NULL DEFAULT current_setting('app.user_id')
);
-- A score of 13 is refused at COMMIT, if it is still there.
CREATE FUNCTION refuse_unlucky() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (SELECT FROM public.scores WHERE id = new.id AND value = 13) THEN RAISE EXCEPTION 'unlucky'; END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refuse_unlucky AFTER INSERT OR UPDATE ON scores
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_unlucky();
CREATE TABLE model_writes (row text, operation text);
CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.model_writes VALUES (tg_table_name || ' ' || coalesce(new.id, old.id), tg_op);
    RETURN NULL;
END $$;
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['folders', 'docs', 'scores'] LOOP
        EXECUTE format('CREATE TRIGGER note_write AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION note_write()', t);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY owned ON %I TO authenticated USING (owner_id = current_setting(''app.user_id''))', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO authenticated', t);
    END LOOP;
END $$;
`

// modelLinesSQL shows all that a model holds, one line for each fact, in the
// form of model.lines.
const modelLinesSQL = `
SELECT array(
    SELECT concat_ws('|', 'folders', id, title, coalesce(trim_scale(size)::text, '-'), owner_id) FROM folders
    UNION ALL SELECT concat_ws('|', 'docs', id, folder_id, coalesce(body, '-'), owner_id) FROM docs
    UNION ALL SELECT concat_ws('|', 'scores', id, value, coalesce(tag, '-'), owner_id) FROM scores
    UNION ALL SELECT concat_ws('|', 'writes', row, operation, count(*)) FROM model_writes GROUP BY row, operation
    UNION ALL SELECT concat_ws('|', 'progress', user_id, client_id, last_op_id) FROM ferry.progress
    UNION ALL SELECT concat_ws('|', 'rejection', id, user_id, client_id, tx_id, first_op_id, last_op_id,
        json_array_length(convert_from(operations, 'UTF8')::json), depends_on IS NOT NULL, state) FROM ferry.rejections
    ORDER BY 1)`

// emptyModelSQL makes the database what a new model is.
const emptyModelSQL = `
DELETE FROM docs; DELETE FROM folders; DELETE FROM scores; DELETE FROM model_writes;
DELETE FROM ferry.progress; DELETE FROM ferry.history; DELETE FROM ferry.timeouts; DELETE FROM ferry.rejections`

// modelOp is an operation of a program.
type modelOp struct {
	opID, txID int
	kind       string
	table, id  string
	data       map[string]any // string, int or nil
}

func (o modelOp) String() string {
	data, _ := json.Marshal(o.data)
	return fmt.Sprintf("%d/%d %s %s %q %s", o.opID, o.txID, o.kind, o.table, o.id, data)
}

// GoString is how a failing program shows an operation.
func (o modelOp) GoString() string { return o.String() }

func (o modelOp) row() string { return o.table + " " + o.id }

// key is what a redelivery has in common with the first delivery.
func (o modelOp) key(user, client string) string {
	data := ""
	if len(o.data) > 0 {
		b, _ := json.Marshal(o.data)
		data = string(b)
	}
	return fmt.Sprint(user, "|", client, "|", o.opID, "|", o.kind, "|", o.table, "|", o.id, "|", data)
}

// model is what the database should hold: the operations that were delivered,
// applied one after the other.
type model struct {
	rows       map[string]map[string]string // "table id" → column → value; NULL is absent
	writes     map[string]int               // "row|operation" → times
	known      map[string]modelVerdict
	rejections []*modelRejection
	progress   map[string]int // "user|client" → the greatest op id
}

type modelVerdict struct {
	ignored   bool
	rejection *modelRejection // nil if applied or ignored
}

// modelRejection is shared by the copies of a model: only its id and state
// change, and these only once it is certain.
type modelRejection struct {
	id           string // once the server has said it
	user, client string
	txID         int
	first, last  int // op ids
	operations   int
	puts         map[string]bool
	ops          []modelOp     // what is stored
	index        map[int]int   // of an op id within the client transaction
	reasons      []modelReason // any of which may be given
	state        string
	told         string // the code that was given
	depends      bool   // whether it was refused for another rejection at first
}

// modelReason is why a transaction is rejected. Which of several is found
// first is up to the database.
type modelReason struct {
	Code      string
	OpID      int
	OpIndex   int
	Table, ID string
}

func newModel() *model {
	return &model{
		rows: map[string]map[string]string{}, writes: map[string]int{},
		known: map[string]modelVerdict{}, progress: map[string]int{},
	}
}

// clone returns a copy that shares rows and rejections; rows are replaced,
// never changed.
func (m *model) clone() *model {
	return &model{
		rows: maps.Clone(m.rows), writes: maps.Clone(m.writes), known: maps.Clone(m.known),
		rejections: slices.Clone(m.rejections), progress: maps.Clone(m.progress),
	}
}

// expectation is what an answer should say.
type expectation struct {
	Applied, Duplicates, Ignored int
	rejections                   []*modelRejection
}

// deliver applies one upload.
func (m *model) deliver(user, client string, ops []modelOp) expectation {
	var e expectation
	for _, tx := range transactionsOf(ops) {
		m.deliverTransaction(user, client, tx, &e)
	}
	if n := len(ops); n > 0 {
		device := user + "|" + client
		m.progress[device] = max(m.progress[device], ops[n-1].opID)
	}
	return e
}

// transactionsOf groups neighbours with one tx_id.
func transactionsOf(ops []modelOp) [][]modelOp {
	var txs [][]modelOp
	for _, o := range ops {
		if n := len(txs); n > 0 && o.txID != 0 && txs[n-1][0].txID == o.txID {
			txs[n-1] = append(txs[n-1], o)
		} else {
			txs = append(txs, []modelOp{o})
		}
	}
	return txs
}

func (m *model) deliverTransaction(user, client string, tx []modelOp, e *expectation) {
	var open []modelOp
	for _, o := range tx {
		v, ok := m.known[o.key(user, client)]
		switch {
		case !ok:
			open = append(open, o)
		case v.rejection != nil:
			e.add(v.rejection)
		case v.ignored:
			e.Ignored++
		default:
			e.Duplicates++
		}
	}
	if len(open) == 0 {
		return
	}
	index := map[int]int{}
	for i, o := range tx {
		index[o.opID] = i
	}
	if m.continues(user, client, open[0]) {
		e.add(m.reject(user, client, open, index, []modelReason{reasonOf("depends_on_rejected", open[0], index)}))
		return
	}
	trial, ignored, reasons := m.try(user, client, open, index)
	if len(reasons) > 0 {
		e.add(m.reject(user, client, open, index, reasons))
		return
	}
	m.rows, m.writes = trial.rows, trial.writes
	for i, o := range open {
		m.known[o.key(user, client)] = modelVerdict{ignored: ignored[i]}
		if ignored[i] {
			e.Ignored++
		} else {
			e.Applied++
		}
	}
}

func reasonOf(code string, o modelOp, index map[int]int) modelReason {
	return modelReason{Code: code, OpID: o.opID, OpIndex: index[o.opID], Table: o.table, ID: o.id}
}

// try carries out a client transaction on a copy of the model. It returns which
// of its operations are ignored, or the reasons that it may be refused for.
func (m *model) try(user, client string, open []modelOp, index map[int]int) (trial *model, ignored map[int]bool, reasons []modelReason) {
	var soft []modelReason
	trial, ignored = m.clone(), map[int]bool{}
	for _, o := range open {
		if code := malformedIn(o); code != "" {
			reasons = append(reasons, reasonOf(code, o, index))
		}
	}
	for i, o := range open {
		codes, missing := trial.apply(user, o)
		for _, code := range codes {
			reasons = append(reasons, reasonOf(code, o, index))
		}
		switch {
		case len(codes) > 0:
		case missing == hiddenFromUser:
			soft = append(soft, reasonOf("forbidden", o, index))
		case missing == notThere && m.waitsForPut(user, client, o, open[i+1:]):
			soft = append(soft, reasonOf("depends_on_rejected", o, index))
		case missing == notThere:
			ignored[i] = true
		}
		if len(codes) > 0 {
			soft = append(soft, m.lookedFor(user, client, open[i+1:], index)...)
			break
		}
	}
	if trial.unlucky(open) { // nothing tells which of them it was
		for _, o := range open {
			soft = append(soft, reasonOf("raise_exception", o, index))
		}
	}
	return trial, ignored, append(reasons, soft...)
}

// lookedFor are the reasons that later operations of a refused transaction have of
// their own. One of them is found first where it was tried together with another
// transaction, in which the operation that fails would have gone through.
func (m *model) lookedFor(user, client string, later []modelOp, index map[int]int) (reasons []modelReason) {
	for i, o := range later {
		old := m.rows[o.row()]
		switch {
		case o.kind == "PUT", o.kind == "PATCH" && len(o.data) == 0:
		case old == nil && m.waitsForPut(user, client, o, later[i+1:]):
			reasons = append(reasons, reasonOf("depends_on_rejected", o, index))
		case old != nil && old["owner_id"] != user:
			reasons = append(reasons, reasonOf("forbidden", o, index))
		}
	}
	return reasons
}

// unlucky is whether operations left a score that is refused at COMMIT.
func (m *model) unlucky(ops []modelOp) bool {
	return slices.ContainsFunc(ops, func(o modelOp) bool {
		return o.table == "scores" && o.kind != "DELETE" && m.rows[o.row()]["value"] == unlucky
	})
}

const unlucky = "13"

// replay carries out a rejection that is open, and does not wait for another one
// that is, or returns why it is refused again.
func (m *model) replay(r *modelRejection) (applied, ignored int, reasons []modelReason) {
	r.state = "replayed"
	trial, gone, reasons := m.try(r.user, r.client, r.ops, r.index)
	if len(reasons) > 0 {
		r.state, r.reasons = "open", reasons
		return 0, 0, reasons
	}
	m.rows, m.writes = trial.rows, trial.writes
	return len(r.ops) - len(gone), len(gone), nil
}

func (e *expectation) add(r *modelRejection) {
	if !slices.Contains(e.rejections, r) {
		e.rejections = append(e.rejections, r)
	}
}

func (m *model) reject(user, client string, open []modelOp, index map[int]int, reasons []modelReason) *modelRejection {
	r := &modelRejection{
		user: user, client: client, txID: open[0].txID, first: open[0].opID, last: open[len(open)-1].opID,
		operations: len(open), puts: map[string]bool{}, ops: open, index: index, reasons: reasons, state: "open",
	}
	for _, o := range open {
		if o.kind == "PUT" {
			r.puts[o.row()] = true
		}
		m.known[o.key(user, client)] = modelVerdict{rejection: r}
	}
	m.rejections = append(m.rejections, r)
	return r
}

// continues is whether an operation's client transaction began with a part
// that stands rejected.
func (m *model) continues(user, client string, o modelOp) bool {
	return o.txID != 0 && slices.ContainsFunc(m.rejections, func(r *modelRejection) bool {
		return r.user == user && r.client == client && r.txID == o.txID && r.last < o.opID && r.state != "replayed"
	})
}

// waitsForPut is whether a row is missing because its PUT stands rejected. later
// is the rest of the transaction: an operation whose row is made anew behind it
// needs no rejected one.
func (m *model) waitsForPut(user, client string, o modelOp, later []modelOp) bool {
	if slices.ContainsFunc(later, func(l modelOp) bool { return l.kind == "PUT" && l.row() == o.row() }) {
		return false
	}
	return slices.ContainsFunc(m.rejections, func(r *modelRejection) bool {
		return r.user == user && r.state == "open" && r.puts[o.row()] && (r.client != client || r.first < o.opID)
	})
}

type missingRow int

const (
	found missingRow = iota
	notThere
	hiddenFromUser
)

// The columns of the model's tables, beside id, and which must not be NULL.
var modelColumns = map[string][]string{
	"folders": {"title", "size", "owner_id"},
	"docs":    {"folder_id", "body", "owner_id"},
	"scores":  {"value", "tag", "owner_id"},
}

var notNull = map[string]string{"folders": "title", "docs": "folder_id", "scores": "value"}

// malformedIn is what is wrong with an operation whatever the rows are.
func malformedIn(o modelOp) string {
	if modelColumns[o.table] == nil {
		return "unknown_table"
	}
	_, notInt := strconv.Atoi(o.id)
	if (o.table == "scores" && notInt != nil) || (o.table == "docs" && len(o.id) != 36) {
		return "invalid_text_representation"
	}
	for name := range o.data {
		if !slices.Contains(modelColumns[o.table], name) {
			return "unknown_column"
		}
	}
	if _, isText := o.data["value"].(string); isText {
		return "invalid_text_representation"
	}
	return ""
}

// apply carries out an operation, unless it returns codes.
func (m *model) apply(user string, o modelOp) (codes []string, missing missingRow) {
	old := m.rows[o.row()]
	switch {
	case malformedIn(o) != "", o.kind == "PATCH" && len(o.data) == 0:
		return nil, found
	case o.kind == "PUT" && old == nil:
		return m.write(user, o, map[string]string{"owner_id": user}, "INSERT"), found
	case o.kind == "PUT" && old["owner_id"] != user:
		return append(m.clone().write(user, o, map[string]string{"owner_id": user}, "INSERT"), "forbidden"), found
	case old == nil:
		return nil, notThere
	case old["owner_id"] != user:
		return nil, hiddenFromUser
	case o.kind == "DELETE":
		m.remove(o.row())
		return nil, found
	case len(o.data) == 0: // a PUT that changes nothing
		return nil, found
	}
	return m.write(user, o, old, "UPDATE"), found
}

func (m *model) write(user string, o modelOp, old map[string]string, operation string) (codes []string) {
	row := maps.Clone(old)
	for name, v := range o.data {
		if v == nil {
			delete(row, name)
		} else {
			row[name] = fmt.Sprint(v)
		}
	}
	if row["owner_id"] != user {
		codes = append(codes, "forbidden")
	}
	if _, ok := row[notNull[o.table]]; !ok {
		codes = append(codes, "not_null_violation")
	}
	if strings.HasPrefix(row["value"], "-") {
		codes = append(codes, "check_violation")
	}
	if folder, ok := row["folder_id"]; ok && m.rows["folders "+folder] == nil {
		codes = append(codes, "foreign_key_violation")
	}
	for other, values := range m.rows {
		if tag, ok := row["tag"]; ok && other != o.row() && strings.HasPrefix(other, o.table+" ") && values["tag"] == tag {
			codes = append(codes, "unique_violation")
		}
	}
	if len(codes) == 0 {
		m.rows[o.row()] = row
		m.writes[o.row()+"|"+operation]++
	}
	return codes
}

// remove deletes a row, and what hangs on it, whosever that is.
func (m *model) remove(name string) {
	delete(m.rows, name)
	m.writes[name+"|DELETE"]++
	folder, ok := strings.CutPrefix(name, "folders ")
	if !ok {
		return
	}
	for other, values := range m.rows {
		if strings.HasPrefix(other, "docs ") && values["folder_id"] == folder {
			delete(m.rows, other)
			m.writes[other+"|DELETE"]++
		}
	}
}

// lines shows the model as modelLinesSQL shows the database.
func (m *model) lines() []string {
	lines := []string{}
	for name, values := range m.rows {
		table, id, _ := strings.Cut(name, " ")
		line := table + "|" + id
		for _, column := range modelColumns[table] {
			line += "|" + cmp.Or(values[column], "-")
		}
		lines = append(lines, line)
	}
	for name, n := range m.writes {
		lines = append(lines, fmt.Sprintf("writes|%s|%d", name, n))
	}
	for device, last := range m.progress {
		lines = append(lines, fmt.Sprintf("progress|%s|%d", device, last))
	}
	for _, r := range m.rejections {
		tx := ""
		if r.txID != 0 {
			tx = fmt.Sprintf("|%d", r.txID)
		}
		depends := "f"
		if r.depends {
			depends = "t"
		}
		lines = append(lines, fmt.Sprintf("rejection|%s|%s|%s%s|%d|%d|%d|%s|%s",
			r.id, r.user, r.client, tx, r.first, r.last, r.operations, depends, r.state))
	}
	slices.Sort(lines)
	return lines
}
