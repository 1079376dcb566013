package postgres

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// uuid is a Postgres uuid's 16 bytes.
type uuid [16]byte

// newUUIDs returns random ones.
//
// Source: RFC 9562, section 5.4.
func newUUIDs(n int) []uuid {
	ids := make([]uuid, n)
	for i := range ids {
		u := &ids[i]
		_, _ = rand.Read(u[:]) // never fails
		u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	}
	return ids
}

// append appends the canonical spelling: lower case, hyphens after 8, 12, 16
// and 20 digits.
func (u uuid) append(dst []byte) []byte {
	for i, part := range [][]byte{u[:4], u[4:6], u[6:8], u[8:10], u[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}

func (u uuid) String() string { return string(u.append(nil)) }

// parseUUID reads 32 hexadecimal digits in either case; hyphens do not count.
func parseUUID(text []byte) (u uuid, err error) {
	var digits [32]byte
	n := 0
	for _, c := range text {
		if c == '-' {
			continue
		}
		if n == len(digits) {
			return u, fmt.Errorf("a uuid of more than %d digits", n)
		}
		digits[n] = c
		n++
	}
	if n != len(digits) {
		return u, fmt.Errorf("a uuid of %d digits", n)
	}
	_, err = hex.Decode(u[:], digits[:])
	return u, err
}
