package schedule

import "time"

// State is how the limit stands.
type State struct {
	Budget int           // requests in a window; 0: no limit
	Window time.Duration // of the budget
	Used   int           // requests sent within the last window

	Opens   time.Time // when the gate may open; not after now: it is not closed
	Refused bool      // a request was refused, and none has been answered since
}

// State returns how the limit stands. The lock has to be held, as within Do.
func (s *Scheduler) State(now time.Time) State {
	l := &s.limit
	l.grow(now)
	state := State{Opens: l.opens, Refused: l.refusals > 0}
	state.Budget, state.Window = l.budget()
	for _, sent := range l.sent {
		if l.age(sent, now) < state.Window {
			state.Used++
		}
	}
	return state
}
