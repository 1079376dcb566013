package postgres

import (
	"fmt"
	"strings"
	"testing"

	"ferry/internal/uploads"
)

func shapeFor(t *testing.T, c *catalog, kind uploads.Kind, table string, columns ...string) *shape {
	t.Helper()
	op := &uploads.Operation{Kind: kind, Table: table}
	for _, name := range columns {
		op.Fields = append(op.Fields, uploads.Field{Name: name})
	}
	s, refusal := c.shapeOf(op)
	if refusal != nil {
		t.Fatal(refusal.Message)
	}
	return s
}

// A shape is found again by operations like its own, and by no others, however
// names are chosen.
func TestShapesAreFoundAgainByTheirOwnOperationsOnly(t *testing.T) {
	t.Parallel()
	c := benchCatalog()
	base := c.tables["todos"]
	for _, name := range []string{"todos\x00at", "todos\x02at", "t"} {
		c.tables[name] = base
	}
	base.columns["odos"], base.columns["atamount"] = base.columns["at"], base.columns["at"]
	made := map[*shape]string{}
	for _, of := range []struct {
		kind    uploads.Kind
		table   string
		columns []string
	}{
		{uploads.Put, "todos", []string{"at"}},
		{uploads.Put, "todos\x00at", nil},
		{uploads.Put, "todos\x02at", nil},
		{uploads.Put, "todos", nil},
		{uploads.Put, "t", []string{"odos", "at"}},
		{uploads.Put, "todos", []string{"amount", "at"}},
		{uploads.Put, "todos", []string{"atamount"}},
		{uploads.Patch, "todos", []string{"at"}},
		{uploads.Delete, "todos", nil},
	} {
		name := fmt.Sprintf("%v of %q with %q", of.kind, of.table, of.columns)
		s := shapeFor(t, c, of.kind, of.table, of.columns...)
		if other, known := made[s]; known {
			t.Errorf("%s has the shape of %s", name, other)
		}
		made[s] = name
		if len(s.columns) != len(of.columns) || s.kind != of.kind {
			t.Errorf("%s has %d columns and is a %v", name, len(s.columns), s.kind)
		}
		if again := shapeFor(t, c, of.kind, of.table, of.columns...); again != s {
			t.Errorf("%s is made a second time", name)
		}
	}
}

// Names that are dropped are no reason to keep them.
func TestShapesOfLongNamesAreNotKept(t *testing.T) {
	t.Parallel()
	c := benchCatalog()
	c.tables["todos"].dropUnknown = true
	if s := shapeFor(t, c, uploads.Patch, "todos", "at", strings.Repeat("x", maxShapeKey)); len(s.columns) != 1 || len(c.shapes.known) != 0 {
		t.Errorf("%d shapes with names without end are kept", len(c.shapes.known))
	}
}

// Clients may send any set of columns: what is kept of that has a bound, and room
// for those of others.
func TestShapesAreFew(t *testing.T) {
	t.Parallel()
	c := benchCatalog()
	for i := range 2 * maxShapes {
		name := fmt.Sprint("c", i)
		c.tables["todos"].columns[name] = c.tables["todos"].columns["at"]
		if made := shapeFor(t, c, uploads.Patch, "todos", name); made != shapeFor(t, c, uploads.Patch, "todos", name) {
			t.Fatalf("shape %d is not kept", i)
		}
	}
	if n := len(c.shapes.known); n != maxShapes {
		t.Errorf("%d shapes are kept, want %d", n, maxShapes)
	}
}

// A value that may stand for an infinity changes its own step's statement, and
// not that of those that follow.
func TestAnInfinityIsOfOneStep(t *testing.T) {
	t.Parallel()
	c := benchCatalog()
	plain := shapeFor(t, c, uploads.Patch, "todos", "at")
	before := plain.fastSQL(false)
	marked := plain.keepingInfinity(0)
	if text := marked.fastSQL(false); text == before || !strings.Contains(text, "infinity") {
		t.Errorf("the step's own statement is %s", text)
	}
	if text := shapeFor(t, c, uploads.Patch, "todos", "at").fastSQL(false); text != before {
		t.Errorf("the next one's is %s", text)
	}
}
