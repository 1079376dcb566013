package httpapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"ferry/internal/fault"
)

// statuses is the one table from failures to HTTP statuses.
var statuses = map[fault.Code]int{
	fault.InvalidRequest:       http.StatusBadRequest,
	fault.InvalidSession:       http.StatusUnauthorized,
	fault.InvalidCredentials:   http.StatusUnauthorized,
	fault.InvalidEmail:         http.StatusBadRequest,
	fault.WeakPassword:         http.StatusBadRequest,
	fault.EmailTaken:           http.StatusConflict,
	fault.AlreadySignedUp:      http.StatusConflict,
	fault.SignUpDisabled:       http.StatusForbidden,
	fault.GuestsDisabled:       http.StatusForbidden,
	fault.UserDisabled:         http.StatusForbidden,
	fault.TokenRefused:         http.StatusForbidden,
	fault.TokensDisabled:       http.StatusNotFound,
	fault.NotFound:             http.StatusNotFound,
	fault.MethodNotAllowed:     http.StatusMethodNotAllowed,
	fault.WrongUser:            http.StatusConflict,
	fault.RequestTooLarge:      http.StatusRequestEntityTooLarge,
	fault.UnsupportedMediaType: http.StatusUnsupportedMediaType,
	fault.TooManyRequests:      http.StatusTooManyRequests,
	fault.Unavailable:          http.StatusServiceUnavailable,
	fault.Internal:             http.StatusInternalServerError,
}

// defaultRetryAfter stands where a failure that passes does not say when: the
// client SDK's own pace.
const defaultRetryAfter = 5 * time.Second

// writeProblem answers with a problem body (RFC 9457).
func writeProblem(w http.ResponseWriter, f *fault.Error) {
	status, known := statuses[f.Code]
	if !known {
		f = fault.From(fmt.Errorf("code %q has no status", f.Code))
		status = http.StatusInternalServerError
	}
	h := w.Header()
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer") // RFC 6750, section 3
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		after := cmp.Or(f.RetryAfter, defaultRetryAfter)
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(problemBody(f, status), '\n'))
}

// problemBody is never without a detail, which `message` repeats, because
// PowerSync's published connectors read it.
func problemBody(f *fault.Error, status int) []byte {
	detail := cmp.Or(f.Detail, http.StatusText(status))
	standard := map[string]any{
		"type":    "about:blank",
		"title":   http.StatusText(status),
		"status":  status,
		"detail":  detail,
		"code":    f.Code,
		"message": detail,
	}
	all := maps.Clone(standard)
	for name, value := range f.Members {
		if _, taken := standard[name]; !taken {
			all[name] = value
		}
	}
	body, err := json.Marshal(all)
	if err != nil { // a member that cannot be encoded
		body, _ = json.Marshal(standard)
	}
	return body
}

// recovered turns a panic into an error, whose cause goes to the log.
func recovered(f func() error) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
			panic(p)
		}
		err = fault.From(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
	}()
	return f()
}
