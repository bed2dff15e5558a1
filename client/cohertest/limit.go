package cohertest

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Limit is a rate limit: so many requests in any window of that length. Requests beyond
// are refused with 429.
type Limit struct {
	Requests     int
	Per          time.Duration
	RetryAfter   RetryAfter
	CountRefused bool // refused requests use up the window too
	Fixed        bool // windows begin at multiples of Per, instead of sliding
}

// RetryAfter is the form in which a refusal tells when to try again.
type RetryAfter int

// Forms of the Retry-After header. Both numbers are rounded up, so that a request is not
// refused again if it comes then.
const (
	None    RetryAfter = iota // no such header
	Seconds                   // Retry-After: 17
	Date                      // Retry-After: Mon, 02 Jan 2006 15:04:05 GMT
)

// A window is the use of a limit.
type window struct {
	limit Limit
	used  []time.Time // in the window, in order
}

// A refusal tells by which limit, and how long the next request will be refused.
type refusal struct {
	limit Limit
	wait  time.Duration
	now   time.Time
}

// admit uses up one request, or returns the refusal.
func (w *window) admit(now time.Time) *refusal {
	if w.limit == (Limit{}) {
		return nil
	}

	old := 0
	for old < len(w.used) && w.limit.over(w.used[old], now) {
		old++
	}
	w.used = append(w.used[:0], w.used[old:]...)

	refused := len(w.used) >= w.limit.Requests
	if !refused || w.limit.CountRefused {
		w.used = append(w.used, now)
	}
	if !refused {
		return nil
	}

	wait := w.limit.Per
	switch {
	case w.limit.Fixed:
		wait = now.Truncate(w.limit.Per).Add(w.limit.Per).Sub(now)
	case w.limit.Requests > 0:
		wait -= now.Sub(w.used[len(w.used)-w.limit.Requests])
	}
	return &refusal{limit: w.limit, wait: wait, now: now}
}

// over reports whether the window that a request used up is over.
func (l Limit) over(used, now time.Time) bool {
	if l.Fixed {
		return !used.Truncate(l.Per).Equal(now.Truncate(l.Per))
	}
	return now.Sub(used) >= l.Per
}

func (r *refusal) answer(a *API, w http.ResponseWriter) {
	switch r.limit.RetryAfter {
	case Seconds:
		seconds := (r.wait + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	case Date:
		date := r.now.Add(r.wait + time.Second - 1).Truncate(time.Second)
		w.Header().Set("Retry-After", date.UTC().Format(http.TimeFormat))
	}

	per := r.limit.Per.String()
	if r.limit.Per == time.Minute {
		per = "minute"
	}
	a.fail(w, http.StatusTooManyRequests, fmt.Sprintf(
		"You are using a Trial key, which is limited to %d API calls / %s.", r.limit.Requests, per))
}
