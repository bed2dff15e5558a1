package collector

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net/http/httptrace"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	dto "github.com/prometheus/client_model/go"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// maxWarned is how many different warnings of the API are logged.
const maxWarned = 100

// account is one API key: its jobs, its budget, its memory. It asks only while
// a scrape waits. All of its state is guarded by mu.
type account struct {
	name    string
	schema  *schema
	metrics apiMetrics
	labels  []*dto.LabelPair

	mu         sync.Mutex
	ctx        context.Context // of requests; ends with the account
	cancel     context.CancelFunc
	closed     bool // no longer watched
	config     AccountConfig
	client     *client.Client
	generation int // of what is known; changes with the API and the key
	policy     policy
	logger     log.Logger
	limit      limit
	turn       uint64          // counts scrapes, requests and answers, to tell what came first
	warned     map[string]bool // the API's warnings that were logged

	given     []string // job IDs from flags or configuration
	files     *jobFiles
	filed     []string  // job IDs from files
	filesRead []jobFile // which these were
	reading   bool      // the files, right now
	found     []string  // job IDs from discovery
	dropped   int       // by discovery
	jobs      map[string]*job
	sorted    []*job   // by ID
	known     []*known // of sorted
	list      job      // the list is fetched like a job whose ID is ""
	queue     []*request
	workers   int
	scrapes   []*scrape // under way, the oldest first
}

// request is one that a scrape needs: for a job, or for the list.
type request struct {
	job     *job
	ticket  *ticket   // nil while queued
	began   time.Time // when it was sent
	waiting []*scrape
}

// scrape is one that is under way.
type scrape struct {
	round
	missing int           // requests that it waits for
	done    chan struct{} // closed when it waits for none
}

func newAccount(name string, s *schema, w *dirWatcher) *account {
	a := &account{name: name, schema: s, labels: s.accountLabels(name), warned: map[string]bool{}}
	a.files = newJobFiles(nil, w, log.NewNopLogger())
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// configure goes over to another configuration, and to another client if c is
// not nil. Of another API, or with another key, nothing is known.
func (a *account) configure(cfg AccountConfig, c *client.Client, m apiMetrics, logger log.Logger) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil && !a.config.sameAPI(&cfg) {
		a.forget()
	}
	a.config, a.policy = cfg, cfg.policy()
	a.logger = logger
	if a.schema.withAccount {
		a.logger = log.With(logger, "account", a.name)
	}
	endpoints := []string{getEndpoint}
	if a.policy.list || a.policy.discover {
		endpoints = append(endpoints, listEndpoint)
	}
	a.metrics = m.of(a.name, a.schema.withAccount, endpoints...)
	a.limit.setBudget(cfg.RequestsPerMinute)
	if c != nil {
		if a.client != nil {
			a.client.CloseIdleConnections()
		}
		a.client = c
	}
	for _, j := range a.sorted {
		if j.failedByList && !a.policy.list { // that is no longer asked for
			j.reason, j.failedByList = "", false
		}
	}
	if cfg.Discover == nil {
		a.found, a.dropped = nil, 0
	}
	a.given = a.distinct(cfg.JobIDs)
	a.files.follow(cfg.JobIDFiles, a.logger)
	a.filed, a.filesRead = a.files.read()
	a.watch()
}

// forget drops all that was learned from the API. Answers that are still to
// come are not remembered.
func (a *account) forget() {
	a.generation++
	a.jobs, a.found, a.dropped = nil, nil, 0
	a.list.reason, a.list.skipped, a.list.told = "", "", ""
	a.list.fetched, a.list.answered = time.Time{}, 0
	a.list.asked, a.list.passed = 0, 0
}

// close lets go of the API. Scrapes that are under way still get their answers.
func (a *account) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.metrics = newAPIMetrics(a.schema.withAccount).of(a.name, a.schema.withAccount) // late answers bring no series back
	a.client.CloseIdleConnections()
}

// distinct leaves out job IDs that were given before, and tells of them.
func (a *account) distinct(ids []string) []string {
	seen := make(map[string]int, len(ids))
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		if seen[id]++; seen[id] == 2 {
			level.Warn(a.logger).Log("msg", "job ID is given more than once", "job_id", id)
		}
		return seen[id] > 1
	})
}

// refresh fetches what is due and allowed, until the deadline of ctx, and
// returns what is known then.
func (a *account) refresh(ctx context.Context) report {
	began := time.Now()
	a.readFiles(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.enter()
	defer a.leave(s)
	for ctx.Err() == nil && a.request(s) {
		a.mu.Unlock()
		select {
		case <-s.done:
		case <-ctx.Done():
		}
		a.mu.Lock()
	}
	return a.report(s.round, time.Since(began))
}

// readFiles follows the job files, as far as they can be read before the
// deadline: a network file system may hang.
func (a *account) readFiles(ctx context.Context) {
	a.mu.Lock()
	start := len(a.config.JobIDFiles) > 0 && !a.reading
	a.reading = a.reading || start
	a.mu.Unlock()
	if !start {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		filed, files := a.files.read()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.reading, a.filesRead = false, files
		if !slices.Equal(filed, a.filed) {
			a.filed = filed
			a.watch()
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (a *account) enter() *scrape {
	a.turn++
	s := &scrape{round: round{began: a.turn, since: a.turn}}
	if len(a.scrapes) > 0 {
		s.since = a.scrapes[0].began
	}
	a.scrapes = append(a.scrapes, s)
	return s
}

func (a *account) leave(s *scrape) {
	s.missing = 0
	a.scrapes = slices.DeleteFunc(a.scrapes, func(other *scrape) bool { return other == s })
	if len(a.scrapes) == 0 { // nobody waits for what is still queued
		a.metrics.skipped.WithLabelValues(skippedDeadline).Add(float64(len(a.queue)))
		for _, r := range a.queue {
			a.drop(r, tooLate)
		}
		a.queue = nil
	}
}

// request queues what the scrape needs. It returns false if that is nothing.
func (a *account) request(s *scrape) bool {
	askList, ask := plan(&a.list.known, a.known, time.Now(), s.round, a.policy)
	if askList {
		a.join(s, &a.list)
	}
	for _, k := range ask {
		a.join(s, a.jobs[k.id])
	}
	if s.missing == 0 {
		return false
	}
	s.done = make(chan struct{})
	slices.SortStableFunc(a.queue, func(x, y *request) int { return before(&x.job.known, &y.job.known) })
	a.work()
	return true
}

// join makes the scrape wait for a request for j, and queues one if there is
// none.
func (a *account) join(s *scrape, j *job) {
	if j.request == nil {
		j.request, j.pending = &request{job: j}, true
		a.queue = append(a.queue, j.request)
	}
	j.request.waiting = append(j.request.waiting, s)
	s.missing++
}

// work sees to it that enough workers are at the queue.
func (a *account) work() {
	for n := len(a.queue); n > 0 && a.workers < a.config.MaxConcurrentRequests; n-- {
		a.workers++
		go a.worker()
	}
}

// worker sends requests until there are none that may be sent.
func (a *account) worker() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for r := a.next(); r != nil; r = a.next() {
		a.send(r)
	}
	a.workers--
}

// next takes the first request off the queue, with leave to send it. Where
// there is no leave, there is none for those behind it either.
func (a *account) next() *request {
	if len(a.queue) == 0 {
		return nil
	}
	t, verdict := a.limit.take(time.Now())
	switch verdict {
	case tooSoon: // the worker of that one comes back
		return nil
	case overBudget:
		a.skip(tooMany)
		return nil
	case rateLimited:
		a.skip(client.RateLimited)
		return nil
	}
	r := a.queue[0]
	a.queue = a.queue[1:]
	a.turn++
	r.ticket, r.began = t, time.Now()
	r.job.asked = a.turn
	if r.job.lacksUnits {
		r.job.unitsAsked = a.turn
	}
	return r
}

// skip leaves everything that is queued for a later scrape.
func (a *account) skip(reason client.Reason) {
	a.metrics.skipped.WithLabelValues(string(reason)).Add(float64(len(a.queue)))
	for _, r := range a.queue {
		a.drop(r, reason)
	}
	a.queue = nil
}

// drop ends a request that was not sent.
func (a *account) drop(r *request, reason client.Reason) {
	a.pass(r.job, reason)
	a.end(r)
}

// pass notes that a job was due and got no answer. What holds for the list
// holds for every job that it answers for.
func (a *account) pass(j *job, reason client.Reason) {
	a.turn++
	j.passed, j.skipped = a.turn, reason
	if j == &a.list && a.policy.list {
		for _, each := range a.sorted {
			each.skipped = reason
		}
	}
}

// end lets go of the scrapes that wait for a request.
func (a *account) end(r *request) {
	if r.job.request == r {
		r.job.request, r.job.pending = nil, false
	}
	for _, s := range r.waiting {
		if s.missing--; s.missing == 0 {
			close(s.done)
		}
	}
}

// answer is what came of a request.
type answer struct {
	job    client.Job
	digest client.Digest
	list   listing
	err    error
}

// send asks the API, outside the lock, and remembers the answer.
func (a *account) send(r *request) {
	c, generation, have := a.client, a.generation, r.job.digest
	ctx, cancel := context.WithTimeout(a.ctx, time.Duration(a.config.Timeout))
	defer cancel()
	endpoint := getEndpoint
	var read listReader
	if r.job == &a.list {
		endpoint, read = listEndpoint, a.listReader()
	}
	a.mu.Unlock()
	ctx = a.trace(ctx, cancel, r.ticket, endpoint)
	var got answer
	if endpoint == listEndpoint {
		got.list, got.err = read.from(c.EmbedJobs(ctx))
	} else {
		got.job, got.digest, got.err = c.EmbedJobIfNew(ctx, r.job.id, have)
	}
	a.mu.Lock()

	defer a.end(r)
	a.limit.done(r.ticket)
	a.turn++
	if !r.ticket.revoked {
		a.count(r, endpoint, got.err)
	}
	if a.closed || c != a.client { // nobody uses this connection again
		c.CloseIdleConnections()
	}
	switch {
	case generation != a.generation: // it tells of another API
	case r.ticket.revoked:
		a.metrics.skipped.WithLabelValues(string(client.RateLimited)).Inc()
		a.pass(r.job, client.RateLimited)
	case client.ReasonOf(got.err) == client.RateLimited:
		a.refused(r, got.err)
	default:
		if client.StatusCode(got.err) != 0 && a.limit.answered(r.ticket) {
			level.Info(a.logger).Log("msg", "API accepts requests again")
			a.work()
		}
		if endpoint == listEndpoint {
			a.listed(r, got.list, got.err)
		} else {
			a.answered(r, got, have)
		}
	}
}

// answered remembers the answer to a request for a job, which has the digest
// have where it is the one that was known before.
func (a *account) answered(r *request, got answer, have client.Digest) {
	j := r.job
	switch {
	case a.jobs[j.id] != j: // no longer watched
		return
	case got.err != nil:
		a.failed(j, got.err)
		return
	case r.began.Before(j.fetched), have != j.digest: // a list has told something newer
		return
	case got.digest == have:
		j.renew(j.last.Status, r.began, a.policy)
		j.answered = a.turn
	default:
		a.succeeded(j, got.job, r.began)
		j.digest = got.digest
	}
	j.unitsKnown = j.settled && !r.began.Before(j.unitsFrom)
	j.lacksUnits = j.lacksUnits && !j.unitsKnown
	a.recovered(j)
}

// listReader knows what to keep of the next list.
func (a *account) listReader() listReader {
	r := listReader{
		discover: a.config.Discover,
		watched:  make(map[string]bool, len(a.given)+len(a.filed)),
		names:    make(map[string]string, len(a.found)),
	}
	for _, id := range slices.Concat(a.given, a.filed) {
		r.watched[id] = true
	}
	for _, id := range a.found {
		r.names[id] = a.jobs[id].last.Name
	}
	return r
}

// trace makes the limit follow what is really written: net/http sends a GET
// again by itself when a connection that it used before turns out to be closed.
func (a *account) trace(ctx context.Context, cancel context.CancelFunc, t *ticket, endpoint string) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			a.mu.Lock()
			again := t.sent
			ok := a.limit.send(t, time.Now())
			if again && ok { // the one before got no answer; count counts the last
				a.metrics.requests.WithLabelValues(endpoint, "error").Inc()
			}
			a.mu.Unlock()
			if ok {
				return
			}
			cancel()
			// Only a closed connection keeps HTTP/1 from writing. What HTTP/2
			// sends again, the server has said not to have seen.
			if c, ok := info.Conn.(*tls.Conn); !ok || c.ConnectionState().NegotiatedProtocol != "h2" {
				info.Conn.Close()
			}
		},
	})
}

// count counts a request by how it ended.
func (a *account) count(r *request, endpoint string, err error) {
	code := "error"
	switch status := client.StatusCode(err); {
	case status != 0:
		code = strconv.Itoa(status)
	case client.ReasonOf(err) == client.NoKey:
		return // nothing was sent
	}
	a.metrics.requests.WithLabelValues(endpoint, code).Inc()
	a.metrics.duration.WithLabelValues(endpoint).Observe(time.Since(r.began).Seconds())
}

// refused closes the gate. A refusal is no attempt: it says nothing of the job.
func (a *account) refused(r *request, err error) {
	a.pass(r.job, client.RateLimited)
	refusal, _ := errors.AsType[client.Error](err)
	wait, closed := a.limit.refused(r.ticket, time.Now(), refusal.RetryAfter)
	if !closed {
		return
	}
	if a.limit.refusals > 1 {
		level.Debug(a.logger).Log("msg", "API still refuses requests", "wait", wait.Round(time.Millisecond), "err", err)
		return
	}
	keyvals := []any{"msg", "API refuses requests; not asking for a while", "wait", wait.Round(time.Millisecond)}
	if a.limit.budget == 0 {
		keyvals = append(keyvals, "hint", "set "+a.config.setting("requests-per-minute")+" below the key's limit, and "+
			a.config.setting("refresh-interval")+" and "+a.config.setting("settled-interval")+" to ask less often")
	}
	level.Warn(a.logger).Log(append(keyvals, "err", err)...)
}

// listed remembers the answer of the list.
func (a *account) listed(r *request, l listing, err error) {
	if err != nil {
		a.failed(&a.list, err)
		if a.policy.list {
			for _, j := range a.sorted {
				if j.reason != client.NotFound { // which ranks it last
					j.reason, j.failedByList = a.list.reason, true
				}
			}
		}
		return
	}
	if a.list.told != "" {
		level.Info(a.logger).Log("msg", "fetching the list of jobs works again")
	}
	a.list.reason, a.list.skipped, a.list.told = "", "", ""
	a.list.fetched, a.list.answered = r.began, a.turn
	if a.config.Discover != nil {
		a.found, a.dropped = l.found, l.dropped
		a.watch()
	}
	if !a.policy.list {
		return
	}
	for _, j := range a.sorted {
		if j.failedByList {
			j.reason, j.failedByList = "", false
		}
		entry, ok := l.jobs[j.id]
		j.listed = ok
		if !ok {
			j.lacksUnits = false
			continue
		}
		a.succeeded(j, j.merge(entry), r.began)
		j.unitsKnown = j.unitsKnown && j.settled
		j.lacksUnits = j.settled && !j.unitsKnown && entry.Meta.BilledUnits == client.BilledUnits{}
		a.recovered(j)
	}
}

// watch follows which jobs there are to watch. Those that stay keep their
// memory.
func (a *account) watch() {
	ids := slices.Concat(a.given, a.filed, a.found)
	jobs := make(map[string]*job, len(ids))
	for _, id := range ids {
		if jobs[id] = a.jobs[id]; jobs[id] == nil {
			jobs[id] = newJob(id, a.labels, a.schema)
		}
	}
	a.jobs = jobs
	a.sorted = slices.SortedFunc(maps.Values(jobs), func(x, y *job) int { return cmp.Compare(x.id, y.id) })
	a.known = a.known[:0:0]
	for _, j := range a.sorted {
		a.known = append(a.known, &j.known)
	}
	for _, r := range a.queue {
		if r.job != &a.list && jobs[r.job.id] != r.job {
			a.drop(r, tooLate)
		}
	}
	a.queue = slices.DeleteFunc(a.queue, func(r *request) bool { return !r.job.pending })
}

// failed remembers a failed attempt.
func (a *account) failed(j *job, err error) {
	reason := client.ReasonOf(err)
	logger, msg := level.Warn(a.logger), "fetching failed"
	if j.told == reason {
		logger, msg = level.Debug(a.logger), "fetching still fails"
	}
	keyvals := []any{"msg", msg, "job_id", j.id}
	if j == &a.list {
		keyvals = []any{"msg", msg, "endpoint", listEndpoint}
	}
	keyvals = append(keyvals, "reason", reason)
	if reason == client.NotFound && j != &a.list {
		keyvals = append(keyvals, "hint", "a job is visible only to the user who started it")
	}
	logger.Log(append(keyvals, "err", err)...)
	j.told = reason
	j.fail(reason)
}

// succeeded remembers a job's answer.
func (a *account) succeeded(j *job, got client.Job, began time.Time) {
	before := j.succeed(got, began, a.policy)
	j.answered = a.turn
	if before != "" && before != got.Status {
		level.Info(a.logger).Log("msg", "status of job changed", "job_id", j.id, "from", knownStatus(before), "to", knownStatus(got.Status))
	}
}

// recovered tells that fetching a job works again, when nothing of it is left to
// ask for: what failed may be what the list lacks.
func (a *account) recovered(j *job) {
	if j.told != "" && !j.lacksUnits {
		j.told = ""
		level.Info(a.logger).Log("msg", "fetching works again", "job_id", j.id)
	}
}

// onWarning is called by the client with the API's warnings.
func (a *account) onWarning(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.metrics.warnings.WithLabelValues().Inc()
	if !a.warned[text] && len(a.warned) < maxWarned {
		a.warned[text] = true
		level.Warn(a.logger).Log("msg", "API warns", "warning", text)
	}
}

// report is what a scrape sends of an account.
type report struct {
	jobs   []view
	others []gauge
}

func (a *account) report(r round, took time.Duration) report {
	now := time.Now()
	var rep report
	add := func(d desc, value float64, labels ...string) {
		rep.others = append(rep.others, a.schema.gauge(d, a.labels, value, labels...))
	}
	allUp := true
	rep.jobs = make([]view, 0, len(a.sorted))
	for _, j := range a.sorted {
		v, up := j.view(now, r, a.policy)
		rep.jobs = append(rep.jobs, v)
		allUp = allUp && up
	}
	for _, file := range a.filesRead {
		add(jobFileSuccess, float01(file.err == nil), file.path)
	}
	if a.policy.list || a.policy.discover {
		up, reason := a.list.state(now, r, a.policy)
		if a.list.reason == "" && !listDue(&a.list.known, a.known, now, a.policy) {
			up = true // however old: it is not to be asked for
		}
		add(listUp, float01(up))
		if !up {
			add(listFetchError, 1, string(reason))
		}
		allUp = allUp && up
	}
	if a.policy.discover && !a.list.fetched.IsZero() {
		add(accountDropped, float64(a.dropped))
	}
	add(accountUp, float01(allUp))
	add(accountJobs, float64(len(a.sorted)))
	add(scrapeDuration, took.Seconds())
	if a.config.RequestsPerMinute > 0 {
		add(requestsLimit, a.config.RequestsPerMinute)
	}
	return rep
}
