package uploads_test

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"pgregory.net/rapid"
)

// operation is what an entry means, apart from how it is spelled.
type operation struct {
	kind  string
	table string
	id    string
	data  map[string]any // values as drawValue makes them
}

// decimal is a number's value: digits × 10^exponent. The digits neither begin
// nor end with a zero; zero itself is "0" × 10^0.
type decimal struct {
	negative bool
	digits   string
	exponent int
}

func drawOperation(t *rapid.T) operation {
	return operation{
		kind:  rapid.SampledFrom([]string{"PUT", "PATCH", "DELETE"}).Draw(t, "kind"),
		table: drawText(t),
		id:    drawText(t),
		data:  drawObject(t, 2),
	}
}

// changed returns a copy of o that means something else.
func (o operation) changed(t *rapid.T) operation {
	data := map[string]any{}
	for name, v := range o.data {
		data[name] = v
	}
	old := o
	o.data = data
	column := func() string { return rapid.SampledFrom(columnsOf(old)).Draw(t, "column") }
	changes := []func(){
		func() { o.kind = rapid.SampledFrom([]string{"PUT", "PATCH", "DELETE"}).Draw(t, "new kind") },
		func() { o.table = drawText(t) },
		func() { o.id = drawText(t) },
		func() { data[drawColumn(t)] = drawValue(t, 2) },
	}
	if len(data) > 0 {
		changes = append(changes,
			func() { data[column()] = drawValue(t, 2) },
			func() { delete(data, column()) },
			func() {
				from := column()
				v := data[from]
				delete(data, from)
				data[drawColumn(t)] = v
			},
		)
	}
	rapid.SampledFrom(changes).Draw(t, "change")()
	if reflect.DeepEqual(o, old) {
		t.Skip("the change changed nothing")
	}
	return o
}

func columnsOf(o operation) []string {
	var names []string
	for name := range o.data {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func drawText(t *rapid.T) string {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", "a", "todos", "null", "1", "é", "😀", "a\x00b", "\"\\/\b\f\n\r\t", "\u2028</script>"}),
		rapid.String(),
	).Draw(t, "text")
}

// drawColumn draws any name but id, which is the row's id and no column.
func drawColumn(t *rapid.T) string {
	name := drawText(t)
	if name == "id" {
		name = "ID"
	}
	return name
}

func drawObject(t *rapid.T, depth int) map[string]any {
	object := map[string]any{}
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		object[drawColumn(t)] = drawValue(t, depth)
	}
	return object
}

func drawValue(t *rapid.T, depth int) any {
	kinds := 4
	if depth > 0 {
		kinds = 6
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "type") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return drawText(t)
	case 3:
		return drawDecimal(t)
	case 4:
		array := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "elements") {
			array = append(array, drawValue(t, depth-1))
		}
		return array
	default:
		return drawObject(t, depth-1)
	}
}

func drawDecimal(t *rapid.T) decimal {
	digits := rapid.StringMatching(`[1-9]([0-9]{0,24}[1-9])?|0`).Draw(t, "digits")
	if digits == "0" {
		return decimal{digits: "0"}
	}
	return decimal{
		negative: rapid.Bool().Draw(t, "negative"),
		digits:   digits,
		exponent: rapid.OneOf(rapid.IntRange(-20, 20), rapid.IntRange(-1000, 1000)).Draw(t, "exponent"),
	}
}

// spell writes o as an entry, in one of the many ways to write it, with other
// fields that say nothing about what it does.
func (o operation) spell(t *rapid.T) string {
	one := func(names ...string) string { return spellText(t, rapid.SampledFrom(names).Draw(t, "name")) }
	kind := spellText(t, rapid.SampledFrom([]string{o.kind, strings.ToLower(o.kind)}).Draw(t, "case"))
	if rapid.Bool().Draw(t, "a number as op") {
		kind = strconv.Itoa(slices.Index([]string{"PUT", "PATCH", "DELETE"}, o.kind))
	}
	members := []string{
		one("op", "Op", "update_type") + ":" + kind,
		one("type", "table", "Table") + ":" + spellText(t, o.table),
	}
	data := o.data
	if rapid.Bool().Draw(t, "id in data") {
		data = map[string]any{"id": o.id}
		for name, v := range o.data {
			data[name] = v
		}
	} else {
		members = append(members, one("id", "Id")+":"+spellText(t, o.id))
	}
	if len(data) > 0 || rapid.Bool().Draw(t, "empty data") {
		members = append(members, one("data", "opData", "op_data", "OpData")+":"+spellObject(t, data))
	}
	if rapid.Bool().Draw(t, "extras") {
		members = append(members,
			one("op_id", "clientId", "client_id", "ClientId")+":"+strconv.Itoa(rapid.IntRange(0, 99).Draw(t, "op_id")),
			one("tx_id", "transactionId", "transaction_id", "TransactionId")+":"+strconv.Itoa(rapid.IntRange(0, 99).Draw(t, "tx_id")),
			one("old", "previousValues", "previous_values", "PreviousValues")+":"+spellObject(t, drawObject(t, 1)),
			one("metadata", "Metadata")+":"+spellText(t, drawText(t)),
			one("haveMore")+":"+spellValue(t, drawValue(t, 1)),
		)
	}
	return spellMembers(t, members)
}

func spellMembers(t *rapid.T, members []string) string {
	if len(members) == 0 {
		return "{" + space(t) + "}"
	}
	members = rapid.Permutation(members).Draw(t, "order")
	return "{" + space(t) + strings.Join(members, space(t)+","+space(t)) + space(t) + "}"
}

func spellObject(t *rapid.T, object map[string]any) string {
	var members []string
	for _, name := range columnsOf(operation{data: object}) {
		members = append(members, spellText(t, name)+space(t)+":"+space(t)+spellValue(t, object[name]))
	}
	return spellMembers(t, members)
}

func spellValue(t *rapid.T, v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case string:
		return spellText(t, v)
	case decimal:
		return v.spell(t)
	case []any:
		var elements []string
		for _, e := range v {
			elements = append(elements, spellValue(t, e))
		}
		return "[" + space(t) + strings.Join(elements, space(t)+","+space(t)) + space(t) + "]"
	case map[string]any:
		return spellObject(t, v)
	}
	panic(fmt.Sprintf("no spelling for a %T", v))
}

func space(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "", " ", "\n\t", "\r\n"}).Draw(t, "space")
}

// spellText writes a string; all, some or no characters that need no escape
// get one.
func spellText(t *rapid.T, text string) string {
	style := rapid.IntRange(0, 2).Draw(t, "escapes")
	var b strings.Builder
	b.WriteByte('"')
	for i, r := range text {
		short := strings.IndexRune("\"\\/\b\f\n\r\t", r)
		switch {
		case short >= 0 && style != 1:
			b.WriteString(`\` + `"\/bfnrt`[short:short+1])
		case r < ' ' || r == '"' || r == '\\' || style == 1 || (style == 2 && i%2 == 0):
			writeEscape(&b, r, i)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func writeEscape(b *strings.Builder, r rune, i int) {
	format := `\u%04x`
	if i%2 == 1 {
		format = `\u%04X`
	}
	for _, unit := range utf16.Encode([]rune{r}) {
		fmt.Fprintf(b, format, unit)
	}
}

// spell writes the number with any place for its point, any exponent that
// goes with that, and zeros where they mean nothing.
func (d decimal) spell(t *rapid.T) string {
	zeros := strings.Repeat("0", rapid.IntRange(0, 3).Draw(t, "zeros"))
	digits, exponent := d.digits+zeros, d.exponent-len(zeros)
	sign := ""
	switch {
	case d.digits == "0": // any exponent, any sign
		digits, exponent = "0", rapid.IntRange(-5, 5).Draw(t, "exponent of zero")
		sign = rapid.SampledFrom([]string{"", "-"}).Draw(t, "sign of zero")
	case d.negative:
		sign = "-"
	}
	point := rapid.IntRange(0, len(digits)).Draw(t, "point")
	exponent += len(digits) - point
	whole, fraction := digits[:point], digits[point:]
	if whole == "" {
		whole = "0"
	}
	if fraction == "" && rapid.Bool().Draw(t, "point zero") {
		fraction = "0"
	}
	number := sign + whole
	if fraction != "" {
		number += "." + fraction
	}
	if exponent == 0 && rapid.Bool().Draw(t, "no exponent") {
		return number
	}
	format := rapid.SampledFrom([]string{"e%d", "E%d", "e%+d", "E%+03d"}).Draw(t, "exponent's format")
	return number + fmt.Sprintf(format, exponent)
}
