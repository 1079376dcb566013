package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A trigger that looks at other rows sees each row in the state that the rows
// before it left, however many of them one statement writes.
func TestTriggersThatLookAtOtherRowsSeeThemInOrder(t *testing.T) {
	t.Parallel()
	b := attackOn(t, `
		CREATE TABLE ledger (id text PRIMARY KEY, account text NOT NULL, amount int NOT NULL);
		CREATE FUNCTION covered() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF (SELECT coalesce(sum(amount), 0) FROM ledger WHERE account = new.account AND id <> new.id) + new.amount < 0 THEN
				RAISE EXCEPTION 'not covered';
			END IF;
			RETURN new;
		END $$;
		CREATE TRIGGER covered BEFORE INSERT OR UPDATE ON ledger FOR EACH ROW EXECUTE FUNCTION covered();
		ALTER TABLE ledger ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON ledger USING (true);
		GRANT ALL ON ledger TO authenticated`)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable on purpose
	opID := 0
	for upload := range 8 {
		account := fmt.Sprint("account ", upload)
		var entries []string
		var want, refused []string
		balance := 0
		for range 1 + random.IntN(120) {
			opID++
			id, amount := fmt.Sprintf("%04d", opID), random.IntN(40)-20
			entries = append(entries, entryOf(opID, opID, "PUT", "ledger", id, fmt.Sprintf(`{"account":%q,"amount":%d}`, account, amount)))
			if balance+amount < 0 {
				refused = append(refused, id)
				continue
			}
			balance += amount
			want = append(want, id)
		}
		result := b.apply(t, "u", "c", entries...)
		var got, told []string
		if err := b.pool.QueryRow(t.Context(), `SELECT array_agg(id ORDER BY id) FROM ledger WHERE account = $1`, account).Scan(&got); err != nil {
			t.Fatal(err)
		}
		for _, r := range result.Rejected {
			told = append(told, r.RowID)
		}
		if diff := cmp.Diff([][]string{want, refused}, [][]string{got, told}); diff != "" {
			t.Errorf("%d entries (-want +got):\n%s", len(entries), diff)
		}
	}
}

// Unique values may change places within a client transaction where the
// constraint waits for COMMIT, also among others that are refused for it.
func TestUniqueValuesChangePlaces(t *testing.T) {
	t.Parallel()
	const pairs = 30
	for name, constraint := range map[string]string{
		"by deferred constraints": "UNIQUE DEFERRABLE INITIALLY DEFERRED",
		"by way of a free value":  "UNIQUE",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := attackOn(t, `CREATE TABLE seats (id int PRIMARY KEY, seat int `+constraint+`);
				INSERT INTO seats SELECT n, n FROM generate_series(0, 99) AS n;
				ALTER TABLE seats ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON seats USING (true);
				GRANT ALL ON seats TO authenticated`)
			var entries []string
			opID := 0
			take := func(tx, id, seat int) {
				opID++
				entries = append(entries, entryOf(opID, tx, "PATCH", "seats", fmt.Sprint(id), fmt.Sprintf(`{"seat":%d}`, seat)))
			}
			want := make([]int, 100)
			for n := range want {
				want[n] = n
			}
			rejected := 0
			for pair := range pairs {
				one, other := 2*pair, 2*pair+1
				if pair%10 == 7 { // takes a seat that is taken
					take(pair, one, 99)
					rejected++
					continue
				}
				if constraint == "UNIQUE" {
					take(pair, one, 1000)
					take(pair, other, one)
				}
				take(pair, one, other)
				if constraint != "UNIQUE" {
					take(pair, other, one)
				}
				want[one], want[other] = other, one
			}
			result := b.apply(t, "u", "c", entries...)
			if len(result.Rejected) != rejected || result.Applied != len(entries)-rejected {
				t.Errorf("%+v", outcomeOf(result))
			}
			var got []int
			if err := b.pool.QueryRow(t.Context(), `SELECT array_agg(seat ORDER BY id) FROM seats`).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("seats (-want +got):\n%s", diff)
			}
		})
	}
}
