package postgres

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"

	"ferry/internal/fault"
	"ferry/internal/uploads"
)

// Options say how a Store reaches the app's database, and as whom it writes.
type Options struct {
	// URL is a connection string; the role in it must be a member of
	// ServiceRole and of Role.
	URL string
	// TransactionPool says that URL leads to a pooler in transaction mode
	// (PgBouncer), where nothing may be prepared.
	TransactionPool bool
	Role            string   // uploads act as this role
	Schemas         []string // where the app's tables are, in order
	Tables          []string // FERRY_UPLOAD_TABLES: empty, names, or "*"
	// WriteCheckpoints makes every upload that names its client raise that
	// client's write checkpoint.
	WriteCheckpoints bool
	Log              *slog.Logger
	Now              func() time.Time
}

// Store applies uploads to Postgres. It is safe for concurrent use.
type Store struct {
	options  Options
	pool     *pgxpool.Pool // for uploads
	control  *pgxpool.Pool // for the catalog, health and the denylist: an upload that waits for these holds a connection of pool
	accounts *pgxpool.Pool
	queue    *queue
	lanes    *lanes
	paces    paces
	tables   catalogCache
	blind    sync.Map // oids of tables whose hidden rows ferry cannot see
	// searchPath is the setting of that name in uploads' transactions.
	searchPath string
}

var _ uploads.Store = (*Store)(nil)

// Open makes a store. It does not connect: Ready tells whether the database
// can be used.
func Open(ctx context.Context, o Options) (*Store, error) {
	s := &Store{options: o, searchPath: searchPath(o.Schemas)}
	var errs [3]error
	s.pool, errs[0] = openPool(ctx, o.URL, uploadConnections(o.URL), o.TransactionPool)
	s.control, errs[1] = openPool(ctx, o.URL, controlConnections, o.TransactionPool)
	s.accounts, errs[2] = openPool(ctx, o.URL, accountConnections, o.TransactionPool)
	if err := cmp.Or(errs[:]...); err != nil {
		s.Close()
		return nil, err
	}
	s.queue = newQueue(int(s.pool.Config().MaxConns))
	s.lanes = newLanes(int(s.pool.Config().MaxConns))
	return s, nil
}

// Close closes all connections, once they are idle.
func (s *Store) Close() {
	for _, pool := range []*pgxpool.Pool{s.pool, s.control, s.accounts} {
		if pool != nil {
			pool.Close()
		}
	}
}

// The time that an upload may take where its context sets no deadline, and the
// time of it that it may spend waiting for its turn.
const (
	applyTimeout = 24 * time.Second
	waitTimeout  = 10 * time.Second
)

// Apply implements uploads.Store.
func (s *Store) Apply(ctx context.Context, caller uploads.Caller, up *uploads.Upload) (*uploads.Result, error) {
	raises := s.options.WriteCheckpoints && up.ClientID != ""
	key := clientKey{user: caller.UserID}
	if up.ExactlyOnce || raises {
		key.client = up.ClientID
	}
	ctx, leave, err := s.turn(ctx, key, up.Operations)
	if err != nil {
		return nil, err
	}
	defer leave()
	deadline, _ := ctx.Deadline()
	r := &run{
		store: s, caller: caller, upload: up,
		started: s.options.Now(), limit: time.Until(deadline), raises: raises,
	}
	result, err := r.applyAnyhow(ctx)
	if isStandby(err) {
		s.leaveStandby()
	}
	return result, err
}

// turn waits until the pool has a connection for an upload of so many operations.
// From then on the work is not abandoned when the client hangs up: its retry would
// only have to do it again. So work is a context that only ends at the deadline.
func (s *Store) turn(ctx context.Context, key clientKey, operations int) (work context.Context, leave func(), err error) {
	leaveQueue, err := s.queue.enter(ctx, key, operations)
	if err != nil {
		return nil, nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = s.options.Now().Add(applyTimeout)
	}
	work, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	return work, func() { cancel(); leaveQueue() }, nil
}

// Room returns a *fault.Error with code fault.Unavailable if an upload of this
// user would be refused at once, because too many wait.
func (s *Store) Room(userID string) error { return s.queue.room(userID) }

// unavailable is the answer to a failure that is not the client's.
func unavailable(cause error) error {
	return fault.Retry(cause, 2*time.Second, "the database cannot take this upload right now; it is safe to try again")
}

// catalogCache holds the newest catalog; many requests that need a newer one
// wait for one load.
type catalogCache struct {
	mu      sync.RWMutex
	current *catalog
	loading singleflight.Group
}

// catalogAge bounds how long a change of the tables, or of the upload role's
// rights, can go unnoticed by uploads that succeed; one that fails looks anew.
const catalogAge = 10 * time.Second

func (c *catalogCache) get(notBefore time.Time) *catalog {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.current == nil || c.current.loadedAt.Before(notBefore) {
		return nil
	}
	return c.current
}

// catalog returns a catalog whose load began at notBefore or later; the zero
// time takes any.
func (s *Store) catalog(ctx context.Context, notBefore time.Time) (*catalog, error) {
	for {
		if c := s.tables.get(notBefore); c != nil {
			return c, nil
		}
		// Joining a load that began too early costs one more turn.
		_, err, _ := s.tables.loading.Do("", func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), catalogTimeout)
			defer cancel()
			return nil, s.loadCatalog(ctx)
		})
		if err != nil {
			return nil, err
		}
	}
}

const catalogTimeout = 10 * time.Second

func (s *Store) loadCatalog(ctx context.Context) error {
	started := s.options.Now()
	if err := s.checkRights(ctx); err != nil {
		return err
	}
	c, err := loadCatalog(ctx, s.control, catalogOptions{
		role: s.options.Role, schemas: s.options.Schemas, tables: s.options.Tables,
	}, started)
	if err != nil {
		return err
	}
	s.tables.mu.Lock()
	defer s.tables.mu.Unlock()
	s.tables.current = c
	return nil
}
