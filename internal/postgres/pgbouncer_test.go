package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"ferry/internal/postgres"
	"ferry/internal/postgres/postgrestest"
	"ferry/internal/uploads"
)

// behindPgBouncer opens one more store over the same database, through PgBouncer
// in transaction mode.
func (b *bundle) behindPgBouncer(change ...func(*postgres.Options)) *postgres.Store {
	b.t.Helper()
	return b.behind(postgrestest.FindPgBouncer(b.t).InFrontOf(b.t, b.db, loginRole, nil), change...)
}

// behind opens one more store through the pooler at an address.
func (b *bundle) behind(address string, change ...func(*postgres.Options)) *postgres.Store {
	b.t.Helper()
	return b.open(func(o *postgres.Options) {
		o.URL, o.TransactionPool = address, true
		for _, c := range change {
			c(o)
		}
	})
}

func TestUploadsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	bouncer := postgrestest.FindPgBouncer(t)
	settings := map[string]map[string]string{"no prepared statements": nil}
	if bouncer.KeepsStatements() {
		settings["no prepared statements"] = map[string]string{"max_prepared_statements": "0"}
		settings["prepared statements"] = map[string]string{"max_prepared_statements": "100"}
	}
	for name, set := range settings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, pooledSQL)
			address := bouncer.InFrontOf(t, b.db, loginRole, set)
			b.store = b.behind(address)
			var running, begun sync.WaitGroup
			begun.Add(pooledUsers)
			for n := range pooledUsers {
				running.Go(func() { b.uploadBehindPgBouncer(uid(1000+n), n, &begun) })
			}
			running.Wait()
			b.wroteOnce()
			b.leavesNothingBehind(address)
		})
	}
}

// pooledUsers are more than PgBouncer has connections to Postgres.
const pooledUsers = 8

// pooledSQL makes a table whose rows tell who the database believed to be
// writing, by each of the settings that policies and defaults may read.
const pooledSQL = `
CREATE TABLE signed (
    id    text PRIMARY KEY,
    value int CHECK (value >= 0),
    by    text NOT NULL DEFAULT concat_ws(' ', current_user, current_setting('app.user_id'),
        current_setting('request.jwt.claim.sub'), current_setting('request.jwt.claims')::json ->> 'sub')
);
CREATE TRIGGER count_write AFTER INSERT OR UPDATE OR DELETE ON signed FOR EACH ROW EXECUTE FUNCTION count_write();
ALTER TABLE signed ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON signed TO authenticated USING (by LIKE '%' || (current_setting('request.jwt.claims')::json ->> 'sub'));
GRANT SELECT, INSERT, UPDATE, DELETE ON signed TO authenticated;`

// uploadBehindPgBouncer is what one user does; n tells the users apart. It runs
// beside the others.
func (b *bundle) uploadBehindPgBouncer(user string, n int, begun *sync.WaitGroup) {
	row := func(i int) string { return fmt.Sprintf("%d/%d", n, i) }
	expect := func(what string, want counts, ops ...op) *uploads.Result {
		result, err := b.try(b.store, user, body(ops...))
		if err != nil {
			b.t.Errorf("user %d, %s: %v", n, what, err)
			return &uploads.Result{}
		}
		if diff := cmp.Diff(want, countsOf(result)); diff != "" {
			b.t.Errorf("user %d, %s (-want +got):\n%s", n, what, diff)
		}
		return result
	}
	value := func(v int) map[string]any { return map[string]any{"value": v} }
	first := []op{put(1, "signed", row(1), value(1)), put(2, "signed", row(2), value(2)), patch(3, "signed", row(1), value(3))}
	expect("clean", counts{Applied: 3}, first...)
	expect("redelivered", counts{Duplicates: 3}, first...)

	neighbour := fmt.Sprintf("%d/1", (n+1)%pooledUsers)
	refused := []op{
		put(4, "signed", row(3), value(1)), put(5, "signed", row(4), value(-1)),
		put(6, "signed", neighbour, value(99)).in(1), put(7, "signed", row(5), value(1)),
	}
	begun.Done()
	begun.Wait() // for the neighbour's row
	told := expect("refused", counts{Applied: 2, Rejected: []string{"check_violation", "forbidden"}}, refused...)
	again := expect("refused before", counts{Duplicates: 2, Rejected: []string{"check_violation", "forbidden"}}, refused...)
	if diff := cmp.Diff(told.Rejected, again.Rejected); diff != "" {
		b.t.Errorf("user %d: the rejections were stored anew:\n%s", n, diff)
	}

	var twice sync.WaitGroup
	both := make([]*uploads.Result, 2)
	large := make([]op, 300)
	for i := range large {
		large[i] = put(10+i, "signed", row(10+i), value(i))
	}
	for i := range both {
		twice.Go(func() { both[i], _ = b.try(b.store, user, body(large...)) })
	}
	twice.Wait()
	if both[0] == nil || both[1] == nil || both[0].Applied+both[1].Applied != 300 || both[0].Duplicates+both[1].Duplicates != 300 {
		b.t.Errorf("user %d, twice at once: %+v %+v", n, both[0], both[1])
	}

	// A table changes under the running server: one user's upload meets it first.
	column := fmt.Sprintf("extra_%d", n)
	if _, err := b.admin.Exec(b.t.Context(), `ALTER TABLE signed ADD `+column+` numeric(5, 2)`); err != nil {
		b.t.Error(err)
	}
	expect("a new column", counts{Applied: 1}, put(400, "signed", row(1), map[string]any{column: "1.005"}))
	expect("no such column", counts{Rejected: []string{"unknown_column"}}, put(401, "signed", row(1), map[string]any{"nothing": 1}))
}

// wroteOnce holds the rows of all users, and how often each was written.
func (b *bundle) wroteOnce() {
	b.t.Helper()
	for n := range pooledUsers {
		user := uid(1000 + n)
		const wrongSQL = `SELECT count(*)::text FROM signed
			WHERE split_part(id, '/', 1) = $1 AND by <> concat_ws(' ', 'authenticated', $2::text, $2::text, $2::text)`
		if got := b.text(wrongSQL, fmt.Sprint(n), user); got != "0" {
			b.t.Errorf("%s rows of user %d were written as somebody else", got, n)
		}
	}
	if got, want := b.text(`SELECT count(*)::text FROM signed`), fmt.Sprint(pooledUsers*(2+2+300)); got != want {
		b.t.Errorf("%s rows, want %s", got, want)
	}
	if got, want := b.text(`SELECT count(*)::text FROM writes`), fmt.Sprint(pooledUsers*(3+2+300+1)); got != want {
		b.t.Errorf("%s writes, want %s", got, want)
	}
}

// leavesNothingBehind looks at the pooler's connections as its next client would
// find them.
func (b *bundle) leavesNothingBehind(address string) {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), address+"&default_query_exec_mode=simple_protocol")
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(b.t.Context()))
	servers := map[int]string{}
	for range 12 { // they come in turn
		const foundSQL = `SELECT pg_backend_pid(), concat_ws(' ', current_user, nullif(current_setting('request.jwt.claims', true), ''),
			nullif(current_setting('app.user_id', true), ''), current_setting('statement_timeout'))`
		var pid int
		var found string
		if err := conn.QueryRow(b.t.Context(), foundSQL).Scan(&pid, &found); err != nil {
			b.t.Fatal(err)
		}
		servers[pid] = found
	}
	if len(servers) < 2 {
		b.t.Errorf("only %d connection to Postgres: nothing could have met a stranger", len(servers))
	}
	for _, found := range servers {
		if found != loginRole+" 0" {
			b.t.Errorf("a connection was left with %s", found)
		}
	}
}

func TestRejectionsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.store = b.behindPgBouncer()
	first := b.reject(alice, put(1, "counted", "a", map[string]any{"value": -1}))
	second := b.reject(alice, patch(2, "counted", "a", map[string]any{"value": 2}))
	third := b.reject(alice, put(3, "counted", "b", map[string]any{"value": -3}))
	b.exec(`ALTER TABLE counted DROP CONSTRAINT counted_value_check`)
	if _, planned, err := b.rejections().Plan(t.Context(), first); err != nil || len(planned) != 1 || planned[0].Exists {
		t.Errorf("plan: %+v, %v", planned, err)
	}
	var replayed []string
	err := b.rejections().Replay(t.Context(), first, false, func(r *postgres.Replayed) {
		replayed = append(replayed, r.ID+" "+string(r.State))
	})
	if diff := cmp.Diff([]string{first + " replayed", second + " replayed"}, replayed); err != nil || diff != "" {
		t.Errorf("replay: %v\n%s", err, diff)
	}
	if ok, err := b.rejections().Discard(t.Context(), third); err != nil || !ok {
		t.Errorf("discard: %v, %v", ok, err)
	}
	list, err := b.rejections().List(t.Context(), postgres.RejectionFilter{User: alice, NewestFirst: true})
	if err != nil || len(list) != 3 || list[0].ID != third || list[0].State != uploads.Discarded {
		t.Errorf("list: %+v, %v", list, err)
	}
	if got := b.text(`SELECT string_agg(id || value, ' ') FROM counted`); got != "a2" {
		t.Errorf("rows %s", got)
	}
}

// What a trigger sets and makes for the whole session stays with the pooler's
// connection. Each transaction of an upload may get another one.
func TestWhatATriggerLeavesBehindPgBouncer(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TABLE strangers (by text, left_by text); GRANT INSERT ON strangers TO authenticated;
		CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE
			me text := current_setting('app.user_id');
		BEGIN
			CREATE TEMP TABLE IF NOT EXISTS left_here (who text);
			INSERT INTO strangers
			SELECT me, who FROM (SELECT who FROM left_here UNION SELECT current_setting('app.left', true)) AS found (who)
			WHERE who <> '' AND who <> me;
			INSERT INTO left_here VALUES (me);
			PERFORM set_config('app.left', me, false);
			RETURN new;
		END $$;
		CREATE TRIGGER leave BEFORE INSERT ON counted FOR EACH ROW EXECUTE FUNCTION leave()`)
	b.store = b.behindPgBouncer()
	for n := range 4 { // in turn, all of the pooler's connections
		b.upload(alice, body(put(n, "counted", fmt.Sprint("a", n), map[string]any{"value": 1})))
	}
	refused := make([]op, 40)
	for i := range refused {
		refused[i] = put(i, "counted", fmt.Sprint("b", i), map[string]any{"value": 5 - i%8})
	}
	b.upload(bob, body(refused...))
	if got := b.text(`SELECT coalesce(string_agg(DISTINCT by || ' met ' || left_by, ', '), 'nobody') FROM strangers`); got != "nobody" {
		t.Error(got)
	}
}

// Not parallel: a connection that lay idle is pinged.
func TestACleanUploadBehindPgBouncerIsOneRoundTrip(t *testing.T) {
	b := setup(t)
	line := postgrestest.SlowLine(t, postgrestest.FindPgBouncer(t).InFrontOf(t, b.db, loginRole, nil), 0)
	b.store = b.behind(line.URL + "&pool_max_conns=1")
	const uploads = 20
	var before int64
	for n := range uploads + 2 {
		if n == 2 { // the first ones connect, and read the catalog
			before = line.Trips()
		}
		b.upload(alice, body(put(n+1, "counted", "a", map[string]any{"value": n})))
	}
	if got := line.Trips() - before; got != uploads {
		t.Errorf("%d clean uploads took %d round trips", uploads, got)
	}
}

// A role's own client_encoding is what RESET ALL goes back to where a pooler set
// another one after connecting.
func TestTextIsUTF8BehindPgBouncer(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE FUNCTION claims(text) RETURNS text LANGUAGE sql AS $$ SELECT '{"user":"' || $1 || '"}' $$`)
	b.exec(fmt.Sprintf(`ALTER ROLE %s IN DATABASE %s SET client_encoding = 'LATIN1'`, loginRole, b.db.Name))
	b.store = b.behindPgBouncer()
	const text = "Zoë 😀 €"
	caller := callerOf("zoë")
	up, err := uploads.Decode([]byte(bodyOf("télé", put(1, "kinds", "ï", map[string]any{"t": text}), put(2, "kinds", "€", map[string]any{"i4": "€"}))))
	if err != nil {
		t.Fatal(err)
	}
	result, err := b.store.Apply(t.Context(), caller, up)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(counts{Applied: 1, Rejected: []string{"invalid_text_representation"}}, countsOf(result)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := result.Rejected[0]; got.RowID != "€" || !strings.Contains(got.Message, "€") {
		t.Errorf("rejected as %+v", got)
	}
	if got := b.text(`SELECT concat_ws(' ', id, t) FROM kinds`); got != "ï "+text {
		t.Errorf("stored %q", got)
	}
	if got := b.text(`SELECT user_id || ' ' || client_id FROM ferry.progress`); got != "zoë télé" {
		t.Errorf("progress of %q", got)
	}
	if got, err := b.claimsOf(text, "claims"); err != nil || got != `{"user":"`+text+`"}` {
		t.Errorf("claims %s, %v", got, err)
	}
}
