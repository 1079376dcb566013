package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxUserIDBytes is the longest user id in bytes. OpenID Connect Core 1.0,
// section 2, ends `sub` at 255 characters, which are at most 1020 bytes of
// UTF-8; and a B-tree index of Postgres, in which user ids stand beside client
// ids, ends at about 2,700 bytes a row.
const MaxUserIDBytes = 1024

// Principal is a signed-in user of the app. It is not changed once made, and
// may be shared between goroutines.
type Principal struct {
	// UserID is 1 to MaxUserIDBytes bytes of valid UTF-8 without control
	// characters: Postgres text cannot hold U+0000, and the others have no
	// business in an id that is logged and compared.
	UserID string
	// Claims are the session's claims, one JSON object (RFC 7493: UTF-8, no
	// name twice) whose `sub` is always UserID. Numbers stand as the session
	// spelled them. They become Postgres' request.jwt.claims.
	Claims json.RawMessage
	// IssuedAt is when the session was issued. Zero: not known, which counts as
	// before any revocation of the user's sessions.
	IssuedAt time.Time
}

// CheckUserID reports what keeps id from being a Principal's UserID. The error
// does not repeat the id.
func CheckUserID(id string) error {
	switch {
	case id == "":
		return errors.New("is empty")
	case len(id) > MaxUserIDBytes:
		return fmt.Errorf("is over %d bytes", MaxUserIDBytes)
	case !utf8.ValidString(id):
		return errors.New("is not valid UTF-8")
	case strings.ContainsFunc(id, unicode.IsControl):
		return errors.New("holds a control character")
	}
	return nil
}
