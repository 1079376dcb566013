package postgres

import (
	"context"
	"fmt"
	"time"

	"ferry/internal/identity"
)

// countAttemptSQL: $1: keys, $2: limits, $3: the period in seconds.
const countAttemptSQL = `
SELECT coalesce(counted_at, now()), extract(epoch FROM wait)::float8
FROM ferry.count_attempt($1, $2, $3::float8 * interval '1 second')`

const takeBackSQL = `SELECT ferry.take_back_attempt($1, $2)`

// CountAttempt implements identity.AttemptStore.
func (a *Accounts) CountAttempt(ctx context.Context, period time.Duration, limits []identity.Limit) (at time.Time, wait time.Duration, err error) {
	most := make([]int32, len(limits))
	for i, l := range limits {
		most[i] = int32(l.Most) //nolint:gosec // small
	}
	var seconds float64
	err = a.Store.accounts.QueryRow(ctx, countAttemptSQL, keysOf(limits), most, period.Seconds()).Scan(&at, &seconds)
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("count an attempt: %w", err)
	}
	return at, time.Duration(seconds * float64(time.Second)), nil
}

// TakeBack implements identity.AttemptStore.
func (a *Accounts) TakeBack(ctx context.Context, attempt identity.Attempt) error {
	if _, err := a.Store.accounts.Exec(ctx, takeBackSQL, keysOf(attempt.Limits), attempt.At); err != nil {
		return fmt.Errorf("take an attempt back: %w", err)
	}
	return nil
}

func keysOf(limits []identity.Limit) [][]byte {
	keys := make([][]byte, len(limits))
	for i := range limits {
		keys[i] = limits[i].Key[:]
	}
	return keys
}
