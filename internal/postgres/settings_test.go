package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// assetsSQL is a table outside the upload schemas whose names are not the
// clients'.
const assetsSQL = `
CREATE SCHEMA inventory;
CREATE TABLE inventory.assets (
    asset_id   int PRIMARY KEY,
    label      text NOT NULL,
    note       text,
    amount     int,
    picture    bytea,
    owner_id   text NOT NULL,
    changed_by text
);
ALTER TABLE inventory.assets ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON inventory.assets TO authenticated USING (true);
GRANT USAGE ON SCHEMA inventory TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON inventory.assets TO authenticated;
INSERT INTO ferry.tables (client_name, schema_name, table_name, id_column, columns, put_absent, unknown_columns, bytea_encoding, stamp_insert, stamp_write)
VALUES ('assets_v2', 'inventory', 'assets', 'asset_id', '{"title": "label"}', 'null', 'drop', '{"picture": "hex"}',
        '{"owner_id": "sub"}', '{"changed_by": "role"}');`

func TestTableSettingsMapNamesAndStampColumns(t *testing.T) {
	t.Parallel()
	b := setup(t, assetsSQL)
	row := func() string {
		return b.text(`SELECT concat_ws('/', asset_id, label, coalesce(note, '-'), coalesce(amount::text, '-'), encode(picture, 'hex'), owner_id, changed_by) FROM inventory.assets`)
	}
	for i, step := range []struct {
		op   op
		want string
	}{
		{put(1, "assets_v2", "7", map[string]any{"title": "chair", "note": "old", "picture": "00ff", "future": 1}), "7/chair/old/-/00ff/" + alice + "/authenticated"},
		{put(2, "assets_v2", "7.0", map[string]any{"title": "stool", "amount": 2, "picture": `\x01`}), "7/stool/-/2/01/" + alice + "/authenticated"},
		{patch(3, "assets_v2", "7", map[string]any{"note": "kept", "other_future": 1}), "7/stool/kept/2/01/" + alice + "/authenticated"},
	} {
		b.exec(`UPDATE inventory.assets SET changed_by = NULL`)
		got := b.upload(alice, body(step.op))
		if diff := cmp.Diff(counts{Applied: 1}, countsOf(got)); diff != "" {
			t.Errorf("step %d: %s\n%+v", i, diff, got.Rejected)
		}
		if got := row(); got != step.want {
			t.Errorf("step %d: the row is %s, want %s", i, got, step.want)
		}
	}
	// Another user's PUT changes the row, and not whose it is.
	b.upload(bob, body(put(1, "assets_v2", "7", map[string]any{"title": "bench"})))
	if got, want := row(), "7/bench/-/-/"+alice+"/authenticated"; got != want {
		t.Errorf("the row is %s, want %s", got, want)
	}
}

func TestStampedColumnsAreNotForClients(t *testing.T) {
	t.Parallel()
	b := setup(t, assetsSQL)
	got := b.upload(alice, body(put(1, "assets_v2", "1", map[string]any{"title": "x", "owner_id": bob})))
	if diff := cmp.Diff(counts{Rejected: []string{"unwritable_column"}}, countsOf(got)); diff != "" {
		t.Error(diff)
	}
}

func TestASettingThatNamesNothingRejectsAndSaysSo(t *testing.T) {
	t.Parallel()
	b := setup(t, `INSERT INTO ferry.tables (client_name, table_name) VALUES ('ghosts', 'nowhere');
		INSERT INTO ferry.tables (client_name, table_name, id_column) VALUES ('odd', 'counted', 'no_id')`)
	got := b.upload(alice, body(put(1, "ghosts", "1", nil), put(2, "odd", "1", nil), put(3, "counted", "1", nil)))
	if diff := cmp.Diff(counts{Applied: 1, Rejected: []string{"forbidden", "forbidden"}}, countsOf(got)); diff != "" {
		t.Error(diff)
	}
}

func TestASettingIsPickedUpByTheUploadThatNeedsIt(t *testing.T) {
	t.Parallel()
	b := setup(t, assetsSQL)
	b.upload(alice, body(put(1, "counted", "a", nil)))
	b.exec(`INSERT INTO ferry.tables (client_name, table_name) VALUES ('tallies', 'counted')`)
	got := b.upload(alice, body(put(2, "tallies", "b", map[string]any{"value": 1})))
	if diff := cmp.Diff(counts{Applied: 1}, countsOf(got)); diff != "" {
		t.Errorf("%s\n%+v", diff, got.Rejected)
	}
}
