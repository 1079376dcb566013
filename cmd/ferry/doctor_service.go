package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ferry/internal/config"
	"ferry/internal/doctor"
	"ferry/internal/tokens"
)

// serviceChecks ask the PowerSync Service itself whether it accepts what ferry
// signs: only it knows what is in its configuration.
func serviceChecks(cfg *config.Config) []doctor.Check {
	var answer serviceAnswer
	return []doctor.Check{
		{Code: "powersync-refuses-tokens", Severity: doctor.Error, Find: func(ctx context.Context) ([]doctor.Finding, error) {
			token, err := doctorsToken(ctx, cfg)
			if err != nil {
				return nil, err
			}
			answer = askService(ctx, cfg.PowerSyncURL, token)
			return answer.refusal(cfg), nil
		}},
		{Code: "powersync-unreachable", Severity: doctor.Note, Find: always(func() []doctor.Finding { return answer.silence(cfg) })},
	}
}

// doctorsUser is whose tokens are tried.
const doctorsUser = "ferry-doctor"

// doctorsToken is a token of a minute. Where there are no keys, or wrong ones,
// other checks say so.
func doctorsToken(ctx context.Context, cfg *config.Config) (string, error) {
	keys, err := cfg.Token.KeySet()
	if err != nil || cfg.PowerSyncURL == "" {
		return "", doctor.ErrSkipped
	}
	options := tokenOptions(cfg, keys, slog.New(slog.DiscardHandler))
	options.Claims, options.TTL = nil, time.Minute
	issuer, err := tokens.NewIssuer(options)
	if err != nil {
		return "", err
	}
	token, err := issuer.Issue(ctx, doctorsUser, nil)
	if err != nil {
		return "", err
	}
	return token.JWT, nil
}

// serviceAnswer is what became of a request to the service.
type serviceAnswer struct {
	status  int
	code    string // the service's own, such as PSYNC_S2101
	message string
	err     error
}

const (
	serviceTimeout   = 5 * time.Second
	maxServiceAnswer = 64 << 10 // bytes
)

// askService begins to sync, as a client does, and hangs up once the service has
// answered.
//
// Source: PowerSync Service, POST /sync/stream, whose body may be empty.
func askService(ctx context.Context, address, token string) (a serviceAnswer) {
	ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/sync/stream", strings.NewReader("{}"))
	if err != nil {
		return serviceAnswer{err: err}
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		// The token is for this address alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // it repeats the address
	}
	if err != nil {
		return serviceAnswer{err: err}
	}
	defer response.Body.Close()
	a.status = response.StatusCode
	if a.status == http.StatusOK {
		return a
	}
	var body struct {
		Error struct {
			Code        string `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxServiceAnswer))
	if err == nil && json.NewDecoder(bytes.NewReader(text)).Decode(&body) == nil {
		a.code, a.message = body.Error.Code, body.Error.Description
	}
	return a
}

// refusal is a finding if the service has judged the token.
func (a serviceAnswer) refusal(cfg *config.Config) []doctor.Finding {
	if a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
		return nil
	}
	return []doctor.Finding{{
		Problem: fmt.Sprintf("The PowerSync Service at %s refuses ferry's tokens, so that no device can sync: %d %s %s.", cfg.PowerSyncURL, a.status, a.code, shortened(a.message)),
		Remedy:  "Compare its client_auth (keys, kid, audience) with this, and restart it after a change of secrets:", Run: "ferry keys export --powersync",
	}}
}

// silence is a finding if it has not, but should have.
func (a serviceAnswer) silence(cfg *config.Config) []doctor.Finding {
	var what string
	switch {
	case a.err != nil:
		what = a.err.Error()
	case a.status != 0 && a.status != http.StatusOK && a.refusal(cfg) == nil:
		what = fmt.Sprintf("it answers %d %s %s", a.status, a.code, cmp.Or(shortened(a.message), "without a reason: is this its address?"))
	default:
		return nil
	}
	return []doctor.Finding{{
		Problem: fmt.Sprintf("Nobody knows whether the PowerSync Service at %s accepts ferry's tokens: %s.", cfg.PowerSyncURL, what),
		Remedy:  "Run ferry doctor where it can be reached, or try from a device's network:", Run: "curl -sS " + cfg.PowerSyncURL + "/probes/liveness",
	}}
}
