package collector_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// readmeTable returns the rows of the README's table that begins with this
// header.
func readmeTable(t *testing.T, header string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), header+"\n")
	if !found {
		t.Fatalf("README has no table %s", header)
	}
	for i, line := range slices.Collect(strings.Lines(after)) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		if i == 0 { // the line below the header
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i, cell := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cell), "`")
		}
		rows = append(rows, cells)
	}
	if len(rows) == 0 {
		t.Fatalf("README's table %s is empty", header)
	}
	return rows
}

// perMinute is how many requests Cohere allows a key, as README says.
var perMinute = map[string]int{"production": 50, "trial": 5}

// setting is a row of the table "which flags?".
type setting struct {
	jobs, active     int
	interval, oldest time.Duration
	key              string
	flags            []string
	requests         int // in any minute
}

func readSetting(t *testing.T, row []string) (s setting) {
	t.Helper()
	number := func(cell string) int {
		n, err := strconv.Atoi(cell)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	s.jobs, s.active, s.requests = number(row[0]), number(row[1]), number(row[5])
	s.interval, s.oldest = duration(t, row[2]), duration(t, row[6])
	s.key, s.flags = row[3], strings.Fields(row[4])
	return s
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := model.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(d)
}

// apply sets what the flags set.
func (s setting) apply(t *testing.T, c *config.Account) {
	c.EmbedJobs.RequestsPerMinute = config.DefaultRequestsPerMinute
	t.Helper()
	for _, flag := range s.flags {
		name, value, _ := strings.Cut(flag, "=")
		var err error
		switch name {
		case "--cohere.requests-per-minute":
			c.EmbedJobs.RequestsPerMinute, err = strconv.ParseFloat(value, 64)
		case "--cohere.refresh-interval":
			err = c.EmbedJobs.RefreshInterval.Set(value)
		case "--cohere.settled-interval":
			err = c.EmbedJobs.SettledInterval.Set(value)
		case "--cohere.max-staleness":
			err = c.EmbedJobs.MaxStaleness.Set(value)
		case "--cohere.fetch":
			c.EmbedJobs.Fetch = value
		default:
			t.Fatalf("the test does not know %s", name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Every row of the table keeps what it promises against an API that refuses
// whatever is beyond the key's limit. Where flags make that cost nothing, a
// pair of Prometheus servers scrapes.
func TestReadmeSettings(t *testing.T) {
	const latency = 200 * time.Millisecond
	rows := readmeTable(t, "| jobs | active ones | scrape interval | key | flags | requests a minute, at most | oldest active value |")
	for i, row := range rows {
		for _, listWithoutMeta := range []bool{false, true} {
			s := readSetting(t, row)
			list := slices.Contains(s.flags, "--cohere.fetch=list")
			if listWithoutMeta && !list {
				continue
			}
			t.Run(fmt.Sprintf("row %d, list without meta %v", i+1, listWithoutMeta), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newHarness(t, s.jobs, func(c *config.Account) { s.apply(t, c) })
					b.api.SetLatency(latency)
					b.user.ListWithoutMeta(listWithoutMeta)
					b.user.Limit(cohertest.Limit{Requests: perMinute[s.key], Per: time.Minute, CountRefused: true})
					for j := s.active; j < s.jobs; j++ {
						b.user.Update(fmt.Sprintf("job-%03d", j), func(j *cohertest.Job) { j.Status = "complete" })
					}
					s.hold(t, b)
				})
			})
		}
	}
}

// hold scrapes long enough to see each value get old a few times.
func (s setting) hold(t *testing.T, b *harness) {
	between := s.interval
	if strings.Contains(strings.Join(s.flags, " "), "--cohere.refresh-interval=") {
		between /= 2
	}
	const warmUp = 15 * time.Minute
	started := time.Now()
	up, oldest := false, time.Duration(0)
	for elapsed := time.Duration(0); elapsed < warmUp+max(15*time.Minute, 3*s.oldest); elapsed += between {
		time.Sleep(time.Until(started.Add(elapsed)))
		var fetched []time.Time
		up, fetched = b.ages()
		if elapsed < warmUp {
			continue
		}
		if len(fetched) != s.jobs {
			t.Fatalf("after %v %d of %d jobs were fetched", elapsed, len(fetched), s.jobs)
		}
		for _, at := range fetched[:s.active] { // they are the first
			oldest = max(oldest, time.Since(at))
		}
	}
	if most := s.oldest + s.interval; oldest > most {
		t.Errorf("an active value got %v old, more than %v", oldest, most)
	}
	if !up {
		t.Error("cohere_up is not 1 at the end")
	}
	requests := b.api.Requests()
	greatest := 0
	for i, from := 0, 0; i < len(requests); i++ {
		if requests[i].Status == http.StatusTooManyRequests {
			t.Fatalf("request %d is refused", i)
		}
		for requests[i].Time.Sub(requests[from].Time) >= time.Minute {
			from++
		}
		greatest = max(greatest, i-from+1)
	}
	if greatest > s.requests {
		t.Errorf("%d requests in a minute, more than %d", greatest, s.requests)
	}
	t.Logf("at most %d requests in a minute, oldest active value %v", greatest, oldest)
}

// ages scrapes and returns whether everything is up, and when each job was last
// fetched. A registry would take most of the time of the test.
func (b *harness) ages() (up bool, fetched []time.Time) {
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	scrape := b.set.Collector(ctx)
	descs := make(chan *prometheus.Desc)
	go func() { defer close(descs); scrape.Describe(descs) }()
	var upDesc, fetchedDesc *prometheus.Desc
	for d := range descs {
		switch {
		case strings.Contains(d.String(), `"cohere_up"`):
			upDesc = d
		case strings.Contains(d.String(), `"cohere_embed_job_last_success_timestamp_seconds"`):
			fetchedDesc = d
		}
	}
	metrics := make(chan prometheus.Metric)
	go func() { defer close(metrics); scrape.Collect(metrics) }()
	for m := range metrics {
		if d := m.Desc(); d != upDesc && d != fetchedDesc {
			continue
		}
		var out dto.Metric
		if err := m.Write(&out); err != nil {
			b.t.Fatal(err)
		}
		if m.Desc() == upDesc {
			up = out.Gauge.GetValue() == 1
			continue
		}
		fetched = append(fetched, time.UnixMilli(int64(math.Round(out.Gauge.GetValue()*1e3))))
	}
	return up, fetched
}

// Without flags each scrape makes a request for each job: so many jobs use up
// the limit of a key, and one more is beyond it.
func TestReadmeLimits(t *testing.T) {
	for _, row := range readmeTable(t, "| key | scrapes every 15 s | every 60 s | every 60 s, a pair of Prometheus servers |") {
		kind, _, _ := strings.Cut(row[0], ",")
		limit := perMinute[kind]
		if want := fmt.Sprintf("%s, %d a minute", kind, limit); row[0] != want {
			t.Errorf("%q, want %q", row[0], want)
		}
		for i, scrapes := range []int{4, 1, 2} {
			words := strings.Fields(row[1+i])
			if n, err := strconv.Atoi(words[0]); err != nil || n != limit/scrapes {
				t.Errorf("%s: %s at %d scrapes a minute", kind, row[1+i], scrapes)
			}
		}
	}
}
