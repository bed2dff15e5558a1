package cohertest_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

func TestLimit(t *testing.T) {
	// An ask is a request at some time after the first.
	type ask struct {
		at         time.Duration
		code       int
		retryAfter string
	}
	for _, tt := range []struct {
		name  string
		limit cohertest.Limit
		asks  []ask
	}{
		{
			name: "none",
			asks: []ask{{0, 200, ""}, {0, 200, ""}, {0, 200, ""}},
		},
		{
			name:  "sliding",
			limit: cohertest.Limit{Requests: 2, Per: time.Minute},
			asks: []ask{
				{0, 200, ""},
				{20 * time.Second, 200, ""},
				{59 * time.Second, 429, ""},
				{60 * time.Second, 200, ""},
				{61 * time.Second, 429, ""},
				{80 * time.Second, 200, ""},
			},
		},
		{
			name:  "refused requests count",
			limit: cohertest.Limit{Requests: 2, Per: time.Minute, CountRefused: true, RetryAfter: cohertest.Seconds},
			asks: []ask{
				{0, 200, ""},
				{20 * time.Second, 200, ""},
				{59 * time.Second, 429, "21"}, // used at 20 s and 59 s: free at 80 s
				{60 * time.Second, 429, "59"}, // used at 59 s and 60 s: free at 119 s
				{119 * time.Second, 200, ""},
			},
		},
		{
			name:  "seconds, rounded up",
			limit: cohertest.Limit{Requests: 1, Per: time.Minute, RetryAfter: cohertest.Seconds},
			asks: []ask{
				{0, 200, ""},
				{59 * time.Second, 429, "1"},
				{30*time.Second + 500*time.Millisecond + time.Minute, 200, ""},
				{31*time.Second + time.Minute, 429, "60"},
			},
		},
		{
			name:  "date, rounded up",
			limit: cohertest.Limit{Requests: 1, Per: time.Minute, RetryAfter: cohertest.Date},
			asks: []ask{
				{500 * time.Millisecond, 200, ""},
				{10 * time.Second, 429, "Sat, 01 Jan 2000 00:01:01 GMT"},
				{61 * time.Second, 200, ""},
			},
		},
		{
			name:  "nothing",
			limit: cohertest.Limit{Per: time.Minute, RetryAfter: cohertest.Seconds},
			asks:  []ask{{0, 429, "60"}, {time.Hour, 429, "60"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := cohertest.New()
				user := api.AddUser(key)
				user.Add(cohertest.Job{ID: "ebd-1"})
				user.Limit(tt.limit)
				server := api.StartInMemory()
				defer server.Close()

				begin := time.Now()
				paths := []string{list, job("ebd-1")} // share the limit
				for i, ask := range tt.asks {
					time.Sleep(ask.at - time.Since(begin))
					resp := mustGet(t, server, key, paths[i%len(paths)])
					if got := resp.Header.Get("Retry-After"); resp.StatusCode != ask.code || got != ask.retryAfter {
						t.Errorf("after %v: got %d, %q, want %d, %q", ask.at, resp.StatusCode, got, ask.code, ask.retryAfter)
					}
					if refused := strings.Contains(resp.body, "You are using a Trial key, which is limited to"); refused != (ask.code == http.StatusTooManyRequests) {
						t.Errorf("after %v: got %s", ask.at, resp.body)
					}
				}
			})
		})
	}
}

// A request counts when it arrives.
func TestLimitWithLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := cohertest.New()
		user := api.AddUser(key)
		user.Limit(cohertest.Limit{Requests: 1, Per: time.Minute})
		api.SetLatency(40 * time.Second)
		server := api.StartInMemory()
		defer server.Close()

		for i, want := range []int{200, 429, 200} {
			if got := mustGet(t, server, key, list).StatusCode; got != want {
				t.Errorf("request %d: got %d, want %d", i, got, want)
			}
		}

		user.Limit(cohertest.Limit{})
		for range 3 {
			if got := mustGet(t, server, key, list).StatusCode; got != 200 {
				t.Errorf("without limit: got %d", got)
			}
		}
	})
}
