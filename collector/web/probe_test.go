package web_test

import (
	"testing"
	"testing/synctest"
)

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, api := newHandler(t, nil)
		expect(t, serve(t, h, "GET", "/probe?job_id=job-1&unknown=1"), 200, `cohere_embed_job_up{job_id="job-1"} 1`, "\ncohere_up 1\n", "!cohere_api_requests_total", "!job-hangs")
		expect(t, serve(t, h, "GET", "/probe?job_id=nobodys"), 200, `cohere_embed_job_fetch_error{job_id="nobodys",reason="not_found"} 1`, "\ncohere_up 0\n")
		asked := len(api.Requests())
		expect(t, serve(t, h, "HEAD", "/probe?job_id=never-asked"), 200, "!cohere")
		for query, want := range map[string]string{
			"":                                 "name the job to probe: job_id=ID or batch_id=ID",
			"?account=search":                  "name the job to probe: job_id=ID or batch_id=ID",
			"?job_id=":                         `job_id: "" is not a job ID`,
			"?job_id=a&job_id=b":               "probe one job at a time",
			"?job_id=a&batch_id=b":             "probe one job at a time",
			"?batch_id=b":                      "batch_id: the account watches no jobs of that kind",
			"?job_id=a&account=search":         `account: there is no "search"`,
			"?job_id=http://169.254.169.254/x": `job_id: a URL is not a job ID; write its last part, "x"`,
			"?job_id=%ff":                      `job_id: job ID "\xff" is not valid UTF-8`,
			"?job_id=%zz":                      `malformed query`,
		} {
			expect(t, serve(t, h, "GET", "/probe"+query), 400, want)
		}
		expect(t, serve(t, h, "POST", "/probe?job_id=job-1"), 405)
		if n := len(api.Requests()); n != asked {
			t.Errorf("%d requests for what cannot be probed", n-asked)
		}
	})
}
