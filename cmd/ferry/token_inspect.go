package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"ferry/internal/identity"
	"ferry/internal/tokens"
)

// errRefused makes the exit code 1.
var errRefused = errors.New("the PowerSync Service would refuse this token")

func runTokenInspect(_ context.Context, a *app, args []string) error {
	flags := newFlags(a, "token inspect", "show what a sync token says, and whether the PowerSync Service would accept it",
		"Give the TOKEN, or - to read it, or the whole answer of /token, from stdin.\n"+
			"It is checked with the keys and the audience of ferry serve (FERRY_TOKEN_…, FERRY_POWERSYNC_URL), on the\n"+
			"assumption that the service has the same. The exit code is 0 if the token is accepted, 1 if not.\n")
	others, err := parseMixed(flags, args)
	if err != nil {
		return err
	}
	if len(others) > 1 {
		return usageError{"token inspect: give one token, or - for stdin; see: ferry token inspect --help"}
	}
	cfg, keys, err := loadTokenKeys(a)
	if err != nil {
		return err
	}
	text := ""
	if len(others) == 0 || others[0] == "-" {
		// A token is no longer than a session may be; an answer has more in it.
		read, err := io.ReadAll(io.LimitReader(a.stdin, 4*identity.MaxSessionBytes))
		if err != nil {
			return fmt.Errorf("token inspect: read stdin: %w", err)
		}
		text = string(read)
	} else {
		text = others[0]
	}
	now := time.Now()
	inspection := keys.Inspect(tokenIn(text), cfg.Token.Audience, now)
	if _, err := io.WriteString(a.stdout, report(inspection, now)); err != nil {
		return err
	}
	if len(inspection.Refusals) > 0 {
		return errRefused
	}
	return nil
}

// tokenIn finds the token in what people paste: with white space or quotes
// around it, behind Bearer, or in the answer of /token.
func tokenIn(text string) string {
	text = strings.TrimSpace(text)
	var answer struct{ Token string }
	if json.Unmarshal([]byte(text), &answer) == nil && answer.Token != "" {
		return answer.Token
	}
	text = strings.Trim(text, `"'`)
	return strings.TrimSpace(strings.TrimPrefix(text, "Bearer "))
}

func report(i tokens.Inspection, now time.Time) string {
	var b strings.Builder
	for _, part := range []struct {
		name string
		json jsontext.Value
	}{{"header", jsontext.Value(i.Header)}, {"claims", jsontext.Value(i.Claims)}} {
		if part.json != nil {
			// What was read indents.
			_ = part.json.Indent(jsontext.WithIndent("  "))
			fmt.Fprintf(&b, "%s %s\n", part.name, printable(string(part.json)))
		}
	}
	writeTimes(&b, i.Claims, now)
	if len(i.Refusals) == 0 {
		b.WriteString("\nThe PowerSync Service would accept it, with these keys and this audience.\n")
		return b.String()
	}
	b.WriteString("\nThe PowerSync Service would refuse it:\n")
	for _, r := range i.Refusals {
		fmt.Fprintf(&b, "- %s: %s\n", r.Code, printable(r.Text))
	}
	return b.String()
}

// writeTimes writes the times of a token for people.
func writeTimes(b *strings.Builder, claims json.RawMessage, now time.Time) {
	var times struct { // not for encoding/json, to which `Exp` is an `exp`
		Iat any `json:"iat"`
		Nbf any `json:"nbf"`
		Exp any `json:"exp"`
	}
	_ = jsonv2.Unmarshal(claims, &times)
	for _, t := range []struct {
		name  string
		value any
	}{{"iat", times.Iat}, {"nbf", times.Nbf}, {"exp", times.Exp}} {
		// Beyond these no calendar of Go's reaches.
		if n, ok := t.value.(float64); ok && n > -1e11 && n < 1e11 {
			at := time.Unix(int64(n), 0).UTC()
			fmt.Fprintf(b, "%s    %s, %s\n", t.name, at.Format(time.RFC3339), ago(at, now))
		}
	}
}

// printable escapes what is no text to read, as JSON does: a token may come
// from anybody, and a terminal obeys control characters.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
