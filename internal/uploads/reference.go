package uploads

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// DecodeSingle reads the one operation that PowerSync's older demos send as a
// request of its own, where the HTTP method is its kind: {"table", "data":
// {"id", …}}. client_id, user_id, and op_id may stand beside these. Its errors
// are those of Decode.
func DecodeSingle(kind Kind, body []byte) (*Upload, error) {
	up := &Upload{}
	var seen struct{ clientID, userID presence }
	err := decodeObject(body, `{"table": …, "data": {"id": …}}`, func(d *decoder, name string) error {
		switch name {
		case "client_id", "clientId":
			if d.peek() == '"' { // as a number it is the op id
				return d.text(name, &up.ClientID, &seen.clientID)
			}
		case "user_id", "userId":
			return d.text(name, &up.UserID, &seen.userID)
		}
		return d.skipNext()
	})
	if err == nil && seen.clientID.set {
		err = checkClientID(up.ClientID)
	}
	if err != nil {
		return nil, err
	}
	up.NamesUser = seen.userID.set
	// The operation as an entry, so that a stored rejection has its kind.
	entry := bytes.TrimSpace(body)
	comma := ","
	if isEmptyObject(entry) {
		comma = ""
	}
	entries := slices.Concat([]byte(`[{"op":"`+kind.String()+`"`+comma), entry[1:], []byte("]"))
	decoded, err := Decode(entries)
	if err != nil {
		return nil, err
	}
	up.Transactions, up.Operations = decoded.Transactions, decoded.Operations
	return up, checkOpIDs(up)
}

func isEmptyObject(object []byte) bool {
	return len(bytes.TrimSpace(object[1:])) == 1
}

// CheckpointRequest is the body of a request about a write checkpoint.
type CheckpointRequest struct {
	ClientID string
	// ID is the checkpoint that the client asks for; -1 where it names none.
	ID int64
}

// maxCheckpoint leaves a checkpoint room to rise for ever.
const maxCheckpoint = 999_999_999_999_999_999

// DecodeCheckpointRequest reads {"client_id", "checkpoint_request_id"}. Other
// members are ignored: whose checkpoint it is says the session alone. Its
// errors are those of Decode.
func DecodeCheckpointRequest(body []byte) (*CheckpointRequest, error) {
	request := &CheckpointRequest{ID: -1}
	var seen struct{ clientID, id presence }
	err := decodeObject(body, `{"client_id": …}`, func(d *decoder, name string) error {
		switch name {
		case "client_id", "clientId":
			return d.text(name, &request.ClientID, &seen.clientID)
		case "checkpoint_request_id", "checkpointRequestId":
			value, err := d.readValue()
			if err != nil || value[0] == 'n' {
				return err
			}
			return seen.id.note(name, value)
		}
		return d.skipNext()
	})
	if err != nil {
		return nil, err
	}
	if err := checkClientID(request.ClientID); err != nil {
		return nil, err
	}
	if request.ID, err = seen.id.wholeNumber("checkpoint_request_id"); err != nil {
		return nil, err
	}
	if request.ID > maxCheckpoint {
		return nil, invalid("%q must have 18 digits at most", "checkpoint_request_id")
	}
	return request, nil
}

// decodeObject reads a body that is one JSON object, as expected says. It calls
// member after each name, to read the value.
func decodeObject(body []byte, expected string, member func(d *decoder, name string) error) error {
	if !utf8.Valid(body) {
		return invalid("the body is not UTF-8")
	}
	d := &decoder{scanner: scanner{input: body}}
	if d.peek() != '{' {
		return d.wrongKind("the body must be %s, a JSON object", expected)
	}
	if _, err := d.object(func(w *word) error { return member(d, w.text) }); err != nil {
		return err
	}
	return d.end()
}
