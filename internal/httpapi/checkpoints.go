package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"

	"ferry/internal/fault"
	"ferry/internal/identity"
	"ferry/internal/uploads"
)

// Checkpoints keeps write checkpoints: a number per user and client that never
// falls, and that the PowerSync Service replicates.
type Checkpoints interface {
	// RaiseCheckpoint raises it by one.
	RaiseCheckpoint(ctx context.Context, userID, clientID string) (int64, error)
	// RequestCheckpoint raises it to id, unless it is higher already.
	RequestCheckpoint(ctx context.Context, userID, clientID string, id int64) (int64, error)
}

// raiseCheckpoint answers a client that wants to know when all that it has
// uploaded has come back.
//
// Source: PowerSync's documentation, "Custom Write Checkpoints".
func (s *server) raiseCheckpoint(w http.ResponseWriter, r *http.Request, f *facts) error {
	p, request, err := s.checkpointRequest(w, r, f)
	if err != nil {
		return err
	}
	checkpoint, err := s.Checkpoints.RaiseCheckpoint(r.Context(), p.UserID, request.ClientID)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Checkpoint string `json:"checkpoint"`
	}{strconv.FormatInt(checkpoint, 10)})
}

// requestCheckpoint answers a client that counts its checkpoints itself.
func (s *server) requestCheckpoint(w http.ResponseWriter, r *http.Request, f *facts) error {
	p, request, err := s.checkpointRequest(w, r, f)
	if err != nil {
		return err
	}
	if request.ID < 0 {
		return fault.New(fault.InvalidRequest, `the body has no "checkpoint_request_id": send its digits as a string`)
	}
	checkpoint, err := s.Checkpoints.RequestCheckpoint(r.Context(), p.UserID, request.ClientID, request.ID)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		RequestID string `json:"checkpoint_request_id"`
	}{strconv.FormatInt(checkpoint, 10)})
}

// checkpointRequest is who asks, and what. A user id in the body says nothing.
func (s *server) checkpointRequest(w http.ResponseWriter, r *http.Request, f *facts) (*identity.Principal, *uploads.CheckpointRequest, error) {
	if s.Checkpoints == nil {
		return nil, nil, fault.New(fault.NotFound, "this server keeps no write checkpoints (FERRY_WRITE_CHECKPOINTS)")
	}
	p, err := authenticate(r, s.Uploaders, f)
	if err != nil {
		return nil, nil, err
	}
	body, err := s.readBody(w, r, p.UserID)
	if err != nil {
		return nil, nil, err
	}
	request, err := uploads.DecodeCheckpointRequest(body)
	if err != nil {
		return nil, nil, err
	}
	f.add(slog.String("client", request.ClientID))
	return p, request, nil
}
