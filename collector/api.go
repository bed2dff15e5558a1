package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// The values of the label "endpoint".
const (
	getEndpoint  = "get"
	listEndpoint = "list"
)

// apiMetrics count what was asked of the API. There is one for each account,
// curried from those that are registered.
type apiMetrics struct {
	requests *prometheus.CounterVec   // endpoint, code
	duration *prometheus.HistogramVec // endpoint
	skipped  *prometheus.CounterVec   // reason
	warnings *prometheus.CounterVec
}

func newAPIMetrics(withAccount bool) apiMetrics {
	labels := func(names ...string) []string {
		if withAccount {
			return append([]string{"account"}, names...)
		}
		return names
	}
	return apiMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cohere_api_requests_total",
			Help: "API requests sent, by HTTP status, or \"error\" where there was none.",
		}, labels("endpoint", "code")),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "cohere_api_request_duration_seconds",
			Help:                            "How long API requests took, from before sending to the end of the answer.",
			Buckets:                         []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, labels("endpoint")),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cohere_fetches_skipped_total",
			Help: "Requests that were due and not sent, by reason.",
		}, labels("reason")),
		warnings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cohere_api_warnings_total",
			Help: "API answers that carried a warning.",
		}, labels()),
	}
}

func (m apiMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.duration, m.skipped, m.warnings}
}

// of returns the metrics of one account, with every series that is expected
// there from the start.
func (m apiMetrics) of(account string, withAccount bool, endpoints ...string) apiMetrics {
	if withAccount {
		labels := prometheus.Labels{"account": account}
		m = apiMetrics{
			requests: m.requests.MustCurryWith(labels),
			duration: m.duration.MustCurryWith(labels).(*prometheus.HistogramVec),
			skipped:  m.skipped.MustCurryWith(labels),
			warnings: m.warnings.MustCurryWith(labels),
		}
	}
	for _, endpoint := range endpoints {
		for _, code := range []string{"200", "429", "error"} {
			m.requests.WithLabelValues(endpoint, code)
		}
		m.duration.WithLabelValues(endpoint)
	}
	for _, reason := range []string{string(tooMany), string(client.RateLimited), skippedDeadline} {
		m.skipped.WithLabelValues(reason)
	}
	m.warnings.WithLabelValues()
	return m
}

// forget deletes the series of an account that is no longer watched.
func (m apiMetrics) forget(account string) {
	labels := prometheus.Labels{"account": account}
	m.requests.DeletePartialMatch(labels)
	m.duration.DeletePartialMatch(labels)
	m.skipped.DeletePartialMatch(labels)
	m.warnings.DeletePartialMatch(labels)
}

// skippedDeadline is the one reason of a skipped fetch that is not the reason
// that its job is given.
const skippedDeadline = "deadline"
