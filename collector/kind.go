package collector

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/series"
)

// kind is all that differs between kinds of jobs. T is what the API says of one
// of them.
type kind[T any] struct {
	name     string // in the names of metrics: embed_job
	resource string // the label, and the plural of the name: embed_jobs
	id       string // the label with a job's ID: job_id

	jobs func(*config.Account) *config.Jobs // nil: not watched

	get func(c *client.Client, ctx context.Context, id string) (*T, error)

	// list calls each for the entries of a page, and returns the token of the
	// next one, "" after the last.
	list func(c *client.Client, ctx context.Context, token string, each func(*T)) (next string, err error)

	read  func(*T) head // with any status that the API may send
	equal func(a, b *T) bool

	// merge fills in what an entry of the list left out of what is known.
	merge func(entry, known *T)

	// lacksTokens reports whether an entry came without what only a request for
	// the job itself may tell.
	lacksTokens func(entry *T) bool

	// describeJob says in words what a page shows of a job.
	describeJob func(*T) Description

	// statuses are the values of the label "status", sorted; unknownStatus is
	// among them.
	statuses []string
	rows     []row[T]
}

// head is what the exporter itself has to know of a job.
type head struct {
	id      string
	status  string // one of the kind's statuses
	settled bool
	name    string
	created client.Optional[time.Time]
}

// unknownStatus is any status that the API gains later.
const unknownStatus = "unknown"

func (k *kind[T]) head(j *T) head {
	h := k.read(j)
	if !slices.Contains(k.statuses, h.status) {
		h.status = unknownStatus
	}
	return h
}

// row is a family of gauges that a job's values give. Rows drive what is
// described and what is collected.
type row[T any] struct {
	name, help string
	labels     []string // besides account and ID
	add        func(j *T, to *series.Builder)
}

const fromMemory = " May be served from memory."

// reported is a row whose value is one that the API may leave out: absent is
// not zero.
func reported[T any](name, help string, value func(*T) client.Optional[float64]) row[T] {
	return row[T]{name, help + fromMemory, nil, func(j *T, to *series.Builder) {
		if v := value(j); v.Valid {
			to.Add(v.Value)
		}
	}}
}

// nonZero is a row for what a job normally has none of.
func nonZero[T any](name, help string, value func(*T) client.Optional[float64]) row[T] {
	return reported(name, help, func(j *T) client.Optional[float64] {
		v := value(j)
		return client.Optional[float64]{Value: v.Value, Valid: v.Value != 0}
	})
}

// timestamp is a row for a time, in Unix time.
func timestamp[T any](name, help string, value func(*T) client.Optional[time.Time]) row[T] {
	return reported(name, help, func(j *T) client.Optional[float64] {
		t := value(j)
		return client.Optional[float64]{Value: series.Seconds(t.Value), Valid: t.Valid}
	})
}

// families are the series of one kind.
type families[T any] struct {
	*kind[T]
	account *accountFamilies

	status, up, fetchError, lastSuccess, statusChanged *series.Family
	ofRows                                             []*series.Family
	watched, dropped                                   *series.Family
}

func (k *kind[T]) families(account *accountFamilies) anyFamilies {
	base := append(slices.Clone(account.base), k.id)
	of := func(name, help string, own ...string) *series.Family {
		return series.NewFamily("cohere_"+k.name+name, help, base, own)
	}
	f := &families[T]{
		kind:       k,
		account:    account,
		status:     of("_status", "1 for the status of the job, 0 for the others."+fromMemory, "status"),
		up:         of("_up", "1 if the last attempt to fetch the job worked and what is served is no older than allowed, else 0."),
		fetchError: of("_fetch_error", "1 while cohere_"+k.name+"_up is 0, with the reason.", "reason"),
		lastSuccess: of("_last_success_timestamp_seconds",
			"When the last successful request for the job was sent, in Unix time. Stays when its values are dropped."),
		statusChanged: of("_status_changed_timestamp_seconds",
			"When this process first saw the status after having seen another, in Unix time."+fromMemory),
		watched: series.NewFamily("cohere_"+k.resource, "Number of jobs watched.", account.base, nil),
		dropped: series.NewFamily("cohere_"+k.resource+"_dropped",
			"Number of jobs found by discovery and left out by its limit on their number."+fromMemory, account.base, nil),
	}
	f.status.Share(k.statuses)
	for _, row := range k.rows {
		f.ofRows = append(f.ofRows, series.NewFamily(row.name, row.help, base, row.labels))
	}
	return f
}

func (f *families[T]) describe(ch chan<- *prometheus.Desc) {
	for _, family := range slices.Concat(f.ofRows, []*series.Family{
		f.status, f.up, f.fetchError, f.lastSuccess, f.statusChanged, f.watched, f.dropped,
	}) {
		ch <- family.Desc()
	}
}

func (f *families[T]) idLabel() string { return f.id }

func (f *families[T]) configured(a *config.Account) *config.Jobs { return f.jobs(a) }

// values returns the series of what the API says of a job. Labels of those that
// it had before are used again.
func (f *families[T]) values(j *T, base series.Labels, before []series.Gauge) []series.Gauge {
	b := series.NewBuilder(base, before)
	now := f.head(j).status
	b.Family = f.status
	for _, status := range f.statuses {
		b.Add(series.Bool(status == now), status)
	}
	for i := range f.rows {
		b.Family = f.ofRows[i]
		f.rows[i].add(j, b)
	}
	return b.Gauges()
}

// accountFamilies are the series of accounts. They have the label "resource"
// where they speak of one kind.
type accountFamilies struct {
	base []string // labels that all series begin with

	up, scrapeDuration                                  *series.Family
	listUp, listFetchError, fileSuccess, refresh, limit *series.Family
}

func newAccountFamilies(withAccount bool) *accountFamilies {
	f := &accountFamilies{}
	if withAccount {
		f.base = []string{"account"}
	}
	of := func(name, help string, own ...string) *series.Family {
		return series.NewFamily(name, help, f.base, own)
	}
	f.up = of("cohere_up", "1 if every job of the account, and each list that is used, is up, else 0.")
	f.scrapeDuration = of("cohere_scrape_duration_seconds", "How long this scrape took to fetch.")
	f.listUp = of("cohere_list_up",
		"1 if the last attempt to fetch the list of jobs worked and it is no older than allowed, else 0.", "resource")
	f.listFetchError = of("cohere_list_fetch_error", "1 while cohere_list_up is 0, with the reason.", "resource", "reason")
	f.fileSuccess = of("cohere_job_file_read_success", "1 if the present content of the job file is in use, else 0.", "resource", "file")
	f.refresh = of("cohere_refresh_interval_seconds", "The configured interval below whose age a job is not fetched again.", "resource")
	f.limit = of("cohere_api_requests_per_minute_limit", "The budget of API requests in any minute: the configured one, or what refusals taught.", "resource")
	return f
}

func (f *accountFamilies) describe(ch chan<- *prometheus.Desc) {
	for _, family := range []*series.Family{
		f.up, f.scrapeDuration, f.listUp, f.listFetchError, f.fileSuccess, f.refresh, f.limit,
	} {
		ch <- family.Desc()
	}
}
