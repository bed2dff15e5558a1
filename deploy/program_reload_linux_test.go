package deploy_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cohere-exporter/cohere_exporter/collector/jobfile/filetest"
)

// A reload that waits for a file on a hanging disk holds up neither scrapes nor
// the end.
func TestProgramReloadsAHangingFile(t *testing.T) {
	t.Parallel()
	s := startSimulated(t, "job-1", "job-2")
	file, jobs := filepath.Join(s.dir, "exporter.yml"), filepath.Join(s.dir, "jobs.txt")
	write(t, jobs, "job-2\n")
	configure := func(files string) {
		write(t, file, "accounts:\n  - name: search\n    http_client_config: {authorization: {credentials_file: cohere.key}}\n"+
			fmt.Sprintf("    embed_jobs: {ids: [job-1], id_files: [%s], requests_per_minute: 0}\n    base_url: %s\n", files, s.url))
	}
	configure("")
	e := startExporter(t, nil, "--config.file="+file)
	hanging := filetest.Hang(t, jobs)
	configure("jobs.txt")
	e.signal(t, syscall.SIGHUP)
	hanging.AwaitOpened()
	hanging.Meanwhile("a scrape", func() {
		e.must(t, `cohere_embed_job_up{account="search",job_id="job-1"} 1`, `!job_id="job-2"`)
	})
	hanging.Meanwhile("the end", func() {
		e.signal(t, syscall.SIGTERM)
		if status := e.status(t); status != 0 {
			t.Errorf("exit status %d", status)
		}
	})
}
