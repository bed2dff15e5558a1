package schedule

import (
	"math"
	"time"
)

// How a budget that refusals taught comes about, and is lost again.
const (
	learnedShare = 0.8             // of what was let in before
	growAfter    = 3 * time.Minute // without a refusal; by a tenth
)

// lesson is what refusals taught: how many requests the API lets in a minute.
// Nobody says so, and others may use the same key.
type lesson struct {
	after  uint64    // on the clock; of what was sent before, nothing is learned
	budget int       // 0: nothing was learned, or it was lost again
	since  time.Time // when the budget was learned or grew, or a refusal came after

	until time.Time // when the first refusal came that is still to be learned from; zero: none
}

// learned returns what was learned where that is less than what is configured,
// or else 0.
func (l *limit) learned() int {
	requests, window := l.configured.Budget()
	if window == time.Minute && (requests == 0 || l.lesson.budget < requests) {
		return l.lesson.budget
	}
	return 0
}

// note notes a refusal. That of the one request after the gate closed teaches
// nothing: others may have used up what there is.
func (l *limit) note(p *permit, now time.Time) {
	if p.given <= l.lesson.after {
		return
	}
	l.lesson.since = now
	for i := len(l.sent) - 1; i >= 0; i-- {
		if s := &l.sent[i]; s.permit == p.given {
			s.refused = true
			break
		}
	}
	if !l.probing(p) && l.lesson.until.IsZero() {
		l.lesson.until = now
	}
}

// letIn counts the requests of the minute before the first refusal came that
// were not refused.
func (l *limit) letIn() (n int) {
	for _, s := range l.sent {
		if age := l.age(s, l.lesson.until); age >= 0 && age < time.Minute && !s.refused && s.permit > l.lesson.after {
			n++
		}
	}
	return n
}

// learn learns from refusals once all requests in flight are answered. It
// returns the new budget, or 0.
func (l *limit) learn(now time.Time) int {
	if l.lesson.until.IsZero() || l.permits > 0 {
		return 0
	}
	budget := max(1, int(math.Round(learnedShare*float64(l.letIn()))))
	if before, _ := l.budget(); before > 0 {
		budget = min(budget, before)
	}
	l.lesson = lesson{after: l.lesson.after, budget: budget, since: now}
	return l.learned()
}

// grow lets a learned budget grow while nothing is refused, by a tenth, rounded
// up, until the configured one holds again.
func (l *limit) grow(now time.Time) {
	for l.learned() > 0 && now.Sub(l.lesson.since) >= growAfter {
		l.lesson.budget += (l.lesson.budget + 9) / 10
		l.lesson.since = l.lesson.since.Add(growAfter)
		if l.learned() == 0 {
			l.lesson.budget = 0
		}
	}
}
