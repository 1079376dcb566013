package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"

	"ferry/internal/uploads"
)

// step is one statement of an upload, and the operations it carries out.
type step struct {
	shape  *shape
	arrays []arrayParam // the ids, then one per column
	refs   []int        // of the operations, in the order of the arrays
	// seen are hashes of the ids. Two that have the same one only go into two
	// statements.
	seen map[uint64]struct{}
	full bool // no more may join; at once where ids of this type cannot be compared here
}

// query is the step's statement, as sql writes it.
func (s *step) query(sql func(*shape) string) query {
	shape, sent := s.shape, (*arrayParam).param
	if len(s.refs) == 1 {
		shape, sent = shape.forOneRow(), (*arrayParam).only
	}
	params := make([]param, len(s.arrays))
	for i := range s.arrays {
		params[i] = sent(&s.arrays[i])
	}
	return query{sql: sql(shape), params: params}
}

// ids is the parameter with the rows' ids.
func (s *step) ids() param { return s.arrays[0].param() }

// free ends the use of steps whose statements were carried out, or will never be.
func free(steps []*step) {
	for _, s := range steps {
		for i := range s.arrays {
			s.arrays[i].free()
		}
	}
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
	first    *uploads.Operation // the one that current was made for
	shape    *shape             // of that
	expected int                // operations still to come, at most
	marks    []int              // where the last row begins in the arrays of its step
	scratch  []byte             // see id
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
	t := s.shape.table
	id, refusal := p.id(s.arrays[0].wire, t.id.typ, op.ID)
	if refusal != nil {
		return refusal
	}
	hash := maphash.Bytes(hashSeed, id)
	if _, twice := s.seen[hash]; twice || s.full {
		s = p.open(op, p.shape)
	}
	if refusal := p.append(s, ref, op, id); refusal != nil {
		return refusal
	}
	if s.full = !t.id.isComparable() || len(s.refs) >= p.atMost; !s.full {
		s.seen[hash] = struct{}{}
	}
	return nil
}

var hashSeed = maphash.MakeSeed()

// stepFor returns the step that op may join: the current one, or a new one. It
// is nil for an operation without effect.
func (p *planner) stepFor(op *uploads.Operation) (*step, *uploads.Refusal) {
	if op.Malformed != "" {
		return nil, &uploads.Refusal{
			Code:    uploads.CodeMalformedValue,
			Message: op.Malformed + ", which Postgres cannot hold",
		}
	}
	if p.current != nil && looksAlike(p.first, op) {
		return p.current, nil
	}
	shape, refusal := p.catalog.shapeOf(op)
	if shape == nil {
		return nil, refusal
	}
	return p.open(op, shape), nil
}

// looksAlike is whether two operations have the same shape.
func looksAlike(a, b *uploads.Operation) bool {
	return a.Kind == b.Kind && a.Table == b.Table && sameNames(a.Fields, b.Fields)
}

func (p *planner) open(op *uploads.Operation, like *shape) *step {
	// Most steps are short, and there is one for each operation of a client
	// transaction that is tried singly: a long one grows as it fills.
	hint := min(p.expected, p.atMost, 32)
	s := &step{
		shape:  like,
		arrays: make([]arrayParam, len(like.columns)+1),
		refs:   make([]int, 0, hint),
		seen:   make(map[uint64]struct{}, hint),
	}
	s.arrays[0] = newArray(like.table.id.typ.wire())
	for i, c := range like.columns {
		s.arrays[i+1] = newArray(c.typ.wire())
	}
	p.current, p.first, p.shape = s, op, like
	p.steps = append(p.steps, s)
	return s
}

// maxRowBytes is the largest row that the PowerSync Service replicates.
//
// Source: PowerSync documentation, "Performance and Limits".
const maxRowBytes = 15 << 20

// append adds op's row to the arrays of s, or nothing if one of its values
// cannot be converted.
func (p *planner) append(s *step, ref int, op *uploads.Operation, id []byte) *uploads.Refusal {
	p.marks = p.marks[:0]
	for i := range s.arrays {
		p.marks = append(p.marks, len(s.arrays[i].buf))
	}
	s.arrays[0].add(id)
	next, size := 0, len(id)
	for i, c := range s.shape.columns {
		for op.Fields[next].Name != c.client {
			next++ // a column that is left out of writes
		}
		if err := s.appendColumn(i, c, op.Fields[next].Value); err != nil {
			s.drop(p.marks)
			return conversionRefusal(err, c.name)
		}
		// Neither what is sent nor its converted form is shorter than the value.
		size += min(len(op.Fields[next].Value), len(s.arrays[i+1].buf)-p.marks[i+1])
	}
	if size > maxRowBytes {
		s.drop(p.marks)
		return &uploads.Refusal{
			Code:    uploads.CodeTooLarge,
			Message: fmt.Sprintf("the row has over %d bytes, more than the PowerSync Service replicates", maxRowBytes),
		}
	}
	s.refs = append(s.refs, ref)
	return nil
}

// drop removes the last row, whose elements began at marks.
func (s *step) drop(marks []int) {
	for i, mark := range marks {
		s.arrays[i].cut(mark, len(s.refs))
	}
}

func (s *step) appendColumn(i int, c *column, v json.RawMessage) error {
	a := &s.arrays[i+1]
	if isNull(v) {
		a.addNull()
		return nil
	}
	mark := a.begin()
	var err error
	if a.buf, err = appendColumnValue(a.buf, a.wire, c, v); err != nil {
		return err
	}
	value := a.end(mark)
	if c.canSelect && !s.shape.keepsInfinity(i) && c.typ.mayBeInfinity(value) {
		s.shape = s.shape.keepingInfinity(i)
	}
	return nil
}

// appendColumnValue appends a value as it travels, with what is set for a column.
func appendColumnValue(dst []byte, wire *wireType, c *column, v json.RawMessage) ([]byte, error) {
	if c.hexBytea && v[0] == '"' && !bytes.HasPrefix(v[1:], []byte(`\\`)) {
		v = slices.Concat([]byte(`"\\x`), v[1:])
	}
	text, quoted, err := valueText(v)
	if err != nil {
		return dst, err
	}
	return wire.appendValue(dst, c.typ, text, quoted)
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

// id converts a row's id as it travels, so that one row has one spelling. The
// bytes are valid until the next call.
func (p *planner) id(wire *wireType, t *dataType, id string) ([]byte, *uploads.Refusal) {
	if strings.IndexByte(id, 0) >= 0 {
		return nil, conversionRefusal(malformed("the character U+0000"), "id")
	}
	var err error
	if p.scratch, err = wire.appendValue(p.scratch[:0], t, id, true); err != nil {
		return nil, conversionRefusal(err, "id")
	}
	return p.scratch, nil
}

// isComparable is whether equal ids are the same bytes: of other types, two
// spellings may be of one row.
func (c *column) isComparable() bool {
	switch t := c.typ; {
	case t.class == classInteger, t.class == classUUID:
		return true
	case t.cast == "pg_catalog.text", t.cast == varcharCast:
		return c.sameBytes
	}
	return false
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
