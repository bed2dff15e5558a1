package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// task is what is asked for: a job, or the list of a kind's jobs where id is "".
type task struct{ account, resource, id string }

func (t task) String() string {
	if t.id == "" {
		return t.account + "/" + t.resource
	}
	return t.account + "/" + t.resource + "/" + t.id
}

func (t task) list() task { t.id = ""; return t }

// attempt is a request as the API saw it.
type attempt struct {
	arrived, ended time.Time // ended just before the client could know; zero: not yet
	status         int       // 0: no answer
	proper         bool      // the answer was the API's own, and no error
	more           bool      // it was a page of a list, and not the last
	first          time.Time // when the first page of that list arrived

	// Of one that until returns:
	ofList bool // the list was asked for
	sure   bool // the exporter knows of it when the scrape begins, and no reload made it forget it
}

func (a *attempt) worked() bool { return a.proper && !a.more }

// after reports whether an attempt surely came after another: it was prepared,
// at most the timeout before the API saw it, when the other one's answer had been
// processed. Of one task that needs no time.
func (a *attempt) after(other attempt) bool {
	if a.ofList == other.ofList {
		return a.arrived.After(other.ended)
	}
	return a.arrived.Sub(other.ended) > 2*timeout
}

func (a *attempt) failed() bool { return !a.proper && a.status != http.StatusTooManyRequests }

// attempts is the API's own record of requests.
type attempts struct {
	reloads *reloads
	found   *findings

	mu       sync.Mutex
	accounts map[string]string // by key, of all keys that there ever were
	byTask   map[task][]*attempt
	open     map[*cohertest.Request]*attempt
	windows  map[task]*window // of lists, which stand for their kind
	statuses map[int]int
}

func newAttempts(reloads *reloads, found *findings) *attempts {
	return &attempts{
		reloads:  reloads,
		found:    found,
		accounts: map[string]string{},
		byTask:   map[task][]*attempt{},
		open:     map[*cohertest.Request]*attempt{},
		windows:  map[task]*window{},
		statuses: map[int]int{},
	}
}

// addKey tells whose a key is.
func (as *attempts) addKey(key, account string) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.accounts[key] = account
}

// observe follows the API's requests.
func (as *attempts) observe(r *cohertest.Request) {
	as.mu.Lock()
	defer as.mu.Unlock()
	account, ok := as.accounts[r.Key]
	if !ok || r.Endpoint == "" {
		as.found.add("request", "the API was asked for %s by nobody that it knows", r.Path)
		return
	}
	t := task{account, r.Resource, r.ID}
	if a := as.open[r]; a != nil {
		delete(as.open, r)
		a.ended, a.status, a.proper, a.more = r.Ended, r.Status, r.Proper, r.More
		as.statuses[a.status]++
		return
	}
	a := &attempt{arrived: r.Time, first: r.Time}
	list := as.prune(as.byTask[t])
	if strings.Contains(r.Query, "page_token=") && len(list) > 0 {
		a.first = list[len(list)-1].first
	}
	as.open[r] = a
	as.byTask[t] = append(list, a)
	if w := as.windows[t.list()]; w != nil {
		w.count(r.Time, as.found)
	}
}

// prune forgets attempts that no judgement needs any longer: those before the
// last one that worked a good while ago.
func (as *attempts) prune(list []*attempt) []*attempt {
	if len(list) < 200 {
		return list
	}
	for i := len(list) - 1; i > 0; i-- {
		if list[i].worked() && time.Since(list[i].arrived) > 2*time.Minute {
			return slices.Clone(list[i:])
		}
	}
	return list
}

// until returns the attempts for a task that arrived until a scrape ended, in
// order of arrival: from the last sure one on that worked and tells of what is
// judged, since what was before it has no consequences.
func (as *attempts) until(t task, scrape *answer, tells func(attempt) bool) (attempts []attempt) {
	as.mu.Lock()
	defer as.mu.Unlock()
	list := as.byTask[t]
	for i, a := range slices.Backward(list) {
		if a.arrived.After(scrape.ended) {
			continue
		}
		at := *a
		at.ofList = t.id == ""
		at.sure = as.sure(list, i, scrape)
		attempts = append(attempts, at)
		if at.sure && at.worked() && tells(at) {
			break
		}
	}
	slices.Reverse(attempts)
	return attempts
}

// sure reports whether the exporter knows of an attempt when a scrape begins, or
// waits for it. That is when it was over before. One without an answer that is not
// the last may have been repeated by net/http, and then only the next one counts. A
// reload may have it forgotten, if it comes between when the request was prepared,
// which is less than the timeout before the API saw it, and when its answer was
// processed.
func (as *attempts) sure(list []*attempt, i int, scrape *answer) bool {
	a := list[i]
	if a.ended.IsZero() || !a.ended.Before(scrape.began) || a.status == 0 && i+1 < len(list) {
		return false
	}
	to := a.ended.Add(timeout)
	if i+1 < len(list) && list[i+1].arrived.Before(to) {
		to = list[i+1].arrived
	}
	return !as.reloads.during(a.arrived.Add(-timeout), to)
}

// surely is how many requests come within to be too many in a minute. The exporter
// counts them when they are written, and the API when it reads them: the first may
// be read later than the last, by as much as the machine is busy.
const surely = 50 * time.Second

// window is a budget, and what was used of it: so many requests in any minute.
type window struct {
	task     task // the list that stands for the kind
	budget   int
	arrived  []time.Time   // the last ones, as many as the budget
	total    int           // requests
	tightest time.Duration // within which one more than the budget came; 0: none did
}

func (w *window) count(now time.Time, found *findings) {
	w.total++
	if w.budget == 0 {
		return
	}
	if len(w.arrived) == w.budget {
		within := now.Sub(w.arrived[0])
		if w.tightest == 0 || within < w.tightest {
			w.tightest = within
		}
		if within < surely {
			found.add("budget", "%s: %d requests within %s, %d a minute are allowed", w.task, w.budget+1, within, w.budget)
		}
		w.arrived = slices.Delete(w.arrived, 0, 1)
	}
	w.arrived = append(w.arrived, now)
}

func (w *window) String() string {
	s := fmt.Sprintf("%-20s %6d requests", w.task, w.total)
	switch {
	case w.budget == 0:
		return s + ", no budget"
	case w.tightest == 0:
		return s + fmt.Sprintf(", never more than the budget of %d", w.budget)
	}
	return s + fmt.Sprintf(", budget %d: number %d came %.3f s after the first, at the earliest", w.budget, w.budget+1, w.tightest.Seconds())
}

// reasons are those of the contract, and which statuses have them.
var reasons = map[int]string{
	400: "bad_request",
	401: "unauthorized",
	402: "payment_required",
	403: "forbidden",
	404: "not_found",
	422: "unprocessable",
	498: "invalid_token",
	499: "client_closed",
	500: "server_error",
	501: "not_implemented",
	503: "unavailable",
	504: "gateway_timeout",
}

// reason is why an attempt failed.
func (a *attempt) reason() string {
	switch {
	case reasons[a.status] != "":
		return reasons[a.status]
	case a.status == 0:
		return "network"
	case a.status == http.StatusOK:
		return "invalid_response"
	case a.status >= 500:
		return "server_error"
	}
	return "http_error"
}
