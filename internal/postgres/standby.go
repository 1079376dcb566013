package postgres

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A highly available Postgres has standbys, which answer queries and take no
// writes, and a commit that waits until one of them has it.

// onlyPrimaries makes a pool refuse connections to a standby, so that one of
// several hosts is chosen rightly and a failover is noticed, unless the
// connection string says what it wants.
//
// Source: PostgreSQL documentation, libpq, target_session_attrs.
func onlyPrimaries(config *pgxpool.Config) {
	if config.ConnConfig.ValidateConnect == nil {
		config.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
}

// isStandby is whether a standby refused to begin an upload's transaction:
// BEGIN READ WRITE comes to 0A000 there, and not to the 25006 of other writes.
func isStandby(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "0A000" &&
		(pgErr.Routine == "call_bool_check_hook" || strings.Contains(pgErr.Message, "during recovery"))
}

// leaveStandby has all connections made anew, where a proxy let them go on to a
// server that is a standby now.
func (s *Store) leaveStandby() {
	for _, pool := range []*pgxpool.Pool{s.pool, s.control, s.accounts} {
		pool.Reset()
	}
}

// errNotReplicated is a commit that is as good as unknown: Postgres reports
// success, with a warning, where somebody cancels its wait for a synchronous
// standby. A failover may still undo it, so it must not be acknowledged. The
// client's retry finds it done and waits for the standby itself.
var errNotReplicated = errors.New("the wait for the synchronous standby was canceled")

const notReplicatedKey = "ferry.not_replicated"

// noteNotReplicated looks for that warning, which carries no SQLSTATE of its
// own.
func noteNotReplicated(conn *pgconn.PgConn, notice *pgconn.Notice) {
	if strings.HasPrefix(notice.Routine, "SyncRepWait") {
		conn.CustomData()[notReplicatedKey] = true
	}
}

// checkReplicated fails once after such a commit.
func (s *session) checkReplicated() error {
	data := s.pg.CustomData()
	if data[notReplicatedKey] == nil {
		return nil
	}
	delete(data, notReplicatedKey)
	return errNotReplicated
}
