package postgres

import (
	"encoding/json"
	"testing"
)

// TestConversionOfCommonTypesAllocatesNothing keeps uploads cheap: a batch has
// thousands of such values.
func TestConversionOfCommonTypesAllocatesNothing(t *testing.T) {
	buffer := make([]byte, 0, 256)
	for name, c := range commonValues() {
		allocations := testing.AllocsPerRun(100, func() {
			if _, err := appendValue(buffer, c.typ, c.value); err != nil {
				t.Fatal(err)
			}
		})
		if allocations != 0 {
			t.Errorf("%s: %v allocations", name, allocations)
		}
	}
}

func BenchmarkAppendValue(b *testing.B) {
	buffer := make([]byte, 0, 256)
	for name, c := range commonValues() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := appendValue(buffer, c.typ, c.value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type commonValue struct {
	typ   *dataType
	value json.RawMessage
}

func commonValues() map[string]commonValue {
	scalar := func(name string, c class, value string) commonValue {
		return commonValue{&dataType{name: name, cast: "pg_catalog." + name, class: c, parts: 1 << c}, json.RawMessage(value)}
	}
	return map[string]commonValue{
		"bool":        scalar("bool", classBool, `1`),
		"int8":        scalar("int8", classInteger, `1234567`),
		"int8 real":   scalar("int8", classInteger, `42.0`),
		"numeric":     scalar("numeric", classNumeric, `"1234.50"`),
		"text":        scalar("text", classText, `"Buy milk, bread and a newspaper on the way home."`),
		"uuid":        scalar("uuid", classUUID, `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`),
		"timestamptz": scalar("timestamptz", classTimestampTZ, `"2023-03-06T13:47:00.123456Z"`),
		"date":        scalar("date", classDate, `"2023-03-06"`),
		"jsonb":       scalar("jsonb", classJSON, `{"a":[1,2,3]}`),
	}
}
