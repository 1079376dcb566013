package postgres

import "math"

// class says how a client's value becomes a type's text form. There is one per
// row of the conversion table in docs/types.md.
type class uint8

const (
	classOther class = iota // text in Postgres' own notation
	classBool
	classInteger
	classNumeric // numeric, money: digits as sent
	classFloat
	classText
	classUUID
	classTimestampTZ
	classTimestamp
	classDate
	classTime
	classJSON
	classBytea
	classArray
	classComposite
	classRange
	classMultirange
	classGeometry // PostGIS
)

// classSet is a set of classes.
type classSet uint32

func (s classSet) has(c class) bool { return s&(1<<c) != 0 }

// dataType is a type of the app's database. A domain stands as its base type:
// the assignment to the column checks the domain.
type dataType struct {
	oid  uint32
	name string // for people, as format_type spells it
	// cast is the quoted type to cast text to, without its modifier: an
	// explicit cast to varchar(5) cuts silently, the assignment to a
	// varchar(5) column raises 22001.
	cast  string
	class class
	// element is an array's element type, a range's subtype, or a
	// multirange's range; nil for other types.
	element   *dataType
	delimiter byte            // between an array's elements, of the element type
	fields    []compositeItem // a composite type's attributes, in order
	// versions are those of the composite types in it.
	versions []relationVersion
	// parts are the classes of the type itself and of all that it is made of.
	parts classSet
	srid  int // of a geometry column; 0 if it has none
	// longest is how much text the type holds, in characters for varchar(n) and
	// in bytes for name and "char", which the cast would cut; 0 for no limit.
	longest int
}

// compositeItem is one attribute of a composite type.
type compositeItem struct {
	name string
	typ  *dataType
}

// classes of the built-in types that need more than their own text.
// Source: pg_type.dat; names in pg_catalog never change.
var builtinClasses = map[string]class{
	"bool": classBool,
	"int2": classInteger, "int4": classInteger, "int8": classInteger, "oid": classInteger,
	"numeric": classNumeric, "money": classNumeric,
	"float4": classFloat, "float8": classFloat,
	"text": classText, "varchar": classText, "bpchar": classText, "name": classText, "char": classText,
	"timestamptz": classTimestampTZ, "timestamp": classTimestamp, "date": classDate,
	"time": classTime, "timetz": classTime,
	"json": classJSON, "jsonb": classJSON,
	"bytea": classBytea, "uuid": classUUID,
}

// classOf classifies a base type (pg_type.typtype 'b', 'c', 'e', 'r' or 'm').
func classOf(schema, name string, typtype byte, isArray bool) class {
	switch {
	case isArray:
		return classArray
	case typtype == 'c':
		return classComposite
	case typtype == 'r':
		return classRange
	case typtype == 'm':
		return classMultirange
	case schema == "pg_catalog":
		return builtinClasses[name]
	case name == "citext":
		return classText
	case name == "geometry", name == "geography":
		return classGeometry
	}
	return classOther
}

// integerRange returns the bounds of an integer type.
func (t *dataType) integerRange() (low, high int64) {
	switch t.cast {
	case `pg_catalog.int2`:
		return math.MinInt16, math.MaxInt16
	case `pg_catalog.int4`:
		return math.MinInt32, math.MaxInt32
	case `pg_catalog.oid`:
		return 0, math.MaxUint32
	}
	return math.MinInt64, math.MaxInt64
}

// isDateTime is whether the type has the values infinity and -infinity.
func (t *dataType) isDateTime() bool {
	return t.class == classTimestampTZ || t.class == classTimestamp || t.class == classDate
}

// holdsDateTime is whether the type, or what it is made of, has the values
// infinity and -infinity.
func (t *dataType) holdsDateTime() bool {
	return t.parts.has(classTimestampTZ) || t.parts.has(classTimestamp) || t.parts.has(classDate)
}

// withModifier returns the type as it is in a column, attribute or domain that
// has this modifier. What counts before the assignment is a geometry's SRID, and
// the length of a varchar, from which the assignment cuts blanks.
func (t *dataType) withModifier(modifier int32) *dataType {
	if modifier < 0 {
		return t
	}
	modified := *t
	switch {
	case t.class == classGeometry:
		modified.srid = sridOf(modifier)
	case t.class == classArray:
		modified.element = t.element.withModifier(modifier)
	case t.cast == varcharCast:
		modified.longest = int(modifier) - varcharHeader
	default:
		return t
	}
	return &modified
}

// varcharCast is quoted, because the name is a keyword.
const varcharCast = `pg_catalog."varchar"`

// varcharHeader is what a varchar's modifier has over its length (VARHDRSZ).
const varcharHeader = 4

// How many bytes these types hold: NAMEDATALEN - 1, and one.
var fixedLengths = map[string]int{"pg_catalog.name": 63, `pg_catalog."char"`: 1}
