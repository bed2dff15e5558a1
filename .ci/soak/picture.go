package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// idLabels are the labels that name a job of each kind.
var idLabels = map[string]string{"job_id": cohertest.EmbedJobs, "batch_id": cohertest.Batches}

// series writes a series without the labels that name the job.
func series(name string, labels map[string]string, value float64) string {
	var b strings.Builder
	b.WriteString(name)
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		if label != "account" && idLabels[label] == "" {
			b.WriteString(" " + label + "=" + strconv.Quote(labels[label]))
		}
	}
	b.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64))
	return b.String()
}

// A picture is all that the contract has an exporter show of a job in one state.
type picture []string

func (p *picture) add(name string, value float64, labels ...string) {
	ls := map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		ls[labels[i]] = labels[i+1]
	}
	*p = append(*p, series(name, ls, value))
}

func (p *picture) addStatus(name, status string, statuses []string) {
	if !slices.Contains(statuses, status) {
		status = "unknown"
	}
	for _, s := range statuses {
		value := 0.0
		if s == status {
			value = 1
		}
		p.add(name, value, "status", s)
	}
}

func (p *picture) addNonZero(name string, value float64) {
	if value != 0 {
		p.add(name, value)
	}
}

var embedJobStatuses = []string{"processing", "complete", "cancelling", "cancelled", "failed", "unknown"}

func pictureOfJob(j *cohertest.Job) picture {
	var p picture
	const name = "cohere_embed_job_"
	p.addStatus(name+"status", j.Status, embedJobStatuses)
	p.add(name+"billed_input_tokens", j.InputTokens)
	p.add(name+"billed_output_tokens", j.OutputTokens)
	p.add(name+"billed_images", j.Images)
	p.add(name+"billed_image_tokens", j.ImageTokens)
	p.addNonZero(name+"billed_search_units", j.SearchUnits)
	p.addNonZero(name+"billed_classifications", j.Classifications)
	p.addNonZero(name+"billed_pages", j.Pages)
	p.add(name+"input_tokens", j.InputTokens)
	p.add(name+"output_tokens", j.OutputTokens)
	p.add(name+"cached_tokens", j.CachedTokens)
	p.add(name+"warnings", float64(len(j.Warnings)))
	p.add(name+"created_timestamp_seconds", seconds(j.CreatedAt))
	p.add(name+"info", 1, "name", j.Name, "model", j.Model, "truncate", j.Truncate,
		"input_dataset_id", j.InputDatasetID, "output_dataset_id", j.OutputDatasetID)
	p.add(name+"api_info", 1, "version", j.APIVersion,
		"deprecated", strconv.FormatBool(j.Deprecated), "experimental", strconv.FormatBool(j.Experimental))
	slices.Sort(p)
	return p
}

var batchStatuses = []string{"queued", "in_progress", "canceling", "completed", "failed", "canceled", "unknown"}

func batchStatus(status string) string {
	return strings.ToLower(strings.TrimPrefix(status, "BATCH_STATUS_"))
}

func pictureOfBatch(b *cohertest.Batch) picture {
	var p picture
	const name = "cohere_batch_"
	p.addStatus(name+"status", batchStatus(b.Status), batchStatuses)
	p.add(name+"input_tokens", float64(b.InputTokens))
	p.add(name+"output_tokens", float64(b.OutputTokens))
	p.add(name+"records", float64(b.Records))
	p.add(name+"records_successful", float64(b.SuccessfulRecords))
	p.add(name+"records_failed", float64(b.FailedRecords))
	p.add(name+"created_timestamp_seconds", seconds(b.CreatedAt))
	p.add(name+"updated_timestamp_seconds", seconds(b.UpdatedAt))
	p.add(name+"info", 1, "name", b.Name, "model", b.Model,
		"input_dataset_id", b.InputDatasetID, "output_dataset_id", b.OutputDatasetID)
	if b.StatusReason != "" {
		p.add(name+"status_reason", 1, "reason", b.StatusReason)
	}
	slices.Sort(p)
	return p
}

// settledStatuses are those of both kinds.
var settledStatuses = []string{"complete", "cancelled", "failed", "completed", "canceled"}

func isSettled(status string) bool { return slices.Contains(settledStatuses, status) }

// fromMeta reports whether a series comes from a part of a job that a list may
// leave out, and that then stays as it was known.
func fromMeta(series string) bool {
	name, _, _ := strings.Cut(series, " ")
	return name == "cohere_embed_job_api_info" || name == "cohere_embed_job_warnings" || strings.HasSuffix(name, "_tokens") || strings.Contains(name, "_billed_")
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

func moment(seconds float64) time.Time { return time.Unix(0, int64(seconds*1e9)) }
