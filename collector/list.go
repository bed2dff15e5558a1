package collector

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// maxPages is how many pages a list may have.
const maxPages = 1000

// list is what is known of the list of jobs. It may come in pages; what they
// say counts once the last one is in.
type list[T any] struct {
	listKnown
	loggedReason client.Reason // of the failure that the log speaks of

	pages []*page[T] // so far
}

// page is what is kept of a page of the list: the watched jobs, and those that
// are discovered.
type page[T any] struct {
	began   time.Time
	entries []*T
	next    string // the token of the page after it; "": none

	families *families[T]
	watched  map[string]bool
	names    map[string]string // of jobs that were discovered; an entry may come without
	discover *config.Discover
}

// newPage knows what to keep of the next page.
func (w *watch[T]) newPage(began time.Time) *page[T] {
	p := &page[T]{
		began:    began,
		families: w.families,
		discover: w.setup.jobs.Discover,
		watched:  make(map[string]bool, len(w.setup.jobs.IDs)+len(w.ids.fromFiles)),
		names:    make(map[string]string, len(w.ids.discovered)),
	}
	for _, id := range w.setup.jobs.IDs {
		p.watched[id] = true
	}
	for _, id := range w.ids.fromFiles {
		p.watched[id] = true
	}
	for _, id := range w.ids.discovered {
		if last := w.jobs[id].last; last != nil {
			p.names[id] = w.families.head(last).name
		}
	}
	return p
}

func (p *page[T]) add(entry *T) {
	if h := p.families.head(entry); p.watched[h.id] || p.wants(h) {
		p.entries = append(p.entries, new(*entry))
	}
}

// wants reports whether a job is to be discovered.
func (p *page[T]) wants(h head) bool {
	d := p.discover
	return d != nil && h.created.Valid && p.began.Sub(h.created.Value) <= time.Duration(d.MaxAge) &&
		d.Name.MatchString(cmp.Or(h.name, p.names[h.id])) && client.CheckID(h.id) == nil
}

// listAnswer is the answer to a request for a page of the list.
type listAnswer[T any] struct {
	outcome[T]
	list  *list[T]
	page  *page[T]
	token string // of the page; "" is the first
}

// Remember implements schedule.Answer.
func (a *listAnswer[T]) Remember() schedule.Result {
	r := a.remember(listEndpoint)
	l := a.list
	wanted := !r.Refused && a.w.list == l && l.token == a.token // else of another API, or begun anew
	if wanted && a.err == nil {
		a.err = l.append(a.page)
	}
	switch {
	case !wanted:
	case a.err != nil:
		l.restart()
		l.reason = client.ReasonOf(a.err)
		a.failed(&l.loggedReason, l.reason, "endpoint", listEndpoint)
	case l.token != "":
		r.More = true
	default:
		pages := l.pages
		l.restart()
		a.w.listed(a, pages)
	}
	r.Report = a.idle || len(a.events) > 0
	return r
}

func (l *list[T]) append(p *page[T]) error {
	repeated := slices.ContainsFunc(l.pages, func(before *page[T]) bool { return before.next == p.next })
	if p.next != "" && (repeated || len(l.pages) == maxPages-1) {
		return fmt.Errorf("%w: the list never ends", client.ErrInvalidResponse)
	}
	l.pages, l.token = append(l.pages, p), p.next
	return nil
}

// restart begins with the first page again.
func (l *list[T]) restart() { l.pages, l.token = nil, "" }

// entry is what the list said of a job, and when.
type entry[T any] struct {
	job   *T
	began time.Time
}

// listed remembers a whole list.
func (w *watch[T]) listed(a *listAnswer[T], pages []*page[T]) {
	l := a.list
	if l.loggedReason != "" {
		a.events.info("fetching the list of jobs works again")
	}
	l.reason, l.loggedReason, l.fetched = "", "", pages[0].began
	l.changed = false

	entries := map[string]entry[T]{}
	var found []head
	for _, p := range pages {
		l.changed = l.changed || !p.discover.Equal(w.setup.jobs.Discover)
		for _, e := range p.entries {
			h := w.families.head(e)
			if _, twice := entries[h.id]; !twice && !p.watched[h.id] {
				found = append(found, h)
			}
			entries[h.id] = entry[T]{e, p.began}
		}
	}
	if w.setup.jobs.Discover != nil {
		w.discover(found)
		w.rewatch()
		if empty := len(w.sorted) == 0; empty != w.empty {
			if w.empty = empty; empty {
				a.events.warn("discovery finds no job; the key sees only those of its own user", nil)
			}
		}
	}
	if !w.policy.list {
		return
	}
	for _, j := range w.sorted {
		e, ok := entries[j.task.ID]
		if j.listed, j.unlisted = ok, !ok; !ok {
			j.lacksTokens = false
			continue
		}
		if e.began.Before(j.tried) { // its own answer is newer
			continue
		}
		lacking := w.families.lacksTokens(e.job)
		if j.last != nil {
			w.families.merge(e.job, j.last)
		}
		a.succeeded(j, e.job, e.began)
		j.tokensKnown = j.tokensKnown && j.settled
		j.lacksTokens = j.settled && !j.tokensKnown && lacking
		a.recovered(j)
	}
}

// discover watches the newest of the jobs that were found.
func (w *watch[T]) discover(found []head) {
	slices.SortStableFunc(found, func(a, b head) int {
		return cmp.Or(b.created.Value.Compare(a.created.Value), cmp.Compare(a.id, b.id))
	})
	most := w.setup.jobs.Discover.MaxJobs
	w.ids.dropped = max(0, len(found)-most)
	w.ids.discovered = nil
	for _, h := range found[:min(most, len(found))] {
		w.ids.discovered = append(w.ids.discovered, h.id)
	}
}
