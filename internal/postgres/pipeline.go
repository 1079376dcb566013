package postgres

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The types of ferry's own parameters (pg_type.dat). How the values of the app's
// columns travel is in wiretype.go.
const (
	byteaOID = 17
	int8OID  = 20
	int4OID  = 23
	oidOID   = 26
)

// param is one statement parameter. A nil value is NULL.
type param struct {
	value  []byte
	oid    uint32
	format int16 // 0: text, 1: binary
}

func textParam(s string) param  { return param{[]byte(s), textOID, 0} }
func intParam(n int64) param    { return param{strconv.AppendInt(nil, n, 10), int8OID, 0} }
func bytesParam(b []byte) param { return param{b, byteaOID, 1} }

// decodeBytea reads a bytea of a result in text format: hex behind \x, which
// is bytea_output's default and the only form that ferry's tables come in.
func decodeBytea(text []byte) ([]byte, error) {
	digits, ok := bytes.CutPrefix(text, []byte(`\x`))
	if !ok {
		return nil, errors.New("bytea_output must be hex")
	}
	return hex.AppendDecode(nil, digits)
}

// optionalInt is NULL for the -1 that stands for "the client sent none".
func optionalInt(n int64) param {
	if n < 0 {
		return param{oid: int8OID}
	}
	return intParam(n)
}

// query is one statement of an exchange.
type query struct {
	sql    string
	params []param
	// row receives each result row in text format, valid during the call.
	row func(values [][]byte) error
	// tag is the command tag that the answer must have; empty for any. COMMIT
	// of a failed transaction answers ROLLBACK, without an error.
	tag string
	// replan is whether it is planned anew each time: tables that were empty
	// when a statement was prepared may have grown since.
	replan bool
}

// queryError is the failure of one query of an exchange.
type queryError struct {
	index int // of the query
	err   error
}

func (e *queryError) Error() string { return fmt.Sprintf("statement %d: %v", e.index, e.err) }
func (e *queryError) Unwrap() error { return e.err }

// session is a connection taken from the pool, with the statements that were
// prepared on it.
type session struct {
	conn *pgxpool.Conn
	pg   *pgconn.PgConn
	// prepared is nil behind a pooler that hands each transaction another
	// connection: there every statement is sent with its text.
	prepared *preparedStatements
	// What is sent of the statement that is sent now.
	values  [][]byte
	oids    []uint32
	formats []int16
}

// maxPrepared bounds the statements kept on one connection: each set of
// columns that clients send makes one for a row and one for several.
const maxPrepared = 256

// preparedStatements lives as long as its connection, in its custom data.
type preparedStatements struct {
	byText  map[string]*pgconn.StatementDescription
	inOrder []string // texts, oldest first
	evicted []string // names to close with the next exchange
	named   uint64   // how many were ever named
}

const preparedKey = "ferry.prepared"

// takeSession waits for a connection of the pool.
func (s *Store) takeSession(ctx context.Context) (*session, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("acquire a connection: %w", err)
	}
	taken := &session{conn: conn, pg: conn.Conn().PgConn()}
	if s.options.TransactionPool {
		return taken, nil
	}
	data := taken.pg.CustomData()
	taken.prepared, _ = data[preparedKey].(*preparedStatements)
	if taken.prepared == nil {
		taken.prepared = &preparedStatements{byText: map[string]*pgconn.StatementDescription{}}
		data[preparedKey] = taken.prepared
	}
	return taken, nil
}

// isOurs is whether each exchange goes over the same connection to Postgres.
func (s *session) isOurs() bool { return s.prepared != nil }

// release gives the connection back. One on which even ROLLBACK fails is closed,
// so that the pool replaces it.
func (s *session) release() {
	defer s.conn.Release()
	if s.pg.TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	s.end(ctx)
}

const releaseTimeout = 2 * time.Second

func (p *preparedStatements) newName() string {
	p.named++
	return "ferry_" + strconv.FormatUint(p.named, 10)
}

// forget drops all statements, but no name is used twice.
func (p *preparedStatements) forget() {
	clear(p.byText)
	p.inOrder, p.evicted = nil, nil
}

func (p *preparedStatements) add(sql string, description *pgconn.StatementDescription) {
	p.byText[sql] = description
	p.inOrder = append(p.inOrder, sql)
	if len(p.inOrder) > maxPrepared {
		oldest := p.inOrder[0]
		p.inOrder = p.inOrder[1:]
		p.evicted = append(p.evicted, p.byText[oldest].Name)
		delete(p.byText, oldest)
	}
}

// exchange sends queries and a Sync in one go and then reads the answers: one
// network round trip, also for statements that are not prepared yet. The first
// error ends it, as a *queryError if the server answered one; the queries
// behind it did not run.
func (s *session) exchange(ctx context.Context, queries ...query) error {
	ends := 0
	if s.pg.TxStatus() == 'E' {
		queries, ends = append([]query{{sql: rollbackSQL}}, queries...), 1
	}
	pipeline := s.pg.StartPipeline(ctx)
	closing := s.closeEvicted(pipeline)
	preparing := map[string]string{} // the name of each text that this exchange prepares
	prepares := make([]string, len(queries))
	for i, q := range queries {
		prepares[i] = s.send(pipeline, q, preparing)
	}
	err := pipeline.Sync()
	for ; err == nil && closing > 0; closing-- {
		_, err = pipeline.GetResults()
	}
	for i := 0; err == nil && i < len(queries); i++ {
		err = s.receive(pipeline, queries[i], prepares[i])
		if _, answered := errors.AsType[*pgconn.PgError](err); answered {
			err = &queryError{i - ends, err}
		}
	}
	// The server's error shows again when the pipeline is closed.
	if closeErr := pipeline.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = s.checkReplicated()
	}
	if s.prepared != nil && hasSQLState(err, "26000", "42P05") { // somebody discarded our prepared statements
		s.prepared.forget()
	}
	return err
}

func (s *session) closeEvicted(pipeline *pgconn.Pipeline) int {
	if s.prepared == nil {
		return 0
	}
	evicted := s.prepared.evicted
	s.prepared.evicted = nil
	for _, name := range evicted {
		pipeline.SendDeallocate(name)
	}
	return len(evicted)
}

// send queues q, and its preparation if it needs one, whose name it returns.
func (s *session) send(pipeline *pgconn.Pipeline, q query, preparing map[string]string) (prepares string) {
	values, oids, formats := s.values[:0], s.oids[:0], s.formats[:0]
	for _, p := range q.params {
		values, oids, formats = append(values, p.value), append(oids, p.oid), append(formats, p.format)
	}
	s.values, s.oids, s.formats = values, oids, formats
	if s.prepared == nil || q.replan {
		pipeline.SendQueryParams(q.sql, values, oids, formats, nil)
		return ""
	}
	if description, ok := s.prepared.byText[q.sql]; ok {
		pipeline.SendQueryStatement(description, values, formats, nil)
		return ""
	}
	name, underway := preparing[q.sql]
	if !underway {
		name = s.prepared.newName()
		preparing[q.sql] = name
		prepares = name
		pipeline.SendPrepare(name, q.sql, oids)
	}
	pipeline.SendQueryPrepared(name, values, formats, nil)
	return prepares
}

func (s *session) receive(pipeline *pgconn.Pipeline, q query, prepares string) error {
	if prepares != "" {
		results, err := pipeline.GetResults()
		if err != nil {
			return err
		}
		description, ok := results.(*pgconn.StatementDescription)
		if !ok {
			return fmt.Errorf("prepare: unexpected answer %T", results)
		}
		description.Name = prepares
		description.SQL = q.sql
		if len(description.Fields) == 0 {
			// Else pgconn would ask, each time, for the columns of what has none.
			description.Fields = make([]pgconn.FieldDescription, 1)
		}
		s.prepared.add(q.sql, description)
	}
	results, err := pipeline.GetResults()
	if err != nil {
		return err
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return fmt.Errorf("query: unexpected answer %T", results)
	}
	var rowErr error
	for reader.NextRow() {
		if q.row != nil && rowErr == nil {
			rowErr = q.row(reader.Values())
		}
	}
	tag, err := reader.Close()
	if err != nil {
		return err
	}
	if q.tag != "" && tag.String() != q.tag {
		return fmt.Errorf("%s answered %s", q.tag, tag)
	}
	return rowErr
}

// cancel asks the server to end the statement that runs. It returns once the
// server was told, or cannot be.
func (s *session) cancel(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	_ = s.pg.CancelRequest(ctx) // then the deadline ends it
}

// rollback ends a transaction that will not be committed. One that has failed
// holds nothing any more; it ends with the next exchange.
func (s *session) rollback(ctx context.Context) {
	if s.pg.TxStatus() != 'E' {
		s.end(ctx)
	}
}

func (s *session) end(ctx context.Context) {
	if s.pg.TxStatus() == 'I' {
		return
	}
	if _, err := s.pg.Exec(ctx, rollbackSQL).ReadAll(); err != nil {
		_ = s.pg.Close(ctx)
	}
}
