package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"ferry/internal/postgres"
)

// story is a rejection with what depends on it.
type story struct {
	*postgres.StoredRejection
	Dependents []postgres.StoredRejection `json:"dependents"`
}

// maxShown is how many characters of a message a line shows.
const maxShown = 80

// line is a rejection in one line.
func line(r *postgres.StoredRejection) string {
	fields := []string{
		r.ID, r.CreatedAt.UTC().Format(time.RFC3339), string(r.State),
		"user " + safe(r.UserID), "client " + orDash(safe(r.ClientID)), "tx " + number(r.TxID),
		safe(r.Table) + "/" + shortened(safe(r.RowID)), r.Code, shortened(safe(r.Message)),
	}
	return strings.Join(fields, "  ")
}

func shortened(text string) string {
	runes := []rune(text)
	if len(runes) <= maxShown {
		return text
	}
	return string(runes[:maxShown-1]) + "…"
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func number(n *int64) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

// safe keeps what clients made up from speaking to the operator's terminal.
func safe(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// print shows a rejection whole.
func (s *story) print(w io.Writer) error {
	r := s.StoredRejection
	rows := [][2]string{
		{"rejection", r.ID},
		{"state", string(r.State) + at(" since ", r.SettledAt)},
		{"rejected", r.CreatedAt.UTC().Format(time.RFC3339) + at("; a replay was refused ", r.RefusedAt)},
		{"user", r.UserID},
		{"client", orDash(r.ClientID) + ", transaction " + number(r.TxID)},
		{"operation", fmt.Sprintf("%d of the transaction, op_id %s", r.OpIndex, number(r.OpID))},
		{"row", r.Table + "/" + r.RowID},
		{"code", r.Code + in(" (SQLSTATE ", r.SQLState, ")")},
		{"constraint", r.Constraint},
		{"column", r.Column},
		{"message", r.Message},
		{"depends on", r.DependsOn},
	}
	var b bytes.Buffer
	for _, row := range rows {
		if row[1] != "" {
			fmt.Fprintf(&b, "%-12s%s\n", row[0], safe(row[1]))
		}
	}
	for _, part := range []struct {
		name string
		json json.RawMessage
	}{{"claims", r.Claims}, {"operations", r.Operations}} {
		fmt.Fprintf(&b, "%s\n", part.name)
		pretty, err := indented(part.json)
		if err != nil {
			return fmt.Errorf("print the %s: %w", part.name, err)
		}
		for line := range strings.Lines(pretty) {
			fmt.Fprintln(&b, safe(strings.TrimSuffix(line, "\n")))
		}
	}
	if len(s.Dependents) > 0 {
		b.WriteString("what depends on it\n")
	}
	for i := range s.Dependents {
		fmt.Fprintf(&b, "  %s\n", line(&s.Dependents[i]))
	}
	b.WriteString("\n")
	_, err := w.Write(b.Bytes())
	return err
}

func at(before string, t *time.Time) string {
	if t == nil {
		return ""
	}
	return before + t.UTC().Format(time.RFC3339)
}

func in(before, text, after string) string {
	if text == "" {
		return ""
	}
	return before + text + after
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func itOrThem(n int) string {
	if n == 1 {
		return "it"
	}
	return "them"
}

// needed says how many rejections wait for one.
func needed(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("  (needed by %s)", count(n, "open rejection"))
}

func printJSON(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	return nil
}

// indented spreads JSON over lines, unless it is nested so deeply that the
// spaces alone would fill the memory.
func indented(text json.RawMessage) (string, error) {
	const deepest = 50
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[', c == '{':
			if depth++; depth > deepest {
				return string(text), nil
			}
		case c == ']', c == '}':
			depth--
		}
	}
	var pretty bytes.Buffer
	err := json.Indent(&pretty, text, "", "  ")
	return pretty.String(), err
}
