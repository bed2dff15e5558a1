package cohertest

import "time"

// DemoKey is the API key of the demonstration's user.
const DemoKey = "simulated-api-key"

// Demo adds a user with jobs that among them show every status, and one that is not
// documented. In the time after start some of them change: one fails after 45 seconds,
// one completes after 75, one that is being cancelled is cancelled after 100; the tokens
// of those that run grow. It returns their IDs.
//
// A demonstration may run for long: the API keeps only the newest requests.
func Demo(a *API, key string, start time.Time) (ids []string) {
	a.KeepRequests(1000)
	created := start.UTC().Truncate(time.Second)
	jobs := []Job{
		{
			ID:             "ebd-3f1c8a90b7d24e65",
			Name:           "product-catalogue",
			Model:          "embed-v4.0",
			InputDatasetID: "ds-product-catalogue-k2v9xq",
			CreatedAt:      created.Add(-2 * time.Hour),
			Script:         running(start, 2_918_400, 1_250),
		},
		{
			ID:             "ebd-a07be2519cd84f36",
			Name:           "support-tickets",
			InputDatasetID: "ds-support-tickets-m4t7wz",
			CreatedAt:      created.Add(-25 * time.Minute),
			Script:         running(start, 611_000, 420),
		},
		{
			ID:             "ebd-5d92f4c1e8b03a7c",
			Name:           "knowledge-base-nightly",
			InputDatasetID: "ds-knowledge-base-h8n3pd",
			CreatedAt:      created.Add(-4 * time.Minute),
			Script:         until(75*time.Second, "complete", start, 86_400, 360),
		},
		{
			ID:             "ebd-c46081d7fa2e95b3",
			Name:           "contracts-archive",
			Truncate:       "START",
			InputDatasetID: "ds-contracts-archive-r5j1yc",
			CreatedAt:      created.Add(-6 * time.Minute),
			Script:         until(45*time.Second, "failed", start, 152_000, 420),
		},
		{
			ID:             "ebd-18e7b35fd0a6429c",
			Name:           "wiki-crawl",
			Status:         "cancelling",
			InputDatasetID: "ds-wiki-crawl-b6f2gs",
			CreatedAt:      created.Add(-40 * time.Minute),
			InputTokens:    1_204_733,
			Script: func(now time.Time, j *Job) {
				if now.Sub(start) >= 100*time.Second {
					j.Status = "cancelled"
				}
			},
		},
		{
			ID:              "ebd-9b20ce74a1f85d63",
			Name:            "customer-reviews",
			Status:          "complete",
			InputDatasetID:  "ds-customer-reviews-q9d4lm",
			OutputDatasetID: "ds-customer-reviews-embedded-x3k8vt",
			CreatedAt:       created.Add(-26 * time.Hour),
			InputTokens:     4_871_290,
			CachedTokens:    12_800,
		},
		{
			ID:              "ebd-e5a91d0c63f7b842",
			Name:            "press-releases",
			Status:          "complete",
			Model:           "embed-english-v2.0",
			InputDatasetID:  "ds-press-releases-z7c5hn",
			OutputDatasetID: "ds-press-releases-embedded-w1p6bj",
			CreatedAt:       created.Add(-9 * 24 * time.Hour),
			InputTokens:     318_502,
			Deprecated:      true,
			Warnings: []string{
				"model 'embed-english-v2.0' is deprecated",
				"17 records were longer than the context and have been truncated",
			},
		},
		{
			ID:              "ebd-72d4fb8e06c1a935",
			Name:            "product-photos",
			Status:          "complete",
			Model:           "embed-v4.0",
			InputDatasetID:  "ds-product-photos-t2y8kf",
			OutputDatasetID: "ds-product-photos-embedded-g5r9qa",
			CreatedAt:       created.Add(-3 * 24 * time.Hour),
			Images:          2_140,
			ImageTokens:     3_293_460,
			Experimental:    true,
		},
		{
			ID:             "ebd-0ac35e97d81b4f26",
			Name:           "legacy-import",
			Status:         "failed",
			Model:          "embed-english-light-v3.0",
			InputDatasetID: "ds-legacy-import-n3s6de",
			CreatedAt:      created.Add(-50 * time.Hour),
			InputTokens:    20_480,
		},
		{
			ID:             "ebd-d8f16b42907ec5a3",
			Name:           "chat-transcripts",
			Status:         "cancelled",
			InputDatasetID: "ds-chat-transcripts-v8m1xr",
			CreatedAt:      created.Add(-30 * time.Hour),
			InputTokens:    743_118,
		},
		{
			ID:             "ebd-46b9e0d3c7f2815a",
			Name:           "research-papers",
			Status:         "paused", // not documented
			InputDatasetID: "ds-research-papers-c4w7ju",
			CreatedAt:      created.Add(-5 * time.Hour),
			InputTokens:    95_616,
		},
	}

	a.AddUser(key).Add(jobs...)
	for _, j := range jobs {
		ids = append(ids, j.ID)
	}
	return ids
}

// running has a job bill so many tokens up to start and so many in every second after.
func running(start time.Time, base, perSecond int64) func(time.Time, *Job) {
	return func(now time.Time, j *Job) {
		elapsed := max(0, now.Sub(start))
		j.InputTokens = float64(base + perSecond*elapsed.Milliseconds()/1000)
	}
}

// until has a job run up to d after start, when its status changes and its tokens stay.
func until(d time.Duration, status string, start time.Time, base, perSecond int64) func(time.Time, *Job) {
	run, end := running(start, base, perSecond), start.Add(d)
	return func(now time.Time, j *Job) {
		if now.Before(end) {
			run(now, j)
			return
		}
		run(end, j)
		j.Status = status
	}
}
