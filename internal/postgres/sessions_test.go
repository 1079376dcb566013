package postgres_test

import (
	"testing"
	"time"

	"ferry/internal/fault"
	"ferry/internal/identity"
)

// The life of a session, whose times are moved into the past.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	b := setupAccounts(t)
	s := b.signUp(annEmail, annSays)
	age := func(d time.Duration) {
		b.exec(`UPDATE ferry.sessions SET created_at = created_at - $1::interval, used_at = used_at - $1::interval, expires_at = expires_at - $1::interval`, d)
		b.freshly()
	}
	// left is how many days a look-up leaves; -1 if it is refused.
	left := func() int {
		t.Helper()
		found, err := b.Session(t.Context(), sessionIn(s.Token))
		if err != nil {
			return -1
		}
		return int((time.Until(found.ExpiresAt) + 2*time.Hour) / day)
	}
	steps := []struct {
		after time.Duration
		want  int
	}{
		{0, 90},
		{day - time.Hour, 89},  // used again within the day
		{2 * time.Hour, 90},    // a day after its last noted use
		{80 * day, 90},         // back after weeks
		{89 * day, 90},         // …
		{89 * day, 90},         //
		{60 * day, 365 - 319},  // no longer than a year in all
		{40 * day, 365 - 359},  //
		{5*day + time.Hour, 0}, // its last day
		{day, -1},              // over, however it was used
	}
	for i, step := range steps {
		age(step.after)
		if got := left(); got != step.want {
			t.Errorf("step %d: %d days are left, want %d", i, got, step.want)
		}
	}
	_, err := b.Session(t.Context(), sessionIn(s.Token))
	if f := fault.From(err); f.Code != fault.InvalidSession || f.Detail != "the session has expired: sign in again" {
		t.Errorf("error %v", err)
	}

	idle, err := b.signIn(annEmail, annSays)
	if err != nil {
		t.Fatal(err)
	}
	age(90*day + time.Minute)
	_, err = b.Session(t.Context(), sessionIn(idle.Token))
	b.expect("not used for 90 days", err, fault.InvalidSession)
}

// The times that ASVS 3.3.2 names, also for a session from before them.
func TestSessionsEndSoonerWhereTheOperatorWants(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	age := func(d time.Duration) {
		b.exec(`UPDATE ferry.sessions SET created_at = created_at - $1::interval, used_at = used_at - $1::interval, expires_at = expires_at - $1::interval`, d)
	}
	shorten := func() {
		b.freshly()
		b.kept.Lifetime = identity.SessionLifetime{Idle: 30 * time.Minute, Max: 12 * time.Hour}
	}
	// left is how many minutes a look-up leaves, rounded; -1 if it is refused.
	left := func(token string) int {
		t.Helper()
		found, err := b.Session(t.Context(), sessionIn(token))
		if err != nil {
			b.expect("a session that is over", err, fault.InvalidSession)
			return -1
		}
		return int(time.Until(found.ExpiresAt).Round(time.Minute) / time.Minute)
	}

	used, unused := b.signUp(annEmail, annSays), b.signUp("bob@example.com", annSays)
	age(20 * time.Minute)
	shorten()
	for i := range 3 { // used all the time, as a device does that is in use
		if got := left(used.Token); got != 30 {
			t.Errorf("use %d: %d minutes are left", i, got)
		}
		age(20 * time.Minute)
	}
	if got := left(unused.Token); got != -1 {
		t.Errorf("%d minutes are left of a session that was not used for 80", got)
	}
	left(used.Token)
	b.exec(`UPDATE ferry.sessions SET created_at = now() - interval '11 hours 50 minutes'`)
	age(2 * time.Minute)
	if got := left(used.Token); got != 8 {
		t.Errorf("%d minutes are left of its last 8", got)
	}
	age(8*time.Minute + time.Second)
	if got := left(used.Token); got != -1 {
		t.Errorf("%d minutes are left after 12 hours", got)
	}

	again, err := b.signIn(annEmail, annSays)
	if err != nil {
		t.Fatal(err)
	}
	if minutes := time.Until(again.ExpiresAt).Round(time.Minute); minutes != 30*time.Minute {
		t.Errorf("a new session ends in %s", minutes)
	}
	age(20 * time.Second) // too soon to be noted
	if got := left(again.Token); got != 30 {
		t.Errorf("%d minutes are left after 20 seconds", got)
	}
	age(29*time.Minute + 50*time.Second)
	if got := left(again.Token); got != -1 {
		t.Errorf("%d minutes are left of a session that was not used for 30", got)
	}
}

func TestALookUpWritesOnceADay(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	s := b.signUp(annEmail, annSays)
	row := func() string { return b.text(`SELECT xmin::text FROM ferry.sessions`) }
	look := func() {
		t.Helper()
		b.freshly()
		if got := b.who(t.Context(), s.Token); got != s.UserID {
			t.Fatal(got)
		}
	}
	first := row()
	look()
	look()
	if row() != first {
		t.Error("a look-up wrote")
	}
	b.exec(`UPDATE ferry.sessions SET used_at = now() - interval '25 hours'`)
	aged := row()
	look()
	noted := row()
	look()
	if noted == aged || row() != noted {
		t.Errorf("rows %s, %s, %s", aged, noted, row())
	}
}

func TestSessionsAreCleanedUpInPassing(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	for range 20 {
		b.guest()
	}
	b.exec(`UPDATE ferry.sessions SET expires_at = now() - interval '1 second'`)
	for i, want := range []string{"13", "6", "3", "4"} { // eight go, one comes
		b.guest()
		if got := b.text(`SELECT count(*)::text FROM ferry.sessions`); got != want {
			t.Errorf("after %d: %s sessions, want %s", i+1, got, want)
		}
	}
	if got := b.text(`SELECT count(*)::text FROM ferry.accounts`); got != "24" {
		t.Errorf("%s accounts", got)
	}
}

func TestAnAccountHasSoManySessions(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	first := b.signUp(annEmail, annSays)
	bob := b.signUp("bob@example.com", annSays)
	b.exec(`INSERT INTO ferry.sessions (user_id, token_hash, expires_at, used_at)
		SELECT $1::uuid, decode(md5(n::text), 'hex'), now() + interval '1 day', now() - n * interval '1 minute' FROM generate_series(1, $2::int) n`,
		first.UserID, identity.MaxSessions-1)
	if _, err := b.signIn(annEmail, annSays); err != nil {
		t.Fatal(err)
	}
	got := b.text(`SELECT count(*)::text || ' sessions, the oldest ' || extract(minute FROM now() - min(used_at))::int FROM ferry.sessions WHERE user_id = $1`, first.UserID)
	if got != "100 sessions, the oldest 38" { // an hour and 38 minutes: the 99th is gone
		t.Error(got)
	}
	if b.who(t.Context(), first.Token) != first.UserID || b.who(t.Context(), bob.Token) != bob.UserID {
		t.Error("a session that is used has ended, or another user's")
	}
}

func TestRevocationsThatNothingNeedsAreForgotten(t *testing.T) {
	t.Parallel()
	b := setupAccounts(t)
	b.exec(`INSERT INTO ferry.denylist (user_id, disabled, sessions_before, forget_at) VALUES
		('forgettable', false, now(), now() - interval '1 second'), ('disabled', true, now(), now() - interval '1 second'),
		('needed', false, now(), now() + interval '1 hour'), ('of the operator', false, now(), NULL)`)
	s := b.signUp(annEmail, annSays)
	for range 2 { // also where its row is there
		if err := b.SignOutEverywhere(t.Context(), s.UserID); err != nil {
			t.Fatal(err)
		}
	}
	got := b.text(`SELECT string_agg(CASE user_id WHEN $1 THEN 'ann' ELSE user_id END, ', ' ORDER BY sessions_before, user_id) FROM ferry.denylist`, s.UserID)
	if got != "disabled, needed, of the operator, ann" {
		t.Error(got)
	}
	if got := b.text(`SELECT round(extract(epoch FROM forget_at - sessions_before) / 3600)::text FROM ferry.denylist WHERE user_id = $1`, s.UserID); got != "25" {
		t.Errorf("forgotten after %s hours", got)
	}
	// An operator's stays.
	b.exec(`UPDATE ferry.denylist SET forget_at = NULL WHERE user_id = $1`, s.UserID)
	if err := b.SignOutEverywhere(t.Context(), s.UserID); err != nil {
		t.Fatal(err)
	}
	if got := b.text(`SELECT forget_at::text FROM ferry.denylist WHERE user_id = $1`, s.UserID); got != "NULL" {
		t.Errorf("forgotten at %s", got)
	}
}
