// Package collector exposes Cohere embed jobs as Prometheus metrics.
//
// A Set holds the accounts that are watched. Each scrape has every account
// plan what to ask for, ask as far as its limit allows, and report what it
// remembers: plan.go, limit.go, memory.go and metrics.go are these four parts,
// and account.go owns the state that they work on.
package collector

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// Set is the accounts that are watched. It is safe for concurrent use.
type Set struct {
	schema  *schema
	metrics apiMetrics
	logger  log.Logger
	options Options
	watcher dirWatcher // of job files

	mu       sync.RWMutex
	accounts []*account // by name
}

// Options are what a Set needs besides its configuration.
type Options struct {
	Logger     log.Logger
	Registerer prometheus.Registerer // of the counters of API requests
	UserAgent  string

	// DialContext takes the place of the network, for tests.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

// New returns the Set that cfg describes, without asking the API anything.
func New(cfg *Config, o Options) (*Set, error) {
	if o.Logger == nil {
		o.Logger = log.NewNopLogger()
	}
	s := &Set{
		schema:  newSchema(cfg.FromFile),
		metrics: newAPIMetrics(cfg.FromFile),
		logger:  o.Logger,
		options: o,
	}
	if err := s.Apply(cfg); err != nil {
		return nil, err
	}
	for _, c := range s.metrics.collectors() {
		if err := o.Registerer.Register(c); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Apply goes over to another configuration of the same origin, flags or file.
// Accounts and jobs that stay keep what is known of them; an account with
// another key or address keeps its budget only. On error nothing has changed.
func (s *Set) Apply(cfg *Config) error {
	if cfg.FromFile != s.schema.withAccount {
		return errors.New("configuration by flags and by file cannot follow each other")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := map[string]*account{}
	for _, a := range s.accounts {
		gone[a.name] = a
	}
	accounts := make([]*account, len(cfg.Accounts))
	clients := make([]*client.Client, len(cfg.Accounts)) // nil: the old one stays
	for i := range cfg.Accounts {
		c := &cfg.Accounts[i]
		if err := c.Validate(); err != nil {
			return err
		}
		a, stays := gone[c.Name]
		if !stays {
			a = newAccount(c.Name, s.schema, &s.watcher)
		}
		accounts[i] = a
		if stays && a.config.sameClient(c) {
			continue
		}
		var err error
		if clients[i], err = s.newClient(c, a.onWarning); err != nil {
			return err
		}
	}

	for i, a := range accounts {
		a.configure(cfg.Accounts[i], clients[i], s.metrics, s.logger)
		delete(gone, a.name)
	}
	for name, a := range gone {
		a.close()
		s.metrics.forget(name)
	}
	slices.SortFunc(accounts, func(a, b *account) int { return cmp.Compare(a.name, b.name) })
	s.accounts = accounts
	return nil
}

// Close gives up what is under way.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.accounts {
		a.cancel()
		a.close()
	}
	s.accounts = nil
	s.watcher.Close()
}

// Scrape returns the collector of one scrape, which fetches until the deadline
// of ctx. Register it for that scrape only.
func (s *Set) Scrape(ctx context.Context) prometheus.Collector {
	return &scraper{s, ctx}
}

// scraper lives as long as the request that it serves, and so may hold its
// context.
type scraper struct {
	set *Set
	ctx context.Context
}

// Describe implements prometheus.Collector.
func (s *scraper) Describe(ch chan<- *prometheus.Desc) { s.set.schema.describe(ch) }

// Collect implements prometheus.Collector.
func (s *scraper) Collect(ch chan<- prometheus.Metric) {
	for _, r := range s.set.refresh(s.ctx) {
		// In the order of labels: the registry sorts, and that costs half the
		// time where all is sorted already.
		for i := range r.jobs {
			v := &r.jobs[i]
			for i := range v.values {
				ch <- &v.values[i]
			}
			ch <- v.up
			for _, g := range v.others {
				if g != nil {
					ch <- g
				}
			}
		}
		for i := range r.others {
			ch <- &r.others[i]
		}
	}
}

// refresh has all accounts fetch side by side.
func (s *Set) refresh(ctx context.Context) []report {
	s.mu.RLock()
	accounts := s.accounts
	s.mu.RUnlock()
	reports := make([]report, len(accounts))
	var wg sync.WaitGroup
	for i, a := range accounts {
		wg.Go(func() { reports[i] = a.refresh(ctx) })
	}
	wg.Wait()
	return reports
}

func (s *Set) newClient(c *AccountConfig, onWarning func(string)) (*client.Client, error) {
	base, err := c.baseURL()
	if err != nil {
		return nil, err
	}
	hc, err := c.httpClient(s.options.DialContext)
	if err != nil {
		return nil, err
	}
	return client.New(base, hc,
		client.WithClientName(c.ClientName),
		client.WithUserAgent(s.options.UserAgent),
		client.WithWarningHandler(onWarning),
	), nil
}
