package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// claimSet is a payload read once: the claims that decide over a session
// (RFC 7519, section 4.1), each still the payload's own text, nil where absent.
type claimSet struct {
	payload []byte

	iss, aud, exp, nbf, iat, sub jsontext.Value

	// open is the offset after the opening brace, subEnd the one after the
	// value of `sub`.
	open, subEnd int
}

// errNotClaims says why a payload cannot be read. The reader's own error is
// dropped, because it may quote the payload.
var errNotClaims = errors.New("is not one JSON object in UTF-8 in which no name stands twice")

// readClaims reads a payload strictly (RFC 7493): where a name stands twice,
// two readers could take it for two different users.
func readClaims(payload []byte) (*claimSet, error) {
	// A bytes.Buffer is read in place.
	d := jsontext.NewDecoder(bytes.NewBuffer(payload))
	if open, err := d.ReadToken(); err != nil || open.Kind() != '{' {
		return nil, errNotClaims
	}
	c := &claimSet{payload: payload, open: int(d.InputOffset())}
	for d.PeekKind() == '"' {
		// Through the token, not the raw text: "\u0073ub" is a `sub` as well.
		name, err := d.ReadToken()
		if err != nil {
			return nil, errNotClaims
		}
		claim := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil, errNotClaims
		}
		// What ReadValue returns lives until the next read; the payload stays.
		end := int(d.InputOffset())
		c.keep(claim, payload[end-len(value):end], end)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, errNotClaims
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errNotClaims
	}
	return c, nil
}

// keep takes note of one top-level claim whose value ends at offset end.
func (c *claimSet) keep(name string, value jsontext.Value, end int) {
	switch name {
	case "iss":
		c.iss = value
	case "aud":
		c.aud = value
	case "exp":
		c.exp = value
	case "nbf":
		c.nbf = value
	case "iat":
		c.iat = value
	case "sub":
		c.sub, c.subEnd = value, end
	}
}

// principal is the user whom the claims name at path, a claim and, under it,
// members of nested objects. Their id has prefix in front of what stands there.
func (c *claimSet) principal(path []string, prefix string) (*Principal, error) {
	id, err := userID(c.at(path))
	if err == nil {
		id = prefix + id
		err = CheckUserID(id)
	}
	if err != nil {
		return nil, fmt.Errorf("the user id (claim %s) %w", strings.Join(path, "."), err)
	}
	return &Principal{UserID: id, Claims: c.withSub(id), IssuedAt: c.issuedAt()}, nil
}

// at is the claim at path, or nil.
func (c *claimSet) at(path []string) jsontext.Value {
	if len(path) == 1 && path[0] == "sub" {
		return c.sub
	}
	value := jsontext.Value(c.payload)
	for _, name := range path {
		value = member(value, name)
	}
	return value
}

// issuedAt is `iat`, or the zero time where there is none.
func (c *claimSet) issuedAt() time.Time {
	if iat, err := seconds("iat", c.iat); err == nil && math.Abs(iat) < maxSeconds {
		return time.UnixMicro(int64(iat * 1e6)).UTC()
	}
	return time.Time{}
}

// withSub is the payload with `sub` set to id, and all else as it stands.
func (c *claimSet) withSub(id string) json.RawMessage {
	if sub, ok := text(c.sub); ok && sub == id {
		return c.payload
	}
	// id is valid UTF-8, the only thing that quoting can fail on.
	quoted, _ := jsontext.AppendQuote(nil, id)
	if c.sub != nil {
		return slices.Concat(c.payload[:c.subEnd-len(c.sub)], quoted, c.payload[c.subEnd:])
	}
	// A comma follows: the object has the claim that names the user.
	return slices.Concat(c.payload[:c.open], []byte(`"sub":`), quoted, []byte(","), c.payload[c.open:])
}

// member is a member of a JSON object, or nil.
func member(object jsontext.Value, name string) jsontext.Value {
	var members map[string]jsontext.Value
	if len(object) == 0 || jsonv2.Unmarshal(object, &members) != nil {
		return nil
	}
	return members[name]
}

// userID reads a user id from a claim: a string, or a whole number, whose
// digits it is, however many.
func userID(value jsontext.Value) (string, error) {
	if len(value) == 0 {
		return "", errors.New("is missing")
	}
	if id, ok := text(value); ok {
		return id, nil
	}
	if strings.Trim(string(value), "0123456789") == "" {
		return string(value), nil
	}
	return "", errors.New("is neither a string nor a whole number")
}

// text is the content of a JSON string.
func text(value jsontext.Value) (string, bool) {
	if len(value) == 0 || value[0] != '"' {
		return "", false
	}
	b, err := jsontext.AppendUnquote(nil, []byte(value))
	return string(b), err == nil
}

// maxSeconds is more than any date has, and fits into an int64 of microseconds.
const maxSeconds = 1e12

// seconds reads a NumericDate: seconds since 1970 in UTC, a fraction allowed
// (RFC 7519, section 2). As a float64 any real date is exact to a microsecond,
// and no date overflows into another. The error is for the client.
func seconds(claim string, value jsontext.Value) (float64, error) {
	if f, err := strconv.ParseFloat(string(value), 64); err == nil && value.Kind() == '0' {
		return f, nil
	}
	return 0, fmt.Errorf("the session's %s is not a number of seconds", claim)
}

// names reports whether an `aud` claim, a string or a list of strings
// (RFC 7519, section 4.1.3), names audience.
func names(aud jsontext.Value, audience string) bool {
	if one, ok := text(aud); ok {
		return one == audience
	}
	var several []string
	if len(aud) == 0 || jsonv2.Unmarshal(aud, &several) != nil {
		return false
	}
	return slices.Contains(several, audience)
}
