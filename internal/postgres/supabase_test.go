package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/postgres"
)

func TestPoliciesWrittenForSupabaseWork(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m, err := postgres.NewMigrator(t.Context(), b.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, want := range []bool{true, false} { // a second time, they are left alone
		if made, err := m.AddSupabaseHelpers(t.Context()); err != nil || made != want {
			t.Fatalf("made %t, error %v", made, err)
		}
	}
	b.exec(`
		CREATE TABLE profiles (id uuid PRIMARY KEY, name text);
		ALTER TABLE profiles ENABLE ROW LEVEL SECURITY;
		CREATE POLICY own ON profiles TO authenticated
			USING (auth.uid() = id AND auth.jwt() ->> 'sub' = id::text AND auth.role() = 'authenticated');
		GRANT ALL ON profiles TO authenticated;`)
	got := b.upload(alice, body(
		put(1, "profiles", alice, map[string]any{"name": "Alice"}),
		put(2, "profiles", bob, map[string]any{"name": "not me"}),
		patch(3, "profiles", alice, map[string]any{"name": "A."})))
	if diff := cmp.Diff(counts{Applied: 2, Rejected: []string{"forbidden"}}, countsOf(got)); diff != "" {
		t.Errorf("%s\n%+v", diff, got.Rejected)
	}
	if got := b.text(`SELECT auth.uid()::text`); got != "NULL" {
		t.Errorf("outside an upload auth.uid() is %s", got)
	}
}
