package uploads

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

// entryFields are the fields of an entry, each under whichever of its accepted
// names it came.
type entryFields struct {
	op, table, id, data, opID, txID, old, metadata presence

	dataID    presence // the id inside data
	malformed string   // as in Operation
}

// named returns the field that a name stands for, or nil for a name that is
// none of ours. The names are those of the SDKs' CrudEntry serialisations
// (JavaScript, Dart, Kotlin, Swift, Rust, .NET) and of PowerSync's reference
// write API.
func (f *entryFields) named(name string) *presence {
	switch name {
	case "op", "Op", "update_type":
		return &f.op
	case "type", "table", "Table":
		return &f.table
	case "id", "Id":
		return &f.id
	case "data", "opData", "op_data", "OpData":
		return &f.data
	case "op_id", "clientId", "client_id", "ClientId":
		return &f.opID
	case "tx_id", "transactionId", "transaction_id", "TransactionId":
		return &f.txID
	case "old", "previousValues", "previous_values", "PreviousValues":
		return &f.old
	case "metadata", "Metadata":
		return &f.metadata
	}
	return nil
}

// entry reads one entry and returns its operation and tx_id (-1 for none).
func (d *decoder) entry() (op Operation, txID int64, err error) {
	index := d.entries
	d.entries++
	op, txID, err = d.operation()
	return op, txID, at("entry", index, err)
}

func (d *decoder) operation() (op Operation, txID int64, err error) {
	if d.dec.PeekKind() != '{' {
		return op, -1, d.wrongKind("it must be an object")
	}
	var fields entryFields
	d.columns = d.columns[:0]
	raw, err := d.object(func(name, _ string) error { return d.entryField(&fields, name) })
	if err != nil {
		return op, -1, err
	}

	op = Operation{OpID: -1, Malformed: fields.malformed, Raw: raw}
	if op.Kind = d.kindOf(fields.op.value); op.Kind == 0 {
		return op, -1, invalid(`"op" must be PUT, PATCH or DELETE`)
	}
	if err := d.setRow(&op, &fields); err != nil {
		return op, -1, err
	}
	if op.Fields, err = sortedFields(d.columns); err != nil {
		return op, -1, err
	}
	if op.OpID, err = fields.opID.wholeNumber("op_id"); err != nil {
		return op, -1, err
	}
	if txID, err = fields.txID.wholeNumber("tx_id"); err != nil {
		return op, -1, err
	}
	op.Fingerprint, d.scratch = fingerprint(&op, d.scratch)
	return op, txID, nil
}

// entryField reads the value of an entry's field; null is the same as absent.
func (d *decoder) entryField(fields *entryFields, name string) error {
	field := fields.named(name)
	if field == nil {
		return d.skip()
	}
	if field == &fields.data && !field.set && d.dec.PeekKind() == '{' {
		return d.data(fields, name)
	}
	value, err := d.readValue()
	if err != nil || value[0] == 'n' {
		return err
	}
	// The only field whose name is shared: as a string it is the device's id,
	// repeated in each entry by some connectors.
	if field == &fields.opID && name != "op_id" && !isNumber(value) {
		return nil
	}
	return field.note(name, value)
}

// data reads the columns of an entry, and apart from them its id.
func (d *decoder) data(fields *entryFields, name string) error {
	text, err := d.object(func(column, unheld string) error {
		if unheld != "" {
			fields.malformed = "a column's name has " + unheld
		}
		value, err := d.readValue()
		switch {
		case err != nil:
			return err
		case column != "id":
			d.columns = append(d.columns, Field{Name: column, Value: value})
			return nil
		case value[0] == 'n':
			return nil
		}
		return fields.dataID.note("data.id", value)
	})
	if err != nil {
		return err
	}
	return fields.data.note(name, text)
}

// setRow sets the table and the row's id.
func (d *decoder) setRow(op *Operation, fields *entryFields) error {
	table, id := fields.table.value, fields.id.value
	if len(table) == 0 || table[0] != '"' {
		return invalid(`"type" must name a table`)
	}
	if data := fields.data.value; len(data) > 0 && data[0] != '{' {
		return invalid(`"data" must be an object`)
	}
	if !fields.id.set {
		id = fields.dataID.value
	}
	if len(id) == 0 || (id[0] != '"' && !isNumber(id)) {
		return invalid(`"id" must be the row's id, a string`)
	}
	var unheld string
	if op.Table, unheld = d.intern(table); unheld != "" {
		op.Malformed = "the table's name has " + unheld
	}
	if op.ID, unheld = idText(id); unheld != "" {
		op.Malformed = "the id has " + unheld
	}
	if fields.dataID.set {
		if other, _ := idText(fields.dataID.value); other != op.ID {
			return invalid(`"id" and "data.id" differ`)
		}
	}
	return nil
}

// sortedFields returns a copy of columns in the order of their names.
func sortedFields(columns []Field) ([]Field, error) {
	if len(columns) == 0 {
		return nil, nil
	}
	fields := slices.Clone(columns)
	slices.SortFunc(fields, func(a, b Field) int { return cmp.Compare(a.Name, b.Name) })
	for i := 1; i < len(fields); i++ {
		if fields[i].Name == fields[i-1].Name {
			return nil, invalid("column %.100q is given twice", fields[i].Name)
		}
	}
	return fields, nil
}

// kindOf reads an operation's kind: a name in any case, or .NET's UpdateType
// as a number. It returns 0 for anything else.
func (d *decoder) kindOf(value json.RawMessage) Kind {
	if len(value) > 0 && value[0] == '"' {
		name, _ := d.intern(value)
		for _, k := range [...]Kind{Put, Patch, Delete} {
			if strings.EqualFold(name, k.String()) {
				return k
			}
		}
		return 0
	}
	switch string(value) {
	case "0":
		return Put
	case "1":
		return Patch
	case "2":
		return Delete
	}
	return 0
}

// wholeNumber returns the field's number, or -1 where it has not come.
func (p *presence) wholeNumber(name string) (int64, error) {
	if !p.set {
		return -1, nil
	}
	n, ok := wholeNumber(p.value)
	if !ok {
		return -1, invalid("%q must be a whole number from 0", name)
	}
	return n, nil
}

// idText returns an id as text: SDKs send strings, older demos numbers.
func idText(v json.RawMessage) (text, unheld string) {
	if v[0] == '"' {
		return unquote(v)
	}
	return string(v), ""
}
