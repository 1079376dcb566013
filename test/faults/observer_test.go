//go:build linux

package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"ferry/test/faults/history"
)

// lookSQL sees everything in one statement, and so in one snapshot: both rows
// of each register, the counters, and how many effects there are of the
// transactions that were the last to have any.
const lookSQL = `
SELECT (SELECT json_object_agg(register, rows) FROM (
          SELECT left(id, 1) AS register, json_agg(value ORDER BY id) AS rows FROM registers GROUP BY 1) AS r),
       (SELECT json_object_agg(id, value) FROM counters),
       (SELECT coalesce(json_agg(json_build_object('Client', client, 'Tx', tx, 'Effects', n, 'Of', size)), '[]') FROM (
          SELECT client, tx, max(size) AS size, count(*) AS n FROM effects
          WHERE size > 0 AND (client, tx) IN (SELECT client, tx FROM effects ORDER BY seq DESC LIMIT 40)
          GROUP BY client, tx) AS s)`

// flushSQL waits until everything that was seen is on the disk, or on the
// synchronous standby: Postgres shows commits that do not wait for it before
// they are, and a crash may take them back.
const flushSQL = "SELECT pg_logical_emit_message(true, 'seen', '')"

// observe reads over a connection of its own until done is closed. What it
// could not make sure of it did not see.
func observe(ctx context.Context, url string, h *history.History, now func() int64, done <-chan struct{}) {
	var conn *pgx.Conn
	defer func() { closeConnection(conn) }()
	for ctx.Err() == nil {
		select {
		case <-done:
			return
		case <-time.After(50 * time.Millisecond):
		}
		read, err := look(ctx, &conn, url, now)
		if err != nil {
			closeConnection(conn)
			conn = nil
			continue
		}
		h.Saw(read)
	}
}

func closeConnection(conn *pgx.Conn) {
	if conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}
}

func look(ctx context.Context, conn **pgx.Conn, url string, now func() int64) (r history.Read, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if *conn == nil {
		if *conn, err = pgx.Connect(ctx, url); err != nil {
			return r, err
		}
	}
	r.Sent = now()
	if err := (*conn).QueryRow(ctx, lookSQL).Scan(&r.Registers, &r.Counters, &r.Seen); err != nil {
		return r, err
	}
	r.Answered = now()
	_, err = (*conn).Exec(ctx, flushSQL)
	return r, err
}

// collect adds to the history what the database holds in the end.
func collect(ctx context.Context, url string, h *history.History) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer closeConnection(conn)
	rows, err := conn.Query(ctx, "SELECT seq, dbtx, client, row, name FROM effects ORDER BY seq")
	if err != nil {
		return err
	}
	if h.Effects, err = pgx.CollectRows(rows, pgx.RowToStructByPos[history.Effect]); err != nil {
		return err
	}
	rows, err = conn.Query(ctx, `
		SELECT id::text, code, client_id, tx_id, convert_from(operations, 'UTF8') FROM ferry.rejections`)
	if err != nil {
		return err
	}
	h.Rejections, err = pgx.CollectRows(rows, readRejection)
	return err
}

func readRejection(row pgx.CollectableRow) (s history.Stored, err error) {
	var client, operations string
	if err := row.Scan(&s.ID, &s.Code, &client, &s.Tx, &operations); err != nil {
		return s, err
	}
	if s.Client, err = strconv.Atoi(strings.TrimPrefix(client, "device ")); err != nil {
		return s, fmt.Errorf("client %q: %w", client, err)
	}
	var entries []struct {
		OpID int `json:"op_id"`
	}
	if err := json.Unmarshal([]byte(operations), &entries); err != nil {
		return s, err
	}
	for _, e := range entries {
		s.Ops = append(s.Ops, e.OpID)
	}
	return s, nil
}
