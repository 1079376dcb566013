package uploads

// entryList reads an array of entries and groups it into client transactions:
// neighbours with the same tx_id belong together. It returns the array's text
// as well.
func (d *decoder) entryList() (txs []Transaction, text []byte, err error) {
	text, err = d.array(func() error {
		var op Operation
		txID, err := d.entry(&op)
		if err != nil {
			return err
		}
		if n := len(txs); n == 0 || txID < 0 || txs[n-1].TxID != txID {
			txs = append(txs, Transaction{TxID: txID})
		}
		tx := &txs[len(txs)-1]
		tx.Operations = d.operations.extend(tx.Operations, op)
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
	if d.peek() != '{' {
		return tx, d.wrongKind(`transaction %d must be an object with "crud"`, index)
	}
	var seenID, seenCrud presence
	_, err := d.object(func(w *word) error {
		switch name := w.text; name {
		case "transaction_id", "transactionId", "tx_id", "TransactionId":
			return at("transaction", index, d.transactionID(name, &tx, &seenID))
		case "crud":
			return d.transactionEntries(index, &tx, &seenCrud)
		}
		return d.skipNext()
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
	if d.peek() != '[' {
		return d.wrongKind(`transaction %d: "crud" must be an array`, index)
	}
	seen.set = true
	_, err := d.array(func() error {
		var op Operation
		if _, err := d.entry(&op); err != nil {
			return err
		}
		tx.Operations = d.operations.extend(tx.Operations, op)
		return nil
	})
	return err
}
