package identity

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParseEmail(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", MaxEmailBytes-len("@example.com")) + "@example.com"
	for text, want := range map[string]Email{
		"ann@example.com":         {"ann@example.com", "ann@example.com"},
		" \tAnn@Example.COM\r\n ": {"Ann@Example.COM", "ann@example.com"},
		"a@b":                     {"a@b", "a@b"},
		"ann+tag@localhost":       {"ann+tag@localhost", "ann+tag@localhost"},
		"ZOË@Exämple.com":         {"ZOË@Exämple.com", "zoë@exämple.com"},
		"zoe\u0308@example.com":   {"zoe\u0308@example.com", "zoë@example.com"},
		"\u212Aelvin@example.com": {"\u212Aelvin@example.com", "kelvin@example.com"},
		`"a"@example.com`:         {`"a"@example.com`, `"a"@example.com`},
		long:                      {long, long},
	} {
		got, err := ParseEmail(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	const form, space = "is not of the form name@example.com", "has a space or a control character in it"
	for text, want := range map[string]string{
		"":                        "is empty",
		" \n":                     "is empty",
		"a" + long:                "is over 254 bytes",
		"ann":                     form,
		"@":                       form,
		"ann@":                    form,
		"@example.com":            form,
		"ann@b@example.com":       form,
		"ann@@example.com":        form,
		"ann b@example.com":       space,
		"ann@example.com\x00":     space,
		"ann\u00a0b@example.com":  space,
		"ann\u200bb@example.com":  space, // unseen
		"ann@example.com\u202ex":  space, // turns the rest around
		"\xffann@example.com":     "is not valid UTF-8",
		"Ann <ann@example.com>":   space,
		"ann@example.com,b@c.com": form,
	} {
		if got, err := ParseEmail(text); err == nil || err.Error() != want {
			t.Errorf("%q: %+v, error %v, want %s", text, got, err, want)
		}
	}
}

func FuzzParseEmail(f *testing.F) {
	for _, text := range []string{"ann@example.com", " A@B ", "a@b@c", "\xff", "ẞ@x", "e\u0301@x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEmail(text)
		if err != nil {
			return
		}
		again, err := ParseEmail(e.Text)
		if err != nil || again != e {
			t.Fatalf("%q is read as %+v, and that as %+v, %v", text, e, again, err)
		}
		upper, err := ParseEmail(strings.ToUpper(e.Text))
		if isASCII(e.Text) && (err != nil || upper.Key != e.Key) {
			t.Fatalf("%q and its upper case are two: %q, %q", e.Text, e.Key, upper.Key)
		}
		if len(e.Text) > MaxEmailBytes || strings.Count(e.Key, "@") != 1 || !utf8.ValidString(e.Key) || strings.ContainsAny(e.Key, " \x00\n") {
			t.Fatalf("%+v", e)
		}
	})
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > 127 })
}
