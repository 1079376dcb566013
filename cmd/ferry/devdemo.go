package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"ferry/internal/config"
	"ferry/internal/postgres"
)

// demoRole is the role of requests without a session in the demo mode.
const demoRole = "ferry_demo"

// createDemoRoleSQL lets ferry act as the demo role. The demo tables' file has
// what that role may do.
const createDemoRoleSQL = `
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '` + demoRole + `') THEN CREATE ROLE ` + demoRole + ` NOLOGIN; END IF;
END $$;
GRANT ` + demoRole + ` TO ` + devLogin

// demo is the demo mode: PowerSync's demo apps for its Node backend, which know
// no sessions, work against `ferry dev` by changing a URL.
type demo struct {
	userID string // whom a request without a session is from
}

// open returns the store of such requests. It writes the demo tables, whatever
// else the role may have been granted.
func (demo) open(ctx context.Context, cfg *config.Config, log *slog.Logger) (*postgres.Store, error) {
	o := storeOptions(cfg, log)
	o.Role, o.Schemas, o.Tables = demoRole, []string{"public"}, []string{"lists", "todos"}
	return postgres.Open(ctx, o)
}

// The escape sequences of bold red text and of its end (ECMA-48, section
// 8.3.117).
const (
	red      = "\x1b[1;31m"
	endOfRed = "\x1b[0m"
)

// announceDemo warns of the demo mode.
func announceDemo(w io.Writer, url string) error {
	_, err := io.WriteString(w, demoNotice(url, isTerminal(w)))
	return err
}

func demoNotice(url string, inRed bool) string {
	text := fmt.Sprintf("DEMO MODE: whoever reaches %s gets a token for any user, and may write\n"+
		"every row of lists and todos, without signing in. Never use ferry dev for real data.", url)
	if inRed {
		text = red + text + endOfRed
	}
	return text + "\n\n"
}

// isTerminal is whether a person looks on, and not a file, a pipe or a buffer.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
