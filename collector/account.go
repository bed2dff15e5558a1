package collector

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/jobfile"
	"github.com/cohere-exporter/cohere_exporter/collector/series"
)

// kinds are all that can be watched.
var kinds = []func(*accountFamilies) anyFamilies{embedJobs.families, batches.families}

// Options are what a Set needs besides its configuration.
type Options struct {
	Logger     log.Logger
	Registerer prometheus.Registerer // of the counters of API requests
	UserAgent  string

	// DialContext takes the place of the network, for tests.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

// common is what all accounts of a Set share.
type common struct {
	fromFile bool
	families *accountFamilies
	kinds    []anyFamilies
	counters counters
	options  Options
	watcher  jobfile.Watcher
}

// account is one key: its client, and a watch for each kind that it has. It does
// not change; a reload makes another one, with the same watches.
type account struct {
	config    *config.Account
	base      *url.URL
	transport http.RoundTripper
	labels    series.Labels // that all its series begin with
	about     []any         // fields of every line of the log

	// One for each kind, nil where that is not watched, or not from files.
	watches []watcher
	files   []*jobfile.Follower
}

// newAccount returns the account that is to replace before, which may be nil.
// It watches nothing yet.
func newAccount(c *config.Account, s *common, before *account) (a *account, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	a = &account{config: c, watches: make([]watcher, len(s.kinds)), files: make([]*jobfile.Follower, len(s.kinds))}
	if s.fromFile {
		a.labels, a.about = series.Labels(nil).With("account", c.Name), []any{"account", c.Name}
	}
	if a.base, err = c.ParseBaseURL(); err != nil {
		return nil, err
	}
	if before != nil && before.config.SameClient(c) {
		a.transport = before.transport
		return a, nil
	}
	a.transport, err = c.Transport(s.options.DialContext)
	return a, err
}

// follow has the account follow its job files. What before follows too is not
// read anew.
func (a *account) follow(s *common, before *account) {
	for i, kind := range s.kinds {
		jobs := kind.configured(a.config)
		if jobs == nil || len(jobs.IDFiles) == 0 {
			continue
		}
		var known *jobfile.Follower
		if before != nil {
			known = before.files[i]
		}
		if known != nil && known.Follows(jobs.IDFiles) {
			a.files[i] = known
			continue
		}
		logger := log.With(s.options.Logger, a.about...)
		a.files[i] = s.watcher.Follow(jobs.IDFiles, known, logger)
	}
}

// start has the account watch what it is configured to, as before did.
func (a *account) start(s *common, before *account) {
	for i, kind := range s.kinds {
		jobs := kind.configured(a.config)
		if jobs == nil {
			continue
		}
		if before != nil {
			a.watches[i] = before.watches[i]
		}
		if a.watches[i] == nil {
			a.watches[i] = kind.watch(a, s)
		}
		a.watches[i].apply(setup{
			account:   a.config,
			jobs:      jobs,
			transport: a.transport,
			client: client.New(a.base, a.transport,
				client.WithClientName(a.config.ClientName),
				client.WithUserAgent(s.options.UserAgent),
				client.WithWarningHandler(a.watches[i].warn),
			),
			files:  a.files[i],
			newAPI: before != nil && !before.config.SameAPI(a.config),
		})
	}
	if err := a.config.KeyProblem(); err != nil { // for this account only
		var es events
		es.warn("API key cannot be used", err)
		es.write(s.options.Logger, a.about...)
	}
}

// close ends what next, which may be nil, does not go on with.
func (a *account) close(next *account) {
	for i, w := range a.watches {
		if w != nil && (next == nil || next.watches[i] == nil) {
			w.close()
		}
		if files := a.files[i]; files != nil && (next == nil || next.files[i] != files) {
			files.Close()
		}
	}
}

// filesRead waits until the job files were read once, or ctx ends.
func (a *account) filesRead(ctx context.Context) {
	for _, files := range a.files {
		if files != nil {
			files.Ready(ctx)
		}
	}
}

// cancel gives up the requests in flight.
func (a *account) cancel() {
	for _, w := range a.watches {
		if w != nil {
			w.cancel()
		}
	}
}

// collect has all kinds fetch side by side, until the deadline of ctx.
func (a *account) collect(ctx context.Context, s *common, patient bool) []view {
	began := time.Now()
	views := make([]view, len(a.watches), len(a.watches)+1)
	var wg sync.WaitGroup
	for i, w := range a.watches {
		if w != nil {
			wg.Go(func() { views[i] = w.collect(ctx, patient) })
		}
	}
	wg.Wait()
	up := true
	for i, w := range a.watches {
		up = up && (w == nil || views[i].up)
	}
	return append(views, view{others: []series.Gauge{
		s.families.up.Gauge(a.labels, series.Bool(up)),
		s.families.scrapeDuration.Gauge(a.labels, time.Since(began).Seconds()),
	}})
}

// anyFamilies are the series of a kind, whatever its T.
type anyFamilies interface {
	describe(ch chan<- *prometheus.Desc)
	configured(*config.Account) *config.Jobs
	idLabel() string
	watch(*account, *common) watcher
}

// watcher is a watch, whatever its T.
type watcher interface {
	apply(setup)
	collect(ctx context.Context, patient bool) view
	probe(ctx context.Context, id string) jobView
	overview(now time.Time) ResourceOverview
	warn(text string)
	cancel()
	close()
}
