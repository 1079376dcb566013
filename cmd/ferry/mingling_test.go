package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// The memory of a body is cleared, and then another body's, once its request was
// answered. Were anything to point into it still (an answer, a log record, what
// the database is sent, what is remembered of a client), it would show nothing, or
// what another user sent.

// minglers are the users who send at the same time.
const minglers = 8

// mark stands in all that a user sends, and in nothing else.
func mark(user int) string { return fmt.Sprintf("mark%04d", user) }

var anyMark = regexp.MustCompile(`mark\d{4}`)

// strange returns what in text is not of a user.
func strange(user, text string) string {
	if at := strings.IndexAny(text, "\x00"); at >= 0 || strings.Contains(text, `\u0000`) {
		return "cleared memory"
	}
	for _, found := range anyMark.FindAllString(text, -1) {
		if found != user {
			return found
		}
	}
	return ""
}

func TestNothingOfABodyReachesAnotherUser(t *testing.T) {
	t.Parallel()
	db, r := newMigrated(t)
	db.Exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF new.text LIKE 'refuse%' THEN RAISE EXCEPTION 'no %', left(new.text, 50); END IF;
			RETURN new;
		END $$;
		CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION refuse()`)
	server, api := startServing(t, serveEnvironment(db.URLAs(r.login, ""), r))
	var sending sync.WaitGroup
	for n := range minglers {
		m := &mingler{t: t, n: n, api: api, session: sessionOf(t, mark(n))}
		sending.Go(m.send)
	}
	sending.Wait()

	for line := range strings.Lines(server.stderr.String()) {
		var record struct{ User, Client string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if what := strange(record.User, line); record.User != "" && what != "" {
			t.Errorf("a record has %s: %s", what, line)
		}
	}
	for what, query := range map[string]string{
		"row": `SELECT substr(id::text, 5, 4), text FROM notes`,
		"rejection": `SELECT right(user_id, 4), concat_ws(' ', client_id, table_name, row_id, column_name, message, claims::text,
			convert_from(operations, 'UTF8')) FROM ferry.rejections`,
		"progress": `SELECT right(user_id, 4), client_id FROM ferry.progress`,
	} {
		rows, err := db.Pool(t).Query(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for rows.Next() {
			var user, text string
			if err := rows.Scan(&user, &text); err != nil {
				t.Fatal(err)
			}
			count++
			if found := strange("mark"+user, text); found != "" {
				t.Errorf("a %s of user %s has %s", what, user, found)
			}
		}
		if err := rows.Err(); err != nil || count < minglers {
			t.Errorf("%d of %s, %v", count, what, err)
		}
	}
}

// mingler is one of the users.
type mingler struct {
	t            *testing.T
	n            int
	api, session string
	sent         int
}

// send sends what is applied, refused by ferry, by the database, or as a whole, in
// each encoding, and hangs up on some.
func (m *mingler) send() {
	user, filling := mark(m.n), strings.Repeat(mark(m.n)+" ", 1+m.n)
	entry := func(kind, table, id, data string) string {
		m.sent++
		return fmt.Sprintf(`{"op_id":%d,"tx_id":%d,"op":%q,"type":%q,"id":%q,"data":%s}`, m.sent, m.sent, kind, table, id, data)
	}
	row := func() string { return fmt.Sprintf("0000%04d-0000-4000-8000-%012d", m.n, m.sent) }
	for range 2 {
		var good []string
		for range 600 {
			good = append(good, entry("PUT", "notes", row(), fmt.Sprintf(`{"text":%q}`, filling)))
		}
		m.upload(200, strings.Join(good, ","))
		m.upload(200, strings.Join(good[:10], ","))
		m.upload(200, strings.Join([]string{
			entry("PUT", user+"_table", user, `{}`),
			entry("PUT", "notes", user+" is no uuid", `{}`),
			entry("PUT", "notes", row(), fmt.Sprintf(`{%q:1}`, user+"_column")),
			entry("PUT", "notes", row(), fmt.Sprintf(`{"text":%q}`, "refuse "+filling)),
			entry("PUT", "notes", row(), fmt.Sprintf(`{"text":"%s \ud800"}`, user)),
			entry("PATCH", "notes", row(), fmt.Sprintf(`{"text":"\u0041%s"}`, filling)),
		}, ","))
		m.upload(400, entry("PUT", "notes", row(), fmt.Sprintf(`{%[1]q:1,%[1]q:2}`, user)))
		m.upload(400, entry(user, "notes", row(), `{}`))
		m.upload(409, entry("PUT", "notes", row(), `{}`)+`],"user_id":"somebody","ignored":[`)
		m.hangUp(entry("PUT", "notes", row(), fmt.Sprintf(`{"text":%q}`, strings.Repeat(filling, 5000))))
	}
}

func (m *mingler) body(entries string) []byte {
	return fmt.Appendf(nil, `{"client_id":"%s device","crud":[%s]}`, mark(m.n), entries)
}

func (m *mingler) upload(want int, entries string) {
	for _, encoding := range []string{"", "gzip", "zstd"} { // again, but for the first
		request := m.request(m.t.Context(), encode(encoding, m.body(entries)))
		if request.Header.Set("Content-Encoding", encoding); encoding == "" {
			request.Header.Del("Content-Encoding")
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			m.t.Error(err)
			return
		}
		answer, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != want {
			m.t.Errorf("answered %d, want %d: %s %v", response.StatusCode, want, answer, err)
		}
		if what := strange(mark(m.n), string(answer)); what != "" {
			m.t.Errorf("user %d was told of %s: %s", m.n, what, answer)
		}
	}
}

// hangUp stops sending in the midst of a body, and behind another one.
func (m *mingler) hangUp(entries string) {
	for part := range 2 {
		ctx, cancel := context.WithCancel(m.t.Context())
		body := m.body(entries)
		request := m.request(ctx, nil)
		request.ContentLength = int64(len(body))
		request.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)*(1+part)/2]), endOf(cancel)))
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
		}
		cancel()
	}
}

// endOf is a reader that ends by calling a function.
type endOf func()

func (end endOf) Read([]byte) (int, error) { end(); return 0, io.EOF }

func (m *mingler) request(ctx context.Context, body []byte) *http.Request {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.api+"/upload", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	request.Header.Set("Authorization", "Bearer "+m.session)
	request.Header.Set("Content-Type", "application/json")
	return request
}

func encode(encoding string, body []byte) []byte {
	var b bytes.Buffer
	switch encoding {
	case "gzip":
		w := gzip.NewWriter(&b)
		_, _ = w.Write(body)
		_ = w.Close()
	case "zstd":
		w, _ := zstd.NewWriter(&b)
		_, _ = w.Write(body)
		_ = w.Close()
	default:
		return body
	}
	return b.Bytes()
}
