package postgres

import (
	"context"
	"strconv"

	"ferry/internal/uploads"
)

// raiseCheckpointSQL raises a client's write checkpoint by one. It waits for
// an upload of that client that is still running.
const raiseCheckpointSQL = `
INSERT INTO ferry.checkpoints AS c (user_id, client_id, checkpoint)
VALUES ($1, $2, 1)
ON CONFLICT (user_id, client_id) DO UPDATE SET checkpoint = c.checkpoint + 1
RETURNING checkpoint`

// requestCheckpointSQL raises it to $3, if it is lower.
const requestCheckpointSQL = `
INSERT INTO ferry.checkpoints AS c (user_id, client_id, checkpoint)
VALUES ($1, $2, $3)
ON CONFLICT (user_id, client_id) DO UPDATE SET checkpoint = greatest(c.checkpoint, excluded.checkpoint)
RETURNING checkpoint`

// raiseCheckpoint is the query that raises the client's checkpoint. It is part
// of every database transaction of an upload, so that no commit is without it.
func (r *run) raiseCheckpoint() query {
	return query{sql: raiseCheckpointSQL, params: r.client(), row: r.readCheckpoint}
}

func (r *run) readCheckpoint(values [][]byte) (err error) {
	r.checkpoint, err = strconv.ParseInt(string(values[0]), 10, 64)
	return err
}

// recordNothing commits what begin does, for an upload without operations.
func (r *run) recordNothing(ctx context.Context) error {
	if !r.raises {
		return nil
	}
	return r.commitAlone(ctx)
}

// commitAlone commits queries that are ferry's own.
func (r *run) commitAlone(ctx context.Context, queries ...query) error {
	queries = append(append(r.begin(), queries...), r.commit())
	if err := r.session.exchange(ctx, queries...); err != nil {
		r.session.rollback(ctx)
		return r.ownFault(err)
	}
	return nil
}

// RaiseCheckpoint raises a client's write checkpoint by one, from 0 at first,
// and returns it once that is durable. An error is a *fault.Error with code
// fault.Unavailable.
func (s *Store) RaiseCheckpoint(ctx context.Context, userID, clientID string) (int64, error) {
	return s.changeCheckpoint(ctx, userID, clientID, (*run).raiseCheckpoint)
}

// RequestCheckpoint raises a client's write checkpoint to id, unless it is
// higher already, and returns it once that is durable. An error is a
// *fault.Error with code fault.Unavailable.
func (s *Store) RequestCheckpoint(ctx context.Context, userID, clientID string, id int64) (int64, error) {
	return s.changeCheckpoint(ctx, userID, clientID, func(r *run) query {
		return query{sql: requestCheckpointSQL, params: append(r.client(), intParam(id)), row: r.readCheckpoint}
	})
}

func (s *Store) changeCheckpoint(ctx context.Context, userID, clientID string, change func(*run) query) (int64, error) {
	ctx, leave, err := s.turn(ctx, clientKey{userID, clientID}, 1)
	if err != nil {
		return 0, err
	}
	defer leave()
	session, err := s.takeSession(ctx)
	if err != nil {
		return 0, unavailable(err)
	}
	defer session.release()
	r := &run{
		store: s, caller: uploads.Caller{UserID: userID}, upload: &uploads.Upload{ClientID: clientID},
		session: session,
	}
	if err := r.commitAlone(ctx, change(r)); err != nil {
		return 0, err
	}
	return r.checkpoint, nil
}
