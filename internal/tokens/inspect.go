package tokens

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The PowerSync Service's codes for a token that it refuses, see
// https://docs.powersync.com/debugging/error-codes.
const (
	codeInvalid  = "PSYNC_S2101"
	codeExpired  = "PSYNC_S2103"
	codeTooLong  = "PSYNC_S2104"
	codeAudience = "PSYNC_S2105"
)

// serviceClockSkew is how far the PowerSync Service lets clocks differ.
const serviceClockSkew = 60 * time.Second

// Refusal is one reason for which the PowerSync Service refuses a token.
type Refusal struct {
	Code string // the service's, PSYNC_S…
	Text string // in words, with what to do; it holds no key
}

// Inspection is what a token says, and what the PowerSync Service would say to
// it.
type Inspection struct {
	// Header and Claims are as they stand in the token, nil where they cannot
	// be read.
	Header, Claims json.RawMessage
	// Refusals are all reasons to refuse the token; none where it is accepted.
	Refusals []Refusal
}

// Inspect judges a token as a PowerSync Service does that has the keys, and
// accepts the audiences, at some time. The service's judgement was measured
// (1.25.0), and its reasons read in its source.
func (s KeySet) Inspect(token string, audience []string, now time.Time) Inspection {
	var i inspection
	header, claims, signed, signature, problem := takeApart(token)
	if problem != "" {
		i.refuse(codeInvalid, "%s", problem)
		return i.Inspection
	}
	i.Header, i.Claims = json.RawMessage(header.json()), json.RawMessage(claims.json())
	i.signature(s, header, signed, signature)
	i.presence(claims)
	i.times(claims, now)
	i.audience(claims, audience)
	if p := claims.get(parametersClaim); p != nil && p.Kind() != '{' && p.Kind() != 'n' {
		i.refuse(codeInvalid, "its `parameters` claim is not an object")
	}
	return i.Inspection
}

// takeApart reads a token, and checks nothing that a key is needed for.
func takeApart(token string) (header, claims object, signed string, signature []byte, problem string) {
	parts := strings.Split(token, ".")
	switch len(parts) {
	case 3:
	case 5:
		return nil, nil, "", nil, "it is an encrypted JWT (JWE): the service takes signed ones"
	default:
		return nil, nil, "", nil, "it is not a signed JWT (header.payload.signature)"
	}
	var objects [2]object
	for n, name := range []string{"header", "payload"} {
		text, ok := decodeBase64url(parts[n])
		if !ok {
			return nil, nil, "", nil, "its " + name + " is not base64url without padding: was the token cut, or changed on its way?"
		}
		if objects[n], ok = parseObject(text); !ok {
			return nil, nil, "", nil, "its " + name + " is not a JSON object in UTF-8 in which no name stands twice"
		}
	}
	signature, ok := decodeBase64url(parts[2])
	if !ok {
		return nil, nil, "", nil, "its signature is not base64url without padding: was the token cut, or changed on its way?"
	}
	return objects[0], objects[1], parts[0] + "." + parts[1], signature, ""
}

type inspection struct{ Inspection }

func (i *inspection) refuse(code, format string, args ...any) {
	i.Refusals = append(i.Refusals, Refusal{code, fmt.Sprintf(format, args...)})
}

// signature looks for the key by the header's kid, as the service does, and
// says what else may have been meant.
func (i *inspection) signature(s KeySet, header object, signed string, signature []byte) {
	if header.get("crit") != nil {
		i.refuse(codeInvalid, "its header has a critical extension (crit), which the service does not know")
	}
	alg, id := header.text("alg"), header.text("kid")
	if alg == "" || alg == "none" {
		i.refuse(codeInvalid, "it is not signed: its header's alg is missing, or none")
		return
	}
	instead := func() string { return s.explain([]byte(signed), signature) }
	n := indexOfKey(s.all, id)
	switch {
	case header.get("kid") == nil:
		i.refuse(codeInvalid, "its header has no kid, so that no key is found%s", instead())
	case n < 0:
		i.refuse(codeInvalid, "its kid %s is not that of a key here (%s)%s",
			shown(header.get("kid")), idList(s.all), instead())
	case s.all[n].alg != alg:
		i.refuse(codeInvalid, "its alg is %s, but key %q is for %s, and the two must be equal", shown(header.get("alg")), id, s.all[n].alg)
	case !s.all[n].verifies([]byte(signed), signature):
		i.refuse(codeInvalid, "its signature does not verify with key %q: it was signed with another key, or altered%s", id, instead())
	}
}

// shown is a value of a token as it stands, cut where it gets long.
func shown(value jsontext.Value) string {
	const most = 140
	if text := []rune(string(value)); len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(value)
}

// presence holds what every token must have, and types.
func (i *inspection) presence(claims object) {
	for _, name := range []string{"sub", "iat", "exp"} {
		if claims.get(name) == nil {
			i.refuse(codeInvalid, "it has no %s", name)
		}
	}
	for _, name := range []string{"iat", "exp", "nbf"} {
		if value := claims.get(name); value != nil && value.Kind() != '0' {
			i.refuse(codeInvalid, "its %s is not a number: seconds since 1970 without quotes (RFC 7519, section 2)", name)
		}
	}
}

// seconds reads a NumericDate (RFC 7519, section 2). One that is too great is
// infinite, as it is to the service.
func seconds(value jsontext.Value) (float64, bool) {
	if value.Kind() != '0' {
		return 0, false
	}
	n, _ := strconv.ParseFloat(string(value), 64)
	return n, true
}

func (i *inspection) times(claims object, now time.Time) {
	at := float64(now.Unix())
	exp, hasExp := seconds(claims.get("exp"))
	iat, hasIat := seconds(claims.get("iat"))
	if hasExp && exp <= at-serviceClockSkew.Seconds() {
		i.refuse(codeExpired, "it expired %s ago (exp): fetch a new one", inSeconds(at-exp))
	}
	if hasExp && hasIat && exp-iat > MaxTTL.Seconds() {
		unit := ""
		if exp > 1e11 && exp < 1e14 { // the year 5138 in seconds, 1973 to 5138 in milliseconds
			unit = "; its exp looks like milliseconds, and seconds are expected (RFC 7519, section 2)"
		}
		i.refuse(codeTooLong, "it lives for %s (exp − iat), at most 24h0m0s are allowed%s", inSeconds(exp-iat), unit)
	}
	if nbf, ok := seconds(claims.get("nbf")); ok && nbf > at+serviceClockSkew.Seconds() {
		i.refuse(codeInvalid, "it is not valid before %s from now (nbf)", inSeconds(nbf-at))
	}
}

// inSeconds is a time for people. Numbers that are no time stay numbers.
func inSeconds(n float64) string {
	if n > 1e9 {
		return fmt.Sprintf("%g s", n)
	}
	return (time.Duration(n) * time.Second).String()
}

func (i *inspection) audience(claims object, allowed []string) {
	value := claims.get("aud")
	if value == nil || value.Kind() == 'n' {
		i.refuse(codeAudience, "it has no aud: it must be one of what the service's client_auth.audience lists (%s)", strings.Join(allowed, ", "))
		return
	}
	var found []string
	if value.Kind() == '[' {
		_ = jsonv2.Unmarshal(value, &found)
	} else {
		found = []string{claims.text("aud")}
	}
	accepted := func(a string) bool { return slices.Contains(allowed, a) }
	switch {
	case slices.ContainsFunc(found, accepted):
	case slices.ContainsFunc(found, func(a string) bool { return accepted(strings.TrimRight(a, "/")) }):
		i.refuse(codeAudience, "its aud has a trailing slash too many: the service compares the text (%s)", strings.Join(allowed, ", "))
	default:
		i.refuse(codeAudience, "its aud %s is not one that is configured (%s), which the service's client_auth.audience must list", shown(value), strings.Join(allowed, ", "))
	}
}
