// Package fault holds the one error type that ferry's packages hand to each
// other when a request cannot be served. It says what the client is told and,
// apart from that, what the log is told.
//
// It imports only the standard library, so that every package may use it.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Code names a kind of failure. It is the `code` member of a problem body
// (RFC 9457) and part of the wire protocol: existing codes never change.
type Code string

// The failures that a request can end with. internal/httpapi holds the one
// table from these to HTTP statuses.
const (
	InvalidRequest       Code = "invalid_request"        // the client's code is wrong
	InvalidSession       Code = "invalid_session"        // no session, or one that is expired, unknown or forged
	InvalidCredentials   Code = "invalid_credentials"    // a wrong password, or an account that does not exist
	InvalidEmail         Code = "invalid_email"          // no address that an account can have
	WeakPassword         Code = "weak_password"          // not one to choose
	EmailTaken           Code = "email_taken"            // another account has the address
	AlreadySignedUp      Code = "already_signed_up"      // sign-up with the session of a full account
	SignUpDisabled       Code = "sign_up_disabled"       // accounts are made by the operator alone
	GuestsDisabled       Code = "guests_disabled"        // ferry makes no guests
	UserDisabled         Code = "user_disabled"          // signed in, but not allowed to use the app
	TokenRefused         Code = "token_refused"          // the app's claims function gives this user no token
	TokensDisabled       Code = "tokens_disabled"        // ferry runs without a token key
	NotFound             Code = "not_found"              // no such route
	MethodNotAllowed     Code = "method_not_allowed"     // the route exists, the method does not
	WrongUser            Code = "wrong_user"             // the operations belong to another user
	RequestTooLarge      Code = "request_too_large"      // more bytes or operations than one request may carry
	UnsupportedMediaType Code = "unsupported_media_type" // Content-Type or Content-Encoding that ferry does not read
	TooManyRequests      Code = "too_many_requests"      // a limit of this caller is used up
	Unavailable          Code = "unavailable"            // try again: nothing is wrong with the request
	Internal             Code = "internal"               // a defect of ferry
)

// Error is a failure with the text for the client and the cause for the log.
type Error struct {
	Code Code
	// Detail is shown to the client: no SQL, address, secret or row value.
	Detail string
	// RetryAfter is how long the client should wait; 0 says nothing about it.
	RetryAfter time.Duration
	// Members are further members of the problem body, such as limit_bytes.
	Members map[string]any
	// Cause is for the log alone.
	Cause error
}

// New returns an error with a detail for the client.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Wrap returns an error with a detail for the client and a cause for the log.
func Wrap(cause error, code Code, detail string) *Error {
	return &Error{Code: code, Detail: detail, Cause: cause}
}

// Retry returns an Unavailable error that asks the client to come back.
func Retry(cause error, after time.Duration, detail string) *Error {
	return &Error{Code: Unavailable, Detail: detail, RetryAfter: after, Cause: cause}
}

// Error tells the whole story, the cause included: for logs, not for clients.
func (e *Error) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("%s: %s", e.Code, e.Detail)
	}
	return fmt.Sprintf("%s: %s: %v", e.Code, e.Detail, e.Cause)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// From finds the fault in err. An error that carries none is a defect of
// ferry: it becomes a bare Internal fault, with err as the cause.
func From(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Wrap(err, Internal, "ferry failed to serve this request; its log says why")
}
