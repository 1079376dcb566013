package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/fault"
	"ferry/internal/postgres/postgrestest"
)

// An upload that is interrupted before, within or behind each of its round trips,
// and sent again, leaves the database as if nothing had happened.

const interruptedSQL = `
CREATE TABLE parents (id text PRIMARY KEY, n int);
CREATE TABLE items (
    id     text PRIMARY KEY,
    n      int CHECK (n >= 0),
    parent text REFERENCES parents DEFERRABLE INITIALLY DEFERRED,
    owner  text NOT NULL DEFAULT current_setting('app.user_id')
);
CREATE TABLE item_writes (id text, operation text);
CREATE FUNCTION note_item() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    INSERT INTO item_writes VALUES (coalesce(new.id, old.id), tg_op);
    RETURN NULL;
END $$;
CREATE TRIGGER note_item AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION note_item();
ALTER TABLE parents ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON parents TO authenticated USING (true);
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON items TO authenticated USING (owner = current_setting('app.user_id'));
GRANT ALL ON parents, items TO authenticated;
INSERT INTO items (id, n, owner) VALUES ('hidden', 1, 'nobody')`

// interruptedUpload has one client transaction for each way in which one can end.
func interruptedUpload(prefix string) []string {
	id := func(name string) string { return prefix + name }
	return []string{
		entryOf(1, 1, "PUT", "items", id("a"), `{"n":1}`),
		entryOf(2, 1, "PUT", "items", id("b"), `{"n":2}`),
		entryOf(3, 2, "PUT", "items", id("c"), `{"n":-1}`),
		entryOf(4, 2, "PUT", "items", id("d"), `{"n":1}`),
		entryOf(5, 3, "PUT", "items", id("e"), `{"n":1,"parent":"none"}`), // shows at COMMIT
		entryOf(6, 4, "PATCH", "items", id("missing"), `{"n":1}`),
		entryOf(7, 5, "PATCH", "items", "hidden", `{"n":2}`),
		entryOf(8, 6, "PUT", "items", id("f"), fmt.Sprintf(`{"n":1,"parent":%q}`, id("p"))),
		entryOf(9, 6, "PUT", "parents", id("p"), `{"n":1}`),
		entryOf(10, 7, "PATCH", "items", id("d"), `{"n":2}`),
		entryOf(11, 8, "DELETE", "items", id("a"), ""),
		entryOf(12, 9, "PATCH", "items", id("b"), `{"n":3}`),
	}
}

// interruptedRows shows what an upload with a prefix left behind.
const interruptedRows = `
SELECT concat_ws(E'\n',
    (SELECT string_agg(concat_ws(' ', substr(id, 6), n, substr(parent, 6), owner), ', ' ORDER BY id) FROM items WHERE id LIKE $1 || '%'),
    (SELECT string_agg(concat_ws(' ', substr(id, 6), operation, times), ', ' ORDER BY id, operation)
     FROM (SELECT id, operation, count(*) AS times FROM item_writes WHERE id LIKE $1 || '%' GROUP BY id, operation) AS w),
    (SELECT string_agg(concat_ws(' ', tx_id, code, first_op_id, last_op_id, json_array_length(convert_from(operations, 'UTF8')::json)), ', ' ORDER BY tx_id)
     FROM ferry.rejections WHERE client_id = $1),
    (SELECT last_op_id FROM ferry.progress WHERE client_id = $1))`

const interruptedWant = `b 3 u, f 1 p u
a DELETE 1, a INSERT 1, b INSERT 1, b UPDATE 1, f INSERT 1
2 check_violation 3 4 2, 3 foreign_key_violation 5 5 1, 5 forbidden 7 7 1, 7 depends_on_rejected 10 10 1
12`

func TestAnUploadInterruptedAtEachRoundTrip(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]breaking{
		"before it is sent": {forward: 0, step: 3}, "within": {forward: 0.5, step: 4}, "behind it": {forward: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := attackOn(t, interruptedSQL)
			line := breakable(t, b.db.URLAs("ferry_login", ""))
			how.cut = true
			b.interruptEach(t, line, how)
		})
	}
}

// What an operator does meanwhile is no fault of the user's. undo comes before the
// upload is sent again.
func TestAnUploadDuringWhichTheDatabaseIsChanged(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]struct{ do, undo string }{
		"the upload role is revoked":   {`REVOKE authenticated FROM %[1]s`, `GRANT authenticated TO %[1]s`},
		"ferry's own role is revoked":  {`REVOKE ferry_service FROM %[1]s`, `GRANT ferry_service TO %[1]s`},
		"a column is retyped":          {`ALTER TABLE items ALTER n TYPE bigint`, `ALTER TABLE items ALTER n TYPE int`},
		"a column is added":            {`ALTER TABLE items ADD more text NOT NULL DEFAULT 'x'`, `ALTER TABLE items DROP IF EXISTS more`},
		"the table is made anew":       {remakeItems, ``},
		"a trigger is added":           {`CREATE TRIGGER same BEFORE INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION keep()`, `DROP TRIGGER IF EXISTS same ON items`},
		"a primary key is made anew":   {`ALTER TABLE items DROP CONSTRAINT items_pkey; ALTER TABLE items ADD PRIMARY KEY (id)`, ``},
		"prepared statements are gone": {`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%[1]s'`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := attackOn(t, interruptedSQL+`;
				CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$`)
			role := "login_" + b.db.Name
			b.db.Exec(t, fmt.Sprintf(`CREATE ROLE %[1]s LOGIN; GRANT authenticated, ferry_service TO %[1]s`, role))
			t.Cleanup(func() { b.dropRole(t, role) })
			line := breakable(t, b.db.URLAs(role, ""))
			run := func(sql string) {
				if strings.Contains(sql, "%") {
					sql = fmt.Sprintf(sql, role)
				}
				// Where the upload holds the table at this moment, nothing changes.
				_, err := b.pool.Exec(context.WithoutCancel(t.Context()), `SET lock_timeout = '50ms'; `+sql)
				if pgErr, ok := errors.AsType[*pgconn.PgError](err); err != nil && (!ok || pgErr.Code != "55P03") {
					t.Error(err)
				}
			}
			b.interruptEach(t, line, breaking{step: 5, forward: 1, before: func() { run(change.do) }, after: func() { run(change.undo) }})
		})
	}
}

// remakeItems is how migrations that must not lock for long replace a table.
const remakeItems = `
DROP TABLE IF EXISTS old_items;
ALTER TABLE items RENAME TO old_items;
CREATE TABLE items (LIKE old_items INCLUDING ALL, FOREIGN KEY (parent) REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
INSERT INTO items SELECT * FROM old_items;
SET CONSTRAINTS ALL IMMEDIATE;
CREATE TRIGGER note_item AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION note_item();
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON items TO authenticated USING (owner = current_setting('app.user_id'));
GRANT ALL ON items TO authenticated`

func (b *attack) dropRole(t *testing.T, role string) {
	t.Helper()
	if _, err := b.pool.Exec(context.WithoutCancel(t.Context()), `DROP ROLE `+role); err != nil {
		t.Error(err)
	}
}

func (b *attack) interruptEach(t *testing.T, line *breakableLine, how breaking) {
	t.Helper()
	cut := openAttacked(t, line.url+"&pool_max_conns=1")
	for at := 1; ; at += max(1, how.step) {
		prefix := fmt.Sprintf("%05d", at)
		up := decodeEntries(t, prefix, interruptedUpload(prefix)...)
		line.breakAt(at, how)
		result, err := cut.Apply(t.Context(), claimsOf("u"), up)
		interrupted := line.settle()
		if how.after != nil {
			how.after()
		}
		if err != nil && fault.From(err).Code != fault.Unavailable {
			t.Errorf("interrupted at %d: %v", at, err)
		}
		again, err := b.store.Apply(t.Context(), claimsOf("u"), up)
		if err != nil {
			t.Fatalf("interrupted at %d, again: %v", at, err)
		}
		if result != nil && len(result.Rejected) > 0 {
			if diff := cmp.Diff(result.Rejected, again.Rejected); diff != "" {
				t.Errorf("interrupted at %d: the rejections differ:\n%s", at, diff)
			}
		}
		if diff := cmp.Diff(interruptedWant, b.text(t, interruptedRows, prefix)); diff != "" {
			t.Fatalf("interrupted at %d (-want +got):\n%s", at, diff)
		}
		if !interrupted {
			t.Logf("%d round trips", at-1)
			if at < 10 {
				t.Errorf("only %d round trips were interrupted", at-1)
			}
			return
		}
	}
}

// breaking is what becomes of a round trip.
type breaking struct {
	step    int     // one in so many is interrupted; 0: each
	forward float64 // how much of what the client sent arrives
	cut     bool    // whether the connection breaks then
	before  func()  // is called before it, if there is one
	after   func()  // and this once the upload has its answer
}

// breakableLine forwards connections to a test's database.
type breakableLine struct {
	url string

	mu    sync.Mutex
	at    int // round trips to let pass until then; 0: all
	how   breaking
	fired bool
}

// breakAt breaks the at-th round trip from now on, over any connection.
func (l *breakableLine) breakAt(at int, how breaking) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at, l.how, l.fired = at, how, false
}

// settle calls off what has not come and reports whether it had.
func (l *breakableLine) settle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = 0
	return l.fired
}

// next counts a round trip and returns what to do with it.
func (l *breakableLine) next() breaking {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == 0 {
		return breaking{forward: 1}
	}
	if l.at--; l.at > 0 {
		return breaking{forward: 1}
	}
	l.fired = true
	return l.how
}

func breakable(t *testing.T, socketURL string) *breakableLine {
	t.Helper()
	l := &breakableLine{}
	l.url = postgrestest.Forward(t, socketURL, func(client, server net.Conn) (up, down func()) {
		var spoke, deaf atomic.Bool // the server, the client
		spoke.Store(true)
		return func() { l.toServer(client, server, &spoke, &deaf) }, func() { toClient(client, server, &spoke, &deaf) }
	})
	return l
}

func (l *breakableLine) toServer(client, server net.Conn, spoke, deaf *atomic.Bool) {
	defer client.Close()
	defer server.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := client.Read(b)
		if err != nil {
			return
		}
		how := breaking{forward: 1}
		if spoke.Swap(false) {
			how = l.next()
		}
		if how.before != nil {
			how.before()
		}
		if how.cut {
			deaf.Store(true) // what the server answers never arrives
		}
		if _, err := server.Write(b[:int(float64(n)*how.forward)]); err != nil {
			return
		}
		if how.cut && how.forward < 1 {
			return
		}
	}
}

// toClient passes on what the server says. A client that hears nothing more is
// told so only then: the server has done what it was asked.
func toClient(client, server net.Conn, spoke, deaf *atomic.Bool) {
	defer client.Close()
	defer server.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := server.Read(b)
		if err != nil || deaf.Load() {
			return
		}
		spoke.Store(true)
		if _, err := client.Write(b[:n]); err != nil {
			return
		}
	}
}
