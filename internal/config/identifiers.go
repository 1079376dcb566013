package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxIdentifierBytes is where Postgres cuts names (NAMEDATALEN - 1).
const maxIdentifierBytes = 63

// identifier is the exact name of a role, as the catalog has it: no quotes, no
// folding to lower case.
type identifier string

func (i *identifier) UnmarshalText(text []byte) error {
	if !isIdentifier(string(text)) {
		return fmt.Errorf("expected a database role's name of at most %d bytes, without quotes", maxIdentifierBytes)
	}
	*i = identifier(text)
	return nil
}

func isIdentifier(text string) bool {
	return text != "" && len(text) <= maxIdentifierBytes && utf8.ValidString(text) &&
		!strings.Contains(text, `"`) && !strings.ContainsFunc(text, unicode.IsControl)
}

// identifiers is a comma list of schemas.
type identifiers []string

func (s *identifiers) UnmarshalText(text []byte) error {
	list, err := splitList(string(text))
	if err != nil {
		return err
	}
	for i, entry := range list {
		if !isIdentifier(entry) {
			return fmt.Errorf("entry %d is not a schema's name of at most %d bytes, without quotes", i+1, maxIdentifierBytes)
		}
	}
	*s = list
	return nil
}

// function is the name of a function, or its schema and name.
type function []string

func (f *function) UnmarshalText(text []byte) error {
	parts := strings.Split(string(text), ".")
	if len(parts) > 2 || slices.ContainsFunc(parts, func(s string) bool { return !isIdentifier(s) }) {
		return errors.New("expected a function or schema.function, without quotes and arguments")
	}
	*f = parts
	return nil
}

// tables is a comma list of table or schema.table, or * alone.
type tables []string

func (t *tables) UnmarshalText(text []byte) error {
	list, err := splitList(string(text))
	if err != nil {
		return err
	}
	if slices.Contains(list, "*") && len(list) > 1 {
		return errors.New("* stands for every granted table; expected it alone, or a comma list of tables")
	}
	for i, entry := range list {
		parts := strings.Split(entry, ".")
		if len(parts) > 2 || slices.ContainsFunc(parts, func(s string) bool { return !isIdentifier(s) }) {
			return fmt.Errorf("entry %d is not table or schema.table, without quotes", i+1)
		}
	}
	*t = list
	return nil
}
