package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	prefix     = "FERRY_"
	fileSuffix = "_FILE"
	// maxFileBytes is the largest file that a NAME_FILE may name.
	maxFileBytes = 1 << 20
	// maxNameBytes is how much of an unknown name is shown.
	maxNameBytes = 64
)

// environment is the variables' values: those given, directly or by a file,
// and the fallbacks of the others.
type environment struct {
	values map[string]string
	given  map[string]bool   // also of a variable whose file cannot be read
	files  map[string]string // the paths of those given by a file
	unread string            // the variable whose file is not to be read
}

// isOn is whether a switch is on, before its value is parsed with the others.
func (e environment) isOn(name string) bool {
	var on onOff
	return on.UnmarshalText([]byte(e.values[name])) == nil && bool(on)
}

// readEnvironment finds ferry's variables in entries of the form NAME=value.
// Of two entries for a name the last one counts, and an empty value is as
// good as none.
func readEnvironment(environ []string, unread string, p *problems) environment {
	entries := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		entries[name] = value
	}
	env := environment{values: map[string]string{}, given: map[string]bool{}, files: map[string]string{}, unread: unread}
	for _, v := range variables() {
		value, file := entries[v.name], entries[v.name+fileSuffix]
		delete(entries, v.name)
		delete(entries, v.name+fileSuffix)
		if value == "" && file == "" {
			env.values[v.name] = v.fallback
			continue
		}
		env.given[v.name] = true
		switch {
		case value != "" && file != "":
			p.add(v.name, "set directly and as %s as well; unset one of them", v.name+fileSuffix)
		case file != "":
			env.files[v.name] = file
			if v.name != unread {
				env.values[v.name] = readValue(v.name+fileSuffix, file, p)
			}
		default:
			env.values[v.name] = value
		}
	}
	reportUnknown(entries, p)
	return env
}

// readValue returns what the file says, without one newline at its end.
func readValue(name, path string, p *problems) string {
	value, err := ReadFile(path)
	if err != nil {
		// What is no absolute path may be the secret itself, given to the
		// wrong variable.
		shown := "the file"
		if filepath.IsAbs(path) {
			shown = path
		}
		p.add(name, "%s %v; give the path of a readable file that holds the value", shown, err)
		return ""
	}
	return value
}

// ReadFile returns what a file of NAME_FILE says, without one newline at its
// end: at most 1 MiB, and not nothing. The error names neither the path nor
// anything in the file.
func ReadFile(path string) (string, error) {
	// Opening a pipe would wait for someone to write to it.
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("does not exist, is not a regular file, or is out of reach")
	}
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot be opened")
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be read")
	case len(content) > maxFileBytes:
		return "", fmt.Errorf("is larger than 1 MiB")
	}
	value := string(content)
	if trimmed, ok := strings.CutSuffix(value, "\n"); ok {
		value = strings.TrimSuffix(trimmed, "\r")
	}
	if value == "" {
		return "", fmt.Errorf("is empty")
	}
	return value, nil
}

// reportUnknown refuses names that begin like ferry's and are none: a misspelt
// variable would otherwise be ignored in silence.
func reportUnknown(entries map[string]string, p *problems) {
	for name, value := range entries {
		if !strings.HasPrefix(name, prefix) || value == "" || isServiceLink(name, value) {
			continue
		}
		name = printable(name)
		base, isFile := strings.CutSuffix(name, fileSuffix)
		nearest := nearestVariable(base)
		if isFile {
			nearest += fileSuffix
		}
		p.add(name, "ferry knows no such variable; the nearest is %s", nearest)
	}
}

// printable cuts a name where it stops looking like one: in an entry such as
// "FERRY_TOKEN_SECRET: …=" what follows may be the secret.
func printable(name string) string {
	isName := func(r rune) bool {
		return r == '_' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' || '0' <= r && r <= '9'
	}
	end := strings.IndexFunc(name, func(r rune) bool { return !isName(r) })
	if end < 0 {
		end = len(name)
	}
	if end = min(end, maxNameBytes); end < len(name) {
		return name[:end] + "…"
	}
	return name
}

var (
	serviceLink = regexp.MustCompile(`^FERRY_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)$`)
	serviceURL  = regexp.MustCompile(`^(?:tcp|udp|sctp)://`)
)

// isServiceLink recognises what Kubernetes puts into every container beside a
// Service whose name begins with ferry: FERRY_SERVICE_HOST, FERRY_PORT and the
// like. A FERRY_PORT that is no URL is someone's who looks for FERRY_LISTEN.
//
// Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
func isServiceLink(name, value string) bool {
	return serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") && serviceURL.MatchString(value)
}

// nearestVariable returns the known name with the least edit distance; the
// prefix, which every such name has, counts for nothing.
func nearestVariable(name string) string {
	bare := func(name string) string { return strings.TrimPrefix(name, prefix) }
	nearest, least := "", -1
	for _, v := range variables() {
		if d := editDistance(bare(name), bare(v.name)); least < 0 || d < least {
			nearest, least = v.name, d
		}
	}
	return nearest
}

// editDistance is Levenshtein's: the insertions, deletions and replacements of
// single bytes that make b of a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
