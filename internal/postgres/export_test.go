package postgres

import (
	"context"
	"time"

	"ferry/internal/uploads"
)

// ApplyTogether applies uploads in one round trip, as if they had met in a lane,
// and returns which of them were committed.
func (s *Store) ApplyTogether(ctx context.Context, callers []uploads.Caller, list []*uploads.Upload) ([]bool, error) {
	c, err := s.catalog(ctx, time.Time{})
	if err != nil {
		return nil, err
	}
	riders := make([]*ride, len(list))
	for i, up := range list {
		r := &run{store: s, caller: callers[i], upload: up, started: s.options.Now(), limit: applyTimeout}
		riders[i], _ = r.ride(c)
		defer free(riders[i].batch.steps)
	}
	s.applyTogether(ctx, riders)
	committed := make([]bool, len(riders))
	for i, x := range riders {
		committed[i] = x.committed
	}
	return committed, nil
}

// GiveTrips says how long a shared round trip, and a statement of it, may take.
func (s *Store) GiveTrips(statement, trip time.Duration) {
	s.lanes.slow, s.lanes.statement, s.lanes.trip = statement, statement, trip
}

// OccupyLane takes a free lane, for which others then wait so long.
func (s *Store) OccupyLane(patience time.Duration) (leave func(), ok bool) {
	s.lanes.patience = patience
	return s.lanes.leave, s.lanes.enter()
}

// WaitForLanes is how many uploads wait for a lane.
func (s *Store) WaitForLanes() int {
	s.lanes.mu.Lock()
	defer s.lanes.mu.Unlock()
	return len(s.lanes.waiting)
}

// SetPace says how many client transactions of a client are tried together.
func (s *Store) SetPace(user, client string, size int) { s.paces.set(clientKey{user, client}, size) }

// GoesAlone is whether a user's uploads share a round trip with nobody for now.
func (s *Store) GoesAlone(user string) bool { return s.lanes.isApart(user, s.options.Now()) }
