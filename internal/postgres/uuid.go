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

// parseUUID reads 32 hexadecimal digits in either case. Between groups of four
// there may be a hyphen.
//
// Source: PostgreSQL documentation, "UUID Type".
func parseUUID[T string | []byte](text T) (u uuid, err error) {
	n := 0
	for i := range len(text) {
		if betweenGroups := n > 0 && n < 2*len(u) && n%4 == 0; betweenGroups && text[i] == '-' && text[i-1] != '-' {
			continue
		}
		digit := hexDigit(text[i])
		if digit > 15 || n == 2*len(u) {
			return u, fmt.Errorf("a uuid has %d hexadecimal digits and nothing else", 2*len(u))
		}
		u[n/2] = u[n/2]<<4 | digit
		n++
	}
	if n != 2*len(u) {
		return u, fmt.Errorf("a uuid of %d digits", n)
	}
	return u, nil
}

// hexDigit returns more than 15 for what is none.
func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return (c | 0x20) - 'a' + 10
	}
	return 0xff
}
