package postgres

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/uploads"
)

func newRide(user string) *ride {
	return &ride{
		run:  run{store: &Store{options: Options{Now: time.Now}}, caller: uploads.Caller{UserID: user}},
		told: make(chan bool, 1),
	}
}

func TestLanesAreTakenAndGivenBack(t *testing.T) {
	t.Parallel()
	l := newLanes(2 * connectionsPerLane)
	for range 3 {
		if got := []bool{l.enter(), l.enter(), l.enter()}; !cmp.Equal(got, []bool{true, true, false}) {
			t.Fatalf("two lanes are taken so: %v", got)
		}
		l.leave()
		l.leave()
	}
	if newLanes(1).free != 1 {
		t.Error("a small pool has no lane")
	}
}

// What waits for a lane goes together, and the first of them leads.
func TestWhatWaitsGoesTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(1)
		l.enter()
		riders := make([]*ride, mostRiders+2)
		led := make(chan []*ride, len(riders))
		for i := range riders {
			riders[i] = newRide(fmt.Sprint(i))
			go func() {
				leads, ok := l.wait(riders[i])
				if !ok {
					t.Errorf("%d gave up", i)
				}
				if leads {
					led <- l.board(riders[i])
				}
			}()
			synctest.Wait()
		}
		l.leave()
		for _, want := range [][]*ride{riders[:mostRiders], riders[mostRiders:]} {
			got := <-led
			if len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] {
				t.Errorf("%d go together, want %d", len(got), len(want))
			}
			l.leave()
			for _, x := range got[1:] {
				x.told <- false
			}
		}
		if l.free != 1 || len(l.waiting) != 0 {
			t.Errorf("in the end %d lanes are free and %d wait", l.free, len(l.waiting))
		}
	})
}

func TestNobodyWaitsLongForALane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(1)
		l.enter()
		started := time.Now()
		if leads, ok := l.wait(newRide("u")); leads || ok {
			t.Error("it was part of something")
		}
		if took := time.Since(started); took != patience || len(l.waiting) != 0 {
			t.Errorf("it waited for %v, and %d still wait", took, len(l.waiting))
		}
		l.most = 1
		if _, ok := l.wait(newRide("u")); ok || time.Since(started) != patience {
			t.Error("it waits where nothing is shared")
		}
		l.leave()
		if leads, ok := l.wait(newRide("u")); !leads || !ok || time.Since(started) != patience {
			t.Error("it does not take the lane that came free")
		}
	})
}

// Who goes by themselves, and takes long, keeps a lane from nobody.
func TestALaneIsHeldForAMomentOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, took := range []time.Duration{patience / 2, 2 * patience} {
			l := newLanes(1)
			l.enter()
			leave := l.hold()
			if l.enter() {
				t.Error("the lane is not held")
			}
			time.Sleep(took)
			synctest.Wait()
			if took > patience && l.free != 1 {
				t.Error("the lane is still held")
			}
			leave()
			time.Sleep(2 * patience)
			if synctest.Wait(); l.free != 1 {
				t.Errorf("after %v %d lanes are free", took, l.free)
			}
		}
	})
}

func TestSlowRoundTripsAreSharedByFewer(t *testing.T) {
	t.Parallel()
	l := newLanes(1)
	var got []int
	for _, trip := range []struct {
		riders int
		took   time.Duration
	}{{8, slowTrip + 1}, {4, slowTrip + 1}, {8, slowTrip + 1}, {1, time.Hour}, {2, slowTrip + 1}, {1, time.Hour}, {1, slowTrip}, {2, slowTrip}} {
		l.learn(trip.riders, trip.took)
		got = append(got, l.most)
	}
	if diff := cmp.Diff([]int{4, 2, 2, 2, 1, 1, 2, 3}, got); diff != "" {
		t.Errorf("so many share (-want +got):\n%s", diff)
	}
	for range 2 * mostRiders {
		l.learn(1, 0)
	}
	if l.most != mostRiders {
		t.Errorf("%d share in the end", l.most)
	}
}

func TestWhoIsSetApartComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(1)
		l.setApart(newRide("u"))
		for user, want := range map[string]bool{"u": true, "v": false} {
			if l.isApart(user, time.Now()) != want {
				t.Errorf("%s is apart: %v", user, !want)
			}
		}
		if time.Sleep(apartFor); l.isApart("u", time.Now()) {
			t.Error("it stays apart")
		}
		for i := range maxApart + 1 {
			l.setApart(newRide(fmt.Sprint(i)))
		}
		if len(l.apart) > maxApart {
			t.Errorf("%d users are known", len(l.apart))
		}
	})
}

// Only what is small, known to be new and in order shares, of clients that nothing
// speaks against.
func TestOnlySmallUploadsMayShare(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(r *run){
		"":                 func(*run) {},
		"no operations":    func(r *run) { r.upload.Operations = 0 },
		"many operations":  func(r *run) { r.upload.Operations = fewOperations + 1 },
		"many bytes":       func(r *run) { r.upload.Transactions[0].Operations[0].Raw = make([]byte, fewBytes+1) },
		"not exactly once": func(r *run) { r.upload.ExactlyOnce = false },
		"out of order":     func(r *run) { r.upload.OutOfOrder = true },
		"little time":      func(r *run) { r.limit = 4*tripTime - 1 },
		"a slow client":    func(r *run) { r.store.paces.set(r.key(), 1) },
		"set apart":        func(r *run) { r.store.lanes.setApart(&ride{run: *r}) },
		"a pooler":         func(r *run) { r.store.options.TransactionPool = true },
	} {
		now := time.Now()
		s := &Store{lanes: newLanes(1), options: Options{Now: func() time.Time { return now }}}
		r := &run{store: s, caller: uploads.Caller{UserID: "u"}, started: now, limit: 4 * tripTime, upload: &uploads.Upload{
			ClientID: "c", ExactlyOnce: true, Operations: 1,
			Transactions: []uploads.Transaction{{Operations: []uploads.Operation{{Raw: []byte(`{}`)}}}},
		}}
		change(r)
		if got := r.mayShare(); got != (name == "") {
			t.Errorf("%q may share: %v", name, got)
		}
	}
}

// The times are those at which the database transactions of u0, u1, and so on,
// began; 0 for one that never did.
func TestWhoHeldUpARoundTrip(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		began     []time.Duration
		users     string // one letter each
		committed int
		last      time.Duration
		took      time.Duration
		slow      string
		culprit   string
	}{
		"nobody":                    {began: []time.Duration{10 * ms, 60 * ms, 100 * ms}, users: "abc", committed: 3, last: 150 * ms, took: 150 * ms},
		"the last, before the disk": {began: []time.Duration{10 * ms, 20 * ms, 30 * ms}, users: "abc", committed: 3, last: 131 * ms, took: time.Hour, slow: "c"},
		"the disk":                  {began: []time.Duration{10 * ms, 20 * ms, 30 * ms}, users: "abc", committed: 3, last: 40 * ms, took: time.Hour},
		"who failed":                {began: []time.Duration{10 * ms, 20 * ms, 0}, users: "abc", committed: 1, took: 50 * ms, culprit: "b"},
		"who failed late":           {began: []time.Duration{10 * ms, 20 * ms, 0}, users: "abc", committed: 1, took: 150 * ms, slow: "b", culprit: "b"},
		"at COMMIT, before another": {began: []time.Duration{10 * ms, 900 * ms, 0}, users: "abc", committed: 1, took: 950 * ms, slow: "a", culprit: "b"},
		"what it left behind":       {began: []time.Duration{10 * ms, 0, 0}, users: "abc", committed: 1, took: 50 * ms, culprit: "a"},
		"nobody began":              {began: []time.Duration{0, 0}, users: "ab", took: 50 * ms},
		"the row of the first":      {began: []time.Duration{10 * ms, 20 * ms}, users: "ab", committed: 2, last: 30 * ms, took: 90 * ms, culprit: "a"},
		"left behind by the last":   {began: []time.Duration{10 * ms, 20 * ms}, users: "ab", committed: 2, took: 90 * ms, culprit: "b"},
		"several clients of one":    {began: []time.Duration{10 * ms, 70 * ms, 80 * ms}, users: "aba", committed: 3, last: 140 * ms, took: 140 * ms, slow: "aa"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			riders := make([]*ride, len(c.began))
			for i := range riders {
				riders[i] = newRide(c.users[i : i+1])
				riders[i].began = c.began[i]
			}
			if got := usersOf(slow(riders, c.last, c.took, 100*ms)); got != c.slow {
				t.Errorf("slow: %q, want %q", got, c.slow)
			}
			if c.culprit == "" && c.committed == len(riders) {
				return
			}
			if got := usersOf(culprit(riders, c.committed, c.last)); got != c.culprit {
				t.Errorf("culprit: %q, want %q", got, c.culprit)
			}
		})
	}
}

func usersOf(riders []*ride) (users string) {
	for _, x := range riders {
		users += x.caller.UserID
	}
	return users
}
