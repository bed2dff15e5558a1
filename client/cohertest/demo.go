package cohertest

import "time"

// DemoKey is the API key of the demonstration's user.
const DemoKey = "simulated-api-key"

// DemoUser is the user of a demonstration.
type DemoUser struct {
	*User
	IDs map[string][]string // of their EmbedJobs and Batches
}

// Demo adds a user with embed jobs and batches that among them show every status, and
// one that is not documented, within limits as Cohere has them. In the time after start
// some of them change. Of the embed jobs one fails after 45 seconds, one completes after
// 75, one that is being cancelled is cancelled after 100; the tokens of those that run
// grow. Of the batches one fails after 60 seconds, for a reason, one completes after 90
// with records missing, one that is queued for 20 seconds completes after 3 minutes, one
// that is being canceled is canceled after 2.
//
// A demonstration may run for long: the API keeps no requests but the newest.
func Demo(a *API, key string, start time.Time) DemoUser {
	u := DemoUser{a.AddUser(key), map[string][]string{}}
	u.Limit(Limit{Requests: 50, Per: time.Minute})
	u.LimitBatches(Limit{Requests: 500, Per: time.Minute})
	a.KeepRequests(1)
	for _, j := range demoJobs(start) {
		u.Add(j)
		u.IDs[EmbedJobs] = append(u.IDs[EmbedJobs], j.ID)
	}
	for _, b := range demoBatches(start) {
		u.AddBatches(b)
		u.IDs[Batches] = append(u.IDs[Batches], b.ID)
	}
	return u
}

func demoJobs(start time.Time) []Job {
	created := start.UTC().Truncate(time.Second)
	return []Job{
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

func demoBatches(start time.Time) []Batch {
	created := start.UTC().Truncate(time.Second)
	return []Batch{
		{
			ID:             "6b1f0d52-9c3e-4a87-b0d4-2e7f51c8a936",
			Name:           "catalogue-embeddings",
			Status:         "BATCH_STATUS_IN_PROGRESS",
			InputDatasetID: "catalogue-embeddings-jsonl-w4k8zt",
			CreatedAt:      created.Add(-70 * time.Minute),
			Script: change(start.Add(90*time.Second), func(b *Batch) { // as was once seen
				b.Status = "BATCH_STATUS_COMPLETED"
				b.InputTokens = 8_412_906
				b.Records, b.SuccessfulRecords = 30_000, 29_248
			}),
		},
		{
			ID:             "c20e7a94-15d8-4f6b-8e31-7ab94d02f5c6",
			Name:           "invoice-extraction",
			Status:         "BATCH_STATUS_IN_PROGRESS",
			Model:          "command-a-03-2025",
			InputDatasetID: "invoice-extraction-jsonl-p7d2qn",
			CreatedAt:      created.Add(-11 * time.Minute),
			Script: change(start.Add(time.Minute), func(b *Batch) {
				b.Status = "BATCH_STATUS_FAILED"
				b.StatusReason = "record 1873 of the input dataset is longer than the context of command-a-03-2025"
				b.InputTokens, b.OutputTokens = 961_240, 88_317
				b.Records, b.SuccessfulRecords, b.FailedRecords = 4_000, 1_872, 1
			}),
		},
		{
			ID:             "0f83d6be-47a1-4c29-95f2-d3b6e81c704a",
			Name:           "ticket-summaries",
			Model:          "command-r7b-12-2024",
			InputDatasetID: "ticket-summaries-jsonl-b9x5mc",
			CreatedAt:      created.Add(-15 * time.Second),
			Script: func(now time.Time, b *Batch) {
				change(start.Add(20*time.Second), func(b *Batch) { b.Status = "BATCH_STATUS_IN_PROGRESS" })(now, b)
				change(start.Add(3*time.Minute), func(b *Batch) {
					b.Status = "BATCH_STATUS_COMPLETED"
					b.OutputDatasetID = "ticket-summaries-output-h3r7vd"
					b.InputTokens, b.OutputTokens = 204_511, 39_870
					b.Records, b.SuccessfulRecords = 650, 650
				})(now, b)
			},
		},
		{
			ID:             "e94a27c1-b06d-4835-a7fe-58c03d1b6e92",
			Name:           "archive-translation",
			Model:          "command-a-03-2025",
			InputDatasetID: "archive-translation-jsonl-y2g6fs",
			CreatedAt:      created.Add(-9 * time.Hour),
		},
		{
			ID:             "7d5c318f-e2b4-4096-83ad-f61e9b470d2c",
			Name:           "forum-moderation",
			Status:         "BATCH_STATUS_CANCELING",
			Model:          "command-r7b-12-2024",
			InputDatasetID: "forum-moderation-jsonl-t8j1wq",
			CreatedAt:      created.Add(-2 * time.Hour),
			UpdatedAt:      created.Add(-5 * time.Minute),
			Script: change(start.Add(2*time.Minute), func(b *Batch) {
				b.Status = "BATCH_STATUS_CANCELED"
				b.InputTokens, b.OutputTokens = 77_402, 5_118
				b.Records, b.SuccessfulRecords = 12_000, 310
			}),
		},
		{
			ID:                "2a68f0e3-d91c-47b5-9604-bc7e15a8d3f0",
			Name:              "faq-embeddings",
			Status:            "BATCH_STATUS_COMPLETED",
			InputDatasetID:    "faq-embeddings-jsonl-k5n9rx",
			OutputDatasetID:   "faq-embeddings-output-d1c4lp",
			CreatedAt:         created.Add(-27 * time.Hour),
			UpdatedAt:         created.Add(-26 * time.Hour),
			InputTokens:       1_530_244,
			Records:           5_200,
			SuccessfulRecords: 5_200,
		},
		{
			ID:             "b57e9d04-3f82-4d1a-8c60-0e49a2f7516b",
			Name:           "review-sentiment",
			Status:         "BATCH_STATUS_CANCELED",
			Model:          "command-a-03-2025",
			InputDatasetID: "review-sentiment-jsonl-z6v3ha",
			CreatedAt:      created.Add(-3 * 24 * time.Hour),
			UpdatedAt:      created.Add(-3*24*time.Hour + 8*time.Minute),
		},
		{
			ID:             "91c4b7fa-6e05-4d38-b2a9-4f8d70e3c51d",
			Name:           "ad-variants",
			Status:         "BATCH_STATUS_FAILED",
			Model:          "command-a-03-2025",
			InputDatasetID: "ad-variants-jsonl-m2q7eb",
			CreatedAt:      created.Add(-50 * time.Hour),
			UpdatedAt:      created.Add(-50*time.Hour + 20*time.Second),
			StatusReason:   "the input dataset has no records",
		},
		{
			ID:             "d3087e5c-a4f9-4b62-91de-6c5b20f8a714",
			Name:           "glossary-check",
			Status:         "BATCH_STATUS_PAUSED", // not documented
			Model:          "command-r7b-12-2024",
			InputDatasetID: "glossary-check-jsonl-c8s4yu",
			CreatedAt:      created.Add(-6 * time.Hour),
			UpdatedAt:      created.Add(-5 * time.Hour),
		},
	}
}

// change has a batch be another from a time on.
func change(at time.Time, to func(*Batch)) func(time.Time, *Batch) {
	return func(now time.Time, b *Batch) {
		if !now.Before(at) {
			b.UpdatedAt = at
			to(b)
		}
	}
}
