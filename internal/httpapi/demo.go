package httpapi

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"ferry/internal/fault"
	"ferry/internal/identity"
	"ferry/internal/uploads"
)

// Demo is the demo mode of `ferry dev`: what the demo apps of PowerSync's Node
// backend ask of it, which know no sessions. Nothing that serves an app may
// have it.
type Demo struct {
	// UserID is whom a request without a session is from.
	UserID string
	// Store may write the demo tables, and nothing else.
	Store uploads.Store
}

// isDemo is whether a request is served without a session. Whoever sends an
// Authorization header wants it checked, and a web page of an origin that may
// not call the API is no demo app.
func (s *server) isDemo(r *http.Request) bool {
	if s.Demo == nil || len(r.Header.Values("Authorization")) > 0 {
		return false
	}
	origin := r.Header.Get("Origin")
	return isOwnHost(r.Host) && (origin == "" || s.AllowOrigin(origin))
}

// isOwnHost is whether a request names this machine as itself or by its
// address. A page whose own name was made to resolve to this machine (DNS
// rebinding) is of the same origin to its browser, and sends no Origin.
func isOwnHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host) != nil
}

// demoUser is the user that the query names, or the demo's own.
func (s *server) demoUser(r *http.Request, f *facts) (*identity.Principal, error) {
	userID := s.Demo.UserID
	if named := r.URL.Query()["user_id"]; len(named) > 0 {
		userID = named[0]
	}
	if err := identity.CheckUserID(userID); err != nil {
		return nil, fault.New(fault.InvalidRequest, "user_id %v", err)
	}
	return demoPrincipal(userID, f)
}

// dataWriter is who sends operations to /api/data, and where they go.
func (s *server) dataWriter(r *http.Request, f *facts) (*identity.Principal, uploads.Store, error) {
	if s.isDemo(r) {
		p, err := demoPrincipal(s.Demo.UserID, f)
		return p, s.Demo.Store, err
	}
	p, err := authenticate(r, s.Uploaders, f)
	return p, s.Store, err
}

func demoPrincipal(userID string, f *facts) (*identity.Principal, error) {
	claims, err := json.Marshal(map[string]string{"sub": userID})
	if err != nil {
		return nil, fmt.Errorf("claims of a demo user: %w", err)
	}
	f.add(slog.String("user", userID), slog.Bool("demo", true))
	return &identity.Principal{UserID: userID, Claims: claims, IssuedAt: time.Now()}, nil
}
