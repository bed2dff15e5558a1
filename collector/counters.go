package collector

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// The values of the label "endpoint".
const (
	getEndpoint  = "get"
	listEndpoint = "list"
)

// skipReasons are the values of the label "reason" of skipped fetches.
var skipReasons = map[schedule.Why]string{
	schedule.Budget:   "over_budget",
	schedule.Gate:     "rate_limited",
	schedule.Deadline: "deadline",
}

// counters count what was asked of the API. Each watch has its own, curried
// from those that are registered.
type counters struct {
	requests *prometheus.CounterVec   // endpoint, code
	duration *prometheus.HistogramVec // endpoint
	skipped  *prometheus.CounterVec   // reason
	warnings *prometheus.CounterVec
}

func newCounters(base []string) counters {
	labels := func(own ...string) []string { return append(append([]string{}, base...), own...) }
	return counters{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cohere_api_requests_total",
			Help: "API requests sent, by HTTP status, or \"error\" where there was none.",
		}, labels("resource", "endpoint", "code")),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "cohere_api_request_duration_seconds",
			Help:                            "How long API requests took, from before sending to the end of the answer.",
			Buckets:                         []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, labels("resource", "endpoint")),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cohere_fetches_skipped_total",
			Help: "Requests that were due and not sent, by reason.",
		}, labels("resource", "reason")),
		warnings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cohere_api_warnings_total",
			Help: "API answers that carried a warning.",
		}, labels("resource")),
	}
}

func (c counters) of(labels prometheus.Labels) counters {
	return counters{
		requests: c.requests.MustCurryWith(labels),
		duration: c.duration.MustCurryWith(labels).(*prometheus.HistogramVec),
		skipped:  c.skipped.MustCurryWith(labels),
		warnings: c.warnings.MustCurryWith(labels),
	}
}

// start makes every series that is expected there before it counts anything.
func (c counters) start(endpoint string) {
	for _, code := range []string{"200", "429", "error"} {
		c.requests.WithLabelValues(endpoint, code)
	}
	c.duration.WithLabelValues(endpoint)
	for _, reason := range skipReasons {
		c.skipped.WithLabelValues(reason)
	}
	c.warnings.WithLabelValues()
}

func (c counters) forget(labels prometheus.Labels) {
	c.requests.DeletePartialMatch(labels)
	c.duration.DeletePartialMatch(labels)
	c.skipped.DeletePartialMatch(labels)
	c.warnings.DeletePartialMatch(labels)
}

func (c counters) count(endpoint string, took time.Duration, err error) {
	code := "error"
	switch status := client.StatusCode(err); {
	case status != 0:
		code = strconv.Itoa(status)
	case client.ReasonOf(err) == client.NoKey:
		return // nothing was sent
	}
	c.requests.WithLabelValues(endpoint, code).Inc()
	c.duration.WithLabelValues(endpoint).Observe(took.Seconds())
}
