package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// tableSettings is a row of ferry.tables: see docs/tables.md.
type tableSettings struct {
	ClientName, SchemaName, TableName, IDColumn string
	Columns                                     map[string]string // client's name to column
	PutAbsent, UnknownColumns                   string
	ByteaEncoding                               map[string]string // column to encoding
	StampInsert, StampWrite                     map[string]string // column to path of a claim
}

const settingsSQL = `
SELECT client_name, schema_name, table_name, id_column, columns, put_absent, unknown_columns,
       bytea_encoding, stamp_insert, stamp_write
FROM ferry.tables
ORDER BY client_name`

func readSettings(ctx context.Context, tx pgx.Tx) ([]*tableSettings, error) {
	rows, err := tx.Query(ctx, settingsSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[tableSettings])
}

// stamp is a column that the server fills from the session's claims.
type stamp struct {
	column  *column
	value   string // SQL
	updates bool   // with each PUT and PATCH, not only when a row is made
}

// apply returns the table as the settings want it. If they name what is not
// there, that is why the table takes no uploads: nothing is lost by it.
func (s *tableSettings) apply(tables []*table) *table {
	i := slices.IndexFunc(tables, func(t *table) bool { return t.schema == s.SchemaName && t.name == s.TableName })
	if i < 0 {
		return &table{refusal: fmt.Sprintf("the settings of this table (ferry.tables) name %s.%s, which is not there",
			s.SchemaName, s.TableName)}
	}
	original := tables[i]
	t := *original // shallow: what changes is replaced below
	t.columns = maps.Clone(original.columns)
	t.putAbsentNull, t.dropUnknown = s.PutAbsent == "null", s.UnknownColumns == "drop"
	missing := s.rename(&t, original)
	missing = append(missing, s.encode(&t)...)
	missing = append(missing, s.stamp(&t, original)...)
	t.setID(original.columns[s.IDColumn])
	if t.id == nil {
		missing = append(missing, s.IDColumn)
	}
	if len(missing) > 0 {
		t.refusal = "the settings of this table (ferry.tables) name columns that are not there: " + strings.Join(missing, ", ")
	}
	return &t
}

// rename gives columns the clients' names; their own ones no longer count.
func (s *tableSettings) rename(t, original *table) (missing []string) {
	for _, name := range s.Columns {
		delete(t.columns, name)
	}
	for client, name := range s.Columns {
		if original.columns[name] == nil {
			missing = append(missing, name)
			continue
		}
		renamed := *original.columns[name]
		renamed.client = client
		t.columns[client] = &renamed
	}
	return missing
}

func (s *tableSettings) encode(t *table) (missing []string) {
	for name, encoding := range s.ByteaEncoding {
		found := false
		for client, c := range t.columns {
			if c.name == name {
				changed := *c
				changed.hexBytea = encoding == "hex"
				t.columns[client], found = &changed, true
			}
		}
		if !found {
			missing = append(missing, name)
		}
	}
	return missing
}

func (s *tableSettings) stamp(t, original *table) (missing []string) {
	add := func(paths map[string]string, updates bool) {
		for _, name := range slices.Sorted(maps.Keys(paths)) {
			c := original.columns[name]
			if c == nil {
				missing = append(missing, name)
				continue
			}
			t.stamps = append(t.stamps, stamp{c, claimSQL(paths[name], c.typ), updates})
		}
	}
	add(s.StampInsert, false)
	add(s.StampWrite, true)
	return missing
}

// claimSQL reads a claim, by its path through nested objects, as a column's
// type.
func claimSQL(path string, typ *dataType) string {
	steps := make([]string, 0, 2)
	for _, step := range strings.Split(path, ".") {
		steps = append(steps, quoteLiteral(step))
	}
	return "(current_setting('request.jwt.claims')::jsonb #>> ARRAY[" + strings.Join(steps, ", ") + "])::" + typ.cast
}

// stamped is whether the server fills this column.
func (t *table) stamped(c *column) bool {
	return slices.ContainsFunc(t.stamps, func(s stamp) bool { return s.column.name == c.name })
}

// absent lists the columns that a PUT sets to NULL in a row that is there: all
// that the client can hold and has not sent.
func (t *table) absent(sent []*column) []*column {
	if !t.putAbsentNull {
		return nil
	}
	var absent []*column
	for _, name := range slices.Sorted(maps.Keys(t.columns)) {
		c := t.columns[name]
		if c.name == t.id.name || c.notNull || c.generated || c.identityAlways || !c.canUpdate || t.stamped(c) ||
			slices.Contains(sent, c) {
			continue
		}
		absent = append(absent, c)
	}
	return absent
}
