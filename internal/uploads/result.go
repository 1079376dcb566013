package uploads

// Result is what the client is told about an upload. Every operation counts in
// exactly one of Applied, Duplicates, Ignored, or a rejected transaction.
type Result struct {
	// LastOpID is nil where the upload was not applied exactly once.
	LastOpID    *int64      `json:"last_op_id"`
	ExactlyOnce bool        `json:"exactly_once"`
	Applied     int         `json:"applied"`    // took effect now
	Duplicates  int         `json:"duplicates"` // took effect by an earlier delivery
	Ignored     int         `json:"ignored"`    // PATCH or DELETE that matched no row
	Rejected    []Rejection `json:"rejected"`   // one per rejected client transaction
	// Checkpoint is the client's write checkpoint, in decimal digits; empty
	// where write checkpoints are off or the request named no client.
	Checkpoint string `json:"checkpoint,omitempty"`
	// Outcomes has one element per client transaction, in order; nil where all
	// were accepted.
	Outcomes []Outcome `json:"-"`
}

// Outcome is what became of a client transaction.
type Outcome struct {
	Decided   bool
	Rejection *Rejection // the first that its operations belong to; nil if accepted
}

// State is what became of a rejection.
type State string

// A rejection is open until an operator replays or discards it.
const (
	Open      State = "open"
	Replayed  State = "replayed"
	Discarded State = "discarded"
)

// Rejection is one client transaction that the database refused, and why. It
// is stored, whole, before the client hears of it.
type Rejection struct {
	ID      string `json:"rejection_id"`
	TxID    *int64 `json:"tx_id,omitempty"`
	OpID    *int64 `json:"op_id,omitempty"`
	OpIndex int    `json:"op_index"` // of the refused operation, within its client transaction
	State   State  `json:"state"`
	Table   string `json:"table"`
	RowID   string `json:"id"`
	Refusal
}

// Refusal is the reason of a rejection.
type Refusal struct {
	// Code is one of the Code constants, or the lower-case name of a Postgres
	// condition of SQLSTATE class 22 or 23.
	Code       string `json:"code"`
	SQLState   string `json:"sqlstate,omitempty"`
	Constraint string `json:"constraint,omitempty"`
	Column     string `json:"column,omitempty"`
	// Message is for people: never another row's values, never SQL.
	Message string `json:"message"`
}

// The codes of refusals that are not named after a Postgres condition.
const (
	CodeForbidden         = "forbidden"           // rights or row-level security
	CodeUnknownTable      = "unknown_table"       // no such table that takes uploads
	CodeUnknownColumn     = "unknown_column"      // no such column
	CodeUnwritableColumn  = "unwritable_column"   // a column that only the server writes
	CodeMalformedValue    = "malformed_value"     // text that Postgres cannot hold
	CodeTooLarge          = "too_large"           // beyond a limit of Postgres or of the PowerSync Service
	CodeTimeout           = "timeout"             // gave up, alone, again and again
	CodeDependsOnRejected = "depends_on_rejected" // continues or needs a rejected transaction
	CodeRaiseException    = "raise_exception"     // the app's own trigger or function refused
	CodeInternalError     = "internal_error"      // any other error that returns when tried alone
)
