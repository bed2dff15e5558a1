package collector_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/jobfile/filetest"
)

// jobDir is a directory with job files.
type jobDir struct {
	t    *testing.T
	path string
}

func newJobDir(t *testing.T) jobDir { return jobDir{t, t.TempDir()} }

func (d jobDir) join(name string) string { return filepath.Join(d.path, name) }

func (d jobDir) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(d.join(name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// age makes a file one that was left alone for long.
func (d jobDir) age(name string) {
	d.t.Helper()
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(d.join(name), then, then); err != nil {
		d.t.Fatal(err)
	}
}

// hang makes a file hang from now on.
func (d jobDir) hang(name string) *filetest.Hanging {
	d.t.Helper()
	return filetest.Hang(d.t, d.join(name))
}

// hanging puts a file that hangs in the place of the one that is there, if any.
func (d jobDir) hanging(name, text string) *filetest.Hanging {
	d.t.Helper()
	d.write("new", text)
	h := d.hang("new")
	if err := os.Rename(d.join("new"), d.join(name)); err != nil {
		d.t.Fatal(err)
	}
	return h
}

// scrapeUntilOpened scrapes until the change of a file is seen, and hangs.
func (m *team) scrapeUntilOpened(h *filetest.Hanging) {
	m.t.Helper()
	for deadline := time.Now().Add(patience); !h.Opened(); time.Sleep(time.Millisecond) {
		m.gather(time.Second)
		if time.Now().After(deadline) {
			m.t.Fatal("nobody reads the file")
		}
	}
}

// A scrape goes on with the IDs that are known, while a file hangs.
func TestScrapeOfHangingFile(t *testing.T) {
	d := newJobDir(t)
	d.write("jobs.txt", "filed-job\n")
	m := newTeam(t, func(c *config.Account) { c.EmbedJobs.IDFiles = []string{d.join("jobs.txt")} })
	m.users["anna"].Add(cohertest.Job{ID: "filed-job"})
	m.users["ben"].Add(cohertest.Job{ID: "filed-job"})
	hanging := d.hanging("jobs.txt", "other-job\n")
	for opened := false; !opened; { // the last one begins while it hangs
		opened = hanging.Opened()
		m.api.ResetRequests()
		hanging.Meanwhile("a scrape", func() {
			compare(t, "series", m.scrape(time.Second).ups(), `
				cohere_embed_job_up{account="anna",job_id="anna-job"} 1
				cohere_embed_job_up{account="anna",job_id="filed-job"} 1
				cohere_embed_job_up{account="ben",job_id="ben-job"} 1
				cohere_embed_job_up{account="ben",job_id="filed-job"} 1
				cohere_up{account="anna"} 1
				cohere_up{account="ben"} 1`)
		})
		if n := len(m.api.Requests()); n != 4 || t.Failed() {
			t.Fatalf("%d requests", n)
		}
	}
}

// A reload that leaves the files as they are goes on to follow them.
func TestReloadKeepsFollowing(t *testing.T) {
	d := newJobDir(t)
	d.write("jobs.txt", "filed-job\n")
	m := newTeam(t, func(c *config.Account) { c.EmbedJobs.IDFiles = []string{d.join("jobs.txt")} })
	m.apply(func(a []config.Account) []config.Account { return a })
	d.write("jobs.txt", "other-job\n")
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s := m.scrape(time.Second)
		if _, ok := s[`cohere_embed_job_up{account="ben",job_id="other-job"}`]; ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the change of the file is not seen:\n%s", s.ups())
		}
	}
}

// Files whose paths meet in one label value share its series.
func TestJobFilesWithOneLabel(t *testing.T) {
	long := strings.Repeat(strings.Repeat("long", 50)+"/", 3)
	for _, c := range []struct{ name, a, b string }{
		{"no UTF-8", "a\xfe.txt", "a\xff.txt"},
		{"equal in the first 512 characters", long + "a.txt", long + "b.txt"},
	} {
		for _, texts := range [][2]string{{"a\n", "b\n"}, {"a\n", "no job\n"}, {"no job\n", "b\n"}, {"no job\n", "nor this\n"}} {
			t.Run(fmt.Sprintf("%s %q", c.name, texts), func(t *testing.T) {
				d := newJobDir(t)
				if err := os.MkdirAll(d.join(long), 0o700); err != nil {
					t.Fatal(err)
				}
				d.write(c.a, texts[0])
				d.write(c.b, texts[1])
				m := newTeam(t, func(c *config.Account) {
					c.EmbedJobs.IDFiles = []string{d.join("*.txt"), d.join(long + "*.txt")}
				})
				label := []rune(strings.ToValidUTF8(d.join(c.a), "\uFFFD"))
				good := 0
				if texts == [2]string{"a\n", "b\n"} {
					good = 1
				}
				series := func(account string) string {
					return fmt.Sprintf(`cohere_job_file_read_success{account="%s",file=%s,resource="embed_jobs"} %d`,
						account, strconv.Quote(string(label[:min(512, len(label))])), good)
				}
				compare(t, "series", m.scrape(time.Minute).text(false, "cohere_job_file*"), series("anna")+"\n"+series("ben"))
			})
		}
	}
}
