package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// probe serves one job, for the multi-target pattern.
func (o Options) probe(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := o.deadline(r.Context(), r.Header)
	defer cancel()
	job, err := o.probed(ctx, r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reg := prometheus.NewRegistry()
	if r.Method != http.MethodHead {
		reg.MustRegister(job)
	}
	o.expose(w, r, reg, nil) // what counts errors is about /metrics
}

// probed returns what fetches the one job that a query names.
func (o Options) probed(ctx context.Context, query url.Values) (prometheus.Collector, error) {
	names := o.Set.ProbeIDs()
	given := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !query.Has(name) })
	switch {
	case len(given) == 0:
		return nil, fmt.Errorf("name the job to probe: %s=ID", strings.Join(names, "=ID or "))
	case len(given) > 1 || len(query[given[0]]) > 1:
		return nil, errors.New("probe one job at a time")
	}
	return o.Set.Probe(ctx, query.Get("account"), given[0], query.Get(given[0]))
}
