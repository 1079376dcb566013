package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The sizes of the pools beside the uploads' one. Whoever floods the accounts,
// for which nobody must be signed in, must not hold up the denylist, which
// every signed-in request depends on.
const (
	controlConnections = 4
	accountConnections = 4
)

// What a server that does not answer may cost: a connection is tried for
// dialTimeout where the connection string does not say connect_timeout, and one
// that was idle must answer within pingTimeout before it is used. Without these
// a database that moved, and whose old address swallows packets, would hold all
// connections for minutes.
const (
	dialTimeout = 5 * time.Second
	pingTimeout = 2 * time.Second
)

// parseURL reads a connection string. Its errors never show it: it holds a
// password.
func parseURL(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the connection string is not valid: expected postgres://user:password@host:port/database")
	}
	return config, nil
}

// uploadConnections is the size of the uploads' pool: what the connection
// string says as pool_max_conns, else enough to keep a server of usual size
// busy. 0 stands for the former.
func uploadConnections(url string) int32 {
	if strings.Contains(url, "pool_max_conns") {
		return 0
	}
	return 16
}

// openPool makes a pool without connecting: a database that is away at start
// means "not ready", not an exit.
func openPool(ctx context.Context, url string, connections int32, transactionPool bool) (*pgxpool.Pool, error) {
	config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	if transactionPool {
		// The next transaction does not get the connection back: each statement
		// must go with its text. (DescribeExec would execute whatever another
		// client of the pooler prepared last without a name.)
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if connections > 0 {
		config.MaxConns = connections
		config.MinConns = min(config.MinConns, connections)
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = dialTimeout
	}
	if config.PingTimeout == 0 {
		config.PingTimeout = pingTimeout
	}
	// Whatever is set for the database or the role: ferry speaks UTF-8, and dates
	// as uploads need them. Poolers know these two parameters.
	config.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"
	config.ConnConfig.RuntimeParams["DateStyle"] = "ISO, YMD"
	if _, ok := config.ConnConfig.RuntimeParams["application_name"]; !ok {
		config.ConnConfig.RuntimeParams["application_name"] = "ferry"
	}
	onlyPrimaries(config)
	config.ConnConfig.OnNotice = noteNotReplicated
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the connection pool: %w", err)
	}
	return pool, nil
}
