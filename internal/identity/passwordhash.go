package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sync/semaphore"

	"ferry/internal/fault"
)

// Argon2id is how much work a password's hash is (RFC 9106, section 3.1).
type Argon2id struct {
	MemoryKiB uint32 // 8 to maxArgonMemory
	Passes    uint32 // 1 to 16
	Lanes     uint8  // 1 to 16
}

// RecommendedArgon2id is the first recommendation of OWASP's Password Storage
// Cheat Sheet.
func RecommendedArgon2id() Argon2id { return Argon2id{MemoryKiB: 19 << 10, Passes: 2, Lanes: 1} }

const (
	// maxArgonMemory bounds what a stored hash can make ferry allocate, in KiB:
	// it may have been imported.
	maxArgonMemory = 64 << 10
	maxArgonWork   = 16 // passes, and lanes

	saltBytes = 16
	keyBytes  = 32
)

// passwordHash is a hashed password.
type passwordHash struct {
	Argon2id
	salt, key []byte
}

var errNotHash = errors.New("the stored password is no argon2id hash in PHC format that ferry can use")

// parseHash reads a PHC string: $argon2id$v=19$m=19456,t=2,p=1$salt$key, the
// last two in base64 without padding. The error does not repeat it.
//
// Source: https://github.com/P-H-C/phc-string-format
func parseHash(text string) (*passwordHash, error) {
	fields := strings.Split(text, "$")
	if len(fields) != 6 || fields[0] != "" || fields[1] != "argon2id" || fields[2] != "v="+strconv.Itoa(argon2.Version) {
		return nil, errNotHash
	}
	params := strings.Split(fields[3], ",")
	if len(params) != 3 {
		return nil, errNotHash
	}
	memory, err1 := phcNumber(params[0], "m=", 8, maxArgonMemory)
	passes, err2 := phcNumber(params[1], "t=", 1, maxArgonWork)
	lanes, err3 := phcNumber(params[2], "p=", 1, maxArgonWork)
	salt, err4 := phcBytes(fields[4], 8)
	key, err5 := phcBytes(fields[5], 16)
	if errors.Join(err1, err2, err3, err4, err5) != nil {
		return nil, errNotHash
	}
	return &passwordHash{Argon2id{uint32(memory), uint32(passes), uint8(lanes)}, salt, key}, nil //nolint:gosec // all in range
}

func phcNumber(text, name string, least, most uint64) (uint64, error) {
	digits, named := strings.CutPrefix(text, name)
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || !named || n < least || n > most {
		return 0, errNotHash
	}
	return n, nil
}

func phcBytes(text string, least int) ([]byte, error) {
	b, err := base64.RawStdEncoding.Strict().DecodeString(text) // which skips line breaks
	if err != nil || len(b) < least || len(b) > 64 || strings.ContainsAny(text, "\r\n") {
		return nil, errNotHash
	}
	return b, nil
}

func (h *passwordHash) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		h.MemoryKiB, h.Passes, h.Lanes, b64.EncodeToString(h.salt), b64.EncodeToString(h.key))
}

// derive is the key of a password under h's salt and parameters.
func (h *passwordHash) derive(password string) []byte {
	return argon2.IDKey([]byte(normalPassword(password)), h.salt, h.Passes, h.MemoryKiB, h.Lanes, uint32(len(h.key))) //nolint:gosec // at most 64
}

// newHash is a hash with a fresh salt, and as its key random bytes, which is
// no password's.
func newHash(work Argon2id) *passwordHash {
	h := &passwordHash{work, make([]byte, saltBytes), make([]byte, keyBytes)}
	// It never fails: https://pkg.go.dev/crypto/rand#Read
	_, _ = rand.Read(h.salt)
	_, _ = rand.Read(h.key)
	return h
}

// hashWait is how long a password waits for its turn.
const hashWait = 3 * time.Second

// passwordHasher bounds how many hashes are computed at once, and with that
// the memory that they take together.
type passwordHasher struct {
	work  Argon2id
	turns *semaphore.Weighted
	// nobody is a hash like those of accounts. What is checked against it takes
	// as long, and is wrong.
	nobody *passwordHash
}

// newPasswordHasher lets at most four hashes run: more than the processors
// would only take longer, each with its own memory.
func newPasswordHasher(work Argon2id) *passwordHasher {
	turns := min(runtime.GOMAXPROCS(0), 4)
	return &passwordHasher{work: work, turns: semaphore.NewWeighted(int64(turns)), nobody: newHash(work)}
}

// hash returns a new password's PHC string.
func (p *passwordHasher) hash(ctx context.Context, password string) (string, error) {
	h := newHash(p.work)
	key, err := p.derive(ctx, h, password)
	if err != nil {
		return "", err
	}
	h.key = key
	return h.String(), nil
}

// verify is whether a password is the one of a PHC string, and whether that
// was made with other parameters than new ones are. An empty PHC string stands
// for an account that does not exist: it takes as long.
func (p *passwordHasher) verify(ctx context.Context, password, phc string) (right, outdated bool, err error) {
	h := p.nobody
	if phc != "" {
		if h, err = parseHash(phc); err != nil {
			return false, false, err
		}
	}
	key, err := p.derive(ctx, h, password)
	if err != nil {
		return false, false, err
	}
	outdated = h.Argon2id != p.work || len(h.salt) != saltBytes || len(h.key) != keyBytes
	return subtle.ConstantTimeCompare(key, h.key) == 1, outdated, nil
}

// derive waits for a turn. Its error is a [fault.Error] with code Unavailable.
func (p *passwordHasher) derive(ctx context.Context, h *passwordHash, password string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, hashWait)
	defer cancel()
	if err := p.turns.Acquire(ctx, 1); err != nil {
		return nil, fault.Retry(fmt.Errorf("wait for a turn to hash: %w", err), hashWait, "too many people are signing in right now; try again")
	}
	defer p.turns.Release(1)
	return h.derive(password), nil
}
