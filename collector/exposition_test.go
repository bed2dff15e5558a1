package collector_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// example is the answer that the API's documentation shows.
const example = `{
  "job_id": "ebd-9f8a7c6d5b4e3a21",
  "status": "complete",
  "created_at": "2024-04-10T14:22:35Z",
  "input_dataset_id": "ds-1234abcd5678efgh",
  "model": "embed-multilingual-v2.0",
  "truncate": "END",
  "name": "Customer Reviews Embedding Job",
  "output_dataset_id": "ds-8765hgfedcba4321",
  "meta": {
    "api_version": {"version": "1.0.0", "is_deprecated": false, "is_experimental": false},
    "billed_units": {
      "images": 0,
      "input_tokens": 1520,
      "image_tokens": 0,
      "output_tokens": 1520,
      "search_units": 0,
      "classifications": 0
    },
    "tokens": {"input_tokens": 1520, "output_tokens": 1520},
    "cached_tokens": 0,
    "warnings": []
  }
}`

// text writes series as in the text format, sorted, without those of 0 if
// nonZero. Only the named families, if there are any names; an asterisk at the
// end of a name stands for anything.
func (s series) text(nonZero bool, families ...string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		family, _, _ := strings.Cut(name, "{")
		named := func(f string) bool {
			prefix, many := strings.CutSuffix(f, "*")
			return f == family || many && strings.HasPrefix(family, prefix)
		}
		if len(families) > 0 && !slices.ContainsFunc(families, named) || nonZero && s[name] == 0 {
			continue
		}
		text.WriteString(name + " " + strconv.FormatFloat(s[name], 'f', -1, 64) + "\n")
	}
	return text.String()
}

// compare fails if texts differ. White space around lines does not matter.
func compare(t *testing.T, what, got, want string) {
	t.Helper()
	lines := func(text string) []string {
		all := strings.Split(strings.TrimSpace(text), "\n")
		for i := range all {
			all[i] = strings.TrimSpace(all[i])
		}
		return all
	}
	g, w := lines(got), lines(want)
	if slices.Equal(g, w) {
		return
	}
	t.Errorf("%s:\n%s", what, strings.Join(g, "\n"))
	for _, line := range w {
		if !slices.Contains(g, line) {
			t.Errorf("missing: %s", line)
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			t.Errorf("unexpected: %s", line)
		}
	}
}

func TestExposition(t *testing.T) {
	for _, fromFile := range []bool{false, true} {
		name := map[bool]string{false: "flags", true: "file"}[fromFile]
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &harness{t: t, api: cohertest.New(), reg: prometheus.NewRegistry(), logs: &logs{}}
				b.api.AddUser(key).Add(cohertest.Job{ID: "ebd-9f8a7c6d5b4e3a21", Raw: example})
				server := b.api.StartInMemory()
				defer server.Close()
				c := account(server, key)
				c.EmbedJobs.IDs = []string{"ebd-0000000000000000", "ebd-9f8a7c6d5b4e3a21"}
				c.EmbedJobs.RequestsPerMinute = 40
				want, err := os.ReadFile("testdata/exposition.prom")
				if err != nil {
					t.Fatal(err)
				}
				if fromFile {
					c.Name = "search"
					want = regexp.MustCompile(`(?m)^(\w+)\{`).ReplaceAll(want, []byte(`$1{account="search",`))
					want = regexp.MustCompile(`(?m)^(\w+) `).ReplaceAll(want, []byte(`$1{account="search"} `))
				}
				b.start(server, &config.Config{Accounts: []config.Account{c}, FromFile: fromFile})
				if err := testutil.CollectAndCompare(b.set.Collector(t.Context()), bytes.NewReader(want)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What the API does not report has no series.
func TestReportedValues(t *testing.T) {
	const (
		id      = `job_id="job-000"`
		status  = `cohere_embed_job_status{` + id + `,status="processing"} 1` + "\n"
		created = `cohere_embed_job_created_timestamp_seconds{` + id + `} 946681200` + "\n"
		apiInfo = `cohere_embed_job_api_info{deprecated="false",experimental="false",` + id + `,version="1"} 1` + "\n"
		numbers = `cohere_embed_job_billed_image_tokens{` + id + `} 0
			cohere_embed_job_billed_images{` + id + `} 0
			cohere_embed_job_billed_input_tokens{` + id + `} 1520
			cohere_embed_job_billed_output_tokens{` + id + `} 0
			cohere_embed_job_cached_tokens{` + id + `} 0` + "\n"
		tokens = `cohere_embed_job_input_tokens{` + id + `} 1520
			cohere_embed_job_output_tokens{` + id + `} 0` + "\n"
		warnings = `cohere_embed_job_warnings{` + id + `} 0` + "\n"
	)
	info := func(name string) string {
		return `cohere_embed_job_info{input_dataset_id="ds-job-000-in",` + id +
			`,model="embed-multilingual-v3.0",name="` + name + `",output_dataset_id="",truncate="END"} 1` + "\n"
	}
	noInfo := `cohere_embed_job_info{input_dataset_id="",` + id +
		`,model="",name="",output_dataset_id="",truncate=""} 1` + "\n"
	all := apiInfo + numbers + created + info("nightly") + tokens + status + warnings

	for _, c := range []struct {
		name   string
		fault  cohertest.Fault
		change func(j *cohertest.Job)
		want   string
	}{
		{name: "all", want: all},
		{name: "numbers with exponent", fault: cohertest.NumbersWithExponent, want: all},
		{name: "numbers with fraction", fault: cohertest.NumbersWithFraction, want: all},
		{name: "missing fields", fault: cohertest.MissingFields, want: noInfo + status},
		{name: "wrong types", fault: cohertest.WrongTypes, want: noInfo + status},
		{name: "null fields", fault: cohertest.NullFields, want: created + info("") + status},
		{name: "null meta", fault: cohertest.NullMeta, want: created + info("nightly") + status},
		{
			name: "numbers as strings", fault: cohertest.NumbersAsStrings,
			want: apiInfo + created + info("nightly") + status + warnings,
		},
		{
			name: "unknown status", fault: cohertest.UnknownStatus,
			want: strings.Replace(all, "processing", "unknown", 1),
		},
		{
			name: "name not UTF-8", fault: cohertest.InvalidUTF8,
			want: strings.Replace(all, "nightly", "caf\uFFFD \uFFFD\uFFFD", 1),
		},
		{
			name: "long name", change: func(j *cohertest.Job) { j.Name = strings.Repeat("é", 513) },
			want: strings.Replace(all, "nightly", strings.Repeat("é", 512), 1),
		},
		{
			name: "unusual units", change: func(j *cohertest.Job) { j.SearchUnits, j.Classifications, j.Pages = 1, 2, 3 },
			want: apiInfo + `cohere_embed_job_billed_classifications{` + id + `} 2` + "\n" +
				strings.TrimSuffix(numbers, `cohere_embed_job_cached_tokens{`+id+`} 0`+"\n") +
				`cohere_embed_job_billed_pages{` + id + `} 3
				cohere_embed_job_billed_search_units{` + id + `} 1
				cohere_embed_job_cached_tokens{` + id + `} 0` + "\n" +
				created + info("nightly") + tokens + status + warnings,
		},
		{name: "created at no time", change: func(j *cohertest.Job) {
			j.Raw = `{"job_id":"job-000","status":"processing","created_at":"yesterday"}`
		}, want: noInfo + status},
		{name: "partial version", change: func(j *cohertest.Job) {
			j.Raw = `{"job_id":"job-000","status":"processing","meta":{"api_version":{"is_deprecated":true}}}`
		}, want: `cohere_embed_job_api_info{deprecated="true",experimental="",` + id + `,version=""} 1` + "\n" + noInfo + status},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, 1, nil)
				b.user.Update("job-000", func(j *cohertest.Job) { j.Name, j.InputTokens = "nightly", 1520 })
				if c.change != nil {
					b.user.Update("job-000", c.change)
				}
				b.user.Fail("job-000", c.fault)
				s := b.scrape(time.Second)
				maps.DeleteFunc(s, func(name string, value float64) bool {
					return strings.HasPrefix(name, "cohere_embed_job_status{") && value == 0 ||
						strings.HasPrefix(name, "cohere_embed_job_up{") ||
						strings.HasPrefix(name, "cohere_embed_job_last_success_")
				})
				compare(t, "series", s.text(false, "cohere_embed_job_*"), c.want)
			})
		})
	}
}

func TestUnusualJobIDs(t *testing.T) {
	ids := []string{"a/b", "a?b=c", "100%", "50%2F", `a"quote`, "Auftragsübersicht", "作业", "..."}
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 0, func(c *config.Account) { c.EmbedJobs.IDs = ids })
		var want []string
		for i, id := range ids {
			b.user.Add(cohertest.Job{ID: id, InputTokens: float64(i)})
			want = append(want, fmt.Sprintf("cohere_embed_job_billed_input_tokens{job_id=%q} %d", id, i))
		}
		slices.Sort(want)
		compare(t, "series", b.scrape(time.Second).text(false, "cohere_embed_job_billed_input_tokens"), strings.Join(want, "\n"))
	})
}

func TestRepeatedJobID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 2, func(c *config.Account) { c.EmbedJobs.IDs = append(c.EmbedJobs.IDs, "job-001", "job-001") })
		if s := b.scrape(time.Second); s["cohere_embed_jobs"] != 2 || len(b.api.Requests()) != 2 {
			t.Errorf("%v jobs, %d requests", s["cohere_embed_jobs"], len(b.api.Requests()))
		}
		compare(t, "logs", b.started, `
			level=warn msg="job ID is given more than once" resource=embed_jobs job_id=job-001
			level=info msg="watching jobs" resource=embed_jobs jobs=2 due_a_minute=2
			level=warn msg="scraped every 15s this is more than the 5 requests a minute that Cohere allows a trial key: set --cohere.requests-per-minute, or raise --cohere.refresh-interval" resource=embed_jobs`)
	})
}

// fresh are the families that hold for the present scrape.
var fresh = []string{
	"cohere_api_requests_per_minute_limit", "cohere_embed_job_fetch_error", "cohere_embed_job_last_success_timestamp_seconds",
	"cohere_embed_job_up", "cohere_embed_jobs", "cohere_batch_fetch_error", "cohere_batch_last_success_timestamp_seconds",
	"cohere_batch_up", "cohere_batches", "cohere_job_file_read_success", "cohere_list_fetch_error", "cohere_list_up", "cohere_refresh_interval_seconds",
	"cohere_scrape_duration_seconds", "cohere_up",
}

// Every family that is described is sent, but for that of job files, and says
// so in its help where values may be from memory.
func TestDescribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		discover := config.DefaultDiscover()
		b := newHarness(t, 2, func(c *config.Account) {
			c.EmbedJobs.RequestsPerMinute, c.EmbedJobs.Discover = 100, &discover
			batches := *c.EmbedJobs
			c.Batches, batches.IDs = &batches, []string{"lost"}
		})
		b.user.AddBatches(cohertest.Batch{ID: "batch", Status: "BATCH_STATUS_FAILED", StatusReason: "quota"})
		b.user.Update("job-000", func(j *cohertest.Job) { j.SearchUnits, j.Classifications, j.Pages = 1, 1, 1 })
		b.user.Fail(cohertest.List, cohertest.Times(1, cohertest.Null))
		got := b.scrape(time.Second)
		b.scrape(time.Second)
		b.user.Update("job-000", func(j *cohertest.Job) { j.Status = "complete" })
		b.user.UpdateBatch("batch", func(b *cohertest.Batch) { b.Status = "BATCH_STATUS_COMPLETED" })
		time.Sleep(time.Minute)

		scrape := b.set.Collector(t.Context())
		problems, err := testutil.CollectAndLint(scrape)
		if err != nil || len(problems) > 0 {
			t.Errorf("problems %v, error %v", problems, err)
		}
		problems, err = testutil.GatherAndLint(b.reg)
		if err != nil || len(problems) > 0 {
			t.Errorf("problems %v, error %v", problems, err)
		}
		maps.Copy(got, b.scrape(time.Second))
		descs := make(chan *prometheus.Desc, 100)
		scrape.Describe(descs)
		close(descs)
		for desc := range descs {
			_, rest, _ := strings.Cut(desc.String(), `fqName: "`)
			name, _, _ := strings.Cut(rest, `"`)
			if name != "cohere_job_file_read_success" && got.text(false, name) == "" {
				t.Errorf("%s is described and never sent", name)
			}
			if memory := strings.Contains(rest, "served from memory"); memory == slices.Contains(fresh, name) {
				t.Errorf("%s: its help speaks of memory: %t", name, memory)
			}
		}
	})
}
