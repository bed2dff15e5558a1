package collector

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// maxLabelLength is the greatest length of a label value, in characters.
const maxLabelLength = 512

// desc describes a family of gauges.
type desc struct {
	name   string
	help   string
	labels []string // besides account and job_id
}

// jobRow is a family of gauges that a job's values give. Rows drive what is
// described and what is collected.
type jobRow struct {
	desc
	// add adds every series that the job has: absent is not zero.
	add func(j *client.Job, to *rows)
}

const fromMemory = " May be served from memory."

// statuses are the values of the label "status", sorted. A status that the API
// gains later is "unknown".
var statuses = []client.Status{
	client.Cancelled, client.Cancelling, client.Complete, client.Failed, client.Processing, unknownStatus,
}

const unknownStatus client.Status = "unknown"

func knownStatus(s client.Status) client.Status {
	if slices.Contains(statuses, s) {
		return s
	}
	return unknownStatus
}

// jobRows are the families that hold what the API says of a job.
var jobRows = []jobRow{
	{
		desc{"cohere_embed_job_status", "1 for the status of the job, 0 for the others." + fromMemory, []string{"status"}},
		func(j *client.Job, to *rows) {
			now := knownStatus(j.Status)
			for _, s := range statuses {
				to.add(float01(s == now), string(s))
			}
		},
	},
	reported("cohere_embed_job_billed_input_tokens", "Billed input tokens.",
		func(j *client.Job) client.Optional[float64] { return j.Meta.BilledUnits.InputTokens }),
	reported("cohere_embed_job_billed_output_tokens", "Billed output tokens.",
		func(j *client.Job) client.Optional[float64] { return j.Meta.BilledUnits.OutputTokens }),
	reported("cohere_embed_job_billed_images", "Billed images.",
		func(j *client.Job) client.Optional[float64] { return j.Meta.BilledUnits.Images }),
	reported("cohere_embed_job_billed_image_tokens", "Billed tokens of images.",
		func(j *client.Job) client.Optional[float64] { return j.Meta.BilledUnits.ImageTokens }),
	nonZero("cohere_embed_job_billed_search_units", "Billed search units. Absent while 0.",
		func(j *client.Job) client.Optional[float64] { return j.Meta.BilledUnits.SearchUnits }),
	nonZero("cohere_embed_job_billed_classifications", "Billed classifications. Absent while 0.",
		func(j *client.Job) client.Optional[float64] { return j.Meta.BilledUnits.Classifications }),
	nonZero("cohere_embed_job_billed_pages", "Billed pages. Absent while 0.",
		func(j *client.Job) client.Optional[float64] { return j.Meta.BilledUnits.Pages }),
	reported("cohere_embed_job_input_tokens", "Input tokens used, billed or not.",
		func(j *client.Job) client.Optional[float64] { return j.Meta.Tokens.InputTokens }),
	reported("cohere_embed_job_output_tokens", "Output tokens used, billed or not.",
		func(j *client.Job) client.Optional[float64] { return j.Meta.Tokens.OutputTokens }),
	reported("cohere_embed_job_cached_tokens", "Tokens that came from a cache.",
		func(j *client.Job) client.Optional[float64] { return j.Meta.CachedTokens }),
	reported("cohere_embed_job_warnings", "Number of warnings that the job carries.",
		func(j *client.Job) client.Optional[float64] {
			return client.Optional[float64]{Value: float64(len(j.Meta.Warnings)), Valid: j.Meta.Warnings != nil}
		}),
	reported("cohere_embed_job_created_timestamp_seconds", "When the job was created, in Unix time.",
		func(j *client.Job) client.Optional[float64] {
			return client.Optional[float64]{Value: unix(j.CreatedAt.Value), Valid: j.CreatedAt.Valid}
		}),
	{
		desc{
			"cohere_embed_job_info", "What is known of the job besides its status and numbers. Always 1." + fromMemory,
			[]string{"name", "model", "truncate", "input_dataset_id", "output_dataset_id"},
		},
		func(j *client.Job, to *rows) {
			to.add(1, j.Name, j.Model, j.Truncate, j.InputDatasetID, j.OutputDatasetID)
		},
	},
	{
		desc{
			"cohere_embed_job_api_info", "The API version that answered. Always 1." + fromMemory,
			[]string{"version", "deprecated", "experimental"},
		},
		func(j *client.Job, to *rows) {
			v := j.Meta.APIVersion
			if v != (client.APIVersion{}) {
				to.add(1, v.Version, boolLabel(v.Deprecated), boolLabel(v.Experimental))
			}
		},
	},
}

// The families that tell how fetching a job went, and the account's.
var (
	jobUp = desc{
		"cohere_embed_job_up",
		"1 if the last attempt to fetch the job worked and what is served is no older than allowed, else 0.", nil,
	}
	jobFetchError = desc{
		"cohere_embed_job_fetch_error",
		"1 while cohere_embed_job_up is 0, with the reason.",
		[]string{"reason"},
	}
	jobLastSuccess = desc{
		"cohere_embed_job_last_success_timestamp_seconds",
		"When the last successful request for the job was sent, in Unix time. Stays when its values are dropped.", nil,
	}
	jobStatusChanged = desc{
		"cohere_embed_job_status_changed_timestamp_seconds",
		"When this process first saw the status after having seen another, in Unix time." + fromMemory, nil,
	}

	accountUp = desc{
		"cohere_up",
		"1 if every job of the account, and its list where it is used, is up, else 0.", nil,
	}
	listUp = desc{
		"cohere_list_up",
		"1 if the last attempt to fetch the list of jobs worked and it is no older than allowed, else 0.", nil,
	}
	listFetchError = desc{
		"cohere_list_fetch_error",
		"1 while cohere_list_up is 0, with the reason.",
		[]string{"reason"},
	}
	accountJobs = desc{
		"cohere_embed_jobs",
		"Number of jobs watched.", nil,
	}
	accountDropped = desc{
		"cohere_embed_jobs_dropped",
		"Number of jobs found by discovery and left out by its limit on their number. May be served from memory.", nil,
	}
	jobFileSuccess = desc{
		"cohere_job_file_read_success",
		"1 if the present content of the job file is in use, else 0.",
		[]string{"file"},
	}
	scrapeDuration = desc{
		"cohere_scrape_duration_seconds",
		"How long this scrape took to fetch.", nil,
	}
	requestsLimit = desc{
		"cohere_api_requests_per_minute_limit",
		"The configured budget of API requests in any minute.", nil,
	}
)

// fetchDescs are described together with jobRows.
var (
	fetchDescs   = []desc{jobUp, jobFetchError, jobLastSuccess, jobStatusChanged}
	accountDescs = []desc{accountUp, listUp, listFetchError, accountJobs, accountDropped, jobFileSuccess, scrapeDuration, requestsLimit}
)

// reported is a row whose value is one that the API may leave out.
func reported(name, help string, value func(*client.Job) client.Optional[float64]) jobRow {
	return jobRow{desc{name, help + fromMemory, nil}, func(j *client.Job, to *rows) {
		if v := value(j); v.Valid {
			to.add(v.Value)
		}
	}}
}

// nonZero is a row for what an embed job normally has none of.
func nonZero(name, help string, value func(*client.Job) client.Optional[float64]) jobRow {
	return jobRow{desc{name, help + fromMemory, nil}, func(j *client.Job, to *rows) {
		if v := value(j); v.Valid && v.Value != 0 {
			to.add(v.Value)
		}
	}}
}

// rows are the series of one job, in the making.
type rows struct {
	schema *schema
	family *desc
	desc   *prometheus.Desc
	base   []*dto.LabelPair
	before []gauge // the job's series until now, whose labels are used again
	made   []gauge
}

func (r *rows) add(value float64, labels ...string) {
	g := gauge{r.desc, r.base, value}
	if len(labels) > 0 {
		if i := len(r.made); i < len(r.before) && r.before[i].desc == r.desc && r.before[i].has(r.family.labels, labels) {
			g.labels = r.before[i].labels
		} else {
			g = r.schema.gauge(*r.family, r.base, value, labels...)
		}
	}
	r.made = append(r.made, g)
}

// has tells whether the gauge's labels have these values.
func (g *gauge) has(names, values []string) bool {
	for i, name := range names {
		for _, pair := range g.labels {
			if pair.GetName() == name && pair.GetValue() != cutLabel(values[i]) {
				return false
			}
		}
	}
	return true
}

// schema holds what the registry knows the families by. Its label sets begin
// with the account where there are several.
type schema struct {
	withAccount bool
	descs       map[string]*prometheus.Desc
	rows        []*prometheus.Desc // those of jobRows
	names       map[string]*string // of labels
	statuses    map[string]*dto.LabelPair
}

func newSchema(withAccount bool) *schema {
	s := &schema{
		withAccount: withAccount,
		descs:       map[string]*prometheus.Desc{},
		names:       map[string]*string{},
		statuses:    map[string]*dto.LabelPair{},
	}
	add := func(d desc, labels ...string) {
		if withAccount {
			labels = append([]string{"account"}, labels...)
		}
		labels = append(labels, d.labels...)
		s.descs[d.name] = prometheus.NewDesc(d.name, d.help, labels, nil)
		for _, label := range labels {
			s.names[label] = &label
		}
	}
	for _, row := range jobRows {
		add(row.desc, "job_id")
		s.rows = append(s.rows, s.descs[row.name])
	}
	for _, d := range fetchDescs {
		add(d, "job_id")
	}
	for _, d := range accountDescs {
		add(d)
	}
	for _, status := range statuses {
		s.statuses[string(status)] = s.newPair("status", string(status))
	}
	return s
}

func (s *schema) describe(ch chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		ch <- d
	}
}

// accountLabels returns the labels that all series of an account begin with.
func (s *schema) accountLabels(account string) []*dto.LabelPair {
	if !s.withAccount {
		return nil
	}
	return []*dto.LabelPair{s.pair("account", account)}
}

// pair returns a label; those of the status are shared.
func (s *schema) pair(name, value string) *dto.LabelPair {
	if name == "status" {
		return s.statuses[value]
	}
	return s.newPair(name, value)
}

// newPair keeps the value beside the pair, and all pairs share the names: the
// registry reads both for every series.
func (s *schema) newPair(name, value string) *dto.LabelPair {
	p := struct {
		pair  dto.LabelPair
		value string
	}{value: cutLabel(strings.ToValidUTF8(value, "\uFFFD"))}
	p.pair.Name, p.pair.Value = s.names[name], &p.value
	return &p.pair
}

// gauge makes a series of family d with the labels of base and values for the
// family's own.
func (s *schema) gauge(d desc, base []*dto.LabelPair, value float64, labels ...string) gauge {
	g := gauge{desc: s.descs[d.name], labels: base, value: value}
	if len(labels) > 0 {
		g.labels = slices.Grow(slices.Clone(base), len(labels))
		for i, label := range labels {
			g.labels = append(g.labels, s.pair(d.labels[i], label))
		}
		slices.SortFunc(g.labels, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
	}
	return g
}

// gauge is an immutable series. Unlike a const metric it shares its labels with
// others of the same job, and makes what is encoded only when asked to: a third
// of the CPU time and of the memory of kept const metrics.
type gauge struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair // sorted by name
	value  float64
}

func (g *gauge) Desc() *prometheus.Desc { return g.desc }

func (g *gauge) Write(out *dto.Metric) error {
	out.Label = g.labels
	switch g.value {
	case 0:
		out.Gauge = zero
	case 1:
		out.Gauge = one
	default:
		out.Gauge = newGauge(g.value)
	}
	return nil
}

// zero and one are what most series are.
var zero, one = newGauge(0), newGauge(1)

func newGauge(value float64) *dto.Gauge {
	v := struct {
		gauge dto.Gauge
		value float64
	}{value: value}
	v.gauge.Value = &v.value
	return &v.gauge
}

func cutLabel(s string) string {
	if len(s) <= maxLabelLength || utf8.RuneCountInString(s) <= maxLabelLength {
		return s
	}
	return string([]rune(s)[:maxLabelLength])
}

func float01(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

func boolLabel(b client.Optional[bool]) string {
	switch {
	case !b.Valid:
		return ""
	case b.Value:
		return "true"
	}
	return "false"
}
