package postgres

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"ferry/internal/uploads"
)

// shape is what the operations of one statement have in common.
type shape struct {
	traits
	texts    [forms]atomic.Pointer[string]
	ofOneRow atomic.Pointer[shape]
}

// traits are what a shape's statement follows from.
type traits struct {
	kind    uploads.Kind
	table   *table
	columns []*column
	// absent are set to NULL where a PUT updates a row.
	absent []*column
	// keepInfinity marks the columns in which some value may stand for a
	// stored infinity (see keepInfinitySQL); nil where none may.
	keepInfinity []bool
	// oneRow is whether each parameter is a value and not an array of them.
	oneRow bool
}

// The forms that a shape's statement may have: see stepsql.go.
const (
	asUpsert = iota
	asFast
	asCareful
	forms
)

// written returns the statement in one form, which is written once.
func (s *shape) written(form int, write func() string) string {
	if text := s.texts[form].Load(); text != nil {
		return *text
	}
	text := write()
	s.texts[form].Store(&text)
	return text
}

func (s *shape) keepsInfinity(column int) bool {
	return s.keepInfinity != nil && s.keepInfinity[column]
}

// keepingInfinity is the same shape for a step that has such a value.
func (s *shape) keepingInfinity(column int) *shape {
	like := s.traits
	like.keepInfinity = make([]bool, len(s.columns))
	copy(like.keepInfinity, s.keepInfinity)
	like.keepInfinity[column] = true
	return &shape{traits: like}
}

// forOneRow is the same shape for a step of one row.
func (s *shape) forOneRow() *shape {
	if one := s.ofOneRow.Load(); one != nil {
		return one
	}
	one := &shape{traits: s.traits}
	one.oneRow = true
	s.ofOneRow.Store(one)
	return one
}

// shapes remembers the shapes of a catalog's operations: most uploads look like
// others.
type shapes struct {
	mu    sync.RWMutex
	known map[string]*shape
}

// What bounds them: clients may send any set of columns, also of names that are
// dropped.
const (
	maxShapes   = 500
	maxShapeKey = 4 << 10 // bytes
)

// shapeOf returns the shape of op, nil for an operation without effect.
func (c *catalog) shapeOf(op *uploads.Operation) (*shape, *uploads.Refusal) {
	key := appendShapeKey(make([]byte, 0, 256), op)
	c.shapes.mu.RLock()
	s := c.shapes.known[string(key)]
	c.shapes.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	s, refusal := c.newShape(op)
	if s != nil && len(key) <= maxShapeKey {
		c.shapes.remember(string(key), s)
	}
	return s, refusal
}

// appendShapeKey appends what two operations of one shape have in common.
func appendShapeKey(key []byte, op *uploads.Operation) []byte {
	key = appendName(append(key, byte(op.Kind)), op.Table)
	if op.Kind != uploads.Delete {
		for i := range op.Fields {
			key = appendName(key, op.Fields[i].Name)
		}
	}
	return key
}

// appendName appends a name so that two lists of names are never one text.
func appendName(key []byte, name string) []byte {
	return append(binary.AppendUvarint(key, uint64(len(name))), name...)
}

func (c *catalog) newShape(op *uploads.Operation) (*shape, *uploads.Refusal) {
	t, refusal := c.writable(op.Table)
	if refusal != nil {
		return nil, refusal
	}
	columns, refusal := t.writtenColumns(op)
	if refusal != nil || op.Kind == uploads.Patch && len(columns) == 0 {
		return nil, refusal
	}
	like := traits{kind: op.Kind, table: t, columns: columns}
	if op.Kind == uploads.Put {
		like.absent = t.absent(columns)
	}
	return &shape{traits: like}, nil
}

func (s *shapes) remember(key string, made *shape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]*shape{}
	}
	if len(s.known) >= maxShapes { // any one goes: nobody may fill it for all others
		for other := range s.known {
			delete(s.known, other)
			break
		}
	}
	s.known[key] = made
}
