package httpapi

import (
	"net/http"
	"time"

	"github.com/go-chi/httprate"

	"ferry/internal/fault"
)

// tokensPerMinute is how many sync tokens one user gets from one process. The
// SDK asks for two at each refresh, so that a hundred devices of one user may
// reconnect at once; a loop in an app's code is slowed down.
const tokensPerMinute = 300

// newTokenLimit counts per user, and not per address: many users share one.
func newTokenLimit() *httprate.RateLimiter {
	return httprate.NewRateLimiter(tokensPerMinute, time.Minute, httprate.WithResponseHeaders(httprate.ResponseHeaders{}))
}

// limitTokens counts one token of a user.
func (s *server) limitTokens(w http.ResponseWriter, r *http.Request, userID string) error {
	if !s.tokenLimit.OnLimit(w, r, userID) {
		return nil
	}
	return &fault.Error{
		Code: fault.TooManyRequests, RetryAfter: time.Minute,
		Detail: "this user asks for too many tokens: keep one until shortly before it expires",
	}
}
