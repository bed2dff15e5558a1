package cohertest

import (
	"net/http"
	"net/url"
	"slices"
	"time"
)

// User is a user of the API: a key, jobs and batches that no other user sees, and rate
// limits.
// See [API.AddUser].
type User struct {
	api *API

	// Guarded by api.mu.
	key         string
	jobs        map[string]*entry
	order       []string // of the list: as added
	history     history[Job]
	faults      map[string]Fault
	window      window
	withoutMeta bool
	batches     batches
}

// An entry is a job and its JSON. It is never changed, only replaced.
type entry struct {
	job  Job
	text text
}

// Add adds jobs, in that order, and replaces those whose ID the user already has. It
// panics if an ID is empty.
func (u *User) Add(jobs ...Job) {
	now := time.Now()
	entries := make([]*entry, len(jobs))
	for i, j := range jobs {
		if j.ID == "" {
			panic("cohertest: job without ID")
		}
		entries[i] = newEntry(j, now)
	}

	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	for _, e := range entries {
		if _, ok := u.jobs[e.job.ID]; !ok {
			u.order = append(u.order, e.job.ID)
		}
		u.jobs[e.job.ID] = e
		u.history.note(u.api, e.job.ID, &e.job)
	}
}

func newEntry(j Job, now time.Time) *entry {
	j.setDefaults(now)
	j.Warnings = slices.Clone(j.Warnings)
	e := &entry{job: j}
	if j.Script == nil {
		e.text = render(nil, &j, style{})
	}
	return e
}

// Update changes a job; its ID stays. It panics if the user has no such job. The function
// must not call the API's or its users' methods.
func (u *User) Update(id string, change func(*Job)) {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	e, ok := u.jobs[id]
	if !ok {
		panic("cohertest: no job " + id)
	}
	j := e.job
	j.Warnings = slices.Clone(j.Warnings)
	change(&j)
	j.ID = id
	e = newEntry(j, time.Now())
	u.jobs[id] = e
	u.history.note(u.api, id, &e.job)
}

// Remove removes jobs: they are not found any longer, and not listed.
func (u *User) Remove(ids ...string) {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	for _, id := range ids {
		delete(u.jobs, id)
		u.history.note(u.api, id, nil)
	}
	u.order = slices.DeleteFunc(u.order, func(id string) bool {
		_, ok := u.jobs[id]
		return !ok
	})
}

// ListWithoutMeta leaves meta, and so the token counts, out of the list.
func (u *User) ListWithoutMeta(on bool) {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	u.withoutMeta = on
}

// Limit sets the user's rate limit of embed jobs, of which nothing is used up yet. The
// zero Limit is none.
func (u *User) Limit(l Limit) {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	u.window = window{limit: l}
}

// Fail makes a fault the answer for a job, whether the user has it or not; for the list
// if the id is [List]; for every embed job and their list, as far as they have no fault of
// their own, if it is [All]. The same goes for batches with [ListBatches] and
// [AllBatches]. With a nil Fault it works again.
func (u *User) Fail(id string, f Fault) {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	if f == nil {
		delete(u.faults, id)
		return
	}
	u.faults[id] = f
}

// SetKey gives the user another key; the old one becomes unauthorized. It panics if the
// key is empty or another user's.
func (u *User) SetKey(key string) {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	if key == "" {
		panic("cohertest: user without key")
	}
	if other, ok := u.api.users[key]; ok && other != u {
		panic("cohertest: two users with the same key")
	}
	delete(u.api.users, u.key)
	u.key = key
	u.api.users[key] = u
}

func (u *User) fault(c *Call) Fault {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	id, list, all := c.ID, List, All
	if c.Resource == Batches {
		list, all = ListBatches, AllBatches
	}
	if c.List {
		id = list
	}
	if f, ok := u.faults[id]; ok {
		return f
	}
	return u.faults[all]
}

// entries returns what a call is about, and whether to list it without meta.
func (u *User) entries(c *Call) (entries []*entry, withoutMeta bool) {
	u.api.mu.Lock()
	defer u.api.mu.Unlock()

	if !c.List {
		if e, ok := u.jobs[c.ID]; ok {
			entries = []*entry{e}
		}
		return entries, false
	}
	entries = make([]*entry, len(u.order))
	for i, id := range u.order {
		entries[i] = u.jobs[id]
	}
	return entries, u.withoutMeta
}

// A Call is a request that a [Fault] answers.
type Call struct {
	Resource  string // EmbedJobs or Batches
	List      bool   // the list was asked for, not a job
	ID        string // of the job
	PageToken string // of the page of a list

	query    url.Values
	user     *User
	exchange *exchange
}

// Jobs returns what the proper answer would hold now: the embed job asked for, if the
// user has it, or those of the list.
func (c *Call) Jobs() []Job {
	now := time.Now()
	entries, _ := c.user.entries(c)
	jobs := make([]Job, len(entries))
	for i, e := range entries {
		jobs[i] = e.at(now)
	}
	return jobs
}

// Answer gives the proper answer.
func (c *Call) Answer(w http.ResponseWriter) {
	if c.Resource == Batches {
		page, next := c.page()
		if c.List || len(page) > 0 {
			c.exchange.noteProper(w, next != "")
		}
		c.AnswerWithBatches(w, next, page...)
		return
	}
	now := time.Now()
	entries, withoutMeta := c.user.entries(c)
	if c.List || len(entries) > 0 {
		c.exchange.noteProper(w, false)
	}
	texts := func(yield func(text, bool) bool) {
		var scratch []byte
		for _, e := range entries {
			t, bare := e.text, withoutMeta || e.job.ListWithoutMeta
			if e.job.Script != nil {
				j := e.at(now)
				t = render(scratch[:0], &j, style{})
				bare = withoutMeta || j.ListWithoutMeta
				scratch = t.json
			}
			if !yield(t, bare) {
				return
			}
		}
	}
	c.write(w, texts)
}

// AnswerWith answers with the given embed jobs in place of the user's. Jobs as returned by
// [Call.Jobs] are complete; others should be.
func (c *Call) AnswerWith(w http.ResponseWriter, jobs ...Job) {
	c.writeJobs(w, jobs, style{})
}

// answer gives the proper answer in an unusual style.
func (c *Call) answer(w http.ResponseWriter, s style) {
	if c.Resource == Batches {
		page, next := c.page()
		c.writeBatches(w, page, next, s)
		return
	}
	c.writeJobs(w, c.Jobs(), s)
}

func (c *Call) writeJobs(w http.ResponseWriter, jobs []Job, s style) {
	c.user.api.mu.Lock()
	withoutMeta := c.user.withoutMeta
	c.user.api.mu.Unlock()

	c.write(w, func(yield func(text, bool) bool) {
		for i := range jobs {
			if !yield(render(nil, &jobs[i], s), withoutMeta || jobs[i].ListWithoutMeta) {
				return
			}
		}
	})
}

// write answers with JSON texts; the flag tells whether to list one without meta.
func (c *Call) write(w http.ResponseWriter, texts func(func(text, bool) bool)) {
	if !c.List {
		for t := range texts {
			_ = reply(w, http.StatusOK, t.json)
			return
		}
		c.user.api.fail(w, http.StatusNotFound, "job not found: "+c.ID)
		return
	}

	buffer := buffers.Get().(*[]byte)
	b := (*buffer)[:0]
	b = append(b, `{"embed_jobs":[`...)
	separator := ""
	for t, bare := range texts {
		b = append(b, separator...)
		b = t.appendEntry(b, bare)
		separator = ","
	}
	b = append(b, "]}"...)
	*buffer = b

	// After an error the server may still be reading from the buffer.
	if reply(w, http.StatusOK, b) == nil {
		buffers.Put(buffer)
	}
}

func (e *entry) at(now time.Time) Job {
	j := e.job
	j.Warnings = slices.Clone(j.Warnings)
	if j.Script != nil {
		j.Script = nil // shaped once
		e.job.Script(now, &j)
	}
	return j
}
