package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"ferry/internal/fault"
	"ferry/internal/uploads"
)

// The routes of PowerSync's reference write API and of the demos before it, so
// that their published connectors work by changing a URL.
//
// Source: the Node backend of PowerSync's to-do list demos,
// https://github.com/powersync-ja/powersync-nodejs-backend-todolist-demo

// maxTransactions is how many client transactions one request may have there.
const maxTransactions = 50

// referenceToken answers what the demos' fetchCredentials() reads. Their
// clients know these two members, and no others.
func (s *server) referenceToken(w http.ResponseWriter, r *http.Request, f *facts) error {
	who := s.signedIn
	if s.isDemo(r) {
		who = s.demoUser
	}
	token, err := s.issue(w, r, f, who)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Token        string `json:"token"`
		PowerSyncURL string `json:"powersync_url"`
	}{token.JWT, token.Endpoint})
}

// data applies client transactions, each with a result of its own, or the
// older demos' {"batch": […]}, with a message.
func (s *server) data(w http.ResponseWriter, r *http.Request, f *facts) error {
	p, store, err := s.dataWriter(r, f)
	if err != nil {
		return err
	}
	up, err := s.receive(w, r, f, p, s.decodeData)
	if err != nil {
		return err
	}
	result, err := apply(r.Context(), f, store, p, up)
	switch {
	case up.Grouped && isTransient(err):
		f.err = err
		return writeResults(w, interruptedResults(up, result, fault.From(err)))
	case err != nil:
		return err
	case up.Grouped:
		return writeResults(w, decidedResults(up, result))
	}
	return writeMessage(w, result)
}

func (s *server) decodeData(body []byte) (*uploads.Upload, error) {
	up, err := s.decode(body)
	if err == nil && up.Grouped && (len(up.Transactions) == 0 || len(up.Transactions) > maxTransactions) {
		return nil, fault.New(fault.InvalidRequest, `"transactions" must have 1 to %d elements, not %d`, maxTransactions, len(up.Transactions))
	}
	return up, err
}

// singleOperation applies one operation of a kind that the method says.
func (s *server) singleOperation(kind uploads.Kind) func(http.ResponseWriter, *http.Request, *facts) error {
	decode := func(body []byte) (*uploads.Upload, error) { return uploads.DecodeSingle(kind, body) }
	return func(w http.ResponseWriter, r *http.Request, f *facts) error {
		p, store, err := s.dataWriter(r, f)
		if err != nil {
			return err
		}
		up, err := s.receive(w, r, f, p, decode)
		if err != nil {
			return err
		}
		result, err := apply(r.Context(), f, store, p, up)
		if err != nil {
			return err
		}
		return writeMessage(w, result)
	}
}

// writeMessage answers the older demos. Their connectors try again on any
// error, for ever, so that a rejection, which is decided and stored, is none.
func writeMessage(w http.ResponseWriter, result *uploads.Result) error {
	message := fmt.Sprintf("applied %d, applied before %d, ignored %d", result.Applied, result.Duplicates, result.Ignored)
	for _, rejection := range result.Rejected {
		message += fmt.Sprintf("; rejected and stored as %s (%s: %s)", rejection.ID, rejection.Code, rejection.Message)
	}
	return writeJSON(w, http.StatusOK, struct {
		Message string `json:"message"`
	}{message})
}

// The statuses of a client transaction.
const (
	statusSuccess      = "success"
	statusNotAttempted = "not_attempted"
	statusRetryable    = "retryable_error"
	statusFatal        = "fatal_error"
)

// transactionResult is what is said of one client transaction. Clients parse it
// strictly: what does not belong to its status is absent.
type transactionResult struct {
	Status string `json:"status"`
	// HandledByClient is false on every fatal error: ferry keeps what it
	// rejects, so that the client has nothing to do.
	HandledByClient *bool            `json:"requires_client_handling,omitempty"`
	Message         string           `json:"message,omitempty"`
	RetryAfter      int64            `json:"retry_after_ms,omitempty"` // milliseconds
	FailedOperation *failedOperation `json:"failed_operation,omitempty"`
}

type failedOperation struct {
	ErrorCode string           `json:"error_code"`
	Message   string           `json:"message"`
	Details   rejectionDetails `json:"details"`
	Index     int              `json:"operation_index"` // within its client transaction
}

// rejectionDetails name what an operator looks for.
type rejectionDetails struct {
	RejectionID string `json:"rejection_id"`
}

func writeResults(w http.ResponseWriter, results []transactionResult) error {
	return writeJSON(w, http.StatusOK, struct {
		Results []transactionResult `json:"results"`
	}{results})
}

func decidedResults(up *uploads.Upload, result *uploads.Result) []transactionResult {
	results := make([]transactionResult, len(up.Transactions))
	for i := range results {
		results[i].Status = statusSuccess
		if result.Outcomes == nil {
			continue
		}
		// What was replayed is in the database.
		if r := result.Outcomes[i].Rejection; r != nil && r.State != uploads.Replayed {
			results[i] = fatalError(r)
		}
	}
	return results
}

func fatalError(r *uploads.Rejection) transactionResult {
	message := cmp.Or(r.Message, r.Code) // the app may have raised an empty one
	return transactionResult{
		Status: statusFatal, HandledByClient: new(bool), Message: message,
		FailedOperation: &failedOperation{
			ErrorCode: errorCode(r.Refusal), Message: message, Details: rejectionDetails{r.ID}, Index: r.OpIndex,
		},
	}
}

// isTransient is whether the same request may go through later.
func isTransient(err error) bool {
	if err == nil {
		return false
	}
	code := fault.From(err).Code
	return code == fault.Unavailable || code == fault.TooManyRequests
}

// interruptedResults tell of an upload that failed for now: what was accepted
// before, what to try again, and what follows it. result may be nil.
func interruptedResults(up *uploads.Upload, result *uploads.Result, f *fault.Error) []transactionResult {
	results := make([]transactionResult, len(up.Transactions))
	failed := false
	for i, tx := range up.Transactions {
		switch {
		case failed:
			results[i].Status = statusNotAttempted
		case len(tx.Operations) == 0 || accepted(result, i):
			results[i].Status = statusSuccess
		default:
			failed = true
			results[i] = transactionResult{
				Status:     statusRetryable,
				Message:    cmp.Or(f.Detail, "it is safe to try again"),
				RetryAfter: max(1, cmp.Or(f.RetryAfter, defaultRetryAfter).Milliseconds()),
			}
		}
	}
	return results
}

func accepted(result *uploads.Result, i int) bool {
	return result != nil && i < len(result.Outcomes) && result.Outcomes[i].Decided && result.Outcomes[i].Rejection == nil
}

// errorCode is the reference API's word for a refusal.
func errorCode(r uploads.Refusal) string {
	switch r.Code {
	case "not_null_violation", "unique_violation", "foreign_key_violation", "check_violation":
		return strings.ToUpper(r.Code)
	case uploads.CodeMalformedValue, uploads.CodeTooLarge:
		return "INVALID_DATA"
	case uploads.CodeUnknownTable, uploads.CodeUnknownColumn, "unwritable_column":
		return "SCHEMA_MISMATCH"
	case uploads.CodeForbidden:
		return "UNAUTHORIZED"
	case uploads.CodeTimeout, uploads.CodeDependsOnRejected, uploads.CodeRaiseException, uploads.CodeInternalError:
		return "UNCLASSIFIED_ERROR"
	}
	switch { // named after a condition of Postgres
	case strings.HasPrefix(r.SQLState, "23"):
		return "CONSTRAINT_VIOLATION"
	case strings.HasPrefix(r.SQLState, "22"):
		return "INVALID_DATA"
	}
	return "UNCLASSIFIED_ERROR"
}
