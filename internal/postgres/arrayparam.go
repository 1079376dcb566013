package postgres

import (
	"encoding/binary"
	"sync"
)

// arrayParam builds an array parameter in Postgres' binary format (array_recv):
// the values' bytes are appended where they will be sent from, without a Go
// value for each.
type arrayParam struct {
	wire  *wireType
	buf   []byte
	count uint32
}

const arrayHeader = 20 // bytes: dimensions, has-null flag, element type, length, lower bound

// newTextArray returns an array for as many bytes of elements.
func newTextArray(sizeHint int) arrayParam {
	return arrayParam{wire: &textWire, buf: make([]byte, arrayHeader, arrayHeader+sizeHint)}
}

// arrayBuffers are those of arrays that were sent. What an unusually large
// upload leaves is not kept.
var arrayBuffers sync.Pool

const largestArrayBuffer = 1 << 20 // bytes

// newArray returns an array whose buffer may have been another one's.
func newArray(wire *wireType) arrayParam {
	if b, ok := arrayBuffers.Get().(*[]byte); ok {
		return arrayParam{wire: wire, buf: (*b)[:arrayHeader]}
	}
	return arrayParam{wire: wire, buf: make([]byte, arrayHeader, 1<<10)}
}

// free ends the array's use, and that of its param.
func (a *arrayParam) free() {
	if b := a.buf; cap(b) <= largestArrayBuffer {
		arrayBuffers.Put(&b)
	}
	a.buf = nil
}

// begin begins an element, which the caller appends to buf; end ends it, and
// returns it.
func (a *arrayParam) begin() (mark int) {
	mark = len(a.buf)
	a.buf = append(a.buf, 0, 0, 0, 0)
	return mark
}

func (a *arrayParam) end(mark int) (element []byte) {
	element = a.buf[mark+4:]
	binary.BigEndian.PutUint32(a.buf[mark:], uint32(len(element))) //nolint:gosec // bodies are far below 4 GiB
	a.count++
	return element
}

func (a *arrayParam) add(element []byte) {
	mark := a.begin()
	a.buf = append(a.buf, element...)
	a.end(mark)
}

func (a *arrayParam) addText(s string) { a.add([]byte(s)) }

func (a *arrayParam) addNull() {
	a.buf = append(a.buf, 0xff, 0xff, 0xff, 0xff) // length -1
	a.count++
}

// cut leaves the first count elements, which end at mark.
func (a *arrayParam) cut(mark, count int) {
	a.buf, a.count = a.buf[:mark], uint32(count) //nolint:gosec // see end
}

// param finishes the header and returns the parameter. It shares the array's
// memory.
func (a *arrayParam) param() param {
	h := a.buf
	binary.BigEndian.PutUint32(h[0:], 1)
	binary.BigEndian.PutUint32(h[4:], 1) // there may be nulls
	binary.BigEndian.PutUint32(h[8:], a.wire.oid)
	binary.BigEndian.PutUint32(h[12:], a.count)
	binary.BigEndian.PutUint32(h[16:], 1)
	return param{h, a.wire.arrayOID, 1}
}

// only returns the only element as a parameter by itself. It shares the array's
// memory, too.
func (a *arrayParam) only() param {
	const null = 0xffffffff
	p := param{oid: a.wire.oid, format: 1}
	if element := a.buf[arrayHeader:]; binary.BigEndian.Uint32(element) != null {
		p.value = element[4:]
	}
	return p
}
