package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// tableSettings is a row of ferry.tables: see docs/tables.md.
type tableSettings struct {
	ClientName, SchemaName, TableName, IDColumn string
	Columns                                     nameMap // client's name to column
	PutAbsent, UnknownColumns                   string
	ByteaEncoding                               nameMap // column to encoding
	StampInsert, StampWrite                     nameMap // column to path of a claim
}

// nameMap is a JSON object of strings. What is none must not keep the settings
// of other tables from being read.
type nameMap struct {
	names  map[string]string
	broken bool
}

// UnmarshalJSON never fails: see broken.
func (m *nameMap) UnmarshalJSON(text []byte) error {
	m.broken = json.Unmarshal(text, &m.names) != nil
	return nil
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
		return &table{configured: true, misconfigured: true, refusal: fmt.Sprintf("the settings of this table (ferry.tables) name %s.%s, which is not there",
			s.SchemaName, s.TableName)}
	}
	original := tables[i]
	t := *original // shallow: what changes is replaced below
	t.columns = maps.Clone(original.columns)
	t.configured = true
	t.putAbsentNull, t.dropUnknown = s.PutAbsent == "null", s.UnknownColumns == "drop"
	t.setID(original.columns[s.IDColumn])
	if mistake := cmp.Or(s.unreadable(), s.rename(&t, original), s.encode(&t), s.stamp(&t, original)); mistake != "" {
		t.misconfigured, t.refusal = true, "the settings of this table (ferry.tables) "+mistake
	}
	return &t
}

func (s *tableSettings) unreadable() string {
	for name, m := range map[string]nameMap{
		"columns": s.Columns, "bytea_encoding": s.ByteaEncoding, "stamp_insert": s.StampInsert, "stamp_write": s.StampWrite,
	} {
		if m.broken {
			return "have something else than text in " + name
		}
	}
	return ""
}

func missingColumn(name string) string { return "name a column that is not there: " + name }

// rename gives columns the clients' names; their own ones no longer count. It
// returns what is wrong, as the others below do.
func (s *tableSettings) rename(t, original *table) string {
	if t.id == nil {
		return missingColumn(s.IDColumn)
	}
	renamed := map[string]bool{}
	for _, client := range slices.Sorted(maps.Keys(s.Columns.names)) {
		name := s.Columns.names[client]
		c := original.columns[name]
		switch {
		case c == nil:
			return missingColumn(name)
		case renamed[name]:
			return "give two names to column " + name
		}
		renamed[name] = true
		if own := t.columns[name]; own != nil && own.client == name {
			delete(t.columns, name)
		}
		copied := *c
		copied.client = client
		t.columns[client] = &copied
	}
	return ""
}

func (s *tableSettings) encode(t *table) string {
	for name, encoding := range s.ByteaEncoding.names {
		if encoding != "hex" && encoding != "base64" {
			return fmt.Sprintf("have bytea_encoding %q for %s: it is hex or base64", encoding, name)
		}
		found := false
		for client, c := range t.columns {
			if c.name == name && c.typ.class == classBytea {
				copied := *c
				copied.hexBytea, copied.encodingSet = encoding == "hex", true
				t.columns[client], found = &copied, true
			}
		}
		if !found {
			return "name no bytea column: " + name
		}
	}
	return ""
}

func (s *tableSettings) stamp(t, original *table) string {
	for _, stamps := range []struct {
		paths   map[string]string
		updates bool
	}{{s.StampInsert.names, false}, {s.StampWrite.names, true}} {
		for _, name := range slices.Sorted(maps.Keys(stamps.paths)) {
			c := original.columns[name]
			switch {
			case c == nil:
				return missingColumn(name)
			case c.generated, c.identityAlways, c.name == t.id.name:
				return "fill a column that cannot be filled: " + name
			case t.stamped(c):
				return "fill a column twice: " + name
			}
			t.stamps = append(t.stamps, stamp{c, claimSQL(stamps.paths[name], c.typ), stamps.updates})
		}
	}
	return ""
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
