package postgres

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"
)

// drawTop draws the JSON text that a client may send for a column: a value of its
// type, and now and then one of another. Arrays, composite values and ranges may
// be the text of JSON.
func drawTop(t *rapid.T, typ *dataType) string {
	v := drawValue(t, typ)
	if v == "null" {
		return `"NULL"`
	}
	if v[0] != '"' && rapid.Bool().Draw(t, "as text") {
		return quotedJSON(v)
	}
	return v
}

func oneOf(t *rapid.T, label string, values ...string) string {
	return rapid.SampledFrom(values).Draw(t, label)
}

// drawValue draws a value of a type as JSON.
func drawValue(t *rapid.T, typ *dataType) string {
	if rapid.IntRange(0, 20).Draw(t, "flaw") == 0 {
		return oneOf(t, "anything", `""`, `{}`, `[]`, `true`, `-1.5`, `"null"`, `"\ud800"`, `"\u0000"`, `null`, `[[]]`, `{"x":1}`, `"{"`, `"["`)
	}
	switch typ.class {
	case classBool:
		return oneOf(t, "bool", `0`, `1`, `0.0`, `1.0`, `"1"`, `"t"`, `"F"`, `true`, `false`, `"TRUE"`, `2`, `"yes"`)
	case classInteger, classNumeric, classFloat:
		return drawNumber(t)
	case classUUID:
		return drawUUID(t)
	case classTimestampTZ, classTimestamp, classDate:
		return drawDateTime(t)
	case classTime:
		return quotedJSON(drawTime(t) + oneOf(t, "zone", "", "+02", "-05:30", "Z"))
	case classJSON:
		return oneOf(t, "json", `"{\"a\": [1.0, null]}"`, `{"a":  "\"\\"}`, `[1,[2]]`, `5`, `"\"text\""`, `"not json"`, `"[NaN]"`, `true`, `"\"\\u0000\""`)
	case classBytea:
		return oneOf(t, "bytes", `"AP8="`, `"AP8"`, `"-_-_"`, `"\\x00ff"`, `"\\x0"`, `""`, `"%"`, `"QUJD\n"`)
	case classArray:
		return drawArray(t, typ, 1)
	case classComposite:
		return drawComposite(t, typ)
	case classRange:
		return drawRange(t, typ)
	case classMultirange:
		return "[" + strings.Join(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return drawRange(t, typ.element) }), 0, 3).Draw(t, "ranges"), ",") + "]"
	}
	if typ.class == classGeometry {
		return oneOf(t, "geometry", `"POINT(1 2)"`, `"SRID=4326;POINT(1 2)"`, `"SRID=25832;POINT(1 2)"`, `"srid=3857;POINT(1 2)"`, `"POINT Z (1 2 3)"`,
			`"LINESTRING(0 0,1 1)"`, `"POINT EMPTY"`, `"0101000000000000000000F03F0000000000000040"`, `"00000000013FF00000000000004000000000000000"`,
			`"0101000020E6100000000000000000F03F0000000000000040"`, `{"type":"Point","coordinates":[1,2]}`, `"{\"type\":\"Point\",\"coordinates\":[1,2]}"`,
			`{"type":"Point","coordinates":[1,2],"crs":null}`, `{"type":"Point","coordinates":[1,2],"crs":{"type":"name","properties":{"name":"EPSG:25832"}}}`,
			`{"type":"Point"}`, `"POINT(1"`, `"01"`)
	}
	return drawText(t)
}

// drawText draws text of which parts mean something to a parser.
func drawText(t *rapid.T) string {
	piece := rapid.OneOf(rapid.SampledFrom([]string{
		"a", "B", " ", "  ", "é", "😀", `"`, `\`, ",", "(", ")", "{", "}", "[", "]", "NULL", "null", "'", "\n", ";", "=>", "sad", "ok", "happy, \"very\"",
		"1", "10.0.0.1/8", "(1,2)", "101", "16/B3", "00:00:5e:00:53:af", "<a/>", "Top.x", "a=>1", "1 day", "infinity", "$", "%s", "--",
	}), rapid.StringN(0, 3, -1))
	return quotedJSON(strings.ToValidUTF8(strings.Join(rapid.SliceOfN(piece, 0, 4).Draw(t, "pieces"), ""), "?"))
}

func drawNumber(t *rapid.T) string {
	n := oneOf(t, "sign", "", "-") + oneOf(t, "whole", "0", "1", "42", "1000", "32767", "32768", "2147483648", "9007199254740993", "9223372036854775807", "9223372036854775808", "4294967295") +
		oneOf(t, "fraction", "", "", ".0", ".00", ".5", ".1234567890123456789") + oneOf(t, "exponent", "", "", "", "e0", "E+3", "e-1", "e2", "e400", "e-400")
	switch oneOf(t, "spelling", "number", "number", "text", "text", "odd") {
	case "number":
		return n
	case "text":
		return quotedJSON(n)
	}
	return quotedJSON(oneOf(t, "odd", "NaN", "Infinity", "-Infinity", "+"+n, "-"+n, " "+n, n+" ", "."+n, n+".", "0x1f", "$1,234.56", "1_000", ""))
}

func drawUUID(t *rapid.T) string {
	id := "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
	switch oneOf(t, "uuid", "plain", "upper", "bare", "braces", "half braces", "hyphens", "misplaced", "short", "long") {
	case "upper":
		id = strings.ToUpper(id)
	case "bare":
		id = strings.ReplaceAll(id, "-", "")
	case "braces":
		id = "{" + id + "}"
	case "half braces":
		id = "{" + id
	case "hyphens":
		id = "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11"
	case "misplaced":
		id = "a0eebc9-99c0b-4ef8-bb6d-6bb9bd380a11-"
	case "short":
		id = id[1:]
	case "long":
		id += "1"
	}
	return quotedJSON(id)
}

func drawTime(t *rapid.T) string {
	return fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 24).Draw(t, "hour"), rapid.SampledFrom([]int{0, 47, 59, 60}).Draw(t, "minute")) +
		oneOf(t, "seconds", "", ":00", ":01.5", ":59.9999999", ":60", ":61")
}

func drawDateTime(t *rapid.T) string {
	switch oneOf(t, "kind", "iso", "iso", "iso", "number", "word") {
	case "number":
		n := oneOf(t, "epoch", "0", "-1", "1678110420", "1678110420000", "1678110420.5", "1.67811042e9", "99999999999", "100000000000", "-62135596800", "9e15")
		if rapid.Bool().Draw(t, "as text") {
			return quotedJSON(n)
		}
		return n
	case "word":
		return quotedJSON(oneOf(t, "word", "infinity", "-Infinity", "epoch", "now", "today", "06/03/2023", "20230306", "0044-03-15 BC", "0000-01-01T00:00:00Z", "9999-12-31"))
	}
	date := fmt.Sprintf("%s-%02d-%02d", oneOf(t, "year", "2023", "2024", "0001", "1900", "9999", "10000", "294276", "294277", "0000"),
		rapid.IntRange(0, 13).Draw(t, "month"), rapid.SampledFrom([]int{0, 1, 6, 28, 29, 30, 31, 32}).Draw(t, "day"))
	if rapid.IntRange(0, 3).Draw(t, "date alone") == 0 {
		return quotedJSON(date)
	}
	return quotedJSON(date + oneOf(t, "separator", "T", " ") + drawTime(t) +
		oneOf(t, "zone", "", "Z", "z", " Z", "+02", "-0530", "+05:30", "+02:00:30", "+020030", "+02:0030", "-15:59", "+16", "+2", "Europe/Berlin"))
}

func drawArray(t *rapid.T, typ *dataType, dimension int) string {
	var elements []string
	deeper := dimension < 3 && rapid.IntRange(0, 5).Draw(t, "deeper") == 0
	for range rapid.IntRange(0, 3).Draw(t, "elements") {
		switch {
		case deeper:
			elements = append(elements, drawArray(t, typ, dimension+1))
		case rapid.IntRange(0, 5).Draw(t, "null") == 0:
			elements = append(elements, "null")
		default:
			elements = append(elements, drawValue(t, typ.element))
		}
	}
	return "[" + strings.Join(elements, ",") + "]"
}

func drawComposite(t *rapid.T, typ *dataType) string {
	var members []string
	for _, f := range typ.fields {
		switch rapid.IntRange(0, 6).Draw(t, "member") {
		case 0:
		case 1:
			members = append(members, quotedJSON(f.name)+":null")
		default:
			members = append(members, quotedJSON(f.name)+":"+drawValue(t, f.typ))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func drawRange(t *rapid.T, typ *dataType) string {
	if rapid.IntRange(0, 5).Draw(t, "special") == 0 {
		return oneOf(t, "range", `"empty"`, `"(,)"`, `"[1,5)"`, `"[2023-03-06,)"`, `"[now,)"`, `"[sad,ok]"`)
	}
	bound := func() string {
		if rapid.IntRange(0, 5).Draw(t, "infinite") == 0 {
			return "null"
		}
		return drawValue(t, typ.element)
	}
	v := `{"lower":` + bound() + `,"upper":` + bound()
	for _, name := range []string{"lower_exclusive", "upper_exclusive"} {
		if rapid.Bool().Draw(t, name) {
			v += `,"` + name + `":` + oneOf(t, "flag", "0", "1", "true", "false", "1.0", `"1"`, "2")
		}
	}
	return v + "}"
}
