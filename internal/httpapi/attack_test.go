package httpapi

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"ferry/internal/uploads"
)

// A page whose host name is made to resolve to this machine (DNS rebinding) is
// of the same origin for its browser, which then sends no Origin with a GET.
func TestDemoIsNotForOtherHostNames(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"evil.example.com", "evil.example.com:6060"} {
		a := setup(t, withDemo)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/api/auth/token?user_id=bob", nil)
		must(t, err)
		r.Host = host
		got, err := a.send(r)
		must(t, err)
		if got.status == http.StatusOK {
			t.Errorf("host %s: a token for any user", host)
		}
	}
}

// A trigger of the app may raise an empty message. The reference API's clients
// want one.
func TestFatalErrorsAlwaysHaveAMessage(t *testing.T) {
	t.Parallel()
	a := setup(t, withStore(func(context.Context, uploads.Caller, *uploads.Upload) (*uploads.Result, error) {
		r := rejection(uploads.CodeRaiseException, "P0001")
		r.Message = ""
		return &uploads.Result{Rejected: []uploads.Rejection{*r}, Outcomes: []uploads.Outcome{{Decided: true, Rejection: r}}}, nil
	}))
	got := a.data(t, transactions(1))
	if !strings.Contains(got.body, `"requires_client_handling":false,"message":"`) || strings.Contains(got.body, `"message":""`) {
		t.Errorf("answered %s", got.body)
	}
}
