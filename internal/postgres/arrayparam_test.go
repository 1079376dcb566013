package postgres

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A value by itself is NULL where the array's element is, and empty where that is
// empty: these two are not the same.
func TestTheOnlyElementByItself(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		add  func(*arrayParam)
		want []byte
	}{
		"NULL":                        {(*arrayParam).addNull, nil},
		"empty text":                  {func(a *arrayParam) { a.addText("") }, []byte{}},
		"text":                        {func(a *arrayParam) { a.addText("word") }, []byte("word")},
		"bytes that look like a NULL": {func(a *arrayParam) { a.addText("\xff\xff\xff\xff") }, []byte("\xff\xff\xff\xff")},
	} {
		a := newTextArray(0)
		c.add(&a)
		p := a.only()
		if diff := cmp.Diff(c.want, p.value); diff != "" || p.oid != textOID || p.format != 1 {
			t.Errorf("%s is sent as %q of type %d in format %d\n%s", name, p.value, p.oid, p.format, diff)
		}
	}
}
