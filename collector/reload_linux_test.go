package collector_test

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// A reload waits for a file that hangs, for a while; scrapes do not.
func TestReloadOfHangingFile(t *testing.T) {
	m := newTeam(t, nil)
	m.users["anna"].Add(cohertest.Job{ID: "filed-job"})
	d := newJobDir(t)
	hanging := d.hanging("jobs.txt", "filed-job\n")
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		m.apply(func(a []config.Account) []config.Account {
			a[0].EmbedJobs.IDFiles = []string{d.join("*.txt")}
			return a
		})
	}()
	hanging.AwaitOpened()
	hanging.Meanwhile("a scrape", func() {
		compare(t, "series during the reload", m.scrape(time.Minute).ups(), bothUp)
	})
	hanging.Release()
	<-reloaded
	if got := m.scrape(time.Minute).watched(); !slices.Equal(got, []string{"anna-job", "filed-job", "ben-job"}) {
		t.Errorf("watched %q", got)
	}
}

// A reload reads what it did not know: neither files that stay as they were,
// nor because others come.
func TestReloadReadsNoFileAnew(t *testing.T) {
	d := newJobDir(t)
	d.write("jobs.txt", "filed-job\n")
	d.age("jobs.txt")
	m := newTeam(t, func(c *config.Account) { c.EmbedJobs.IDFiles = []string{d.join("*.txt")} })
	hanging := d.hang("jobs.txt")
	d.write("more", "more-job\n")
	for _, patterns := range [][]string{{d.join("*.txt")}, {d.join("*.txt"), d.join("more")}} {
		hanging.Meanwhile("a reload", func() {
			m.apply(func(a []config.Account) []config.Account {
				a[0].EmbedJobs.IDFiles = patterns
				return a
			})
		})
	}
	if hanging.Opened() {
		t.Error("the file was read anew")
	}
	if got := m.scrape(time.Minute).watched(); !slices.Equal(got, []string{"anna-job", "filed-job", "more-job", "ben-job", "filed-job"}) {
		t.Errorf("watched %q", got)
	}
}

// What is read while a reload removes the files does not come back.
func TestReloadDuringReading(t *testing.T) {
	d := newJobDir(t)
	d.write("jobs.txt", "filed-job\n")
	m := newTeam(t, func(c *config.Account) { c.EmbedJobs.IDFiles = []string{d.join("*.txt")} })
	if got := m.scrape(time.Minute).watched(); !slices.Equal(got, []string{"anna-job", "filed-job", "ben-job", "filed-job"}) {
		t.Fatalf("watched %q", got)
	}
	hanging := d.hanging("jobs.txt", "filed-job\nno job\n") // which the log tells of
	m.scrapeUntilOpened(hanging)
	hanging.Meanwhile("a reload without files", func() {
		m.apply(func(a []config.Account) []config.Account {
			a[0].EmbedJobs.IDFiles, a[1].EmbedJobs.IDFiles = nil, nil
			return a
		})
	})
	hanging.Release()
	m.logs.await(t, "job file is not used")
	for range 3 {
		compare(t, "series", m.scrape(time.Minute).ups(), bothUp)
	}
}

// What a probe has told of a job stays known when it is watched, however often it
// is named.
func TestReloadWatchesProbedJob(t *testing.T) {
	m := newTeam(t, nil)
	m.users["anna"].Add(cohertest.Job{ID: "probed-job"})
	probe, err := m.set.Probe(t.Context(), "anna", "job_id", "probed-job")
	if err != nil {
		t.Fatal(err)
	}
	testutil.CollectAndCount(probe)
	d := newJobDir(t)
	d.write("jobs.txt", "probed-job\n")
	m.apply(func(a []config.Account) []config.Account {
		a[0].EmbedJobs.IDs, a[0].EmbedJobs.IDFiles = []string{"probed-job"}, []string{d.join("jobs.txt")}
		return a
	})
	known := m.scrape(0) // has no time to ask
	if _, ok := known[`cohere_embed_job_last_success_timestamp_seconds{account="anna",job_id="probed-job"}`]; !ok {
		t.Errorf("what was known is lost:\n%s", known.text(false))
	}
}
