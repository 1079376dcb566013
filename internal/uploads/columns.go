package uploads

import (
	"cmp"
	"slices"
)

// columnList collects the columns of an entry and sorts them by name. Entries
// mostly have the same ones in the same order: how they are sorted is worked out
// again only where they have not.
type columnList struct {
	columns []Field  // as they came
	names   []string // of those that order is for
	order   []int    // places in columns, by name
}

func (l *columnList) reset()      { l.columns = l.columns[:0] }
func (l *columnList) add(f Field) { l.columns = append(l.columns, f) }

// sorted puts the columns in order, in slices made of room.
func (l *columnList) sorted(room *slab[Field]) ([]Field, error) {
	if len(l.columns) == 0 {
		return nil, nil
	}
	if !l.asBefore() {
		if err := l.sort(); err != nil {
			return nil, err
		}
	}
	fields := room.take(len(l.columns))
	for i, place := range l.order {
		fields[i] = l.columns[place]
	}
	return fields, nil
}

func (l *columnList) asBefore() bool {
	return slices.EqualFunc(l.columns, l.names, func(f Field, name string) bool { return f.Name == name })
}

func (l *columnList) sort() error {
	l.names, l.order = l.names[:0], l.order[:0]
	for i, f := range l.columns {
		l.names, l.order = append(l.names, f.Name), append(l.order, i)
	}
	slices.SortFunc(l.order, func(a, b int) int { return cmp.Compare(l.names[a], l.names[b]) })
	for i := 1; i < len(l.order); i++ {
		if name := l.names[l.order[i]]; name == l.names[l.order[i-1]] {
			l.names = l.names[:0] // of no use for the next entry
			return invalid("column %.100q is given twice", name)
		}
	}
	return nil
}
