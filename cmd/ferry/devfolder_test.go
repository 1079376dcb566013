package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDevListensForOtherMachinesOnlyIfTold(t *testing.T) {
	t.Parallel()
	for address, loopback := range map[string]bool{
		"127.0.0.1:0": true, "127.1.2.3:0": true, "localhost:0": true, "[::1]:0": true,
		":0": false, "0.0.0.0:0": false, "[::]:0": false, "192.0.2.1:0": false, "ferry.test:0": false,
	} {
		for _, lan := range []bool{false, true} {
			for _, byFlag := range []bool{false, true} {
				var environ []string
				flagged := ""
				if byFlag {
					flagged = address
				} else {
					environ = []string{"FERRY_LISTEN=" + address}
				}
				d := &devFolder{}
				d.fill()
				cfg, err := d.config(environ, flagged, lan)
				switch {
				case loopback || lan:
					if err != nil || cfg.Listen != address {
						t.Errorf("%s, lan %t, by flag %t: %v", address, lan, byFlag, err)
					}
				case err == nil || !strings.Contains(err.Error(), "say --lan if that is meant"):
					t.Errorf("%s, lan %t, by flag %t: error %v", address, lan, byFlag, err)
				}
			}
		}
	}
}

func TestDevConfiguration(t *testing.T) {
	t.Parallel()
	d := &devFolder{}
	d.fill()
	cfg, err := d.config(nil, "", false)
	if err != nil {
		t.Fatal(err)
	}
	type chosen struct {
		Listen, PowerSyncURL, KID string
		Sessions, Audience        []string
		AcceptsSyncToken          bool
	}
	of := func() chosen {
		sessions := make([]string, len(cfg.Sessions))
		for i, issuer := range cfg.Sessions {
			sessions[i] = issuer.Issuer + " " + encoded(issuer.Secret.Key.Reveal())
		}
		return chosen{cfg.Listen, cfg.PowerSyncURL, cfg.Token.KID, sessions, cfg.Token.Audience, cfg.Upload.AcceptsSyncToken}
	}
	want := chosen{"127.0.0.1:6060", "http://localhost:8080", d.KID, []string{"ferry dev " + d.SessionSecret}, []string{"http://localhost:8080"}, true}
	if diff := cmp.Diff(want, of()); diff != "" {
		t.Errorf("without an environment (-want +got):\n%s", diff)
	}
	cfg, err = d.config([]string{
		"FERRY_LISTEN=127.0.0.1:7070", "FERRY_POWERSYNC_URL=https://sync.example.com", "FERRY_TOKEN_KID=mine",
		"FERRY_TOKEN_SECRET=" + encoded(tokenKey), "FERRY_SESSION_SECRET_TEXT=" + sessionKey, "FERRY_UPLOAD_ACCEPTS_SYNC_TOKEN=false",
	}, "", true)
	if err != nil {
		t.Fatal(err)
	}
	want = chosen{"127.0.0.1:7070", "https://sync.example.com", "mine", []string{" " + encoded(sessionKey), "ferry dev " + d.SessionSecret}, []string{"https://sync.example.com"}, false}
	if diff := cmp.Diff(want, of()); diff != "" {
		t.Errorf("with an environment (-want +got):\n%s", diff)
	}
	if cfg, err = d.config([]string{"FERRY_TOKEN_KEYS=" + fmt.Sprintf(`{"keys":[{"kty":"oct","alg":"HS256","kid":"own","k":%q}]}`, encoded(tokenKey))}, "", false); err != nil || !cfg.Token.Key.IsZero() {
		t.Errorf("with keys of one's own: %v", err)
	}
	if cfg, err = d.config(nil, "", true); err != nil || cfg.Listen != ":6060" || strings.Contains(cfg.PowerSyncURL, "localhost") {
		t.Errorf("with --lan: %s, %s, error %v", cfg.Listen, cfg.PowerSyncURL, err)
	}
	for _, listen := range []string{"x", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", "127.0.0.1:-1", "::1:80"} {
		if _, err := d.config(nil, listen, true); err == nil || !strings.Contains(err.Error(), "is not host:port") {
			t.Errorf("--listen %s: error %v", listen, err)
		}
	}
}

func TestFreePortIsTheLastOneOrAnother(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := taken.Addr().(*net.TCPAddr).Port
	// Also where the port that a first start prefers is taken.
	if usual, err := net.Listen("tcp", "127.0.0.1:54329"); err == nil {
		defer usual.Close()
	}
	for _, last := range []int{0, busy} {
		port, err := freePort(last)
		if err != nil || port == 0 || port == busy || port == 54329 {
			t.Errorf("freePort(%d) = %d, error %v", last, port, err)
		}
	}
}

func TestDevRefusesADamagedFolder(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"cut":        `{"kid": "`,
		"wrong type": `{"users": 7}`,
	} {
		dir := devDir(t)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "dev.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got := run(t, nil, "dev", "--dir", dir)
		if got.Code != exitError || !strings.Contains(got.Stderr, "is damaged") || !strings.Contains(got.Stderr, "remove "+dir) {
			t.Errorf("%s: exit code %d, stderr %s", name, got.Code, got.Stderr)
		}
	}
	got := run(t, nil, "dev", "--dir", "/dev/null", "--listen", "127.0.0.1:0")
	if got.Code != exitError || !strings.Contains(got.Stderr, "/dev/null") {
		t.Errorf("a file as the folder: exit code %d, stderr %s", got.Code, got.Stderr)
	}
}

func TestDevFillsInWhatAFolderLacks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dev.json"), []byte(`{"kid": "kept", "users": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := openDevFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d.KID != "kept" || len(d.Users) != 2 || len(d.TokenSecret) != 43 || d.PostgresPort == 0 {
		t.Errorf("folder %+v", d)
	}
	if err := d.save(); err != nil {
		t.Fatal(err)
	}
	again, err := openDevFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.PostgresPort = d.PostgresPort // another test may have it by now
	if diff := cmp.Diff(d, again, cmp.AllowUnexported(devFolder{})); diff != "" {
		t.Errorf("kept (-saved +read):\n%s", diff)
	}
	if info, err := os.Stat(d.path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
}
