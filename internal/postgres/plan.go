package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"ferry/internal/uploads"
)

// step is one statement of an upload, and the operations it carries out.
type step struct {
	kind   uploads.Kind
	shape  shape
	arrays []textArray // the ids, then one per column
	refs   []int       // of the operations, in the order of the arrays
	seen   map[string]struct{}
	full   bool // no more may join; at once where ids of this type cannot be compared here
}

func (s *step) params() []param {
	params := make([]param, len(s.arrays))
	for i := range s.arrays {
		params[i] = textArrayParam(s.arrays[i].bytes())
	}
	return params
}

// planRefusal is an operation that was refused without asking the database.
type planRefusal struct {
	ref     int
	refusal uploads.Refusal
}

// planner turns operations into as few statements as possible, in their order:
// neighbours of one kind, on one table, with one set of columns share one.
type planner struct {
	catalog  *catalog
	atMost   int // operations in one statement
	steps    []*step
	refusals []planRefusal
	current  *step
	names    []uploads.Field // of the operation that current was made for
	expected int             // operations still to come, at most
}

// together is the most operations for one statement where it does not matter
// which one is refused.
const together = math.MaxInt

// plan returns the statements for ops, each of at most so many, and the
// operations that cannot have one.
// An operation without any effect (a PATCH of nothing) has neither.
func plan(c *catalog, ops []*uploads.Operation, atMost int) ([]*step, []planRefusal) {
	p := &planner{catalog: c, atMost: atMost, expected: len(ops)}
	for ref, op := range ops {
		if err := p.add(ref, op); err != nil {
			p.refusals = append(p.refusals, planRefusal{ref, *err})
		}
		p.expected--
	}
	// A step whose every operation was refused has nothing to do.
	p.steps = slices.DeleteFunc(p.steps, func(s *step) bool { return len(s.refs) == 0 })
	return p.steps, p.refusals
}

func (p *planner) add(ref int, op *uploads.Operation) *uploads.Refusal {
	s, refusal := p.stepFor(op)
	if refusal != nil || s == nil {
		return refusal
	}
	id, refusal := idText(s.shape.table.id.typ, op.ID)
	if refusal != nil {
		return refusal
	}
	key, comparable := rowKey(s.shape.table.id, id)
	if _, twice := s.seen[key]; twice || s.full {
		s = p.open(op.Kind, s.shape.table, s.shape.columns, op.Fields)
	}
	if refusal := s.append(ref, op, id); refusal != nil {
		return refusal
	}
	s.full = !comparable || len(s.refs) >= p.atMost
	s.seen[key] = struct{}{}
	return nil
}

// stepFor returns the step that op may join: the current one, or a new one. It
// is nil for an operation without effect.
func (p *planner) stepFor(op *uploads.Operation) (*step, *uploads.Refusal) {
	if op.Malformed != "" {
		return nil, &uploads.Refusal{
			Code:    uploads.CodeMalformedValue,
			Message: op.Malformed + ", which Postgres cannot hold",
		}
	}
	t, refusal := p.catalog.writable(op.Table)
	if refusal != nil {
		return nil, refusal
	}
	if s := p.current; s != nil && s.kind == op.Kind && s.shape.table == t && sameNames(p.names, op.Fields) {
		return s, nil
	}
	columns, refusal := t.writtenColumns(op)
	if refusal != nil {
		return nil, refusal
	}
	if op.Kind == uploads.Patch && len(columns) == 0 {
		return nil, nil
	}
	return p.open(op.Kind, t, columns, op.Fields), nil
}

func (p *planner) open(kind uploads.Kind, t *table, columns []*column, names []uploads.Field) *step {
	// Most steps are short, and there is one for each operation of a client
	// transaction that is tried singly: a long one grows as it fills.
	hint := min(p.expected, p.atMost, 32)
	s := &step{
		kind:   kind,
		shape:  shape{table: t, columns: columns, keepInfinity: make([]bool, len(columns))},
		arrays: make([]textArray, len(columns)+1),
		seen:   make(map[string]struct{}, hint),
	}
	if kind == uploads.Put {
		s.shape.absent = t.absent(columns)
	}
	for i := range s.arrays {
		s.arrays[i] = newTextArray(24 * hint)
	}
	p.current, p.names = s, names
	p.steps = append(p.steps, s)
	return s
}

// maxRowBytes is the largest row that the PowerSync Service replicates.
//
// Source: PowerSync documentation, "Performance and Limits".
const maxRowBytes = 15 << 20

// append adds op's row to the arrays, or nothing if one of its values cannot
// be converted.
func (s *step) append(ref int, op *uploads.Operation, id string) *uploads.Refusal {
	marks := make([]int, len(s.arrays))
	for i := range s.arrays {
		marks[i] = len(s.arrays[i].buf)
	}
	s.arrays[0].addText(id)
	next, size := 0, len(id)
	for i, c := range s.shape.columns {
		for op.Fields[next].Name != c.client {
			next++ // a column that is left out of writes
		}
		if err := s.appendColumn(i, c, op.Fields[next].Value); err != nil {
			s.drop(marks[:i+1])
			return conversionRefusal(err, c.name)
		}
		// Neither what is sent nor its text form is shorter than the value.
		size += min(len(op.Fields[next].Value), len(s.arrays[i+1].buf)-marks[i+1])
	}
	if size > maxRowBytes {
		s.drop(marks)
		return &uploads.Refusal{
			Code:    uploads.CodeTooLarge,
			Message: fmt.Sprintf("the row has over %d bytes, more than the PowerSync Service replicates", maxRowBytes),
		}
	}
	s.refs = append(s.refs, ref)
	return nil
}

// drop removes the last element of the first arrays, which began at marks.
func (s *step) drop(marks []int) {
	for i, mark := range marks {
		s.arrays[i].drop(mark)
	}
}

func (s *step) appendColumn(i int, c *column, v json.RawMessage) error {
	a := &s.arrays[i+1]
	if isNull(v) {
		a.addNull()
		return nil
	}
	return a.add(func(dst []byte) ([]byte, error) {
		start := len(dst)
		dst, err := appendColumnValue(dst, c, v)
		if err == nil && c.canSelect && !s.shape.keepInfinity[i] {
			s.shape.keepInfinity[i] = c.typ.mayBeInfinity(dst[start:])
		}
		return dst, err
	})
}

// appendColumnValue is appendValue with what is set for a column.
func appendColumnValue(dst []byte, c *column, v json.RawMessage) ([]byte, error) {
	if c.hexBytea && v[0] == '"' && !bytes.HasPrefix(v[1:], []byte(`\\`)) {
		v = slices.Concat([]byte(`"\\x`), v[1:])
	}
	return appendValue(dst, c.typ, v)
}

// writable finds the table that a client's name stands for.
func (c *catalog) writable(name string) (*table, *uploads.Refusal) {
	t := c.tables[name]
	switch {
	case t == nil:
		return nil, &uploads.Refusal{Code: uploads.CodeUnknownTable, Message: "there is no table " + shown(name)}
	case t.refusal != "":
		return nil, &uploads.Refusal{Code: uploads.CodeForbidden, SQLState: "42501", Message: t.refusal}
	case t.id == nil:
		return nil, &uploads.Refusal{
			Code: uploads.CodeUnknownColumn, Column: "id",
			Message: "table " + shown(name) + " has no column \"id\"",
		}
	}
	return t, nil
}

// writtenColumns returns the columns of op's data, without those that only the
// database writes.
func (t *table) writtenColumns(op *uploads.Operation) ([]*column, *uploads.Refusal) {
	if op.Kind == uploads.Delete {
		return nil, nil
	}
	columns := make([]*column, 0, len(op.Fields))
	for _, f := range op.Fields {
		c := t.columns[f.Name]
		switch {
		case c == nil && t.dropUnknown:
			continue
		case c == nil:
			return nil, &uploads.Refusal{
				Code: uploads.CodeUnknownColumn, Column: sendable(f.Name),
				Message: "table " + shown(op.Table) + " has no column " + shown(f.Name),
			}
		case t.stamped(c):
			return nil, &uploads.Refusal{
				Code: uploads.CodeUnwritableColumn, Column: sendable(f.Name),
				Message: "column " + shown(f.Name) + " is filled by the server",
			}
		case c.generated, c.identityAlways, c.name == t.id.name:
			continue
		}
		columns = append(columns, c)
	}
	return columns, nil
}

// idText converts a row's id, so that one row has one spelling.
func idText(t *dataType, id string) (string, *uploads.Refusal) {
	if strings.IndexByte(id, 0) >= 0 {
		return "", conversionRefusal(malformed("the character U+0000"), "id")
	}
	if t.class == classText && t.longest == 0 {
		return id, nil
	}
	text, err := appendText(nil, t, id, true)
	if err != nil {
		return "", conversionRefusal(err, "id")
	}
	return string(text), nil
}

// rowKey returns what two spellings of one id have in common; ok is false for
// types in which equality is not known here.
func rowKey(c *column, id string) (key string, ok bool) {
	switch t := c.typ; {
	case t.class == classInteger, t.class == classUUID:
		return id, true
	case t.cast == "pg_catalog.text", t.cast == varcharCast:
		return id, c.sameBytes
	}
	return id, false
}

func conversionRefusal(err error, column string) *uploads.Refusal {
	conversion, ok := errors.AsType[*conversionError](err)
	if !ok {
		return &uploads.Refusal{Code: uploads.CodeInternalError, Message: "the value cannot be converted", Column: column}
	}
	return &uploads.Refusal{
		Code: conversion.code, SQLState: conversion.sqlstate, Column: column, Message: conversion.message,
	}
}

func sameNames(a, b []uploads.Field) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name {
			return false
		}
	}
	return true
}

// maxTold is how much of a name, id or message is stored beside a rejection and
// told to the client, in bytes: whole ones stand in the stored operations.
const maxTold = 4 << 10

// sendable makes text storable: a name or id that Postgres cannot hold must
// not make its own rejection fail, nor one without end fill the answer.
func sendable(s string) string {
	if len(s) > maxTold {
		s = s[:maxTold] + "…"
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\ufffd"), "\ufffd")
}
