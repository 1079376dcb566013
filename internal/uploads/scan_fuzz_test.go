package uploads

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

// FuzzScanner holds the scanner against jsontext: both take the same texts, and
// find the same names and values in them, spelled as they came. jsontext is told
// to let through what the scanner lets through: names that come twice, and lone
// surrogates.
func FuzzScanner(f *testing.F) {
	for _, text := range []string{
		``, ` `, "\x00", `null`, `true`, `false`, `nul`, `truex`, `nulL`, `"`, `"a`, `"\"`, `"\\"`, `"\u00e9\ud83d\ude00"`, `"\ud800"`, `"\u12g4"`,
		`"\x"`, `"\u123`, "\"a\x1f\"", "\"\x7f\u0080é😀\"", "\"1234567\x1f\"", `"12345678"`, `"1234567\"8"`, `"!!!!!!! !"`, `"éééé\\éé"`,
		`0`, `-0`, `00`, `-`, `1.`, `.1`, `1.5e+3`, `1e`, `1E-`, `-12.0E00`, `1x`, `+1`, `0x1`, `1_0`, `NaN`, `-Infinity`,
		`{}`, `[]`, ` [ 1 , 2 ] `, `[1,]`, `[,1]`, `[1 2]`, `[`, `]`, `{`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":1,"a":2}`, `{a:1}`, `{"a" : {"b":[{}]}}`, `{1:2}`,
		`[] []`, "[]\u00a0", "\ufeff[]", "[1]\x00", "\r\n\t [\v]", `{"a":[1,{"b":"\ud800\udc00"}],"c":-1.50e1}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(checkScanner)
}

// TestScannerNestsAsDeepAsTheLibrary is FuzzScanner for texts that are too long
// to fuzz with.
func TestScannerNestsAsDeepAsTheLibrary(t *testing.T) {
	t.Parallel()
	for _, depth := range []int{maxDepth, maxDepth + 1} {
		lists := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		checkScanner(t, []byte(lists))
		checkScanner(t, []byte(strings.Repeat(`{"a":`, depth)+"1"+strings.Repeat("}", depth)))
		if _, ok := scanAll([]byte(lists)); ok != (depth == maxDepth) {
			t.Errorf("a depth of %d: %t", depth, ok)
		}
	}
}

func checkScanner(t *testing.T, text []byte) {
	if !utf8.Valid(text) {
		return // as DecodeAtMost does
	}
	ours, ok := scanAll(text)
	theirs, valid := readAll(text)
	if ok != valid {
		t.Fatalf("%.1000q: the scanner says %t, jsontext %t", text, ok, valid)
	}
	if diff := cmp.Diff(theirs, ours); ok && diff != "" {
		t.Fatalf("%.1000q: (-jsontext +scanner):\n%s", text, diff)
	}
	for _, part := range ours {
		if part[0] == '"' {
			checkUnquote(t, part)
		}
	}
	whole := scanner{input: text}
	if value, err := whole.value(); ok && (err != nil || !bytes.Equal(value, bytes.Trim(text, " \r\n\t"))) {
		t.Fatalf("%.1000q: the whole value is %.1000q, %v", text, value, err)
	}
	if got, want := plainLength(text), len(text)-len(bytes.TrimLeftFunc(text, isPlain)); got != want {
		t.Fatalf("%.1000q: %d plain bytes, want %d", text, got, want)
	}
}

func isPlain(r rune) bool { return r >= ' ' && r != '"' && r != '\\' }

// checkUnquote holds what a JSON string means against what jsontext, which
// takes no lone surrogate, says.
func checkUnquote(t *testing.T, part string) {
	t.Helper()
	got, unheld := unquote([]byte(part))
	want, err := jsontext.NewDecoder(strings.NewReader(part)).ReadToken()
	if (err != nil) != (unheld != "") {
		t.Fatalf("%s: unheld for %q, jsontext: %v", part, unheld, err)
	}
	if err == nil && got != want.String() {
		t.Fatalf("%s is %q, want %q", part, got, want.String())
	}
}

// scanAll reads a text to its end, and returns its brackets, names and scalars
// as they are spelled.
func scanAll(text []byte) ([]string, bool) {
	s := scanner{input: text}
	var parts []string
	var read func() error
	listed := func(opening, closing byte, element func() error) error {
		parts = append(parts, string(opening))
		err := s.list(closing, element)
		parts = append(parts, string(closing))
		return err
	}
	read = func() error {
		switch c := s.peek(); c {
		case '[':
			return listed(c, ']', read)
		case '{':
			return listed(c, '}', func() error {
				name, err := s.name()
				if err != nil {
					return err
				}
				parts = append(parts, string(name))
				return read()
			})
		}
		value, err := s.value()
		parts = append(parts, string(value))
		return err
	}
	if read() != nil {
		return nil, false
	}
	s.peek()
	return parts, s.pos == len(text)
}

// readAll is scanAll by jsontext.
func readAll(text []byte) ([]string, bool) {
	d := newJSONDecoder(text)
	var parts []string
	for {
		kind := d.PeekKind()
		if kind == '[' || kind == ']' || kind == '{' || kind == '}' {
			if _, err := d.ReadToken(); err != nil {
				return nil, false
			}
			parts = append(parts, string(kind))
		} else {
			value, err := d.ReadValue()
			if err != nil {
				return nil, false
			}
			parts = append(parts, string(value))
		}
		if d.StackDepth() == 0 {
			_, err := d.ReadToken()
			return parts, err == io.EOF //nolint:errorlint // documented to be returned as it is
		}
	}
}
