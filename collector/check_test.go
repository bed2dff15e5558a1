package collector_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cohere-exporter/cohere_exporter/collector"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name string
		text string // the rest of an account
		want string
	}{
		{"no budget", "    job_ids: [" + manyIDs(20) + "]\n", `account            search
jobs               20
requests a scrape  20

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              80            80             80                    0s
30s              40            40             40                    0s
1m               20            20             20                    0s
warning: scraped every 15s this is more than the 50 requests a minute that Cohere allows a production key: set requests_per_minute, or raise refresh_interval
warning: scraped every 30s or 1m this is more than the 5 requests a minute that Cohere allows a trial key: set requests_per_minute, or raise refresh_interval
`},
		{"cheap", "    job_ids: [job-a, job-a]\n    refresh_interval: 55s\n", `account            search
jobs               1
requests a scrape  1

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              1             1              1                     45s
30s              1             1              1                     30s
1m               1             1              1                     0s
`},
		{"within the budget", `    job_ids: [` + manyIDs(100) + `]
    requests_per_minute: 40
    refresh_interval: 25s
    settled_interval: 1h
`, `account            search
jobs               100
requests a scrape  100

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              200           40             1.67                  3m
30s              200           40             1.67                  3m
1m               100           40             1.67                  3m
`},
		{"too old", `    job_ids: [` + manyIDs(100) + `]
    requests_per_minute: 4
    refresh_interval: 25s
    max_staleness: 15m
`, `account            search
jobs               100
requests a scrape  100

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              200           4              4                     25m
30s              200           4              4                     25m
1m               100           4              4                     25m
warning: values are served until they are 15m25s old (refresh_interval and max_staleness), so jobs will come and go: raise max_staleness to 24m35s, or requests_per_minute
`},
		{"less than one a minute", "    job_ids: [a, b, c]\n    requests_per_minute: 0.5\n", `account            search
jobs               3
requests a scrape  3

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              12            0.5            0.5                   6m
30s              6             0.5            0.5                   6m
1m               3             0.5            0.5                   6m
warning: values are served until they are 5m old (refresh_interval and max_staleness), so jobs will come and go: raise max_staleness to 6m, or requests_per_minute
`},
		{"job files", "    job_ids: [job-a]\n    job_id_files: ['*.txt', no]\n", `account            search
jobs               3, with those in 3 job files
requests a scrape  3

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              12            12             12                    0s
30s              6             6              6                     0s
1m               3             3              3                     0s
warning: job file DIR/3.txt is not used: line 1: more than one word
warning: scraped every 15s or 30s this is more than the 5 requests a minute that Cohere allows a trial key: set requests_per_minute, or raise refresh_interval
`},
		{"list", "    job_ids: [a, b, c]\n    fetch: list\n    settled_interval: 1h\n", `account            search
jobs               3
requests a scrape  1 for the list, and 1 for each job that it lacks or tells no billed units of

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              4             4              0.02                  0s
30s              2             2              0.02                  0s
1m               1             1              0.02                  0s
`},
		{"list on a small budget", "    job_ids: [a]\n    fetch: list\n    requests_per_minute: 0.1\n", `account            search
jobs               1
requests a scrape  1 for the list, and 1 for each job that it lacks or tells no billed units of

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              4             0.1            0.1                   10m
30s              2             0.1            0.1                   10m
1m               1             0.1            0.1                   10m
warning: values are served until they are 5m old (refresh_interval and max_staleness), so jobs will come and go: raise max_staleness to 10m, or requests_per_minute
`},
		{"discover", "    job_ids: [a]\n    discover: {max_jobs: 99}\n", `account            search
jobs               100, up to 99 of them discovered
requests a scrape  1 for the list, and 1 for each job that it lacks or tells no billed units of

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              4             4              4                     0s
30s              2             2              2                     0s
1m               1             1              1                     0s
`},
		{"discover and get", "    job_ids: [a]\n    discover: {max_jobs: 99}\n    fetch: get\n    requests_per_minute: 11\n    max_staleness: 1h\n", `account            search
jobs               100, up to 99 of them discovered
requests a scrape  100 for the jobs, and 1 a minute for the list

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              401           11             11                    10m
30s              201           11             11                    10m
1m               101           11             11                    10m
`},
		{"discover within a small budget", "    discover:\n    fetch: get\n    requests_per_minute: 1\n", `account            search
jobs               500, up to 500 of them discovered
requests a scrape  500 for the jobs, and 1 a minute for the list

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              2001          1              1                     8h21m
30s              1001          1              1                     8h21m
1m               501           1              1                     8h21m
warning: values are served until they are 5m old (refresh_interval and max_staleness), so jobs will come and go: raise max_staleness to 8h21m, or requests_per_minute
`},
		{"two accounts", "    job_ids: [a]\n  - name: research\n    http_client_config: {authorization: {credentials: a}}\n    job_ids: [b]\n", `account            search
jobs               1
requests a scrape  1

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              4             4              4                     0s
30s              2             2              2                     0s
1m               1             1              1                     0s

account            research
jobs               1
requests a scrape  1

scrape interval  due a minute  sent a minute  once all are settled  oldest values
15s              4             4              4                     0s
30s              2             2              2                     0s
1m               1             1              1                     0s
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := configDir(t, head+tt.text)
			for name, text := range map[string]string{
				"1.txt": "job-a\njob-1\njob-2\n",
				"2.txt": "job-1\n",
				"3.txt": "not one\n",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, err := collector.LoadFile(filepath.Join(dir, "config.yml"))
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			if err := c.Check(&got); err != nil {
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
	a := collector.DefaultAccountConfig()
	a.JobIDs = []string{"a", "b", "c"}
	a.RequestsPerMinute = .5
	c := &collector.Config{Accounts: []collector.AccountConfig{a}}
	var got strings.Builder
	if err := c.Check(&got); err != nil {
		t.Fatal(err)
	}
	const want = `jobs               3
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
	if err := c.Check(&got); err == nil || err.Error() != "--cohere.timeout must be longer than 0s" {
		t.Error(err)
	}
}

func manyIDs(n int) string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("job-%d", i)
	}
	return strings.Join(ids, ", ")
}
