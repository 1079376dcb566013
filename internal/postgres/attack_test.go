package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"ferry/internal/fault"
	"ferry/internal/postgres"
	"ferry/internal/postgres/postgrestest"
	"ferry/internal/uploads"
)

// attacked is a migrated database with the tables that most tests here use.
var attacked = postgrestest.NewTemplate(func(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `
		DO $$ BEGIN
			IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ferry_login') THEN
				CREATE ROLE ferry_login LOGIN;
			END IF;
		END $$`); err != nil {
		return err
	}
	m, err := postgres.NewMigrator(ctx, url)
	if err != nil {
		return err
	}
	defer m.Close()
	m.UploadRole, m.GrantTo = "authenticated", "ferry_login"
	if _, err := m.Up(ctx); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `
		CREATE TABLE notes (
			id text PRIMARY KEY,
			body text,
			n int CHECK (n >= 0),
			tags text[],
			doc jsonb,
			at timestamptz,
			owner text NOT NULL DEFAULT current_setting('app.user_id', true)
		);
		ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
		CREATE POLICY own ON notes USING (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
		GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO authenticated`)
	return err
})

// attack is what a test works with: a database, and a store that serves it.
type attack struct {
	db    *postgrestest.Database
	pool  *pgxpool.Pool // as superuser
	store *postgres.Store
}

func attackOn(t testing.TB, ddl string, change ...func(*postgres.Options)) *attack {
	t.Helper()
	db := attacked.Clone(t)
	if ddl != "" {
		db.Exec(t, ddl)
	}
	return &attack{db: db, pool: db.Pool(t), store: openAttacked(t, db.URLAs("ferry_login", ""), change...)}
}

func openAttacked(t testing.TB, url string, change ...func(*postgres.Options)) *postgres.Store {
	t.Helper()
	o := postgres.Options{
		URL: url, Role: "authenticated", Schemas: []string{"public"},
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}
	for _, c := range change {
		c(&o)
	}
	store, err := postgres.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func allTables(o *postgres.Options) { o.Tables = []string{"*"} }

// entryOf spells one entry. A txID below 0 leaves tx_id out; data may be empty.
func entryOf(opID, txID int, op, table, id, data string) string {
	quote := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	s := fmt.Sprintf(`{"op_id":%d,"op":%q,"type":%s,"id":%s`, opID, op, quote(table), quote(id))
	if txID >= 0 {
		s += fmt.Sprintf(`,"tx_id":%d`, txID)
	}
	if data != "" {
		s += `,"data":` + data
	}
	return s + "}"
}

func putNote(opID int, id, data string) string { return entryOf(opID, -1, "PUT", "notes", id, data) }

func patchNote(opID int, id, data string) string {
	return entryOf(opID, -1, "PATCH", "notes", id, data)
}
func removeNote(opID int, id string) string { return entryOf(opID, -1, "DELETE", "notes", id, "") }

func decodeEntries(t testing.TB, client string, entries ...string) *uploads.Upload {
	t.Helper()
	up, err := uploads.Decode([]byte(fmt.Sprintf(`{"client_id":%q,"crud":[%s]}`, client, strings.Join(entries, ","))))
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	return up
}

func claimsOf(user string) uploads.Caller {
	claims, _ := json.Marshal(map[string]string{"sub": user, "role": "authenticated"})
	return uploads.Caller{UserID: user, Claims: claims}
}

func (b *attack) try(t testing.TB, user, client string, entries ...string) (*uploads.Result, error) {
	t.Helper()
	return b.store.Apply(t.Context(), claimsOf(user), decodeEntries(t, client, entries...))
}

func (b *attack) apply(t testing.TB, user, client string, entries ...string) *uploads.Result {
	t.Helper()
	result, err := b.try(t, user, client, entries...)
	if err != nil {
		t.Fatalf("upload: %v", err)
	}
	return result
}

// outcome is a result in short: counts, and the codes of the rejections.
type outcome struct {
	Applied, Duplicates, Ignored int
	Codes                        []string
}

func outcomeOf(r *uploads.Result) outcome {
	v := outcome{r.Applied, r.Duplicates, r.Ignored, nil}
	for _, rejection := range r.Rejected {
		v.Codes = append(v.Codes, rejection.Code)
	}
	return v
}

func (b *attack) expect(t testing.TB, want outcome, user, client string, entries ...string) *uploads.Result {
	t.Helper()
	got := b.apply(t, user, client, entries...)
	if diff := cmp.Diff(want, outcomeOf(got)); diff != "" {
		for _, r := range got.Rejected {
			t.Logf("rejected: %+v", r.Refusal)
		}
		t.Errorf("result (-want +got):\n%s", diff)
	}
	return got
}

// hold begins a transaction that holds what sql locks, until release is called or the
// test ends.
func (b *attack) hold(t *testing.T, sql string) (release func()) {
	t.Helper()
	holder, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Rollback(context.WithoutCancel(t.Context())) })
	if _, err := holder.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := holder.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *attack) text(t testing.TB, sql string, args ...any) string {
	t.Helper()
	var s string
	if err := b.pool.QueryRow(t.Context(), sql, args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

// rejectedOperations counts the operations that are stored in the rejections
// of a result.
func (b *attack) rejectedOperations(t testing.TB, r *uploads.Result) int {
	t.Helper()
	total := 0
	for _, rejection := range r.Rejected {
		var stored []byte
		if err := b.pool.QueryRow(t.Context(),
			`SELECT operations FROM ferry.rejections WHERE id = $1::uuid`, rejection.ID).Scan(&stored); err != nil {
			t.Fatalf("rejection %s is not stored: %v", rejection.ID, err)
		}
		var entries []json.RawMessage
		if err := json.Unmarshal(stored, &entries); err != nil {
			t.Fatalf("rejection %s: %v", rejection.ID, err)
		}
		total += len(entries)
	}
	return total
}

func (b *attack) balanced(t testing.TB, r *uploads.Result, operations int) {
	t.Helper()
	if sum := r.Applied + r.Duplicates + r.Ignored + b.rejectedOperations(t, r); sum != operations {
		t.Errorf("%d applied + %d duplicates + %d ignored + rejected = %d, want %d",
			r.Applied, r.Duplicates, r.Ignored, sum, operations)
	}
}

// ---- What holds ----

func TestAttackStringsThatPostgresCannotHoldAreRejected(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	raw := func(opID int, table, id, data string) string {
		return fmt.Sprintf(`{"op_id":%d,"op":"PUT","type":"%s","id":"%s","data":%s}`, opID, table, id, data)
	}
	long := strings.Repeat("x", 1<<20)
	r := b.apply(t, "u", "c",
		raw(1, "notes", `a\u0000b`, `{}`),
		raw(2, "notes", `a\ud800b`, `{}`),
		raw(3, `no\u0000tes`, `a`, `{}`),
		raw(4, `no\ud800tes`, `a`, `{}`),
		raw(5, `notes`, `a`, `{"bo\u0000dy":1}`),
		raw(6, `notes`, `a`, `{"bo\ud800dy":1}`),
		raw(7, `notes`, `a`, `{"body":"\u0000"}`),
		raw(8, `notes`, `a`, `{"body":"\udc00"}`),
		raw(9, `notes`, `a`, `{"tags":["\u0000"]}`),
		raw(10, `notes`, `a`, `{"tags":"[\"\\ud800\"]"}`),
		raw(11, `notes`, `a`, `{"doc":{"k":"\u0000"}}`),
		raw(12, `notes`, `a`, `{"doc":"{\"k\":\"\\ud800\"}"}`),
		raw(13, `notes`, `a`, `{"n":"\u0000"}`),
		raw(14, `notes`, `a`, `{"at":"\u0000"}`),
		raw(15, strings.Repeat("t", 1000), `a`, `{}`),
		raw(16, long, `a`, `{}`),
		raw(17, "notes", long, `{}`),
		raw(18, "notes", "a", `{"`+long+`":1}`),
		raw(19, "notes", "a", `{"n":"`+long+`"}`),
		raw(20, "notes", "", `{"body":"an empty id is legal"}`),
		raw(21, "notes", "`'\\\"$1;--", `{"body":"x"}`),
	)
	b.balanced(t, r, 21)
	t.Logf("%+v", outcomeOf(r))
	again := b.apply(t, "u", "c", raw(1, "notes", `a\u0000b`, `{}`), raw(2, "notes", `a\ud800b`, `{}`))
	if len(again.Rejected) != 2 || again.Rejected[0].ID != r.Rejected[0].ID {
		t.Errorf("a redelivered rejection has another id: %+v", again.Rejected)
	}
}

func TestAttackLargeTransactions(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	var good, bad []string
	for i := range 5000 {
		good = append(good, entryOf(i+1, 1, "PUT", "notes", fmt.Sprintf("g%d", i), fmt.Sprintf(`{"n":%d}`, i)))
		n := i
		if i == 4999 {
			n = -1
		}
		bad = append(bad, entryOf(i+5001, 2, "PUT", "notes", fmt.Sprintf("b%d", i), fmt.Sprintf(`{"n":%d}`, n)))
	}
	started := time.Now()
	b.expect(t, outcome{Applied: 5000}, "u", "c", good...)
	t.Logf("5,000 operations: %v", time.Since(started))
	started = time.Now()
	b.expect(t, outcome{Duplicates: 5000}, "u", "c", good...)
	t.Logf("redelivered: %v", time.Since(started))
	started = time.Now()
	r := b.expect(t, outcome{Codes: []string{"check_violation"}}, "u", "c", bad...)
	t.Logf("rejected: %v, op_index %d", time.Since(started), r.Rejected[0].OpIndex)
	b.balanced(t, r, 5000)
	started = time.Now()
	b.expect(t, outcome{Codes: []string{"check_violation"}}, "u", "c", bad...)
	t.Logf("rejected again: %v", time.Since(started))
}

func TestAttackManyShapesInOneUpload(t *testing.T) {
	t.Parallel()
	var ddl, all []string
	for i := range 400 {
		ddl = append(ddl, fmt.Sprintf("c%d text", i))
		all = append(all, fmt.Sprintf(`"c%d":"v"`, i))
	}
	b := attackOn(t, `CREATE TABLE wide (id text PRIMARY KEY, `+strings.Join(ddl, ",")+`);
		GRANT ALL ON wide TO authenticated`, allTables)
	b.expect(t, outcome{Applied: 1}, "u", "c", entryOf(1, -1, "PUT", "wide", "a", "{"+strings.Join(all, ",")+"}"))
	for round := range 3 {
		var entries []string
		for i := range 399 {
			entries = append(entries, entryOf(2+round*1000+i, -1, "PATCH", "wide", "a", fmt.Sprintf(`{"c%d":"x","c%d":"y"}`, i, i+1)))
		}
		b.expect(t, outcome{Applied: 399}, "u", "c", entries...)
	}
}

func TestAttackHistorySpillsAndIsFound(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	const uploads, each = 60, 7
	at := func(i int) []string {
		var entries []string
		for j := range each {
			n := i*each + j
			entries = append(entries, putNote(n+1, fmt.Sprint(n), fmt.Sprintf(`{"n":%d}`, n)))
		}
		return entries
	}
	var all []string
	for i := range uploads {
		b.expect(t, outcome{Applied: each}, "u", "c", at(i)...)
		all = append(all, at(i)...)
	}
	b.expect(t, outcome{Duplicates: len(all)}, "u", "c", all...)
	for i := range uploads {
		b.expect(t, outcome{Duplicates: each}, "u", "c", at(i)...)
	}
	b.expect(t, outcome{Duplicates: 3, Applied: 1}, "u", "c",
		all[each-2], all[each-1], all[each], putNote(100, "other content", `{}`))
}

func TestAttackConcurrentDeliveriesCutDifferently(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE TABLE counter (id text PRIMARY KEY, writes int NOT NULL DEFAULT 0);
		INSERT INTO counter VALUES ('all');
		CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
		$$ BEGIN UPDATE counter SET writes = writes + 1; RETURN NULL; END $$;
		CREATE TRIGGER count_it AFTER INSERT OR UPDATE OR DELETE ON notes FOR EACH ROW EXECUTE FUNCTION count_it()`)
	other := openAttacked(t, b.db.URLAs("ferry_login", ""))
	const total = 60
	var entries []string
	for i := range total {
		n := i
		if i%20 == 7 {
			n = -1
		}
		entries = append(entries, putNote(i+1, fmt.Sprintf("r%d", i), fmt.Sprintf(`{"n":%d}`, n)))
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			store := b.store
			if i%2 == 1 {
				store = other
			}
			result, err := store.Apply(t.Context(), claimsOf("u"), decodeEntries(t, "c", entries[:total-i*3]...))
			if err != nil {
				t.Errorf("delivery %d: %v", i, err)
				return
			}
			b.balanced(t, result, total-i*3)
		})
	}
	wg.Wait()
	if got := b.text(t, `SELECT writes::text FROM counter`); got != "57" {
		t.Errorf("the trigger fired %s times, want 57", got)
	}
	if got := b.text(t, `SELECT count(*)::text FROM ferry.rejections`); got != "3" {
		t.Errorf("%s rejections, want 3", got)
	}
}

func TestAttackDeadlocksResolve(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	var forward, backward []string
	var seed []string
	for i := range 200 {
		seed = append(seed, putNote(i+1, fmt.Sprintf("%03d", i), `{}`))
	}
	b.expect(t, outcome{Applied: 200}, "u", "seed", seed...)
	for round := range 10 {
		forward, backward = nil, nil
		for i := range 200 {
			forward = append(forward, entryOf(round*200+i+1, 1, "PATCH", "notes", fmt.Sprintf("%03d", i), fmt.Sprintf(`{"n":%d}`, i)))
			backward = append(backward, entryOf(round*200+i+1, 1, "PATCH", "notes", fmt.Sprintf("%03d", 199-i), fmt.Sprintf(`{"n":%d}`, i)))
		}
		var wg sync.WaitGroup
		for client, entries := range map[string][]string{"f": forward, "b": backward} {
			wg.Go(func() { b.expect(t, outcome{Applied: 200}, "u", client, entries...) })
		}
		wg.Wait()
	}
}

func TestAttackKilledBackendsLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE TABLE log (id bigserial, note text);
		CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
		$$ BEGIN INSERT INTO log (note) VALUES (new.id); RETURN NULL; END $$;
		CREATE TRIGGER log_it AFTER INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION log_it()`)
	b.expect(t, outcome{Applied: 1}, "v", "c", putNote(1, "warm", `{}`))
	stop := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
				_, _ = b.pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
					WHERE usename = 'ferry_login' AND datname = current_database() AND random() < 0.02`)
			}
		}
	})
	var clients sync.WaitGroup
	var refused atomic.Int64
	const each = 24
	for client := range 4 {
		clients.Go(func() {
			for i := 0; i < each; i += 4 {
				var entries []string
				for j := range 4 {
					n := 1
					if i%8 == 4 && j == 2 {
						n = -1
					}
					entries = append(entries, putNote(i+j+1, fmt.Sprintf("%d-%d", client, i+j), fmt.Sprintf(`{"n":%d}`, n)))
				}
				for attempt := 0; ; attempt++ {
					_, err := b.store.Apply(t.Context(), claimsOf("u"), decodeEntries(t, fmt.Sprint("c", client), entries...))
					if err == nil {
						break
					}
					refused.Add(1)
					if fault.From(err).Code != fault.Unavailable || attempt > 2000 {
						t.Errorf("%v", err)
						return
					}
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	killer.Wait()
	t.Logf("%d answers of 503", refused.Load())
	if got := b.text(t, `SELECT count(*) || '/' || count(DISTINCT note) FROM log`); got != "85/85" {
		t.Errorf("writes/rows: %s, want 85/85", got)
	}
	if got := b.text(t, `SELECT count(*)::text FROM ferry.rejections`); got != "12" {
		t.Errorf("%s rejections, want 12", got)
	}
}

func TestAttackDeferredTriggersRunAsTheCaller(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE TABLE seen (who text, sub text);
		GRANT INSERT ON seen TO authenticated;
		CREATE FUNCTION note_who() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO seen VALUES (current_user, current_setting('app.user_id', true));
		   IF new.body = 'bad' THEN RAISE EXCEPTION 'refused at commit' USING HINT = 'be good'; END IF; RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER note_who AFTER INSERT OR UPDATE ON notes DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION note_who()`)
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(1, "a", `{}`))
	b.expect(t, outcome{Applied: 2, Codes: []string{"raise_exception"}}, "u", "c",
		putNote(2, "b", `{}`), putNote(3, "c", `{"body":"bad"}`), putNote(4, "d", `{}`))
	if got := b.text(t, `SELECT string_agg(DISTINCT who || ' ' || sub, ',') FROM seen`); got != "authenticated u" {
		t.Errorf("deferred triggers ran as %q", got)
	}
}

func TestAttackPoliciesThatDependOnRowsOfTheSameBatch(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE TABLE members (id text PRIMARY KEY, team text, who text);
		CREATE FUNCTION leads(t text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS
			$$ SELECT EXISTS (SELECT FROM members WHERE team = t AND who = current_setting('app.user_id', true)) $$;
		ALTER TABLE members ENABLE ROW LEVEL SECURITY;
		CREATE POLICY m ON members USING (who = current_setting('app.user_id', true) OR leads(team));
		GRANT ALL ON members TO authenticated`)
	e := func(opID, tx int, id, who string) string {
		return entryOf(opID, tx, "PUT", "members", id, fmt.Sprintf(`{"team":"x","who":%q}`, who))
	}
	b.expect(t, outcome{Applied: 3}, "u", "c", e(1, 1, "1", "u"), e(2, 1, "2", "other"), e(3, 1, "3", "third"))
	b.expect(t, outcome{Codes: []string{"forbidden"}}, "stranger", "c", e(1, 1, "4", "u"))
}

func TestAttackLeakOfCallersSettings(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "", func(o *postgres.Options) { o.URL += "&pool_max_conns=1" })
	b.expect(t, outcome{Applied: 1}, "alice", "c", putNote(1, "a", `{"body":"alice's"}`))
	b.expect(t, outcome{Codes: []string{"forbidden"}}, "bob", "c", entryOf(1, -1, "PATCH", "notes", "a", `{"body":"bob's"}`))
	b.expect(t, outcome{Codes: []string{"forbidden"}}, "bob", "d", entryOf(1, -1, "PUT", "notes", "a", `{"body":"bob's"}`))
	b.expect(t, outcome{Codes: []string{"forbidden"}}, "bob", "e", entryOf(1, -1, "DELETE", "notes", "a", ""))
	b.expect(t, outcome{Codes: []string{"forbidden"}}, "bob", "f", entryOf(1, -1, "PUT", "notes", "b", `{"owner":"alice"}`))
	if got := b.text(t, `SELECT string_agg(id || body, ',') FROM notes`); got != "aalice's" {
		t.Errorf("rows: %s", got)
	}
	odd := uploads.Caller{UserID: "u", Claims: json.RawMessage(`{"sub":"u","x":"'\"\\u0000","y":{"z":["é😀"]}}`)}
	for range 2 {
		result, err := b.store.Apply(t.Context(), odd, decodeEntries(t, "g", putNote(1, "c", `{"body":"x"}`)))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", outcomeOf(result))
	}
}

func TestAttackViewsAndPartitions(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `
		CREATE VIEW shown AS SELECT id, body, n, owner FROM notes WHERE body <> 'secret';
		ALTER VIEW shown SET (security_invoker = false);
		CREATE TABLE parts (id int, region text, body text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
		CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
		CREATE TABLE parts_us PARTITION OF parts DEFAULT;
		CREATE TABLE gen (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED, c int GENERATED ALWAYS AS IDENTITY);
		GRANT ALL ON shown, parts, gen TO authenticated`, allTables)
	b.expect(t, outcome{Applied: 4}, "u", "c",
		entryOf(1, -1, "PUT", "shown", "a", `{"body":"x","owner":"u"}`),
		entryOf(2, -1, "PUT", "shown", "a", `{"body":"y","owner":"u"}`),
		entryOf(3, -1, "PATCH", "shown", "a", `{"n":3}`),
		entryOf(4, -1, "PUT", "shown", "b", `{"body":"z","owner":"u"}`))
	b.expect(t, outcome{Applied: 4}, "u", "c",
		entryOf(5, -1, "PUT", "parts", "1", `{"region":"eu","body":"x"}`),
		entryOf(6, -1, "PUT", "parts", "1.0", `{"region":"us","body":"y"}`),
		entryOf(7, -1, "PATCH", "parts", "1", `{"body":"z"}`),
		entryOf(8, -1, "PUT", "parts", "2", `{"region":"eu"}`))
	if got := b.text(t, `SELECT string_agg(id || region || coalesce(body, '-'), ',' ORDER BY id) FROM parts`); got != "1usz,2eu-" {
		t.Errorf("parts: %s", got)
	}
	for i := range 2 {
		b.expect(t, outcome{Applied: 2}, "u", "c",
			entryOf(9+i*2, -1, "PUT", "gen", "7", `{"a":5,"b":99,"c":99}`),
			entryOf(10+i*2, -1, "PATCH", "gen", "7", `{"a":6,"b":99}`))
	}
	if got := b.text(t, `SELECT string_agg(id || '/' || a || '/' || b, ',') FROM gen`); got != "7/6/12" {
		t.Errorf("gen: %s", got)
	}
}

func TestAttackTablesThatChangeWhileRunning(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "", func(o *postgres.Options) { o.URL += "&pool_max_conns=1" })
	n := 0
	step := func(ddl, data string) {
		t.Helper()
		if ddl != "" {
			b.db.Exec(t, ddl)
		}
		for range 2 {
			n++
			b.expect(t, outcome{Applied: 2}, "u", "c", putNote(2*n, fmt.Sprint(n), data), patchNote(2*n+1, fmt.Sprint(n), data))
		}
	}
	step("", `{"n":1,"body":"x"}`)
	step(`ALTER TABLE notes ADD extra text`, `{"n":1,"extra":"x"}`)
	step(`ALTER TABLE notes DROP CONSTRAINT notes_n_check, ALTER n TYPE text`, `{"n":"1","body":"x"}`)
	step(`ALTER TABLE notes ALTER n TYPE jsonb USING n::jsonb`, `{"n":{"a":1},"body":"x"}`)
	step(`ALTER TABLE notes DROP body; ALTER TABLE notes ADD body int`, `{"n":1,"body":4}`)
	step(`ALTER TABLE notes DROP CONSTRAINT notes_pkey`, `{"n":1,"body":4}`)
	step(`DROP TABLE notes; CREATE TABLE notes (id text PRIMARY KEY, body text);
		ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON notes USING (true);
		GRANT ALL ON notes TO authenticated`, `{"body":"x"}`)
	step(`REVOKE UPDATE ON notes FROM authenticated; GRANT UPDATE (body) ON notes TO authenticated`, `{"body":"x"}`)
}

func TestAttackACleanUploadIsOneRoundTrip(t *testing.T) {
	b := attackOn(t, "")
	line := postgrestest.SlowLine(t, b.db.URLAs("ferry_login", ""), 0)
	store := openAttacked(t, line.URL+"&pool_max_conns=1")
	upload := func(op, count int) {
		var entries []string
		for i := range count {
			entries = append(entries, putNote(op+i, fmt.Sprintf("%d", op+i), `{"body":"x","n":1}`))
		}
		if r, err := store.Apply(t.Context(), claimsOf("u"), decodeEntries(t, "c", entries...)); err != nil || r.Applied != count {
			t.Fatalf("%+v %v", r, err)
		}
	}
	upload(1, 1)
	upload(2, 1)
	before := line.Trips()
	for i := range 20 {
		upload(3+i, 1)
	}
	t.Logf("round trips per clean upload of one operation: %.2f", float64(line.Trips()-before)/20)
	if trips := line.Trips() - before; trips > 20 {
		t.Errorf("20 clean uploads took %d round trips, want 20", trips)
	}
	up := 100
	for _, size := range []int{1, 10, 100, 1000, 5000} {
		started := time.Now()
		for range 5 {
			upload(up, size)
			up += size
		}
		t.Logf("%d operations: %.1f µs each", size, float64(time.Since(started).Microseconds())/float64(5*size))
	}
}

func TestAttackAnUploadOfRejectionsAlone(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	var entries []string
	for i := range 1000 {
		data := `{"n":-1}`
		if i%2 == 0 {
			data = `{"nonsense":1}`
		}
		entries = append(entries, putNote(i+1, fmt.Sprint(i), data))
	}
	started := time.Now()
	r := b.apply(t, "u", "c", entries...)
	t.Logf("1,000 rejections: %v", time.Since(started))
	b.balanced(t, r, 1000)
	started = time.Now()
	again := b.apply(t, "u", "c", entries...)
	t.Logf("again: %v", time.Since(started))
	b.balanced(t, again, 1000)
}

// ---- Open findings: each test below fails until the engine is mended. ----
// In order of weight.

// cascading is a list and its items, as PowerSync's demos have them.
const cascading = `
	CREATE TABLE groups (id text PRIMARY KEY, name text);
	CREATE TABLE items (id text PRIMARY KEY, group_id text REFERENCES groups ON DELETE CASCADE, name text);
	ALTER TABLE groups ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON groups USING (true);
	ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON items USING (true);
	GRANT ALL ON groups, items TO authenticated;
	INSERT INTO groups VALUES ('g', 'x'); INSERT INTO items VALUES ('i', 'g', 'x'), ('j', 'g', 'x')`

func TestAttackADeleteOfARowThatACascadeRemovedIsIgnored(t *testing.T) {
	t.Parallel()
	b := attackOn(t, cascading)
	b.expect(t, outcome{Applied: 1, Ignored: 2}, "u", "c",
		entryOf(1, 1, "DELETE", "groups", "g", ""),
		entryOf(2, 1, "DELETE", "items", "i", ""),
		entryOf(3, 1, "PATCH", "items", "j", `{"name":"y"}`))
}

func TestAttackADeleteOfANewRowThatACascadeRemovedIsIgnored(t *testing.T) {
	t.Parallel()
	b := attackOn(t, cascading)
	b.expect(t, outcome{Applied: 3, Ignored: 1}, "u", "c",
		entryOf(1, 1, "PUT", "groups", "h", `{}`),
		entryOf(2, 2, "PUT", "items", "k", `{"group_id":"h"}`),
		entryOf(3, 3, "DELETE", "groups", "h", ""),
		entryOf(4, 3, "DELETE", "items", "k", ""))
}

func TestAttackAChangeOfARowThatTheSameUploadDeletedIsIgnored(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(1, "a", `{}`))
	b.expect(t, outcome{Applied: 1, Ignored: 2}, "u", "c", removeNote(2, "a"), patchNote(3, "a", `{"n":1}`), removeNote(4, "a"))
}

func TestAttackAChangeOfARowThatATriggerSwallowedIsIgnored(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
		CREATE TRIGGER swallow BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION swallow()`)
	b.expect(t, outcome{Applied: 1, Ignored: 1}, "u", "c",
		entryOf(1, 1, "PUT", "notes", "a", `{}`), entryOf(2, 1, "PATCH", "notes", "a", `{"n":1}`))
}

func TestAttackATriggersOwnSQLStateIsAVerdict(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"28000", "53400", "08000", "57014", "55P03", "25006", "58000", "P0001", "45000", "FE001"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			b := attackOn(t, fmt.Sprintf(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
				$$ BEGIN IF new.body = 'bad' THEN RAISE EXCEPTION 'not you' USING ERRCODE = '%s'; END IF; RETURN new; END $$;
				CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION refuse()`, state))
			r, err := b.try(t, "u", "c", putNote(1, "a", `{}`), putNote(2, "b", `{"body":"bad"}`), putNote(3, "c", `{}`))
			if err != nil {
				t.Fatalf("this client is blocked for ever: %v", err)
			}
			if diff := cmp.Diff(outcome{Applied: 2, Codes: []string{"raise_exception"}}, outcomeOf(r)); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAttackTheRestOfACutTransactionIsRefusedWhenAnotherWasRejectedAfterIt(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	// Transaction 8, cut by the batch's end, is refused by the plan, before
	// the database refuses transaction 7.
	b.expect(t, outcome{Codes: []string{"check_violation", "unknown_column"}}, "u", "c",
		entryOf(1, 7, "PUT", "notes", "a", `{"n":-1}`),
		entryOf(2, 8, "PUT", "notes", "b", `{"nonsense":1}`))
	b.expect(t, outcome{Codes: []string{"depends_on_rejected"}}, "u", "c", entryOf(3, 8, "PUT", "notes", "c", `{"n":1}`))
}

func TestAttackTheRestOfACutTransactionIsRefusedBehindAnEmptyTransaction(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	b.expect(t, outcome{Codes: []string{"check_violation"}}, "u", "c", entryOf(1, 7, "PUT", "notes", "a", `{"n":-1}`))
	up, err := uploads.Decode([]byte(`{"client_id":"c","transactions":[{"transaction_id":6,"crud":[]},
		{"transaction_id":7,"crud":[{"op_id":2,"op":"PUT","table":"notes","id":"b","data":{}}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.store.Apply(t.Context(), claimsOf("u"), up)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(outcome{Codes: []string{"depends_on_rejected"}}, outcomeOf(r)); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}

func TestAttackALargeBadTransactionIsDecidedOverASlowLine(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	line := postgrestest.SlowLine(t, b.db.URLAs("ferry_login", ""), 500*time.Microsecond)
	store := openAttacked(t, line.URL)
	var entries []string
	for i := range 5000 {
		n := i
		if i == 4999 {
			n = -1
		}
		entries = append(entries, entryOf(i+1, 1, "PUT", "notes", fmt.Sprint(i), fmt.Sprintf(`{"n":%d}`, n)))
	}
	started := time.Now()
	r, err := store.Apply(t.Context(), claimsOf("u"), decodeEntries(t, "c", entries...))
	t.Logf("1 ms round trip: %v, %d round trips", time.Since(started), line.Trips())
	if err != nil {
		t.Fatalf("this client is blocked for ever: %v", err)
	}
	b.balanced(t, r, 5000)
	if trips := line.Trips(); trips > 1000 {
		t.Errorf("%d round trips to reject one transaction: at 2 ms each a client is blocked for ever", trips)
	}
}

// A second path that begins with the whole upload again, takes as long as the
// first: what fits into the time once does not fit twice.
func TestAttackASlowUploadWithABadOperationGetsFurtherEachTime(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE FUNCTION think() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_sleep(0.005); RETURN NULL; END $$;
		CREATE TRIGGER think AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION think()`)
	b.expect(t, outcome{Applied: 1}, "u", "d", putNote(1, "warm", `{}`))
	var entries []string
	for i := range 300 { // 1.5 s and more
		n := i
		if i == 299 {
			n = -1
		}
		entries = append(entries, putNote(i+1, fmt.Sprint(i), fmt.Sprintf(`{"n":%d}`, n)))
	}
	entries[298], entries[299] = putNote(299, "298", `{"body":"x"}`), patchNote(300, "298", `{"n":-1}`)
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		r, err := b.store.Apply(ctx, claimsOf("u"), decodeEntries(t, "c", entries...))
		cancel()
		if err == nil {
			b.balanced(t, r, 300)
			return
		}
		t.Logf("rows after 3 s: %s; %v", b.text(t, `SELECT count(*)::text FROM notes`), err)
	}
	t.Error("an upload that fits into the time without its bad operation is never decided with it")
}

func TestAttackAnUploadThatAlwaysTimesOutIsDecidedInTheEnd(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE FUNCTION wait_for_ever() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN IF new.body = 'slow' THEN SET LOCAL lock_timeout = '10ms'; LOCK TABLE busy; END IF; RETURN new; END $$;
		CREATE TABLE busy (); GRANT ALL ON busy TO authenticated;
		CREATE TRIGGER w BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION wait_for_ever()`)
	b.hold(t, `LOCK TABLE busy`)
	var ahead atomic.Int64 // the clock, in seconds
	store := openAttacked(t, b.db.URLAs("ferry_login", ""), func(o *postgres.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load()) * time.Second) }
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 8 {
		r, err := store.Apply(ctx, claimsOf("u"), decodeEntries(t, "c", putNote(1, "a", `{"body":"slow"}`)))
		ahead.Add(60)
		if err == nil {
			if len(r.Rejected) != 1 || r.Rejected[0].Code != "timeout" {
				t.Errorf("%+v", outcomeOf(r))
			}
			return
		}
	}
	t.Error("eight attempts over eight minutes end in 503: this client is blocked for ever")
}

// The rest of a rejected client transaction is rejected with it, also behind
// another one in the same request.
func TestAttackARejectedTransactionThatGoesOnBehindAnother(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	r := b.apply(t, "u", "c",
		entryOf(1, 7, "PUT", "notes", "a", `{"n":-1}`), entryOf(2, 8, "PUT", "notes", "b", `{"n":1}`), entryOf(3, 7, "PUT", "notes", "c", `{"n":1}`))
	want := outcome{Applied: 1, Codes: []string{"check_violation", "depends_on_rejected"}}
	if diff := cmp.Diff(want, outcomeOf(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What an app's function does not find is not the client's table or column.
func TestAttackAnUndefinedTableWithinATrigger(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO nowhere VALUES (1); RETURN new; END $$;
		CREATE TRIGGER broken BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION broken()`)
	b.expect(t, outcome{Codes: []string{"internal_error"}}, "u", "c", putNote(1, "a", `{"n":1}`))
}

func TestAttackAChainOfDependentTransactions(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	entries := []string{entryOf(1, 1, "PUT", "notes", "r0", `{"n":-1}`)}
	for i := 1; i <= 40; i++ {
		entries = append(entries,
			entryOf(2*i, i+1, "PUT", "notes", fmt.Sprintf("r%d", i), `{}`),
			entryOf(2*i+1, i+1, "PATCH", "notes", fmt.Sprintf("r%d", i-1), `{"n":1}`))
	}
	r := b.apply(t, "u", "c", entries...)
	b.balanced(t, r, 81)
	if len(r.Rejected) != 41 {
		t.Errorf("%d rejected, want 41", len(r.Rejected))
	}
}

func TestAttackNoVerdictRestsOnAnOldCatalogAfterARedelivery(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(1, "a", `{"body":"x"}`))
	b.db.Exec(t, `ALTER TABLE notes ALTER body TYPE jsonb USING to_jsonb(body)`)
	b.expect(t, outcome{Duplicates: 1, Applied: 1}, "u", "c", putNote(1, "a", `{"body":"x"}`), putNote(2, "b", `{"body":"{}"}`))
}

// Within the age that a catalog may reach, what the operator changed may go
// unnoticed by uploads that succeed.
func TestAttackATableThatLostRowLevelSecurityTakesNoUploads(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	var ahead atomic.Int64 // the clock, in seconds
	b.store = openAttacked(t, b.db.URLAs("ferry_login", ""), func(o *postgres.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load()) * time.Second) }
	})
	b.expect(t, outcome{Applied: 1}, "alice", "c", putNote(1, "a", `{"body":"alice's"}`))
	// A migration swaps the table; default privileges grant the new one.
	b.db.Exec(t, `CREATE TABLE notes2 AS TABLE notes; ALTER TABLE notes2 ADD PRIMARY KEY (id);
		DROP TABLE notes; ALTER TABLE notes2 RENAME TO notes; GRANT ALL ON notes TO authenticated`)
	ahead.Store(11)
	b.expect(t, outcome{Codes: []string{"forbidden"}}, "bob", "c", putNote(1, "a", `{"body":"bob's"}`))
}

func TestAttackAnUploadRoleThatBecameUnsafeTakesNoUploads(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	role := "unsafe_" + b.db.Name
	b.db.Exec(t, fmt.Sprintf(`CREATE ROLE %[1]s; GRANT %[1]s TO ferry_login; GRANT ALL ON notes TO %[1]s`, role))
	t.Cleanup(func() {
		_, _ = b.pool.Exec(context.WithoutCancel(t.Context()), fmt.Sprintf(`DROP OWNED BY %[1]s; DROP ROLE %[1]s`, role))
	})
	var ahead atomic.Int64 // the clock, in seconds
	store := openAttacked(t, b.db.URLAs("ferry_login", ""), func(o *postgres.Options) {
		o.Role = role
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load()) * time.Second) }
	})
	if _, err := store.Apply(t.Context(), claimsOf("u"), decodeEntries(t, "c", putNote(1, "a", `{}`))); err != nil {
		t.Fatal(err)
	}
	b.db.Exec(t, `ALTER ROLE `+role+` BYPASSRLS`)
	ahead.Store(11)
	if _, err := store.Apply(t.Context(), claimsOf("bob"), decodeEntries(t, "c", putNote(1, "a", `{"body":"bob's"}`))); err == nil {
		t.Error("uploads go on as a role that bypasses row-level security")
	}
}

func TestAttackInsertOnlyPoliciesDoNotCostADatabaseTransactionPerRow(t *testing.T) {
	b := attackOn(t, `CREATE TABLE events (id text PRIMARY KEY, what text);
		ALTER TABLE events ENABLE ROW LEVEL SECURITY; CREATE POLICY add ON events FOR INSERT WITH CHECK (true);
		GRANT ALL ON events TO authenticated;
		CREATE TABLE swallowed (id text PRIMARY KEY, what text);
		ALTER TABLE swallowed ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON swallowed USING (true);
		GRANT ALL ON swallowed TO authenticated;
		CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
		CREATE TRIGGER swallow BEFORE INSERT ON swallowed FOR EACH ROW EXECUTE FUNCTION swallow()`)
	line := postgrestest.SlowLine(t, b.db.URLAs("ferry_login", ""), 0)
	store := openAttacked(t, line.URL)
	for i, table := range []string{"notes", "events", "swallowed"} {
		data := `{"what":"x"}`
		if table == "notes" {
			data = `{"body":"x"}`
		}
		var entries []string
		for j := range 1000 {
			entries = append(entries, entryOf(1+i*1000+j, -1, "PUT", table, fmt.Sprint(j), data))
		}
		before, started := line.Trips(), time.Now()
		r, err := store.Apply(t.Context(), claimsOf("u"), decodeEntries(t, "c", entries...))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %+v, %v, %d round trips", table, outcomeOf(r), time.Since(started), line.Trips()-before)
		if trips := line.Trips() - before; trips > 100 {
			t.Errorf("%s: 1,000 plain PUTs took %d round trips", table, trips)
		}
	}
}

func TestAttackByteaOutputDoesNotMatter(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	b.db.Exec(t, `ALTER DATABASE `+b.db.Name+` SET bytea_output = 'escape'`)
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(1, "a", `{}`))
	b.expect(t, outcome{Duplicates: 1}, "u", "c", putNote(1, "a", `{}`))
}

func TestAttackPreparedStatementsThatTheServerForgotDoNotCostAnUpload(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN IF new.body = 'forget' THEN EXECUTE 'DEALLOCATE ALL'; END IF; RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER forget AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION forget()`,
		func(o *postgres.Options) { o.URL += "&pool_max_conns=1" })
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(1, "a", `{}`))
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(2, "b", `{"body":"forget"}`))
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(3, "c", `{}`))
	b.expect(t, outcome{Applied: 1}, "u", "c", putNote(4, "d", `{}`))
}

func TestAttackATableOwnerCannotRunCodeAsFerrysOwner(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	mallory := "mallory_" + b.db.Name
	b.db.Exec(t, fmt.Sprintf(`CREATE ROLE %[1]s; GRANT CREATE ON SCHEMA public TO %[1]s;
		CREATE TABLE caught (who text); GRANT INSERT ON caught TO PUBLIC;
		SET ROLE %[1]s;
		CREATE FUNCTION trap(v text) RETURNS boolean LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO public.caught VALUES (current_user); RETURN true; END $$;
		CREATE DOMAIN trapped AS text CHECK (public.trap(value));
		CREATE TABLE bait (id trapped PRIMARY KEY, n int);
		ALTER TABLE bait ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON bait USING (true);
		GRANT ALL ON bait TO authenticated; GRANT EXECUTE ON FUNCTION trap(text) TO PUBLIC`, mallory))
	t.Cleanup(func() {
		_, _ = b.pool.Exec(context.WithoutCancel(t.Context()), fmt.Sprintf(`DROP OWNED BY %[1]s; DROP ROLE %[1]s`, mallory))
	})
	_ = b.apply(t, "u", "c", entryOf(1, -1, "PATCH", "bait", "x", `{"n":1}`))
	if got := b.text(t, `SELECT coalesce(string_agg(DISTINCT who, ','), '') FROM caught WHERE who = 'postgres'`); got != "" {
		t.Errorf("code of a table's owner ran as %s, the owner of ferry.existing_rows", got)
	}
}

func TestAttackSessionSettingsOfAnAppsTriggerDoNotReachTheNextCaller(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE TABLE tenants (id text PRIMARY KEY, leaked text);
		CREATE FUNCTION tenant() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN new.leaked := current_setting('app.tenant', true);
		   PERFORM set_config('app.tenant', new.id, false); RETURN new; END $$;
		CREATE TRIGGER tenant BEFORE INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION tenant();
		GRANT ALL ON tenants TO authenticated`, allTables, func(o *postgres.Options) { o.URL += "&pool_max_conns=1" })
	b.expect(t, outcome{Applied: 1}, "alice", "c", entryOf(1, -1, "PUT", "tenants", "alice", `{}`))
	b.expect(t, outcome{Applied: 1}, "bob", "c", entryOf(1, -1, "PUT", "tenants", "bob", `{}`))
	if got := b.text(t, `SELECT coalesce(leaked, '') FROM tenants WHERE id = 'bob'`); got != "" {
		t.Errorf("bob's transaction began with a setting of %s's", got)
	}
}

func TestAttackASessionRoleSetByAnAppsTriggerDoesNotBlockTheConnection(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE FUNCTION become() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN SET ROLE authenticated; RETURN new; END $$;
		CREATE TRIGGER become BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION become()`,
		func(o *postgres.Options) { o.URL += "&pool_max_conns=1" })
	for i := range 3 {
		b.expect(t, outcome{Applied: 1}, "u", "c", putNote(i+1, fmt.Sprint(i), `{}`))
	}
}

func TestAttackAHiddenRowOfAPartitionedTableIsForbidden(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE TABLE parts (id int PRIMARY KEY, body text, owner text DEFAULT current_setting('app.user_id', true)) PARTITION BY HASH (id);
		CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
		ALTER TABLE parts ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON parts USING (owner = current_setting('app.user_id', true));
		GRANT ALL ON parts TO authenticated`)
	b.expect(t, outcome{Applied: 1}, "alice", "c", entryOf(1, -1, "PUT", "parts", "1", `{"body":"x"}`))
	b.expect(t, outcome{Codes: []string{"forbidden"}}, "bob", "c", entryOf(1, -1, "PUT", "parts", "1", `{"body":"y"}`))
}

func TestAttackAColumnThatMayBeWrittenAndNotReadTakesFarDates(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `CREATE TABLE dated (id text PRIMARY KEY, at timestamptz);
		GRANT SELECT (id), INSERT, UPDATE ON dated TO authenticated; INSERT INTO dated VALUES ('a')`, allTables)
	b.expect(t, outcome{Applied: 2}, "u", "c",
		entryOf(1, -1, "PATCH", "dated", "a", `{"at":"2020-01-01"}`),
		entryOf(2, -1, "PATCH", "dated", "a", `{"at":"9999-12-31T23:59:59Z"}`))
}

func TestAttackAnIDBeyondAnIndexRowIsTooLarge(t *testing.T) {
	t.Parallel()
	b := attackOn(t, "")
	random, id := rand.New(rand.NewPCG(1, 2)), make([]byte, 10_000)
	for i := range id {
		id[i] = byte('!' + random.IntN(90))
	}
	r := b.expect(t, outcome{Applied: 1, Codes: []string{"too_large"}}, "u", "c",
		putNote(1, string(id), `{"body":"x"}`), putNote(2, "ok", `{"body":"x"}`))
	b.balanced(t, r, 2)
}
