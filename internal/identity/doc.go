// Package identity answers who is calling: it turns the credentials of a
// request into a [Principal], or into a fault that tells an app developer in
// words what is wrong with them.
//
// It owns the rules for user ids, for sessions that are JWTs, for ferry's own
// accounts with their passwords, sessions and limits, for the denylist, and the
// order in which several ways of signing in are asked. Each way of signing in
// implements [Authenticator].
//
// It may import internal/fault and no other package of ferry: not net/http,
// because credentials are plain values; not pgx, because a principal is the
// same for any database; not internal/tokens, because the tokens that ferry
// issues for the PowerSync Service are no sessions unless the wiring says so
// (see [SyncToken]); not internal/config. It reads no clock and no environment.
//
// No token, password, key or claim value appears in an error of this package.
package identity
