package uploads

// entryList reads an array of entries and groups it into client transactions:
// neighbours with the same tx_id belong together. It returns the array's text
// as well.
func (d *decoder) entryList() (txs []Transaction, text []byte, err error) {
	text, err = d.array(func() error {
		op, txID, err := d.entry()
		if err != nil {
			return err
		}
		if n := len(txs); n > 0 && txID >= 0 && txs[n-1].TxID == txID {
			txs[n-1].Operations = append(txs[n-1].Operations, op)
		} else {
			txs = append(txs, Transaction{TxID: txID, Operations: []Operation{op}})
		}
		return d.checkCount(len(txs))
	})
	return txs, text, err
}

// transactionList reads the array of {"transactions": [{"transaction_id", "crud"}]}.
// It returns the array's text as well.
func (d *decoder) transactionList() (txs []Transaction, text []byte, err error) {
	text, err = d.array(func() error {
		tx, err := d.transaction(len(txs))
		txs = append(txs, tx)
		if err != nil {
			return err
		}
		return d.checkCount(len(txs))
	})
	return txs, text, err
}

func (d *decoder) transaction(index int) (Transaction, error) {
	tx := Transaction{TxID: -1}
	if d.dec.PeekKind() != '{' {
		return tx, d.wrongKind(`transaction %d must be an object with "crud"`, index)
	}
	var seenID, seenCrud presence
	_, err := d.object(func(name, _ string) error {
		switch name {
		case "transaction_id", "transactionId", "tx_id", "TransactionId":
			return at("transaction", index, d.transactionID(name, &tx, &seenID))
		case "crud":
			return d.transactionEntries(index, &tx, &seenCrud)
		}
		return d.skip()
	})
	if err == nil && !seenCrud.set {
		err = invalid(`transaction %d has no "crud"`, index)
	}
	return tx, err
}

func (d *decoder) transactionID(name string, tx *Transaction, seen *presence) error {
	value, err := d.readValue()
	if err != nil || value[0] == 'n' {
		return err
	}
	if err := seen.note(name, value); err != nil {
		return err
	}
	id, ok := wholeNumber(value)
	if !ok {
		return invalid("%q must be a whole number from 0", name)
	}
	tx.TxID = id
	return nil
}

func (d *decoder) transactionEntries(index int, tx *Transaction, seen *presence) error {
	if seen.set {
		return invalid(`transaction %d has "crud" twice`, index)
	}
	if d.dec.PeekKind() != '[' {
		return d.wrongKind(`transaction %d: "crud" must be an array`, index)
	}
	seen.set = true
	_, err := d.array(func() error {
		op, _, err := d.entry()
		tx.Operations = append(tx.Operations, op)
		return err
	})
	return err
}
