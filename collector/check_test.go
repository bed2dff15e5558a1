package collector_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	promconfig "github.com/prometheus/common/config"

	"github.com/cohere-exporter/cohere_exporter/collector"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name string
		text string // of embed_jobs
		want string
	}{
		{"no budget", "ids: [" + manyIDs(20) + "]\n", `account            search
embed jobs         20
requests a scrape  20

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              80            80             80                    0s
30s              40            40             40                    0s
1m               20            20             20                    0s
warning: scraped every 15s this is more than the 50 requests a minute that Cohere allows a production key: set embed_jobs.requests_per_minute, or raise embed_jobs.refresh_interval
warning: scraped every 30s or 1m this is more than the 5 requests a minute that Cohere allows a trial key: set embed_jobs.requests_per_minute, or raise embed_jobs.refresh_interval
`},
		{"cheap", "ids: [job-a, job-a]\nrefresh_interval: 55s\n", `account            search
embed jobs         1
requests a scrape  1

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              1             1              1                     45s
30s              1             1              1                     30s
1m               1             1              1                     0s
`},
		{"within the budget", `ids: [` + manyIDs(100) + `]
requests_per_minute: 40
refresh_interval: 25s
settled_interval: 1h
`, `account            search
embed jobs         100
requests a scrape  100

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              200           40             1.67                  3m
30s              200           40             1.67                  3m
1m               100           40             1.67                  3m
`},
		{"too old", `ids: [` + manyIDs(100) + `]
requests_per_minute: 4
refresh_interval: 25s
max_staleness: 15m
`, `account            search
embed jobs         100
requests a scrape  100

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              200           4              4                     25m
30s              200           4              4                     25m
1m               100           4              4                     25m
warning: values are served until they are 15m25s old (embed_jobs.refresh_interval and embed_jobs.max_staleness), so jobs will come and go: raise embed_jobs.max_staleness to 24m35s, or embed_jobs.requests_per_minute
`},
		{"less than one a minute", "ids: [a, b, c]\nrequests_per_minute: 0.5\n", `account            search
embed jobs         3
requests a scrape  3

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              12            0.5            0.5                   6m
30s              6             0.5            0.5                   6m
1m               3             0.5            0.5                   6m
warning: values are served until they are 5m old (embed_jobs.refresh_interval and embed_jobs.max_staleness), so jobs will come and go: raise embed_jobs.max_staleness to 6m, or embed_jobs.requests_per_minute
`},
		{"job files", "ids: [job-a]\nid_files: ['*.txt', no]\n", `account            search
embed jobs         3, with those in 3 job files
requests a scrape  3

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              12            12             12                    0s
30s              6             6              6                     0s
1m               3             3              3                     0s
warning: job file DIR/3.txt is not used: line 1: more than one word
warning: embed_jobs.id_files: DIR/no has no IDs; name files with an ID in each line
warning: scraped every 15s or 30s this is more than the 5 requests a minute that Cohere allows a trial key: set embed_jobs.requests_per_minute, or raise embed_jobs.refresh_interval
`},
		{"list", "ids: [a, b, c]\nfetch: list\nsettled_interval: 1h\n", `account            search
embed jobs         3
requests a scrape  1 for each page of the list, and 1 for each job that it lacks or tells no billed units of

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              4             4              0.02                  0s
30s              2             2              0.02                  0s
1m               1             1              0.02                  0s
`},
		{"list on a small budget", "ids: [a]\nfetch: list\nrequests_per_minute: 0.1\n", `account            search
embed jobs         1
requests a scrape  1 for each page of the list, and 1 for each job that it lacks or tells no billed units of

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              4             0.1            0.1                   10m
30s              2             0.1            0.1                   10m
1m               1             0.1            0.1                   10m
warning: values are served until they are 5m old (embed_jobs.refresh_interval and embed_jobs.max_staleness), so jobs will come and go: raise embed_jobs.max_staleness to 10m, or embed_jobs.requests_per_minute
`},
		{"discover", "ids: [a]\ndiscover: {max_jobs: 99}\n", `account            search
embed jobs         100, up to 99 of them discovered
requests a scrape  1 for each page of the list, and 1 for each job that it lacks or tells no billed units of

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              4             4              4                     0s
30s              2             2              2                     0s
1m               1             1              1                     0s
`},
		{"batches", "ids: []\n" + "    batches:\n      discover:\n      refresh_interval: 55s\n", `account            search
embed jobs         0
requests a scrape  0

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              0             0              0                     0s
30s              0             0              0                     0s
1m               0             0              0                     0s

account            search
batches            500, up to 500 of them discovered
requests a scrape  1 for each page of the list, and 1 for each job that it lacks or tells no billed units of

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              1             1              1                     45s
30s              1             1              1                     30s
1m               1             1              1                     0s
`},
		{"discover and get", "ids: [a]\ndiscover: {max_jobs: 99}\nfetch: get\nrequests_per_minute: 11\nmax_staleness: 1h\n", `account            search
embed jobs         100, up to 99 of them discovered
requests a scrape  100 for the jobs, and 1 a minute for the list

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              401           11             11                    10m
30s              201           11             11                    10m
1m               101           11             11                    10m
`},
		{"discover within a small budget", "discover:\nfetch: get\nrequests_per_minute: 1\n", `account            search
embed jobs         500, up to 500 of them discovered
requests a scrape  500 for the jobs, and 1 a minute for the list

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              2001          1              1                     8h21m
30s              1001          1              1                     8h21m
1m               501           1              1                     8h21m
warning: values are served until they are 5m old (embed_jobs.refresh_interval and embed_jobs.max_staleness), so jobs will come and go: raise embed_jobs.max_staleness to 8h21m, or embed_jobs.requests_per_minute
`},
		{"batches, which any key may ask for more often", "ids: [a]\n    batches:\n      ids: [" + manyIDs(200) + "]\n      requests_per_minute: 0\n", `account            search
embed jobs         1
requests a scrape  1

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              4             4              4                     0s
30s              2             2              2                     0s
1m               1             1              1                     0s

account            search
batches            200
requests a scrape  200

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              800           800            800                   0s
30s              400           400            400                   0s
1m               200           200            200                   0s
warning: scraped every 15s this is more than the 500 requests a minute that Cohere allows any key: set batches.requests_per_minute, or raise batches.refresh_interval
`},
		{"two accounts", "ids: [a]\n" + "  - name: research\n    http_client_config: {authorization: {credentials: a}}\n    embed_jobs:\n      ids: [b]\n      requests_per_minute: 0\n", `account            search
embed jobs         1
requests a scrape  1

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              4             4              4                     0s
30s              2             2              2                     0s
1m               1             1              1                     0s

account            research
embed jobs         1
requests a scrape  1

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              4             4              4                     0s
30s              2             2              2                     0s
1m               1             1              1                     0s
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{
				"config.yml": embedJobsFile(tt.text),
				"good.key":   "a-key\n",
				"1.txt":      "job-a\njob-1\njob-2\n",
				"2.txt":      "job-1\n",
				"3.txt":      "not one\n",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, err := config.LoadFile(filepath.Join(dir, "config.yml"))
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			if err := collector.Check(&got, c); err != nil {
				t.Fatal(err)
			}
			if got := strings.ReplaceAll(got.String(), dir, "DIR"); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

// By flags, settings are called what they are there.
func TestCheckFlags(t *testing.T) {
	a, jobs := config.Default(), config.DefaultJobs()
	a.EmbedJobs = &jobs
	jobs.IDs, jobs.RequestsPerMinute = []string{"a", "b", "c"}, .5
	c := &config.Config{Accounts: []config.Account{a}}
	var got strings.Builder
	if err := collector.Check(&got, c); err != nil {
		t.Fatal(err)
	}
	const want = `embed jobs         3
requests a scrape  3

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              12            0.5            0.5                   6m
30s              6             0.5            0.5                   6m
1m               3             0.5            0.5                   6m
warning: values are served until they are 5m old (--cohere.refresh-interval and --cohere.max-staleness), so jobs will come and go: raise --cohere.max-staleness to 6m, or --cohere.requests-per-minute
`
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &got, want)
	}

	c.Accounts[0].Timeout = 0
	if err := collector.Check(&got, c); err == nil || err.Error() != "--cohere.timeout: must be longer than 0s" {
		t.Error(err)
	}
}

// A key that cannot be used does not keep the rest from being told; the first is
// the error.
func TestCheckKeys(t *testing.T) {
	c := &config.Config{FromFile: true}
	for _, name := range []string{"anna", "ben"} {
		a, jobs := config.Default(), config.DefaultJobs()
		a.Name, a.EmbedJobs, jobs.IDs = name, &jobs, []string{"a"}
		a.HTTPClientConfig.Authorization = &promconfig.Authorization{CredentialsFile: t.TempDir()}
		c.Accounts = append(c.Accounts, a)
	}
	var got strings.Builder
	const want = "account anna: http_client_config.authorization.credentials_file: not a regular file; name a file that holds the API key in one line"
	if err := collector.Check(&got, c); err == nil || err.Error() != want {
		t.Error(err)
	}
	if n := strings.Count(got.String(), "requests a scrape"); n != 2 {
		t.Errorf("%d accounts are told of:\n%s", n, &got)
	}
}

// embedJobsFile returns a configuration file with one account, whose embed jobs
// are configured by text, without a budget unless that says one.
func embedJobsFile(text string) string {
	const head = `accounts:
  - name: search
    http_client_config: {authorization: {credentials_file: good.key}}
    embed_jobs:
`
	if !strings.Contains(text, "requests_per_minute") {
		text = "requests_per_minute: 0\n" + text
	}
	var file strings.Builder
	file.WriteString(head)
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, " ") { // else it is of another account
			line = "      " + line
		}
		file.WriteString(line)
	}
	return file.String()
}

func manyIDs(n int) string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("job-%d", i)
	}
	return strings.Join(ids, ", ")
}
