package httpapi

import (
	"errors"
	"io"
)

const (
	// smallestBuffer is what a body takes at least, in bytes.
	smallestBuffer = 4 << 10
	// trustedLength is how many bytes are reserved because a Content-Length
	// announces them. Beyond that a client has to send them first.
	trustedLength = 64 << 10
)

var (
	errBodyTooLarge = errors.New("the body is over the limit")
	errMemoryFull   = errors.New("the bodies of all requests fill their memory")
)

// bodyMemory is the memory set aside for all bodies together, in bytes. Each
// has room for one byte over its limit, which shows that there are more.
func bodyMemory(maxBodyBytes int64) int64 { return bodiesInFlight * (maxBodyBytes + 1) }

// boundedBuffer grows as a body arrives and reserves its memory as it grows.
type boundedBuffer struct {
	server   *server
	limit    int64 // of a body, in bytes
	bytes    []byte
	reserved int64
}

// fillFrom reads a body to its end, decompressed. contentLength is -1 where the
// client does not say.
func (b *boundedBuffer) fillFrom(sent io.Reader, encoding string, contentLength int64) error {
	content, err := decompressor(sent, encoding)
	if err != nil {
		return err
	}
	defer content.Close()
	if err := b.grow(max(smallestBuffer, min(contentLength+1, trustedLength))); err != nil {
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
			if err := b.grow(2 * int64(cap(b.bytes))); err != nil {
				return err
			}
		}
	}
}

// grow makes room for size bytes, or for as many as a body may have.
func (b *boundedBuffer) grow(size int64) error {
	size = min(size, b.limit+1)
	if !b.server.memory.TryAcquire(size - b.reserved) {
		return errMemoryFull
	}
	b.reserved = size
	grown := make([]byte, len(b.bytes), size)
	copy(grown, b.bytes)
	b.bytes = grown
	return nil
}
