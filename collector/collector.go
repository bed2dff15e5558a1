// Package collector exposes Cohere's jobs as Prometheus metrics.
//
// A [Set] holds the accounts that are watched, and each account a watch for
// every kind of jobs that it has. At a scrape each watch plans what is due
// (plan.go), has its scheduler send as much as the limits allow, remembers the
// answers (memory.go), and gives an immutable view of all that is known
// (snapshot.go). What differs between kinds is one value (kind.go).
package collector

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// firstReading is how long the start and a reload wait for job files. A scrape
// never does.
const firstReading = 10 * time.Second

// Set is the accounts that are watched. It is safe for concurrent use.
type Set struct {
	common

	mu       sync.Mutex
	accounts []*account // by name
	closed   bool
}

// New returns the Set that cfg describes, without asking the API anything.
func New(cfg *config.Config, o Options) (*Set, error) {
	if o.Logger == nil {
		o.Logger = log.NewNopLogger()
	}
	s := &Set{common: common{fromFile: cfg.FromFile, families: newAccountFamilies(cfg.FromFile), options: o}}
	s.counters = newCounters(s.families.base)
	for _, families := range kinds {
		s.kinds = append(s.kinds, families(s.families))
	}
	if err := s.Apply(cfg); err != nil {
		return nil, err
	}
	o.Registerer.MustRegister(s.counters.requests, s.counters.duration, s.counters.skipped, s.counters.warnings)
	return s, nil
}

// Apply replaces the configuration by another of the same origin, flags or
// file. Accounts and jobs that stay keep what is known of them; an account with
// another key or address keeps its budget only. It waits for new job files to be
// read, for 10 s at most. On error nothing has changed. Calls must not overlap.
func (s *Set) Apply(cfg *config.Config) error {
	if cfg.FromFile != s.fromFile {
		return errors.New("configuration by flags and by file cannot follow each other")
	}
	before := map[string]*account{}
	for _, a := range s.watched() {
		before[a.config.Name] = a
	}
	accounts := make([]*account, len(cfg.Accounts))
	for i := range cfg.Accounts {
		c := cfg.Accounts[i]
		var err error
		if accounts[i], err = newAccount(&c, &s.common, before[c.Name]); err != nil {
			return err
		}
	}

	ctx, cancel := context.WithTimeout(context.Background(), firstReading)
	defer cancel()
	for _, a := range accounts {
		a.follow(&s.common, before[a.config.Name])
	}
	for _, a := range accounts {
		a.filesRead(ctx)
	}
	next := map[string]*account{}
	for _, a := range accounts {
		a.start(&s.common, before[a.config.Name])
		next[a.config.Name] = a
	}
	slices.SortFunc(accounts, func(a, b *account) int { return cmp.Compare(a.config.Name, b.config.Name) })
	s.mu.Lock()
	closed := s.closed // meanwhile
	if !closed {
		s.accounts = accounts
	}
	s.mu.Unlock()
	if closed {
		closeAll(accounts)
	}
	for name, a := range before {
		a.close(next[name])
	}
	return nil
}

func (s *Set) watched() []*account {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accounts
}

// Close gives up what is in flight.
func (s *Set) Close() {
	s.mu.Lock()
	accounts := s.accounts
	s.accounts, s.closed = nil, true
	s.mu.Unlock()
	closeAll(accounts)
	_ = s.watcher.Close() // nobody can do anything about it
}

// closeAll gives up what is in flight.
func closeAll(accounts []*account) {
	for _, a := range accounts {
		a.cancel()
		a.close(nil)
	}
}

// Collector returns the collector of one scrape, which fetches until the
// deadline of ctx. Register it for that scrape only.
func (s *Set) Collector(ctx context.Context) prometheus.Collector {
	return &scrape{s, ctx, false}
}

// Patient returns a collector that also fetches what budget and gate allow only
// later, until ctx ends or the API has refused everything for 10 minutes. The
// log says how far it is.
func (s *Set) Patient(ctx context.Context) prometheus.Collector {
	return &scrape{s, ctx, true}
}

// scrape lives as long as the request that it serves, and so may hold its
// context.
type scrape struct {
	set     *Set
	ctx     context.Context
	patient bool
}

// Describe implements prometheus.Collector.
func (s *scrape) Describe(ch chan<- *prometheus.Desc) {
	s.set.families.describe(ch)
	for _, kind := range s.set.kinds {
		kind.describe(ch)
	}
}

// Collect implements prometheus.Collector: it has all accounts fetch side by side.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	accounts := s.set.watched()
	views := make([][]view, len(accounts))
	var wg sync.WaitGroup
	for i, a := range accounts {
		wg.Go(func() { views[i] = a.collect(s.ctx, &s.set.common, s.patient) })
	}
	wg.Wait()
	for _, ofAccount := range views {
		for i := range ofAccount {
			ofAccount[i].collect(ch)
		}
	}
}
