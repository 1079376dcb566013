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
	if len(text) == len(canonicalUUID) && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		wrong := byte(0)
		for i, at := range pairsInUUID {
			high, low := hexDigits[text[at]], hexDigits[text[at+1]]
			u[i] = high<<4 | low
			wrong |= high | low
		}
		if wrong <= 15 {
			return u, nil
		}
		u = uuid{}
	}
	n := 0
	for i := range len(text) {
		if betweenGroups := n > 0 && n < 2*len(u) && n%4 == 0; betweenGroups && text[i] == '-' && text[i-1] != '-' {
			continue
		}
		digit := hexDigits[text[i]]
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

// canonicalUUID is how nearly all are spelled, pairsInUUID where the digits of
// each byte begin there.
const canonicalUUID = "00000000-0000-0000-0000-000000000000"

var pairsInUUID = [16]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

// hexDigits are the values of hexadecimal digits, and over 15 for what is none.
var hexDigits = func() (values [256]byte) {
	for c := range values {
		values[c] = 0xff
	}
	for i := range byte(16) {
		values["0123456789abcdef"[i]], values["0123456789ABCDEF"[i]] = i, i
	}
	return values
}()
