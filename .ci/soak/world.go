package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

const configFile = "cohere_exporter.yml"

// timeout is that of an API request.
const timeout = 2 * time.Second

// world is what the exporter watches: the simulated API, its users and their
// jobs, and the configuration.
type world struct {
	dir      string
	start    time.Time
	secret   string // part of every key
	api      *cohertest.API
	plain    *cohertest.Server
	tls      *cohertest.Server
	attempts *attempts
	reloads  *reloads
	accounts []*account

	mu       sync.Mutex // guards the rest, and the IDs
	rng      *mathrand.Rand
	lastID   int
	narrow   bool               // discovery finds less
	known    map[task]bool      // every job that there ever was or that is configured
	required map[task]time.Time // jobs that every scrape after that time has to show
}

// account is a user of the API.
type account struct {
	name      string
	user      *cohertest.User
	tls       bool
	keys      int // so far
	keyFile   string
	resources []*resource
}

// resource is the jobs of one kind that an account watches.
type resource struct {
	account, name               string
	jobs                        int
	budget                      int // a minute
	limit                       int // the API's own, a minute
	refresh, settled, staleness time.Duration
	byID, files, discover       bool
	list                        bool // one for all
	bare                        bool // it comes without tokens
	wild                        bool // the API misbehaves more
	refuses                     bool // now and then, for no reason

	ids []string // of jobs that there are
}

func accounts() []*account {
	return []*account{
		{name: "search", resources: []*resource{
			{name: cohertest.EmbedJobs, jobs: 60, budget: 300, refresh: 2 * time.Second, staleness: 4 * time.Second, byID: true},
			{name: cohertest.Batches, jobs: 40, budget: 300, refresh: 2 * time.Second, staleness: 4 * time.Second, byID: true, wild: true},
		}},
		{name: "archive", resources: []*resource{
			{name: cohertest.EmbedJobs, jobs: 80, budget: 40, refresh: time.Second, staleness: 3 * time.Second, files: true},
			{name: cohertest.Batches, jobs: 40, budget: 60, settled: 10 * time.Second, staleness: 30 * time.Second, files: true, wild: true},
		}},
		{name: "nightly", resources: []*resource{
			{name: cohertest.EmbedJobs, jobs: 100, budget: 120, refresh: time.Second, staleness: 5 * time.Second, discover: true, list: true, bare: true},
			{name: cohertest.Batches, jobs: 60, budget: 120, refresh: time.Second, staleness: 5 * time.Second, discover: true, list: true, wild: true},
		}},
		{name: "trial", resources: []*resource{
			{name: cohertest.EmbedJobs, jobs: 30, limit: 50, refresh: time.Second, staleness: 20 * time.Second, discover: true},
			{name: cohertest.Batches, jobs: 20, limit: 50, staleness: 20 * time.Second, byID: true},
		}},
		{name: "edge", tls: true, resources: []*resource{
			{name: cohertest.EmbedJobs, jobs: 40, budget: 200, refresh: time.Second, staleness: 5 * time.Second, byID: true, files: true, wild: true, refuses: true},
			{name: cohertest.Batches, jobs: 30, budget: 200, refresh: time.Second, staleness: 5 * time.Second, discover: true, list: true, files: true, wild: true, refuses: true},
		}},
	}
}

func newWorld(dir string, seed uint64, found *findings) (*world, error) {
	random := make([]byte, 12)
	_, _ = rand.Read(random) // never fails
	w := &world{
		dir:      dir,
		start:    time.Now(),
		secret:   hex.EncodeToString(random),
		api:      cohertest.New(),
		reloads:  &reloads{},
		accounts: accounts(),
		rng:      mathrand.New(mathrand.NewPCG(seed, 0)),
		known:    map[task]bool{},
		required: map[task]time.Time{},
	}
	w.attempts = newAttempts(w.reloads, found)
	w.api.KeepHistory(true)
	w.api.KeepRequests(1)
	w.api.Observe(w.attempts.observe)
	for _, a := range w.accounts {
		a.user = w.api.AddUser(w.nextKey(a))
		a.user.PageBatches(25)
		for _, r := range a.resources {
			r.account = a.name
			w.attempts.windows[task{a.name, r.name, ""}] = &window{task: task{a.name, r.name, ""}, budget: r.budget}
			w.fill(a, r)
			w.misbehave(a, r)
		}
	}
	w.plain, w.tls = w.api.Start(), w.api.StartTLS()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.tls.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600); err != nil {
		return nil, err
	}
	for _, a := range w.accounts {
		if err := w.writeKey(a); err != nil {
			return nil, err
		}
	}
	if err := w.writeJobFiles(false); err != nil {
		return nil, err
	}
	_, err := w.writeConfig("")
	return w, err
}

func (w *world) close() {
	w.plain.Close()
	w.tls.Close()
}

func (w *world) key(a *account) string { return fmt.Sprintf("%s-%d-%s", a.name, a.keys, w.secret) }

// nextKey makes another key for an account.
func (w *world) nextKey(a *account) string {
	a.keys++
	w.attempts.addKey(w.key(a), a.name)
	return w.key(a)
}

// writeKey writes an account's key to its file, or to a new one for each key.
func (w *world) writeKey(a *account) error {
	if a.keyFile == "" {
		a.keyFile = fmt.Sprintf("%s-%d.key", a.name, a.keys)
	}
	path := filepath.Join(w.dir, a.keyFile)
	if err := os.WriteFile(path+".new", []byte(w.key(a)+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// fill has the API have the jobs and limits of a kind.
func (w *world) fill(a *account, r *resource) {
	limit := cohertest.Limit{Requests: r.limit, Per: time.Minute, RetryAfter: cohertest.Seconds}
	if r.limit == 0 {
		limit = cohertest.Limit{}
	}
	if r.name == cohertest.Batches {
		a.user.LimitBatches(limit)
	} else {
		a.user.Limit(limit)
	}
	for range r.jobs {
		w.newJob(a, r)
	}
	if r.bare {
		a.user.ListWithoutMeta(true)
	}
}

// misbehave has the API be slow, broken and worse.
func (w *world) misbehave(a *account, r *resource) {
	type share struct {
		of    float64
		fault cohertest.Fault
	}
	shares := []share{
		{.05, cohertest.Slow(100 * time.Millisecond)},
		{.005, cohertest.Status(http.StatusInternalServerError, "internal error")},
		{.02, cohertest.ResetReused},
	}
	if r.wild {
		shares = append(shares, []share{
			{.02, cohertest.Slow(500 * time.Millisecond)},
			{.002, cohertest.Hang},
			{.01, cohertest.KeyEcho(http.StatusInternalServerError)},
			{.01, cohertest.KeyEcho(http.StatusForbidden)},
			{.01, cohertest.Status(http.StatusServiceUnavailable, "overloaded")},
			{.01, cohertest.BadGateway},
			{.01, cohertest.CutShort},
			{.01, cohertest.NotJSON},
			{.01, cohertest.Reset},
			{.04, cohertest.ResetReused},
			{.01, cohertest.Gzip(nil)},
		}...)
	}
	if r.refuses {
		shares = append(shares, share{.003, cohertest.StatusHeader(http.StatusTooManyRequests, "too many", http.Header{"Retry-After": {"1"}})})
	}
	all := cohertest.All
	if r.name == cohertest.Batches {
		all = cohertest.AllBatches
	}
	a.user.Fail(all, func(rw http.ResponseWriter, req *http.Request, c *cohertest.Call) {
		if w.down(a) {
			cohertest.Status(http.StatusServiceUnavailable, "down for maintenance")(rw, req, c)
			return
		}
		w.mu.Lock()
		x := w.rng.Float64()
		w.mu.Unlock()
		for _, s := range shares {
			if x -= s.of; x < 0 {
				s.fault(rw, req, c)
				return
			}
		}
		c.Answer(rw)
	})
}

// down reports whether the API answers nothing of an account: now and then for
// three seconds, one account after the other, those with lists first.
func (w *world) down(a *account) bool {
	slot := int(time.Since(w.start)/(3*time.Second)) % (len(w.accounts) + 3)
	return slot > 0 && slot <= len(w.accounts) && w.accounts[2*slot%len(w.accounts)] == a
}

// newJob gives an account one more job. Of the first ones some are settled.
func (w *world) newJob(a *account, r *resource) {
	w.lastID++
	name := fmt.Sprintf("soak-%c-%d", "abc"[w.lastID%3], w.lastID)
	now := time.Now().Truncate(time.Second)
	id := fmt.Sprintf("ebd-%06d-%x", w.lastID, w.rng.Uint32())
	if r.name == cohertest.Batches {
		id = fmt.Sprintf("%08x-%06d", w.rng.Uint32(), w.lastID)
		a.user.AddBatches(cohertest.Batch{ID: id, Name: name, CreatedAt: now, UpdatedAt: now})
	} else {
		a.user.Add(cohertest.Job{ID: id, Name: name, CreatedAt: now})
	}
	r.ids = append(r.ids, id)
	w.known[task{a.name, r.name, id}] = true
	for range w.rng.IntN(30) {
		if len(r.ids) <= r.jobs && w.settled(a, r, id) {
			return
		}
		w.advance(a, r, id)
	}
}

// progress changes some jobs: they go on, end, and are replaced by others.
func (w *world) progress() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range 5 {
		a := w.accounts[w.rng.IntN(len(w.accounts))]
		r := a.resources[w.rng.IntN(len(a.resources))]
		id := r.ids[w.rng.IntN(len(r.ids))]
		switch {
		case !w.settled(a, r, id):
			w.advance(a, r, id)
		case w.rng.IntN(10) == 0:
			r.ids = slices.DeleteFunc(r.ids, func(other string) bool { return other == id })
			if r.name == cohertest.Batches {
				a.user.RemoveBatches(id)
			} else {
				a.user.Remove(id)
			}
			w.newJob(a, r)
		}
	}
}

func (w *world) settled(a *account, r *resource, id string) bool {
	if r.name == cohertest.Batches {
		states := a.user.BatchHistory(id)
		return isSettled(batchStatus(states[len(states)-1].Job.Status))
	}
	states := a.user.History(id)
	return isSettled(states[len(states)-1].Job.Status)
}

// advance has an active job go on.
func (w *world) advance(a *account, r *resource, id string) {
	if r.name == cohertest.Batches {
		a.user.UpdateBatch(id, w.advanceBatch)
	} else {
		a.user.Update(id, w.advanceJob)
	}
}

func (w *world) advanceJob(j *cohertest.Job) {
	switch dice := w.rng.IntN(100); {
	case j.Status == "cancelling":
		j.Status = "cancelled"
	case dice < 3:
		j.Status = "complete"
		j.OutputDatasetID = "ds-" + j.ID + "-out"
	case dice < 5:
		j.Status = "failed"
	case dice < 7:
		j.Status = "cancelling"
	case dice < 9:
		j.Status = "reticulating" // not documented
	case dice < 11:
		j.Status = "processing"
	case dice < 13:
		j.Warnings = append(j.Warnings, "a record was cut")
	case dice < 15:
		j.Images++
		j.ImageTokens += 1000
	}
	j.InputTokens += float64(1 + w.rng.IntN(5000))
	j.OutputTokens += float64(w.rng.IntN(3))
	j.CachedTokens += float64(w.rng.IntN(2))
}

func (w *world) advanceBatch(b *cohertest.Batch) {
	switch dice := w.rng.IntN(100); {
	case b.Status == "BATCH_STATUS_CANCELING":
		b.Status = "BATCH_STATUS_CANCELED"
	case dice < 3:
		b.Status = "BATCH_STATUS_COMPLETED"
		b.OutputDatasetID = b.ID + "-out"
	case dice < 5:
		b.Status = "BATCH_STATUS_FAILED"
		b.StatusReason = fmt.Sprintf("record %d is too long", w.rng.IntN(1000))
	case dice < 7:
		b.Status = "BATCH_STATUS_CANCELING"
	case dice < 9:
		b.Status = "BATCH_STATUS_PAUSED" // not documented
	case dice < 20:
		b.Status = "BATCH_STATUS_IN_PROGRESS"
	}
	b.UpdatedAt = time.Now().Truncate(time.Second)
	b.InputTokens += int64(1 + w.rng.IntN(5000))
	b.OutputTokens += int64(w.rng.IntN(500))
	b.Records++
	b.SuccessfulRecords += int64(w.rng.IntN(2))
}

// missing is a job that is configured, and that the API does not know.
const missing = "soak-missing"

// writeConfig writes the configuration, and with a text that is not valid YAML
// after it a broken one. It returns the jobs that are configured by their IDs.
func (w *world) writeConfig(broken string) (configured map[task]bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	configured = map[task]bool{}
	var b strings.Builder
	b.WriteString("accounts:\n")
	for _, a := range w.accounts {
		fmt.Fprintf(&b, "- name: %s\n  base_url: %s\n  timeout: %s\n", a.name, w.url(a), timeout)
		fmt.Fprintf(&b, "  http_client_config:\n    authorization: {credentials_file: %s}\n", a.keyFile)
		if a.tls {
			b.WriteString("    tls_config: {ca_file: ca.pem}\n")
		}
		for _, r := range a.resources {
			fmt.Fprintf(&b, "  %s:\n    requests_per_minute: %d\n", r.name, r.budget)
			fmt.Fprintf(&b, "    refresh_interval: %s\n    settled_interval: %s\n    max_staleness: %s\n", r.refresh, r.settled, r.staleness)
			if r.discover {
				name, most := "soak-.*", 500
				if w.narrow {
					name, most = "soak-[ab]-.*", r.jobs/2
				}
				fmt.Fprintf(&b, "    discover: {max_age: 7d, name: '%s', max_jobs: %d}\n", name, most)
			}
			if !r.list {
				b.WriteString("    fetch: get\n")
			}
			if r.files {
				fmt.Fprintf(&b, "    id_files: [%s-%s-*.txt]\n", a.name, r.name)
			}
			if r.byID {
				ids := append(slices.Clone(r.ids), missing)
				fmt.Fprintf(&b, "    ids: [%s]\n", strings.Join(ids, ", "))
				for _, id := range ids {
					configured[task{a.name, r.name, id}] = true
				}
			}
		}
	}
	maps.Copy(w.known, configured)
	b.WriteString(broken)
	return configured, os.WriteFile(filepath.Join(w.dir, configFile), []byte(b.String()), 0o600)
}

func (w *world) url(a *account) string {
	if a.tls {
		return w.tls.URL
	}
	return w.plain.URL
}

// writeJobFiles writes the IDs of an account's jobs to two files, or the second
// with a line that is cut in the middle.
func (w *world) writeJobFiles(cut bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.accounts {
		for _, r := range a.resources {
			if !r.files {
				continue
			}
			half := len(r.ids) / 2
			for i, ids := range [][]string{r.ids[:half], r.ids[half:]} {
				text := "# jobs\n" + strings.Join(ids, "\n") + "\n"
				if cut && i == 1 {
					text = text[:len(text)-5]
				}
				path := filepath.Join(w.dir, fmt.Sprintf("%s-%s-%d.txt", a.name, r.name, i))
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// beginReload notes that a reload begins, after which only some jobs are
// configured by their IDs, and some accounts have another key.
func (w *world) beginReload(configured map[task]bool, keys ...string) {
	w.mu.Lock()
	maps.DeleteFunc(w.required, func(t task, _ time.Time) bool { return !configured[t] })
	w.mu.Unlock()
	w.reloads.begin(keys)
}

func (w *world) endReload(configured map[task]bool) {
	w.reloads.end()
	w.mu.Lock()
	defer w.mu.Unlock()
	for t := range configured {
		if _, ok := w.required[t]; !ok {
			w.required[t] = time.Now()
		}
	}
}

// requiredBefore returns the jobs that a scrape that began then has to show, as
// far as they are still configured.
func (w *world) requiredBefore(began time.Time) (tasks []task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for t, from := range w.required {
		if from.Before(began) {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

func (w *world) isKnown(t task) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[t]
}

// find returns an account and the setup of one of its kinds.
func (w *world) find(t task) (*account, *resource) {
	for _, a := range w.accounts {
		for _, r := range a.resources {
			if a.name == t.account && r.name == t.resource {
				return a, r
			}
		}
	}
	return nil, nil
}

// someJob returns a job that there is.
func (w *world) someJob() task {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[w.rng.IntN(len(w.accounts))]
	r := a.resources[w.rng.IntN(len(a.resources))]
	return task{a.name, r.name, r.ids[w.rng.IntN(len(r.ids))]}
}
