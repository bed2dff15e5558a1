package cohertest

import (
	"slices"
	"time"
)

// State is how a job of a user, or a batch, was from a time on.
type State[T Job | Batch] struct {
	Since time.Time
	Job   *T // nil: the user had none; else not to be changed
}

// KeepHistory has the API remember, from now on, how jobs and batches were before they
// were changed or removed. It grows with every change.
func (a *API) KeepHistory(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.keepHistory = on
}

// History returns how an embed job was, oldest first. Between two states it was the
// first: every answer tells the state of its time. A job with a Script is as it was
// added.
func (u *User) History(id string) []State[Job] { return historyOf(u, u.history, id) }

// BatchHistory is History for batches.
func (u *User) BatchHistory(id string) []State[Batch] { return historyOf(u, u.batches.history, id) }

// history is what became of jobs, by ID.
type history[T Job | Batch] map[string][]State[T]

func historyOf[T Job | Batch](u *User, h history[T], id string) []State[T] {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	return slices.Clone(h[id])
}

// note notes that a job is another now, or none. The API's mu is held.
func (h history[T]) note(a *API, id string, job *T) {
	if a.keepHistory {
		h[id] = append(h[id], State[T]{time.Now(), job})
	}
}
