package schedule

// Pass is one call of Wait. Its methods need the scheduler's lock.
type Pass struct{ pass *pass }

// Patient reports whether the pass is one of WaitOut.
func (p Pass) Patient() bool { return p.pass.patient }

// Allows reports whether a task may be sent for the pass, or is pending: it was
// neither sent since the oldest overlapping pass began, unless it goes on or a
// patient pass was refused, nor skipped since this one did.
func (p Pass) Allows(t *Task) bool {
	again := t.again || p.pass.patient && t.why != NotSkipped
	return t.Pending() || (again || !p.Sent(t)) && t.lastSkipped <= p.pass.start
}

// Sent reports whether the task was sent for the pass or an overlapping one.
func (p Pass) Sent(t *Task) bool { return t.lastSent > p.pass.sharedSince }

// Answered reports whether the task was answered since the pass, or the oldest
// one that overlaps it, began. A refusal is no answer, nor is one after which the
// task goes on.
func (p Pass) Answered(t *Task) bool { return t.lastAnswered > p.pass.sharedSince && !t.again }

// Skipped reports whether the task was skipped for the pass or an overlapping
// one, and not answered since.
func (p Pass) Skipped(t *Task) bool {
	return t.lastSkipped > p.pass.sharedSince && t.why != NotSkipped
}

// Pending reports whether a request for the task is queued or in flight.
func (t *Task) Pending() bool { return t.request != nil }

// WasSent reports whether the task was ever sent.
func (t *Task) WasSent() bool { return t.lastSent > 0 }

// SentBefore reports whether the task was last sent before other was, if ever.
func (t *Task) SentBefore(other *Task) bool { return t.lastSent < other.lastSent }

// Why says why the task was not sent when it was last due.
func (t *Task) Why() Why { return t.why }
