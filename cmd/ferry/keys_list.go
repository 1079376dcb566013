package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"ferry/internal/tokens"
)

// listedKey is a key in the JSON of `ferry keys list`. Times that are not known
// are left out.
type listedKey struct {
	KID         string     `json:"kid"`
	Algorithm   string     `json:"alg"`
	State       string     `json:"state"`
	Added       *time.Time `json:"added,omitempty"`
	Activated   *time.Time `json:"activated,omitempty"`
	Deactivated *time.Time `json:"deactivated,omitempty"`
	// When the next step of the key is right.
	ActivateFrom *time.Time `json:"activate_from,omitempty"`
	RetireFrom   *time.Time `json:"retire_from,omitempty"`
}

// The states of a key.
const (
	stateActive   = "active"   // it signs
	stateWaiting  = "waiting"  // it does not sign yet
	stateRetiring = "retiring" // it signed, and verifies what it signed
)

func stateOf(s tokens.KeyStatus) string {
	switch {
	case s.Active:
		return stateActive
	case !s.Deactivated.IsZero():
		return stateRetiring
	}
	return stateWaiting
}

func listed(s tokens.KeyStatus, ttl time.Duration) listedKey {
	known := func(t time.Time, ok bool) *time.Time {
		if !ok || t.IsZero() {
			return nil
		}
		return &t
	}
	k := listedKey{
		KID: s.ID, Algorithm: s.Algorithm, State: stateOf(s),
		Added: known(s.Added, true), Activated: known(s.Activated, true), Deactivated: known(s.Deactivated, true),
		RetireFrom: known(s.RetireFrom(ttl)),
	}
	if k.State == stateWaiting {
		k.ActivateFrom = known(s.ActivateFrom())
	}
	return k
}

func runKeysList(_ context.Context, a *app, args []string) error {
	flags := newKeysFlags(a, "list", "list the keys, and when the next step of each is right")
	asJSON := flags.Bool("json", false, "print a JSON array")
	if err := parseFlags(flags.flagSet, args); err != nil {
		return err
	}
	k, err := flags.open(a)
	if err != nil {
		return err
	}
	if id := k.chosenElsewhere(); id != "" {
		fmt.Fprintf(a.stderr, "FERRY_TOKEN_KID is set: %q signs, whatever the file says\n", id)
	}
	if *asJSON {
		list := []listedKey{}
		for _, s := range k.file.keys.Keys() {
			list = append(list, listed(s, k.ttl))
		}
		return json.NewEncoder(a.stdout).Encode(list)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, s := range k.file.keys.Keys() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.ID, s.Algorithm, stateOf(s), k.nextStep(s))
	}
	return w.Flush()
}

// nextStep says what comes next in a key's life, and when.
func (k *keysContext) nextStep(s tokens.KeyStatus) string {
	switch stateOf(s) {
	case stateActive:
		if s.Activated.IsZero() {
			return "signs"
		}
		return "signs since " + s.Activated.Format(time.RFC3339)
	case stateRetiring:
		from, _ := s.RetireFrom(k.ttl)
		return "can be retired " + k.when(from)
	}
	if from, ok := s.ActivateFrom(); ok {
		return "can be activated " + k.when(from)
	}
	return "can be activated once the PowerSync Service's configuration has it"
}

// when is a time for people.
func (k *keysContext) when(t time.Time) string {
	if !t.After(k.now) {
		return "now"
	}
	return fmt.Sprintf("from %s on (in %s)", t.Format(time.RFC3339), inWords(t.Sub(k.now)))
}

// inWords rounds up, so that whoever waits for so long is not too early.
func inWords(d time.Duration) string { return (d + time.Second - 1).Truncate(time.Second).String() }
