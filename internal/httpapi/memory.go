package httpapi

import (
	"errors"
	"io"
	"math/bits"
	"sync"
)

const (
	// smallestBuffer is what a body takes at least, in bytes.
	smallestBuffer = 4 << 10
	// smallBody is how large a body is that always finds room: bodies that are
	// larger leave some of the memory to others. It is also how many bytes are
	// reserved because a Content-Length announces them; for more a client has to
	// send these first.
	smallBody = 64 << 10
	// sharePerUser is which part of the memory one user may fill, and
	// shareOfSmall which is kept for small bodies.
	sharePerUser, shareOfSmall = 4, 8
)

var (
	errBodyTooLarge = errors.New("the body is over the limit")
	errMemoryFull   = errors.New("the bodies of all requests fill their memory")
)

// bodyMemory is the memory set aside for the bodies of all requests together.
// No user can fill it alone.
type bodyMemory struct {
	total int64 // bytes

	mu     sync.Mutex
	used   int64
	byUser map[string]int64
}

// newBodyMemory has room for some bodies of the greatest size, each with one
// byte over its limit, which shows that there are more.
func newBodyMemory(maxBodyBytes int64) *bodyMemory {
	return &bodyMemory{total: bodiesInFlight * (maxBodyBytes + 1), byUser: map[string]int64{}}
}

// reserve gives a user more bytes, for a body that has size then, or none.
func (m *bodyMemory) reserve(user string, more, size int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	room := m.total
	if size > smallBody {
		room -= m.total / shareOfSmall
	}
	if m.used+more > room || m.byUser[user]+more > m.total/sharePerUser {
		return false
	}
	m.used += more
	m.byUser[user] += more
	return true
}

func (m *bodyMemory) release(user string, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= bytes
	if m.byUser[user] -= bytes; m.byUser[user] <= 0 {
		delete(m.byUser, user)
	}
}

// boundedBuffer grows as a body arrives and reserves its memory as it grows.
type boundedBuffer struct {
	memory   *bodyMemory
	user     string
	limit    int64 // of the body, in bytes
	bytes    []byte
	reserved int64
}

// release ends the use of the body and of all that points into it. What were to
// read it later, by mistake, must not find another user's: it is cleared.
func (b *boundedBuffer) release() {
	clear(b.bytes)
	spare(b.bytes)
	b.memory.release(b.user, b.reserved)
}

// fillFrom reads a body to its end, decompressed. contentLength is -1 where the
// client does not say.
func (b *boundedBuffer) fillFrom(sent io.Reader, encoding string, contentLength int64) error {
	content, err := decompressor(sent, encoding)
	if err != nil {
		return err
	}
	defer content.Close()
	if err := b.grow(max(smallestBuffer, min(contentLength+1, smallBody))); err != nil {
		return err
	}
	for {
		n, err := content.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case int64(len(b.bytes)) > b.limit:
			return errBodyTooLarge
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if len(b.bytes) == cap(b.bytes) {
			announced := min(contentLength+1, largestSpare)
			if err := b.grow(max(2*int64(cap(b.bytes)), announced)); err != nil {
				return err
			}
		}
	}
}

// grow makes room for size bytes, or for as many as a body may have.
func (b *boundedBuffer) grow(size int64) error {
	size = min(spareSize(size), b.limit+1)
	if !b.memory.reserve(b.user, size-b.reserved, size) {
		return errMemoryFull
	}
	b.reserved = size
	grown := append(newBuffer(int(size)), b.bytes...)
	spare(b.bytes)
	b.bytes = grown
	return nil
}

// The sizes of the buffers that are kept for later bodies: powers of two. Most
// uploads are within them, and clearing a new buffer for each would keep the
// collector busy.
const (
	smallestSpare = smallBody
	largestSpare  = 1 << 20
)

var spares [bits.UintSize]sync.Pool // by the length of the size in bits

func isSpare(size int) bool {
	return smallestSpare <= size && size <= largestSpare && size&(size-1) == 0
}

// spareSize is the size of a buffer for so many bytes.
func spareSize(size int64) int64 {
	if size <= smallestSpare || size > largestSpare {
		return size
	}
	return 1 << bits.Len64(uint64(size-1)) //nolint:gosec // positive
}

// newBuffer returns an empty buffer of a capacity.
func newBuffer(size int) []byte {
	if isSpare(size) {
		if b, ok := spares[bits.Len(uint(size))].Get().(*[]byte); ok {
			return *b
		}
	}
	return make([]byte, 0, size)
}

// spare keeps a buffer that nothing points into any more.
func spare(b []byte) {
	if isSpare(cap(b)) {
		b = b[:0]
		spares[bits.Len(uint(cap(b)))].Put(&b)
	}
}
