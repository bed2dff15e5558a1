package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// What is offered.
const (
	scrapers       = 4
	scrapesASecond = 50 // of all scrapers
	scrapeTimeout  = 10 * time.Second
	scrapesAtOnce  = 8 // of each scraper; those due beyond are left out
	probesASecond  = 4
	pagesASecond   = 2
)

// load is what is done to the exporter.
type load struct {
	world    *world
	exporter *exporter
	found    *findings
	judge    *judge
	samples  samples
	start    time.Time

	mu       sync.Mutex
	inFlight map[*answer]bool
	count    map[string]int           // of answers, by what was asked for
	slowest  map[string]time.Duration // likewise
	late     int                      // answers that did not come in time
	bytes    int
}

func newLoad(w *world, e *exporter, found *findings) *load {
	return &load{
		world: w, exporter: e, found: found, judge: newJudge(w, found), start: time.Now(),
		inFlight: map[*answer]bool{}, count: map[string]int{}, slowest: map[string]time.Duration{},
	}
}

// run loads the exporter until ctx ends.
func (l *load) run(ctx context.Context) {
	l.sample()
	answers := make(chan *answer, 16) // a slow judge slows the load down
	var judging, asking sync.WaitGroup
	judging.Go(func() { l.judgeAll(answers) })
	for i := range scrapers {
		client := newClient(i == 0)
		slots := make(chan struct{}, scrapesAtOnce)
		asking.Go(func() {
			var scrapes sync.WaitGroup
			defer scrapes.Wait()
			every(ctx, time.Second*scrapers/scrapesASecond, func() {
				select {
				case slots <- struct{}{}:
				default:
					return // all are busy
				}
				scrapes.Go(func() {
					l.ask(client, "/metrics", nil, answers)
					<-slots
				})
			})
		})
	}
	client := newClient(true)
	asking.Go(func() {
		every(ctx, time.Second/probesASecond, func() {
			t := l.world.someJob()
			parameter := "job_id"
			if t.resource == cohertest.Batches {
				parameter = "batch_id"
			}
			l.ask(client, "/probe?"+url.Values{parameter: {t.id}, "account": {t.account}}.Encode(), &t, answers)
		})
	})
	pages := []string{"/jobs", "/", "/jobs?account=search", "/-/healthy"}
	n := 0
	asking.Go(func() {
		every(ctx, time.Second/pagesASecond, func() {
			n++
			l.ask(client, pages[n%len(pages)], nil, nil)
		})
	})
	asking.Go(func() { every(ctx, time.Second/10, l.world.progress) })
	asking.Go(func() { every(ctx, time.Second, l.sample) })
	asking.Go(func() { l.disturb(ctx) })
	asking.Wait()
	close(answers)
	judging.Wait()
	l.quiet()
}

// quiet waits until the exporter has no goroutines but for its open files, two for
// each connection, and a few of its own.
func (l *load) quiet() {
	const few = 30
	var own map[string]float64
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		own, err = l.own()
		if err == nil && own["go_goroutines"] <= 2*own["process_open_fds"]+few {
			return
		}
	}
	l.found.add("growth", "after the end there are %.0f goroutines and %.0f open files: %v", own["go_goroutines"], own["process_open_fds"], err)
}

// every calls f at a steady rate until ctx ends. What a slow f misses is left
// out.
func every(ctx context.Context, interval time.Duration, f func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// newClient returns a client with connections of its own. It waits for longer
// than Prometheus would.
func newClient(gzip bool) *http.Client {
	return &http.Client{
		Timeout:   patience,
		Transport: &http.Transport{DisableCompression: !gzip, MaxIdleConnsPerHost: scrapesAtOnce},
	}
}

// ask asks the exporter for a path. A scrape or probe is to be judged; of pages
// answers is nil.
func (l *load) ask(client *http.Client, path string, probed *task, answers chan<- *answer) {
	a := &answer{probed: probed}
	l.begin(a)
	text, err := l.get(client, path)
	l.end(a)
	what, _, _ := strings.Cut(path, "?")
	if err != nil && a.ended.Sub(a.began) > scrapeTimeout {
		l.noteLate()
		return
	}
	if err != nil {
		l.found.add("failed "+what, "%s after %s: %v", path, a.ended.Sub(a.began), err)
		return
	}
	l.noteAnswer(what, a, len(text))
	if bytes.Contains(text, []byte(l.exporter.secret)) {
		l.found.add("key served", "%s", path)
	}
	if answers != nil {
		a.text = text
		answers <- a
	} else if page := strings.Contains(string(text), "<html"); page && !strings.HasSuffix(strings.TrimSpace(string(text)), "</html>") {
		l.found.add("failed "+what, "the page has no end")
	}
}

func (l *load) get(client *http.Client, path string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, l.exporter.url+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", fmt.Sprint(scrapeTimeout.Seconds()))
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, text)
	}
	return text, err
}

func (l *load) begin(a *answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.began = time.Now()
	a.oldest = a.began
	for other := range l.inFlight {
		if other.began.Before(a.oldest) {
			a.oldest = other.began
		}
	}
	l.inFlight[a] = true
}

func (l *load) end(a *answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.ended = time.Now()
	delete(l.inFlight, a)
}

func (l *load) noteAnswer(what string, a *answer, size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[what]++
	l.slowest[what] = max(l.slowest[what], a.ended.Sub(a.began))
	l.bytes += size
}

// noteLate notes an answer that was cut off for its slowness, as the contract
// says, or did not come: on a busy machine that is no fault of the exporter's, as
// long as there are others.
func (l *load) noteLate() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late++
}

// strictly is how many expositions there are to one that Prometheus's own parser
// reads too.
const strictly = 20

func (l *load) judgeAll(answers <-chan *answer) {
	parser := newParser()
	n := 0
	for a := range answers {
		e, err := parser.parse(a.text)
		if n++; err == nil && n%strictly == 0 {
			strict := expfmt.NewTextParser(model.LegacyValidation)
			_, err = strict.TextToMetricFamilies(bytes.NewReader(a.text))
		}
		if err == nil && a.probed == nil && len(e.own) == 0 {
			err = errors.New("the exporter's own metrics are missing")
		}
		if err != nil {
			l.found.add("failed /metrics", "not an exposition: %v", err)
			continue
		}
		l.judge.judge(a, e)
		l.judge.forget()
	}
}

// disturbEvery is how long it is from one change of what is configured to the
// next.
const disturbEvery = 2 * time.Second

// disturb changes the configuration, keys and job files, again and again.
func (l *load) disturb(ctx context.Context) {
	w := l.world
	byReload := []*account{w.accounts[0], w.accounts[4]}
	n := 0
	disturbances := []func() error{
		func() error { // other discovery
			w.mu.Lock()
			w.narrow = !w.narrow
			w.mu.Unlock()
			return l.reload(l.hangup)
		},
		func() error { return w.writeJobFiles(false) },
		func() error { // another key by another file
			a := byReload[n%len(byReload)]
			a.keyFile = ""
			a.user.SetKey(w.nextKey(a))
			if err := w.writeKey(a); err != nil {
				return err
			}
			return l.reload(l.post, a.name)
		},
		func() error { // another key in the same file
			a := w.accounts[2]
			key := w.nextKey(a)
			if err := w.writeKey(a); err != nil {
				return err
			}
			a.user.SetKey(key)
			return nil
		},
		l.breakConfig,
		func() error { return w.writeJobFiles(true) },
		func() error { return l.reload(l.post) },
	}
	every(ctx, disturbEvery, func() {
		if err := disturbances[n%len(disturbances)](); err != nil {
			l.found.add("disturbance", "%d: %v", n%len(disturbances), err)
		}
		n++
	})
}

// reload has the exporter load the configuration that there is now.
func (l *load) reload(how func() error, keys ...string) error {
	configured, err := l.world.writeConfig("")
	if err != nil {
		return err
	}
	l.world.beginReload(configured, keys...)
	if err := how(); err != nil {
		return err
	}
	l.world.endReload(configured)
	return nil
}

func (l *load) post() error {
	resp, err := http.Post(l.exporter.url+"/-/reload", "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if bytes.Contains(text, []byte(l.exporter.secret)) {
		l.found.add("key served", "/-/reload")
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, text)
	}
	return err
}

// hangup sends the signal, and waits until the configuration was loaded.
func (l *load) hangup() error {
	const loaded = "cohere_exporter_config_last_reload_success_timestamp_seconds"
	before := time.Now()
	if err := l.exporter.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		own, err := l.own()
		if err != nil {
			return err
		}
		if moment(own[loaded]).Add(leeway).After(before) {
			return nil
		}
	}
	return errors.New("SIGHUP did not reload the configuration")
}

// own returns the exporter's own metrics that have no labels.
func (l *load) own() (map[string]float64, error) {
	text, err := l.get(http.DefaultClient, "/metrics?jobs=0")
	if err != nil {
		return nil, err
	}
	e, err := newParser().parse(text)
	if err != nil {
		return nil, err
	}
	return e.own, nil
}

// breakConfig has the exporter refuse a configuration, which has a key in a
// wrong place.
func (l *load) breakConfig() error {
	w := l.world
	if _, err := w.writeConfig("- name: " + w.key(w.accounts[0]) + "\n  " + w.key(w.accounts[1]) + ": [\n"); err != nil {
		return err
	}
	switch err := l.post(); {
	case err == nil:
		return errors.New("a broken configuration was loaded")
	case !strings.HasPrefix(err.Error(), "500 "):
		return err
	}
	return nil
}

// samplesFor is what is sampled of the exporter's process.
var samplesFor = []string{
	"process_resident_memory_bytes", "go_goroutines", "go_memstats_heap_alloc_bytes", "go_memstats_heap_inuse_bytes",
	"go_memstats_next_gc_bytes", "go_memstats_stack_inuse_bytes", "process_open_fds", "process_cpu_seconds_total",
}

// samples are the exporter's own metrics over time.
type samples struct {
	times  []time.Duration
	values map[string][]float64
	told   time.Duration
}

// tellEvery is how often the report in between is printed.
const tellEvery = time.Minute

func (l *load) sample() {
	own, err := l.own()
	if err != nil {
		l.found.add("failed /metrics", "?jobs=0: %v", err)
		return
	}
	s := &l.samples
	if s.values == nil {
		s.values = map[string][]float64{}
	}
	now := time.Since(l.start)
	s.times = append(s.times, now)
	for _, name := range samplesFor {
		s.values[name] = append(s.values[name], own[name])
	}
	if now-s.told >= tellEvery {
		s.told = now
		l.mu.Lock()
		scrapes := l.count["/metrics"]
		l.mu.Unlock()
		fmt.Printf("%5.0fs %d scrapes, %s\n", now.Seconds(), scrapes, s.tell(now-tellEvery, now))
	}
}

// median is that of a metric between two times.
func (s *samples) median(name string, from, to time.Duration) float64 {
	var values []float64
	for i, t := range s.times {
		if t >= from && t < to {
			values = append(values, s.values[name][i])
		}
	}
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// least is the least of a metric between two times.
func (s *samples) least(name string, from, to time.Duration) float64 {
	least := 0.0
	for i, t := range s.times {
		if v := s.values[name][i]; t >= from && t < to && (least == 0 || v < least) {
			least = v
		}
	}
	return least
}

func (s *samples) tell(from, to time.Duration) string {
	const mib = 1 << 20
	return fmt.Sprintf("resident %.1f MiB, heap in use %.1f, live at most %.1f, next GC %.1f, stacks %.1f, %.0f goroutines, %.0f files",
		s.median("process_resident_memory_bytes", from, to)/mib, s.median("go_memstats_heap_inuse_bytes", from, to)/mib,
		s.least("go_memstats_heap_alloc_bytes", from, to)/mib, s.median("go_memstats_next_gc_bytes", from, to)/mib,
		s.median("go_memstats_stack_inuse_bytes", from, to)/mib,
		s.median("go_goroutines", from, to), s.median("process_open_fds", from, to))
}

// report prints what happened, and finds out whether the exporter grew.
func (l *load) report(w io.Writer) {
	took := l.samples.times[len(l.samples.times)-1]
	fmt.Fprintf(w, "%d scrapes, %.1f a second of %d offered, slowest %.2f s, %d late; %d probes, %d pages, %d MiB\n",
		l.count["/metrics"], float64(l.count["/metrics"])/took.Seconds(), scrapesASecond, l.slowest["/metrics"].Seconds(), l.late,
		l.count["/probe"], l.count["/jobs"]+l.count["/"], l.bytes>>20)
	j := l.judge
	fmt.Fprintf(w, "%d expositions judged: %d jobs, %d with values, %d up; %d reloads, %d lines of log\n",
		j.expositions.Load(), j.jobs.Load(), j.withValues.Load(), j.up.Load(), l.world.reloads.count(), l.exporter.lines.Load())
	fmt.Fprintf(w, "the API's answers by status: %v\n", l.world.attempts.statuses)
	for _, a := range l.world.accounts {
		for _, r := range a.resources {
			fmt.Fprintln(w, " ", l.world.attempts.windows[task{a.name, r.name, ""}])
		}
	}

	if l.late > l.count["/metrics"]/10 {
		l.found.add("failed /metrics", "%d answers did not come in time", l.late)
	}

	// Flat is the last minute against the second one. A short run only shows what
	// grows by leaps: its last third against the one before, with room for a heap
	// that is still finding its size.
	from, span, more, room := time.Minute, time.Minute, 1.15, 4.0*(1<<20)
	if took < 4*time.Minute {
		from, span, more, room = took/3, took/3, 2, 32*(1<<20)
	}
	s := &l.samples
	fmt.Fprintln(w, "before:", s.tell(from, from+span))
	fmt.Fprintln(w, "after: ", s.tell(took-span, took))
	fmt.Fprintf(w, "CPU: %.2f of one core\n", s.values["process_cpu_seconds_total"][len(s.times)-1]/took.Seconds())
	for name, room := range map[string]float64{"process_resident_memory_bytes": room, "go_goroutines": 50} {
		before, after := s.median(name, from, from+span), s.median(name, took-span, took)
		if after > before*more+room {
			l.found.add("growth", "%s: %.0f, after %.0f", name, after, before)
		}
	}
}
