package uploads

import "encoding/json"

// entryField is a field of an entry.
type entryField uint8

const (
	noField entryField = iota
	opField
	tableField
	idField
	dataField
	opIDField
	txIDField
	oldField
	metadataField
	entryFields int = iota
)

// entryFieldOf returns the field that a name stands for. The names are those of
// the SDKs' CrudEntry serialisations (JavaScript, Dart, Kotlin, Swift, Rust,
// .NET) and of PowerSync's reference write API.
func entryFieldOf(name string) entryField {
	switch name {
	case "op", "Op", "update_type":
		return opField
	case "type", "table", "Table":
		return tableField
	case "id", "Id":
		return idField
	case "data", "opData", "op_data", "OpData":
		return dataField
	case "op_id", "clientId", "client_id", "ClientId":
		return opIDField
	case "tx_id", "transactionId", "transaction_id", "TransactionId":
		return txIDField
	case "old", "previousValues", "previous_values", "PreviousValues":
		return oldField
	case "metadata", "Metadata":
		return metadataField
	}
	return noField
}

// entryValues are the fields of an entry, each under whichever of its accepted
// names it came.
type entryValues struct {
	fields    [entryFields]presence
	dataID    presence // the id inside data
	malformed string   // as in Operation
}

// entry reads one entry into op and returns its tx_id (-1 for none).
func (d *decoder) entry(op *Operation) (txID int64, err error) {
	index := d.entries
	d.entries++
	txID, err = d.operation(op)
	return txID, at("entry", index, err)
}

func (d *decoder) operation(op *Operation) (txID int64, err error) {
	if d.peek() != '{' {
		return -1, d.wrongKind("it must be an object")
	}
	d.startEntry()
	d.columns.reset()
	var values entryValues
	raw, err := d.object(func(name *word) error { return d.entryField(&values, name) })
	if err != nil {
		return -1, err
	}

	*op = Operation{OpID: -1, Malformed: values.malformed, Raw: raw}
	if op.Kind = d.kindOf(values.fields[opField].value); op.Kind == 0 {
		return -1, invalid(`"op" must be PUT, PATCH or DELETE`)
	}
	if err := d.setRow(op, &values); err != nil {
		return -1, err
	}
	if op.Fields, err = d.columns.sorted(&d.fields); err != nil {
		return -1, err
	}
	if op.OpID, err = values.fields[opIDField].wholeNumber("op_id"); err != nil {
		return -1, err
	}
	if txID, err = values.fields[txIDField].wholeNumber("tx_id"); err != nil {
		return -1, err
	}
	op.Fingerprint, d.scratch = fingerprint(op, d.scratch)
	return txID, nil
}

// entryField reads the value of an entry's field; null is the same as absent.
func (d *decoder) entryField(values *entryValues, name *word) error {
	if name.field == noField {
		return d.skipNext()
	}
	field := &values.fields[name.field]
	if name.field == dataField && !field.set && d.peek() == '{' {
		return d.data(values, name.text)
	}
	value, err := d.readValue()
	if err != nil || value[0] == 'n' {
		return err
	}
	// The only field whose name is shared: as a string it is the device's id,
	// repeated in each entry by some connectors.
	if name.field == opIDField && name.text != "op_id" && !isNumber(value) {
		return nil
	}
	return field.note(name.text, value)
}

// data reads the columns of an entry, and apart from them its id.
func (d *decoder) data(values *entryValues, name string) error {
	text, err := d.object(func(column *word) error {
		if column.unheld != "" {
			values.malformed = "a column's name has " + column.unheld
		}
		value, err := d.readValue()
		switch {
		case err != nil:
			return err
		case column.text != "id":
			d.columns.add(Field{Name: column.text, Value: value})
			return nil
		case value[0] == 'n':
			return nil
		}
		return values.dataID.note("data.id", value)
	})
	if err != nil {
		return err
	}
	return values.fields[dataField].note(name, text)
}

// setRow sets the table and the row's id.
func (d *decoder) setRow(op *Operation, values *entryValues) error {
	table, id := values.fields[tableField].value, values.fields[idField].value
	if len(table) == 0 || table[0] != '"' {
		return invalid(`"type" must name a table`)
	}
	if data := values.fields[dataField].value; len(data) > 0 && data[0] != '{' {
		return invalid(`"data" must be an object`)
	}
	if !values.fields[idField].set {
		id = values.dataID.value
	}
	if len(id) == 0 || (id[0] != '"' && !isNumber(id)) {
		return invalid(`"id" must be the row's id, a string`)
	}
	name := d.word(table)
	if op.Table = name.text; name.unheld != "" {
		op.Malformed = "the table's name has " + name.unheld
	}
	var unheld string
	if op.ID, unheld = idText(id); unheld != "" {
		op.Malformed = "the id has " + unheld
	}
	if values.dataID.set {
		if other, _ := idText(values.dataID.value); other != op.ID {
			return invalid(`"id" and "data.id" differ`)
		}
	}
	return nil
}

// kindOf reads an operation's kind: a name in any case, or .NET's UpdateType
// as a number. It returns 0 for anything else.
func (d *decoder) kindOf(value json.RawMessage) Kind {
	if len(value) > 0 && value[0] == '"' {
		return d.word(value).kind
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
	return view(v), ""
}
