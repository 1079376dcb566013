package postgres

import "encoding/binary"

// textOID and textArrayOID are the types of all parameters of set-based
// statements (pg_type.dat); the casts stand in the SQL.
const (
	textOID      = 25
	textArrayOID = 1009
)

// textArray builds a text[] parameter in Postgres' binary format (array_recv):
// the values' bytes are appended where they will be sent from, without a Go
// string for each.
type textArray struct {
	buf   []byte
	count uint32
}

const textArrayHeader = 20 // dimensions, has-null flag, element type, length, lower bound

func newTextArray(sizeHint int) textArray {
	return textArray{buf: make([]byte, textArrayHeader, textArrayHeader+sizeHint)}
}

// add appends one element, which write appends to the buffer it is given.
func (a *textArray) add(write func(dst []byte) ([]byte, error)) error {
	start := len(a.buf)
	a.buf = append(a.buf, 0, 0, 0, 0)
	grown, err := write(a.buf)
	if err != nil {
		a.buf = a.buf[:start]
		return err
	}
	a.buf = grown
	binary.BigEndian.PutUint32(a.buf[start:], uint32(len(a.buf)-start-4)) //nolint:gosec // bodies are far below 4 GiB
	a.count++
	return nil
}

func (a *textArray) addText(s string) {
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(len(s))) //nolint:gosec // see add
	a.buf = append(a.buf, s...)
	a.count++
}

func (a *textArray) addNull() {
	a.buf = append(a.buf, 0xff, 0xff, 0xff, 0xff) // length -1
	a.count++
}

// drop removes the last element, which began at mark.
func (a *textArray) drop(mark int) {
	a.buf = a.buf[:mark]
	a.count--
}

// bytes finishes the header and returns the parameter.
func (a *textArray) bytes() []byte {
	h := a.buf
	binary.BigEndian.PutUint32(h[0:], 1)
	binary.BigEndian.PutUint32(h[4:], 1) // there may be nulls
	binary.BigEndian.PutUint32(h[8:], textOID)
	binary.BigEndian.PutUint32(h[12:], a.count)
	binary.BigEndian.PutUint32(h[16:], 1)
	return h
}
