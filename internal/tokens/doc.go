// Package tokens issues the short-lived JWTs with which a signed-in user's
// device connects to the PowerSync Service: sync tokens.
//
// It owns the signing keys and how one follows another, what stands in a sync
// token, what is published about the keys, and how the PowerSync Service judges
// a token. For further claims it asks a [ClaimSource]. The rules for the tokens
// are the PowerSync Service's, see
// https://docs.powersync.com/configuration/auth/custom: it refuses a token
// without sub, aud, iat or exp, with exp − iat over 86,400 s, with a kid that
// it does not know, or with a `parameters` claim that is not an object. Any
// other claim it hands to the sync rules.
//
// It may import internal/fault and no other package of ferry: not net/http and
// not pgx, because a token is the same however it is asked for; not
// internal/identity, because who is calling is decided before a token is
// issued, and reaches this package as a user id and claims; not
// internal/config. It reads no clock and no environment.
//
// No token, key or claim value appears in an error or log record of this
// package.
package tokens
