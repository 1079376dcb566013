package uploads

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// scanner reads JSON text in place, as RFC 8259 has it. It lets a lone
// surrogate escape ("\ud800") through: that is what a user typed, so it becomes
// a rejection and not a 400. It also lets a name come twice: whether that is a
// contradiction depends on the values. The text must be UTF-8.
//
// It is our own because decoding is most of what ferry itself does with an
// upload; FuzzScanner holds it against a library's.
type scanner struct {
	input []byte
	pos   int // of the next byte
	depth int // of the present object or array
}

// maxDepth bounds how deep values nest, so that the stack has a bound. What the
// PowerSync Service replicates is far below it.
const maxDepth = 10_000

// syntaxError says where text stops being JSON.
type syntaxError struct{ pos int }

func (e *syntaxError) Error() string { return fmt.Sprintf("no JSON at byte %d", e.pos) }

func (s *scanner) broken() error { return &syntaxError{s.pos} }

// peek skips white space and returns the next byte, or 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.input) {
		c := s.input[s.pos]
		if c > ' ' || (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
			return c
		}
		s.pos++
	}
	return 0
}

// expect reads one byte of punctuation.
func (s *scanner) expect(c byte) error {
	if s.peek() != c {
		return s.broken()
	}
	s.pos++
	return nil
}

// list reads the object or array that comes next, from its opening byte to the
// closing one, and calls element where each element begins.
func (s *scanner) list(closing byte, element func() error) error {
	s.pos++
	if s.depth++; s.depth > maxDepth {
		return s.broken()
	}
	if s.peek() == closing {
		s.pos++
		s.depth--
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.pos++
			s.peek()
		case closing:
			s.pos++
			s.depth--
			return nil
		default:
			return s.broken()
		}
	}
}

// name reads the name of an object's member and the colon behind it, and stops
// at the value. It returns the name as a JSON string.
func (s *scanner) name() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.broken()
	}
	quoted, err := s.value()
	if err != nil {
		return nil, err
	}
	err = s.expect(':')
	s.peek()
	return quoted, err
}

// value reads the next value and returns its text.
func (s *scanner) value() ([]byte, error) {
	c := s.peek()
	start := s.pos
	if err := s.skip(c); err != nil {
		return nil, err
	}
	return s.input[start:s.pos:s.pos], nil
}

// skip reads the value that begins with c.
func (s *scanner) skip(c byte) error {
	switch c {
	case '"':
		return s.skipString()
	case '{':
		return s.list('}', func() error {
			if _, err := s.name(); err != nil {
				return err
			}
			return s.skip(s.peek())
		})
	case '[':
		return s.list(']', func() error { return s.skip(s.peek()) })
	case 't':
		return s.skipWord("true")
	case 'f':
		return s.skipWord("false")
	case 'n':
		return s.skipWord("null")
	}
	return s.skipNumber()
}

func (s *scanner) skipWord(word string) error {
	if rest := s.input[s.pos:]; len(rest) < len(word) || string(rest[:len(word)]) != word {
		return s.broken()
	}
	s.pos += len(word)
	return nil
}

func (s *scanner) skipString() error {
	for s.pos++; ; {
		s.pos += plainLength(s.input[s.pos:])
		if s.pos == len(s.input) {
			return s.broken()
		}
		switch s.input[s.pos] {
		case '"':
			s.pos++
			return nil
		case '\\':
			if err := s.skipEscape(); err != nil {
				return err
			}
		default: // a control character
			return s.broken()
		}
	}
}

func (s *scanner) skipEscape() error {
	length := 2
	rest := s.input[s.pos:]
	if len(rest) < length {
		return s.broken()
	}
	switch rest[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
	case 'u':
		if length = 6; len(rest) < length {
			return s.broken()
		}
		for _, c := range rest[2:length] {
			if !isHexDigit(c) {
				return s.broken()
			}
		}
	default:
		return s.broken()
	}
	s.pos += length
	return nil
}

func isHexDigit(c byte) bool {
	return isDigit(c) || ('a' <= c && c <= 'f') || ('A' <= c && c <= 'F')
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// plainLength is how many bytes of a JSON string come before one that means
// something: a quote, a backslash, or a control character that may not be there.
// It looks at eight bytes at a time.
func plainLength(text []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(text)-n >= 8; n += 8 {
		word := binary.LittleEndian.Uint64(text[n:])
		quotes, backslashes := word^(ones*'"'), word^(ones*'\\')
		// The top bit of each byte that is below ' ', or that the other two made 0.
		// A borrow may set it in the bytes behind the first such one, never before it.
		found := ((word-ones*' ')&^word | (quotes-ones)&^quotes | (backslashes-ones)&^backslashes) & tops
		if found != 0 {
			return n + bits.TrailingZeros64(found)/8
		}
	}
	for ; n < len(text); n++ {
		if c := text[n]; c < ' ' || c == '"' || c == '\\' {
			return n
		}
	}
	return n
}

func (s *scanner) skipNumber() error {
	s.skipByte('-')
	switch {
	case s.skipByte('0'):
	case s.skipDigits() == 0:
		return s.broken()
	}
	if s.skipByte('.') && s.skipDigits() == 0 {
		return s.broken()
	}
	if s.skipByte('e') || s.skipByte('E') {
		if !s.skipByte('-') {
			s.skipByte('+')
		}
		if s.skipDigits() == 0 {
			return s.broken()
		}
	}
	return nil
}

func (s *scanner) skipByte(c byte) bool {
	if s.pos == len(s.input) || s.input[s.pos] != c {
		return false
	}
	s.pos++
	return true
}

func (s *scanner) skipDigits() int {
	start := s.pos
	for s.pos < len(s.input) && isDigit(s.input[s.pos]) {
		s.pos++
	}
	return s.pos - start
}
