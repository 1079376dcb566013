package postgres

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// typesSQL lists types and all that they are made of. Only the array type of
// its element type is an array: oidvector and others that have elements are
// not written as one. $1: type oids.
const typesSQL = `
WITH RECURSIVE needed (oid) AS (
    SELECT unnest($1::oid[])
    UNION
    SELECT part.oid
    FROM needed
    JOIN pg_type t ON t.oid = needed.oid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL SELECT e.oid FROM pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid
        UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
        UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid
        UNION ALL SELECT a.atttypid FROM pg_attribute a
                  WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) AS part (oid)
)
SELECT t.oid, n.nspname, t.typname, format_type(t.oid, NULL),
       quote_ident(n.nspname) || '.' || quote_ident(t.typname),
       t.typtype::text, e.oid IS NOT NULL, t.typtypmod,
       CASE WHEN t.typtype = 'd' THEN t.typbasetype
            WHEN e.oid IS NOT NULL THEN e.oid
            WHEN t.typtype = 'r' THEN (SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid)
            WHEN t.typtype = 'm' THEN (SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid)
            ELSE 0 END,
       coalesce(e.typdelim::text, ','),
       t.typrelid, coalesce(composite.xmin::text, ''),
       attributes.names, attributes.types, attributes.modifiers
FROM needed
JOIN pg_type t ON t.oid = needed.oid
JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
LEFT JOIN pg_class composite ON composite.oid = t.typrelid
CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY a.attnum), array_agg(a.atttypid ORDER BY a.attnum),
           array_agg(a.atttypmod ORDER BY a.attnum)
    FROM pg_attribute a
    WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
) AS attributes (names, types, modifiers)`

// typeRow is a type as the catalog has it: its parts are oids.
type typeRow struct {
	oid                         uint32
	schema, name, display, cast string
	typtype                     string
	isArray                     bool
	modifier                    int32  // of a domain
	part                        uint32 // a domain's base; an array's, range's or multirange's element
	delimiter                   string
	version                     relationVersion // of a composite type
	names                       []string        // of a composite type's attributes
	types                       []uint32
	modifiers                   []int32
}

func readTypes(ctx context.Context, tx pgx.Tx, used map[*column]uint32) (map[uint32]*dataType, error) {
	oids := make([]uint32, 0, len(used))
	for _, oid := range used {
		oids = append(oids, oid)
	}
	slices.Sort(oids)
	rows, err := tx.Query(ctx, typesSQL, slices.Compact(oids))
	if err != nil {
		return nil, err
	}
	l := typeLinker{rows: map[uint32]*typeRow{}, types: map[uint32]*dataType{}}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		r := &typeRow{}
		err := row.Scan(&r.oid, &r.schema, &r.name, &r.display, &r.cast, &r.typtype, &r.isArray, &r.modifier,
			&r.part, &r.delimiter, &r.version.oid, &r.version.xmin, &r.names, &r.types, &r.modifiers)
		l.rows[r.oid] = r
		return struct{}{}, err
	})
	if err != nil {
		return nil, err
	}
	for oid := range l.rows {
		l.link(oid)
	}
	return l.types, nil
}

// typeLinker makes types of rows, each after its parts. Postgres lets no type
// contain itself.
type typeLinker struct {
	rows  map[uint32]*typeRow
	types map[uint32]*dataType
}

// link returns nil for an oid that is no type, 0 among them.
func (l *typeLinker) link(oid uint32) *dataType {
	r := l.rows[oid]
	if t := l.types[oid]; t != nil || r == nil {
		return t
	}
	if r.typtype == "d" {
		t := l.link(r.part).withModifier(r.modifier)
		l.types[oid] = t
		return t
	}
	t := &dataType{
		oid: oid, name: r.display, cast: r.cast, delimiter: r.delimiter[0],
		class: classOf(r.schema, r.name, r.typtype[0], r.isArray), longest: fixedLengths[r.cast],
	}
	if t.class == classGeometry {
		// Only geometry reads GeoJSON; the assignment to a geography converts it.
		t.cast = strings.TrimSuffix(r.cast, r.name) + "geometry"
	}
	t.parts = 1 << t.class
	if t.class == classComposite {
		t.versions = []relationVersion{r.version}
	}
	if t.element = l.link(r.part); t.element != nil {
		t.contain(t.element)
	}
	for i, name := range r.names {
		part := l.link(r.types[i]).withModifier(r.modifiers[i])
		t.fields = append(t.fields, compositeItem{name: name, typ: part})
		t.contain(part)
	}
	l.types[oid] = t
	return t
}

// contain notes what t has because it is made of part.
func (t *dataType) contain(part *dataType) {
	t.parts |= part.parts
	t.versions = append(t.versions, part.versions...)
}
