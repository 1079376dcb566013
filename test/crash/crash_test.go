// Package crash_test kills a running ferry, again and again, under load.
package crash_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/identity"
	"ferry/internal/postgres/postgrestest"
	"ferry/internal/secrettest"
)

var secrets secrettest.Suite // none of which may be logged

func TestMain(m *testing.M) { postgrestest.Main(m, secrets.Check) }

const (
	user       = "a1111111-1111-4111-8111-111111111111"
	sessionKey = "the session key of the tests, 32+ bytes"
	tokenKey   = "the token key of the tests, over 32 bytes"

	clients       = 4
	operations    = 1500 // of each client
	kills         = 5
	batch         = 25
	patience      = time.Minute
	betweenKills  = 25 // acknowledged uploads before the next kill
	transactionOf = 3  // operations in a client transaction
)

const appSQL = `
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ferry_crash_login') THEN CREATE ROLE ferry_crash_login LOGIN; END IF;
END $$;`

const tablesSQL = `
CREATE TABLE notes (id int PRIMARY KEY, value int CHECK (value >= 0));
CREATE TABLE writes (id int, operation text);
CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.writes VALUES (coalesce(new.id, old.id), tg_op);
    RETURN NULL;
END $$;
CREATE TRIGGER note_write AFTER INSERT OR UPDATE OR DELETE ON notes FOR EACH ROW EXECUTE FUNCTION note_write();
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON notes TO authenticated USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO authenticated;`

// TestKillingFerryLosesAndRepeatsNothing kills `ferry serve` while four clients
// drain their queues. Each client's operation n writes row n of its own once,
// but every tenth client transaction is refused by the table's CHECK.
func TestKillingFerryLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	db := postgrestest.New(t)
	db.Exec(t, appSQL)
	f := newFerry(t, db)
	f.run("migrate", "up", "--grant-to", "ferry_crash_login")
	db.Exec(t, tablesSQL)
	f.start()

	var acknowledged atomic.Int64
	progress := make(chan struct{}, 1)
	tell := func() {
		acknowledged.Add(1)
		select {
		case progress <- struct{}{}:
		default:
		}
	}
	var wg sync.WaitGroup
	results := make([]error, clients)
	for i := range clients {
		wg.Go(func() { results[i] = f.drain(i, tell) })
	}
	drained := make(chan struct{})
	go func() { wg.Wait(); close(drained) }()
	killed := 0
	for ; killed < kills; killed++ {
		for until := acknowledged.Load() + betweenKills; acknowledged.Load() < until; {
			select {
			case <-progress:
			case <-drained:
				t.Fatalf("the queues were drained after %d kills: %v", killed, results)
			case <-time.After(patience):
				t.Fatalf("no upload is acknowledged after %d kills\n%s", killed, f.log())
			}
		}
		f.kill()
		f.start()
	}
	<-drained
	secrets.UsesEnvironment(f.environ)
	secrets.Uses(f.session)
	secrets.Wrote(t.Name(), f.log())
	for i, err := range results {
		if err != nil {
			t.Fatalf("client %d: %v\n%s", i, err, f.log())
		}
	}

	pool := db.Pool(t)
	type outcome struct{ Rows, Writes, RowsWritten, Rejections, Rejected int }
	var got outcome
	const outcomeSQL = `
SELECT (SELECT count(*) FROM notes), (SELECT count(*) FROM writes), (SELECT count(DISTINCT id) FROM writes),
       (SELECT count(*) FROM ferry.rejections),
       (SELECT coalesce(sum(json_array_length(convert_from(operations, 'UTF8')::json)), 0) FROM ferry.rejections)`
	if err := pool.QueryRow(t.Context(), outcomeSQL).Scan(&got.Rows, &got.Writes, &got.RowsWritten, &got.Rejections, &got.Rejected); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for n := range operations / transactionOf {
		if isRefused(n) {
			refused++
		}
	}
	applied := clients * (operations - refused*transactionOf)
	want := outcome{applied, applied, applied, clients * refused, clients * refused * transactionOf}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("in the end (-want +got):\n%s", diff)
	}
}

// isRefused is whether a client's n-th transaction violates the CHECK.
func isRefused(n int) bool { return n%10 == 7 }

// ferry is the built program, serving one database at one address.
type ferry struct {
	t       *testing.T
	binary  string
	environ []string
	url     string
	session string
	stderr  *logFile
	process *exec.Cmd
}

func newFerry(t *testing.T, db *postgrestest.Database) *ferry {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "ferry")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "ferry/cmd/ferry").CombinedOutput(); err != nil {
		t.Fatalf("build ferry: %v\n%s", err, out)
	}
	session, err := identity.SignSession([]byte(sessionKey), user, "", "", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	address := postgrestest.FreeAddress(t)
	encoded := base64.RawURLEncoding.EncodeToString
	return &ferry{
		t: t, binary: binary, url: "http://" + address, session: session, stderr: newLogFile(t),
		environ: []string{
			"PATH=" + os.Getenv("PATH"),
			"DATABASE_URL=" + db.URLAs("ferry_crash_login", ""),
			"FERRY_MIGRATE_DATABASE_URL=" + db.URL,
			"FERRY_LISTEN=" + address,
			"FERRY_ADMIN_LISTEN=127.0.0.1:0",
			"FERRY_POWERSYNC_URL=https://sync.example.com",
			"FERRY_TOKEN_KID=k1",
			"FERRY_TOKEN_SECRET=" + encoded([]byte(tokenKey)),
			"FERRY_SESSION_SECRET=" + encoded([]byte(sessionKey)),
		},
	}
}

func (f *ferry) run(args ...string) {
	f.t.Helper()
	c := exec.CommandContext(f.t.Context(), f.binary, args...)
	c.Env = f.environ
	if out, err := c.CombinedOutput(); err != nil {
		f.t.Fatalf("ferry %v: %v\n%s", args, err, out)
	}
}

func (f *ferry) start() {
	f.t.Helper()
	c := exec.Command(f.binary, "serve") //nolint:noctx // it is killed by its id
	c.Env, c.Stderr = f.environ, f.stderr.file
	if err := c.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.process = c
	f.t.Cleanup(func() {
		_ = c.Process.Kill() // fails if it has ended
		_ = c.Wait()
	})
}

func (f *ferry) kill() {
	f.t.Helper()
	if err := f.process.Process.Kill(); err != nil {
		f.t.Fatal(err)
	}
	_ = f.process.Wait() // killed
}

func (f *ferry) log() string {
	b, err := os.ReadFile(f.stderr.file.Name())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

type logFile struct{ file *os.File }

func newLogFile(t *testing.T) *logFile {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return &logFile{file}
}

type entry struct {
	OpID int            `json:"op_id"`
	TxID int            `json:"tx_id"`
	Op   string         `json:"op"`
	Type string         `json:"type"`
	ID   string         `json:"id"`
	Data map[string]any `json:"data"`
}

// drain uploads a client's queue, in order, until all of it is acknowledged.
func (f *ferry) drain(client int, tell func()) error {
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	http := &http.Client{Transport: transport}
	for done := 0; done < operations; {
		// Each try is cut another way.
		for size := batch; ; size = size%batch + 7 {
			last := min(done+size, operations)
			last -= (last - done) % transactionOf // whole transactions, as getCrudTransactions gives them
			ok, err := f.upload(ctx, http, client, done, last)
			if err != nil {
				return err
			}
			if ok {
				done = last
				tell()
				break
			}
		}
	}
	return nil
}

// upload reports whether operations from first to last were acknowledged. It
// fails on any other answer than 200 and 503.
func (f *ferry) upload(ctx context.Context, client *http.Client, number, first, last int) (bool, error) {
	crud := make([]entry, 0, last-first)
	for n := first; n < last; n++ {
		value := n
		if n%transactionOf == 1 && isRefused(n/transactionOf) {
			value = -1
		}
		crud = append(crud, entry{
			OpID: n + 1, TxID: n/transactionOf + 1, Op: "PUT", Type: "notes",
			ID: fmt.Sprint(number*operations + n), Data: map[string]any{"value": value},
		})
	}
	body, err := json.Marshal(map[string]any{"client_id": fmt.Sprint("client ", number), "crud": crud})
	if err != nil {
		return false, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+"/upload", bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	request.Header.Set("Authorization", "Bearer "+f.session)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return false, ctx.Err() // killed, or not up again yet
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	switch {
	case err != nil, response.StatusCode == http.StatusServiceUnavailable:
		return false, ctx.Err()
	case response.StatusCode != http.StatusOK:
		return false, fmt.Errorf("upload: %d %s", response.StatusCode, answer)
	}
	return true, nil
}
