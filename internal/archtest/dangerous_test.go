package archtest

import (
	"slices"
	"testing"
)

// dangerous are packages of the standard library that only those may import
// which are named beside them, for reasons that their code gives.
var dangerous = map[string][]string{
	// Random numbers that can be guessed: none of ferry's secrets may be.
	"math/rand": nil, "math/rand/v2": {"ferry/internal/postgres", "ferry/test/bench"},
	// Broken or unsuitable cryptography.
	"crypto/md5": nil, "crypto/sha1": nil, "crypto/des": nil, "crypto/rc4": nil, "crypto/cipher": nil, "crypto/aes": nil,
	// Parsers that run or follow what they read, and other ways of running it.
	"encoding/xml": nil, "encoding/gob": nil, "text/template": nil, "html/template": nil, "plugin": nil,
	"unsafe": {"ferry/internal/postgres", "ferry/internal/uploads"},
	// Programs are started for a private Postgres, and by what is no part of ferry.
	"os/exec": {"ferry/internal/postgres/devcluster", "ferry/internal/postgres/postgrestest", "ferry/test/bench"},
}

func TestDangerousPackagesAreUsedWhereTheyMust(t *testing.T) {
	t.Parallel()
	used := 0
	for _, p := range listPackages(t) {
		for _, imported := range p.Imports {
			allowed, watched := dangerous[imported]
			switch {
			case watched && !slices.Contains(allowed, p.ImportPath):
				t.Errorf("%s imports %s", p.ImportPath, imported)
			case watched:
				used++
			}
		}
	}
	if used < 4 {
		t.Errorf("only %d uses are found", used)
	}
}
