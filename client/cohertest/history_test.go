package cohertest_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := cohertest.New()
		user := api.AddUser(key)
		user.Add(cohertest.Job{ID: "ebd-1"}, cohertest.Job{ID: "ebd-before"})
		api.KeepHistory(true)
		begin := time.Now()

		user.Add(cohertest.Job{ID: "ebd-1", InputTokens: 1})
		user.AddBatches(cohertest.Batch{ID: "b", InputTokens: 10})
		time.Sleep(time.Second)
		user.Update("ebd-1", func(j *cohertest.Job) { j.InputTokens = 2 })
		user.UpdateBatch("b", func(b *cohertest.Batch) { b.InputTokens = 20 })
		time.Sleep(time.Second)
		user.Remove("ebd-1")
		user.RemoveBatches("b")
		user.Add(cohertest.Job{ID: "ebd-1", InputTokens: 3})
		api.KeepHistory(false)
		user.Remove("ebd-1")

		var jobs, batches []string
		for _, s := range user.History("ebd-1") {
			jobs = append(jobs, fmt.Sprint(s.Since.Sub(begin), " ", s.Job != nil && s.Job.InputTokens > 0))
		}
		for _, s := range user.BatchHistory("b") {
			batches = append(batches, fmt.Sprint(s.Since.Sub(begin), " ", s.Job != nil))
		}
		if want := []string{"0s true", "1s true", "2s false", "2s true"}; !slices.Equal(jobs, want) {
			t.Errorf("embed job: got %q, want %q", jobs, want)
		}
		if want := []string{"0s true", "1s true", "2s false"}; !slices.Equal(batches, want) {
			t.Errorf("batch: got %q, want %q", batches, want)
		}
		if got := user.History("ebd-1")[1].Job.InputTokens; got != 2 {
			t.Errorf("embed job after a second: got %v input tokens, want 2", got)
		}
		if got := user.History("ebd-before"); got != nil {
			t.Errorf("job from before: got %v", got)
		}
	})
}

func TestObserve(t *testing.T) {
	api, user, server := start(t)
	user.Add(cohertest.Job{ID: "ebd-slow"}, cohertest.Job{ID: "ebd-spoilt"})
	user.Fail("ebd-slow", cohertest.Slow(time.Millisecond))
	user.Fail("ebd-spoilt", cohertest.Array)
	user.AddBatches(cohertest.Batch{ID: "b-1"}, cohertest.Batch{ID: "b-2"})
	user.PageBatches(1)
	user.LimitBatches(cohertest.Limit{Requests: 3, Per: time.Hour})

	var seen []string
	api.Observe(func(r *cohertest.Request) {
		if r.Ended.IsZero() {
			seen = append(seen, "arrived "+r.Path)
			return
		}
		seen = append(seen, fmt.Sprintf("%d proper=%t more=%t", r.Status, r.Proper, r.More))
	})
	for _, tt := range []struct {
		path string
		want string
	}{
		{job("ebd-slow"), "200 proper=true more=false"},
		{job("ebd-spoilt"), "200 proper=false more=false"},
		{job("ebd-none"), "404 proper=false more=false"},
		{list, "200 proper=true more=false"},
		{batch("b-1"), "200 proper=true more=false"},
		{batches, "200 proper=true more=true"},
		{batches + "?page_token=YmF0Y2ggMQ%3D%3D", "200 proper=true more=false"},
		{batches, "429 proper=false more=false"},
	} {
		seen = nil
		resp := mustGet(t, server, key, tt.path)
		// By the time of the answer all is known.
		if want := []string{"arrived " + resp.Request.URL.Path, tt.want}; !slices.Equal(seen, want) {
			t.Errorf("%s: got %q, want %q", tt.path, seen, want)
		}
		if last := api.Requests()[len(api.Requests())-1]; last.Status != resp.StatusCode || last.Ended.Before(last.Time) {
			t.Errorf("%s: recorded %+v", tt.path, last)
		}
	}

	api.Observe(nil)
	seen = nil
	if mustGet(t, server, key, list).StatusCode != http.StatusOK || seen != nil {
		t.Errorf("after the end: got %q", seen)
	}
}
