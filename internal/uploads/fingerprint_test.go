package uploads_test

import (
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"

	"ferry/internal/uploads"
)

// fingerprint reads a fingerprint written in hex.
func fingerprint(digits string) (fp uploads.Fingerprint) {
	if n, err := hex.Decode(fp[:], []byte(digits)); err != nil || n != len(fp) {
		panic("not a fingerprint: " + digits)
	}
	return fp
}

// Stored fingerprints outlive the program that made them. These values change
// only together with the version, which is the first byte.
func TestFingerprintsNeverChange(t *testing.T) {
	t.Parallel()
	tests := []struct{ entry, want string }{
		{`{"op": "DELETE", "type": "todos", "id": "c"}`, "02be9cec9fa5130b"},
		{`{"op": "PATCH", "type": "lists", "id": "", "data": {}}`, "02e85c9e16746bb6"},
		{`{"op": "PATCH", "type": "lists", "id": "b", "data": {"name": "new"}}`, "02c5f54d1a44f33d"},
		{
			`{"op": "PUT", "type": "plain", "id": "00000000-0000-4000-8000-000000000001",
			  "data": {"b": "b", "bool": 1.0, "i": 42.0, "j": "{\"a\":[1,2,{\"b\":null}]}", "r": -1.5e-7, "t": null}}`, "02ece3f4beed506d",
		},
		{
			`{"op": "PUT", "type": "t", "id": "a",
			  "data": {"big": 9007199254740993, "huge": 1e400, "neg": -0.0, "text": "é😀\u0000\n", "yes": true, "no": false}}`, "024c63dd1086cb1f",
		},
		{
			`{"op": "PUT", "type": "t", "id": "a",
			  "data": {"o": {"z": [], "a": {}, "m": [1, [2, {"k": "v"}], null]}, "l": [1.0, "1", true]}}`, "02559ccf51369662",
		},
	}
	for _, tt := range tests {
		if got := decodeEntry(t, tt.entry).Fingerprint; got != fingerprint(tt.want) {
			t.Errorf("the fingerprint of %s is %x, want %s", tt.entry, got, tt.want)
		}
	}
}

func TestFingerprintIsTheSameForEverySpelling(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		op := drawOperation(t)
		one, other := op.spell(t), op.spell(t)
		if a, b := entryFingerprint(t, one), entryFingerprint(t, other); a != b {
			t.Fatalf("fingerprints %x and %x of\n%s\n%s", a, b, one, other)
		}
	})
}

func TestFingerprintDiffersForEveryChange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		op := drawOperation(t)
		one, other := op.spell(t), op.changed(t).spell(t)
		if a, b := entryFingerprint(t, one), entryFingerprint(t, other); a == b {
			t.Fatalf("the fingerprint %x of both\n%s\n%s", a, one, other)
		}
	})
}

// entryFingerprint returns the fingerprint of an entry that must be accepted.
func entryFingerprint(t *rapid.T, entry string) uploads.Fingerprint {
	up, err := uploads.Decode([]byte(`[` + entry + `]`))
	if err != nil {
		t.Fatalf("Decode([%s]): %v", entry, err)
	}
	return up.Transactions[0].Operations[0].Fingerprint
}

func TestFingerprintTellsLookalikesApart(t *testing.T) {
	t.Parallel()
	put := func(data string) string { return `{"op": "PUT", "type": "t", "id": "a", "data": {` + data + `}}` }
	// No two entries of a list are the same operation.
	tests := map[string][]string{
		"types of a value": {
			put(``), put(`"v": null`), put(`"v": 1`), put(`"v": "1"`), put(`"v": true`), put(`"v": "true"`),
			put(`"v": "null"`), put(`"v": 0`), put(`"v": false`), put(`"v": ""`), put(`"v": []`), put(`"v": {}`),
			put(`"v": [1]`), put(`"v": {"1": 1}`), put(`"v": "[1]"`), put(`"v": [null]`), put(`"v": [[]]`), put(`"v": [{}]`),
		},
		"numbers": {
			put(`"v": 9007199254740993`), put(`"v": 9007199254740992`), put(`"v": 9007199254740992.5`),
			put(`"v": 1`), put(`"v": -1`), put(`"v": 10`), put(`"v": 0.1`), put(`"v": 101`),
			put(`"v": 1e400`), put(`"v": 1e401`), put(`"v": 1e-400`), put(`"v": 0`),
			put(`"v": 1e99999999999`), put(`"v": 2e99999999999`),
		},
		"lone surrogates": {
			put(`"v": "\ud800"`), put(`"v": "\ud801"`), put(`"v": "\ufffd"`), put(`"v": "\"\\ud800\""`), put(`"v": "\\ud800"`),
		},
		"nesting": {
			put(`"v": [1, 2]`), put(`"v": [2, 1]`), put(`"v": [[1], 2]`), put(`"v": [[1, 2]]`), put(`"v": [1, [2]]`), put(`"v": [12]`),
			put(`"v": {"a": {"b": 1}}`), put(`"v": {"a": 1, "b": 1}`), put(`"v": {"b": {"a": 1}}`), put(`"v": ["a", {"b": 1}]`),
			put(`"v": {"a": 1, "a": 2}`), put(`"v": {"a": 2, "a": 1}`),
		},
		"borders between texts": {
			put(`"a": "bc"`), put(`"ab": "c"`), put(`"a": "b", "c": ""`), put(`"": "abc"`),
			`{"op": "PUT", "type": "tu", "id": "v"}`, `{"op": "PUT", "type": "t", "id": "uv"}`, `{"op": "PUT", "type": "", "id": "tuv"}`,
			`{"op": "DELETE", "type": "tu", "id": "v"}`, `{"op": "PATCH", "type": "tu", "id": "v"}`,
		},
		"letter case": {
			put(`"v": "a"`), put(`"v": "A"`), put(`"V": "a"`), `{"op": "PUT", "type": "T", "id": "a", "data": {"v": "a"}}`,
			`{"op": "PUT", "type": "t", "id": "A", "data": {"v": "a"}}`,
		},
	}
	for name, entries := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := map[uploads.Fingerprint]string{}
			for _, e := range entries {
				fp := decodeEntry(t, e).Fingerprint
				if other, ok := seen[fp]; ok {
					t.Errorf("the fingerprint %x of both\n%s\n%s", fp, other, e)
				}
				seen[fp] = e
			}
		})
	}
}
