package tokens

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// KeyFile is a key set as its operator keeps it, for rotating keys: each key
// is published first, then signs, is kept until its last token has expired, and
// is removed. What ParseKeySet ignores stays in it: the times that ferry notes
// beside each key, and whatever else somebody noted.
type KeyFile struct {
	set  object
	jwks []object
	keys []Key // of jwks
}

// The members beside "keys", and of each key, that ferry reads and writes.
const (
	activeMember      = "active"
	addedMember       = "added"
	activatedMember   = "activated"
	deactivatedMember = "deactivated"
)

// ParseKeyFile reads a key set as ParseKeySet does, but that it need not say
// which key is active, and may be empty text, for a set without keys yet.
func ParseKeyFile(text []byte) (*KeyFile, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return &KeyFile{}, nil
	}
	set, jwks, keys, err := parseKeys(text)
	if err != nil {
		return nil, err
	}
	f := &KeyFile{set: set, jwks: jwks, keys: keys}
	for i := range jwks {
		for _, name := range []string{addedMember, activatedMember, deactivatedMember} {
			if _, ok := timeOf(jwks[i], name); !ok {
				return nil, fmt.Errorf("key %d (kid %q): its %q is not a time such as 2026-01-02T03:04:05Z", i+1, keys[i].id, name)
			}
		}
	}
	return f, nil
}

// timeOf reads a time that ferry noted, the zero time where it did not.
func timeOf(jwk object, name string) (time.Time, bool) {
	if jwk.get(name) == nil {
		return time.Time{}, true
	}
	t, err := time.Parse(time.RFC3339, jwk.text(name))
	return t.UTC(), err == nil
}

// Text is the file, in a form for people.
func (f *KeyFile) Text() []byte {
	jwks := make([]string, len(f.jwks))
	for i, jwk := range f.jwks {
		jwks[i] = string(jwk.json())
	}
	set := slices.Clone(f.set)
	set.set("keys", jsontext.Value("["+strings.Join(jwks, ",")+"]"))
	text := set.json()
	// Only invalid JSON cannot be indented.
	_ = text.Indent(jsontext.WithIndent("  "))
	return append(text, '\n')
}

// Format prints the ids of the keys, whatever the verb, and nothing else.
func (f *KeyFile) Format(s fmt.State, _ rune) {
	for _, k := range f.keys {
		fmt.Fprintf(s, "[%s]", k.id)
	}
}

// Set is the set that a server reads in the file; active is as for ParseKeySet.
func (f *KeyFile) Set(active string) (KeySet, error) { return ParseKeySet(f.Text(), active) }

// active is the id of the key that signs, or empty where nothing says which.
func (f *KeyFile) active() string {
	if id := f.set.text(activeMember); id != "" || len(f.keys) != 1 {
		return id
	}
	return f.keys[0].id
}

// KeyStatus is where a key is in its life.
type KeyStatus struct {
	ID        string
	Algorithm string
	Active    bool
	// Symmetric keys cannot be published: only their operator knows whether
	// the PowerSync Service has them.
	Symmetric bool
	// When ferry added it, made it sign, and made another sign instead of it;
	// UTC, zero where the file does not say.
	Added, Activated, Deactivated time.Time
}

// Keys tells of all keys, in the file's order.
func (f *KeyFile) Keys() []KeyStatus {
	statuses := make([]KeyStatus, len(f.keys))
	for i, k := range f.keys {
		statuses[i] = KeyStatus{ID: k.id, Algorithm: k.alg, Active: k.id == f.active(), Symmetric: k.secret != nil}
		statuses[i].Added, _ = timeOf(f.jwks[i], addedMember)
		statuses[i].Activated, _ = timeOf(f.jwks[i], activatedMember)
		statuses[i].Deactivated, _ = timeOf(f.jwks[i], deactivatedMember)
	}
	return statuses
}

// Key tells of one key. The error names those that there are.
func (f *KeyFile) Key(id string) (KeyStatus, error) {
	i := indexOfKey(f.keys, id)
	if i < 0 {
		return KeyStatus{}, fmt.Errorf("there is no key %q in the file (%s)", id, idList(f.keys))
	}
	return f.Keys()[i], nil
}

// note writes a time beside a key; the zero time removes it.
func (f *KeyFile) note(id, name string, t time.Time) {
	i := indexOfKey(f.keys, id)
	if i < 0 {
		return
	}
	if t.IsZero() {
		f.jwks[i].remove(name)
		return
	}
	f.jwks[i].set(name, quote(t.UTC().Format(time.RFC3339)))
}

// Add puts a key into the file, as the last one. The first key is active at
// once; any other is published, and signs nothing before Activate.
func (f *KeyFile) Add(jwk json.RawMessage, now time.Time) error {
	m, ok := parseObject(jwk)
	if !ok {
		return errors.New("the key is not a JSON object")
	}
	key, err := parseKey(m)
	if err != nil {
		return fmt.Errorf("the key: %w", err)
	}
	if indexOfKey(f.keys, key.id) >= 0 {
		return fmt.Errorf("there is a key %q already: choose another id", key.id)
	}
	active := f.active()
	f.jwks, f.keys = append(f.jwks, m), append(f.keys, key)
	f.note(key.id, addedMember, now)
	if len(f.keys) == 1 {
		active = key.id
		f.note(key.id, activatedMember, now)
	}
	if active != "" { // an only key needs no member that says so, two do
		f.setActive(active)
	}
	return nil
}

func (f *KeyFile) setActive(id string) {
	value := jsontext.Value(quote(id))
	if f.set.get(activeMember) == nil { // where people see it: before the keys
		f.set = slices.Insert(f.set, 0, member{activeMember, value})
		return
	}
	f.set.set(activeMember, value)
}
