package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ferry/internal/config"
)

// devFolder is what `ferry dev` keeps between runs, in .ferry/dev.json: keys,
// passwords and the demo users.
type devFolder struct {
	dir               string
	PostgresPort      int       `json:"postgres_port"`
	OwnerPassword     string    `json:"owner_password"`
	LoginPassword     string    `json:"login_password"`
	PowerSyncPassword string    `json:"powersync_password"`
	KID               string    `json:"kid"`
	TokenSecret       string    `json:"token_secret"`
	SessionSecret     string    `json:"session_secret"`
	Users             []devUser `json:"users"`
}

type devUser struct {
	Name string `json:"name"`
	ID   string `json:"user_id"`
}

// openDevFolder reads what a folder keeps, and fills in what is missing, which
// on the first start is everything. It writes nothing: another `ferry dev` may
// own the folder.
func openDevFolder(dir string) (*devFolder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", dir, err)
	}
	d := &devFolder{dir: dir}
	saved, err := os.ReadFile(d.path())
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read what was kept: %w", err)
	default:
		if err := json.Unmarshal(saved, d); err != nil {
			return nil, fmt.Errorf("%s is damaged (%w); remove %s to start afresh", d.path(), err, dir)
		}
	}
	d.fill()
	d.PostgresPort, err = freePort(d.PostgresPort)
	return d, err
}

func (d *devFolder) path() string { return filepath.Join(d.dir, "dev.json") }

func (d *devFolder) fill() {
	if d.KID == "" {
		d.KID = newKID()
	}
	for _, secret := range []*string{&d.OwnerPassword, &d.LoginPassword, &d.PowerSyncPassword, &d.TokenSecret, &d.SessionSecret} {
		if *secret == "" {
			*secret = newSecret()
		}
	}
	if len(d.Users) == 0 {
		d.Users = []devUser{{"alice", newUUID()}, {"bob", newUUID()}}
	}
}

// save writes the file whole or not at all, for the owner of the folder's
// Postgres. It holds secrets: only the user who runs ferry may read it.
func (d *devFolder) save() error {
	content, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return fmt.Errorf("keep the keys: %w", err)
	}
	draft := d.path() + ".new"
	if err := os.WriteFile(draft, append(content, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep the keys: %w", err)
	}
	if err := os.Rename(draft, d.path()); err != nil {
		return fmt.Errorf("keep the keys: %w", err)
	}
	return nil
}

// config is the configuration of `ferry serve`, with the folder's values where
// the environment gives none. listen is the flag of that name.
func (d *devFolder) config(environ []string, listen string, lan bool) (*config.Config, error) {
	// The database is the private one, whatever the shell has set for another.
	ignored := []string{"DATABASE_URL", "FERRY_MIGRATE_DATABASE_URL"}
	if listen != "" {
		if err := checkListen(listen); err != nil {
			return nil, err
		}
		ignored = append(ignored, "FERRY_LISTEN")
	}
	environ = slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(ignored, strings.TrimSuffix(name, "_FILE"))
	})
	for _, entry := range d.defaults(environ, listen, lan) {
		if name, _, _ := strings.Cut(entry, "="); !isSet(environ, name) {
			environ = append(environ, entry)
		}
	}
	cfg, err := config.Load(environ)
	if err != nil {
		return nil, err
	}
	// The demo users' sessions, beside those that the environment says.
	cfg.Sessions = append(cfg.Sessions, config.SessionIssuer{
		Issuer: devIssuer, Secret: config.SharedSecret{Key: config.NewSecret(string(d.sessionKey()))}, UserClaim: "sub",
	})
	if host, _, _ := net.SplitHostPort(cfg.Listen); !lan && !config.IsLoopback(host) {
		return nil, usageError{fmt.Sprintf("dev: %s can be reached from other machines; say --lan if that is meant", cfg.Listen)}
	}
	return cfg, nil
}

// defaults are entries for an environment.
func (d *devFolder) defaults(environ []string, listen string, lan bool) []string {
	// Where clients look for a PowerSync Service on this machine.
	service := "localhost:8080"
	address := "127.0.0.1:6060"
	if lan {
		service, address = reachable(":8080"), ":6060"
	}
	if listen != "" {
		address = listen
	}
	defaults := []string{
		"FERRY_LISTEN=" + address,
		"FERRY_ADMIN_LISTEN=127.0.0.1:0",
		"FERRY_POWERSYNC_URL=http://" + service,
		"FERRY_UPLOAD_ACCEPTS_SYNC_TOKEN=true",
	}
	if !isSet(environ, "FERRY_TOKEN_KID") && !isSet(environ, "FERRY_TOKEN_SECRET") && !isSet(environ, "FERRY_TOKEN_KEYS") {
		defaults = append(defaults, "FERRY_TOKEN_KID="+d.KID, "FERRY_TOKEN_SECRET="+d.TokenSecret)
	}
	return defaults
}

func checkListen(listen string) error {
	_, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return usageError{fmt.Sprintf("dev: --listen %q is not host:port, such as 127.0.0.1:6060", listen)}
	}
	return nil
}

// isSet is whether the environment gives a variable, itself or as a file.
func isSet(environ []string, name string) bool {
	return slices.ContainsFunc(environ, func(entry string) bool {
		got, value, _ := strings.Cut(entry, "=")
		return value != "" && (got == name || got == name+"_FILE")
	})
}

// freePort returns the port of the last run if it is free, and any other one
// if it is not. 0 stands for no last run.
func freePort(last int) (int, error) {
	ports := []int{last, 54329, 0} // 0: the system chooses
	if last == 0 {
		ports = ports[1:]
	}
	for _, port := range ports {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)) //nolint:noctx // returns at once
		if err == nil {
			defer listener.Close()
			return listener.Addr().(*net.TCPAddr).Port, nil //nolint:forcetypeassert // a TCP listener's address
		}
	}
	return 0, errors.New("find a free port for the private Postgres: there is none")
}

// sessionKey is the key of the demo users' sessions.
func (d *devFolder) sessionKey() []byte {
	key, err := base64.RawURLEncoding.DecodeString(d.SessionSecret)
	if err != nil {
		return nil // edited by hand: the start says that it is too short
	}
	return key
}

// newSecret returns 32 random bytes as base64url.
func newSecret() string { return newSigningKey("").Secret }

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
