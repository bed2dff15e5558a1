package client

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// Status is the state of an embed job. The API may gain values that are not
// listed here.
type Status string

// The documented statuses.
const (
	Processing Status = "processing"
	Complete   Status = "complete"
	Cancelling Status = "cancelling"
	Cancelled  Status = "cancelled"
	Failed     Status = "failed"
)

// Settled reports whether a job in this status has come to its end.
func (s Status) Settled() bool {
	return s == Complete || s == Cancelled || s == Failed
}

// EmbedJob is an embed job as the API describes it. Strings that the API left out
// are empty.
//
// See https://docs.cohere.com/reference/get-embed-job.
type EmbedJob struct {
	ID              string              `json:"job_id"`
	Status          Status              `json:"status"`
	CreatedAt       Optional[time.Time] `json:"created_at"`
	InputDatasetID  string              `json:"input_dataset_id"`
	Model           string              `json:"model"`
	Truncate        string              `json:"truncate"`
	Name            string              `json:"name"`
	OutputDatasetID string              `json:"output_dataset_id"`
	Meta            Meta                `json:"meta"`
}

// Equal reports whether both say the same: times are compared by instant.
func (j *EmbedJob) Equal(other *EmbedJob) bool {
	m, o := &j.Meta, &other.Meta
	return j.ID == other.ID &&
		j.Status == other.Status &&
		m.Tokens == o.Tokens &&
		m.BilledUnits == o.BilledUnits &&
		m.CachedTokens == o.CachedTokens &&
		m.APIVersion == o.APIVersion &&
		equalTimes(j.CreatedAt, other.CreatedAt) &&
		j.InputDatasetID == other.InputDatasetID &&
		j.OutputDatasetID == other.OutputDatasetID &&
		j.Model == other.Model &&
		j.Truncate == other.Truncate &&
		j.Name == other.Name &&
		(m.Warnings == nil) == (o.Warnings == nil) && slices.Equal(m.Warnings, o.Warnings)
}

func equalTimes(a, b Optional[time.Time]) bool {
	return a.Valid == b.Valid && a.Value.Equal(b.Value)
}

func (j *EmbedJob) hideKey(resp *http.Response) {
	hideKey(resp, &j.ID, &j.InputDatasetID, &j.Model, &j.Truncate, &j.Name, &j.OutputDatasetID, &j.Meta.APIVersion.Version)
	for i := range j.Meta.Warnings {
		hideKey(resp, &j.Meta.Warnings[i])
	}
}

// Meta is what a job has used, and of which API version.
type Meta struct {
	APIVersion   APIVersion        `json:"api_version"`
	BilledUnits  BilledUnits       `json:"billed_units"`
	Tokens       Tokens            `json:"tokens"`
	CachedTokens Optional[float64] `json:"cached_tokens"`
	Warnings     []string          `json:"warnings"` // nil if the API left them out
}

// APIVersion is the version of the API that answered.
type APIVersion struct {
	Version      string         `json:"version"`
	Deprecated   Optional[bool] `json:"is_deprecated"`
	Experimental Optional[bool] `json:"is_experimental"`
}

// BilledUnits counts what a job is billed for.
type BilledUnits struct {
	Images          Optional[float64] `json:"images"`
	InputTokens     Optional[float64] `json:"input_tokens"`
	ImageTokens     Optional[float64] `json:"image_tokens"`
	OutputTokens    Optional[float64] `json:"output_tokens"`
	SearchUnits     Optional[float64] `json:"search_units"`
	Classifications Optional[float64] `json:"classifications"`
	Pages           Optional[float64] `json:"pages"`
}

// Tokens counts the tokens a job has used, billed or not.
type Tokens struct {
	InputTokens  Optional[float64] `json:"input_tokens"`
	OutputTokens Optional[float64] `json:"output_tokens"`
}

// EmbedJob fetches one job: GET /v1/embed-jobs/{id}. Fields other than job_id
// and status that are missing or of a wrong type are absent in the job. The
// error is an Error if the API refused, or matches ErrInvalidResponse or
// ErrNoKey; ReasonOf tells its kind.
func (c *Client) EmbedJob(ctx context.Context, id string) (*EmbedJob, error) {
	job := &EmbedJob{}
	err := c.get(ctx, c.embedJobs, id, job, func(resp *http.Response) error {
		defer job.hideKey(resp)
		return checkJob(resp, id, "job_id", job.ID, string(job.Status))
	})
	if err != nil {
		return nil, err
	}
	return job, nil
}

// EmbedJobs lists all jobs of the key's user: GET /v1/embed-jobs. It calls
// each with every job as soon as it is decoded, which is each's until it
// returns; entries without job_id or status are left out. After an error, of
// the kinds of EmbedJob's, what was listed is not all.
func (c *Client) EmbedJobs(ctx context.Context, each func(*EmbedJob)) error {
	return list(ctx, c, c.embedJobs, "embed_jobs", nil, func(job *EmbedJob, resp *http.Response) {
		if job.ID != "" && job.Status != "" {
			job.hideKey(resp)
			each(job)
		}
	})
}
