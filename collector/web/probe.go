package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// probe serves one job, for the multi-target pattern.
func (o Options) probe() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		parameter, err := o.probeParameter(query)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := o.deadline(r.Context(), r.Header)
		defer cancel()
		job, err := o.Set.Probe(ctx, query.Get("account"), parameter, query.Get(parameter))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reg := prometheus.NewRegistry()
		if r.Method != http.MethodHead {
			reg.MustRegister(job)
		}
		o.expose(w, r, reg, nil) // what counts errors is about /metrics
	})
}

// probeParameter returns the one parameter that names a job.
func (o Options) probeParameter(query url.Values) (parameter string, err error) {
	names := o.Set.ProbeIDs()
	for _, name := range names {
		switch values := query[name]; {
		case len(values) == 0:
			continue
		case len(values) > 1 || parameter != "":
			return "", errors.New("probe one job at a time")
		}
		parameter = name
	}
	if parameter == "" {
		return "", fmt.Errorf("name the job to probe: %s=ID", strings.Join(names, "=ID or "))
	}
	return parameter, nil
}
