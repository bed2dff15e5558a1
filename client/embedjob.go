package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
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

// Settled tells whether a job in this status has come to its end.
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

// Job is what EmbedJob was called.
type Job = EmbedJob

// Equal reports whether both say the same: times are compared by instant.
func (j EmbedJob) Equal(other EmbedJob) bool {
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
// error is an Error if the API refused, or answers to ErrInvalidResponse or
// ErrNoKey; ReasonOf tells its kind.
func (c *Client) EmbedJob(ctx context.Context, id string) (EmbedJob, error) {
	job, _, err := c.EmbedJobIfNew(ctx, id, 0)
	return job, err
}

// Digest tells answers apart. That of no answer is 0.
type Digest uint64

var digestSeed = maphash.MakeSeed()

// EmbedJobIfNew is EmbedJob for those who have an answer already: where this one
// is the same to the byte, which its digest tells, it is not decoded, and the
// job is empty. Settled jobs hardly ever change.
func (c *Client) EmbedJobIfNew(ctx context.Context, id string, have Digest) (EmbedJob, Digest, error) {
	if err := CheckID(id); err != nil {
		return EmbedJob{}, 0, err
	}
	u := *c.jobs
	u.Path += "/" + id
	u.RawPath = c.jobs.EscapedPath() + "/" + url.PathEscape(id)

	resp, err := c.do(ctx, &u)
	if err != nil {
		return EmbedJob{}, 0, err
	}
	defer resp.Body.Close()
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxKeptBytes {
			buffers.Put(buf)
		}
	}()
	if err := readAll(buf, resp, maxJobBytes); err != nil {
		return EmbedJob{}, 0, failed(resp, err)
	}
	digest := Digest(maphash.Bytes(digestSeed, buf.Bytes()))
	if digest == have {
		return EmbedJob{}, digest, nil
	}
	job, err := decodeJob(buf.Bytes(), id, resp)
	if err != nil {
		return EmbedJob{}, 0, failed(resp, err)
	}
	return job, digest, nil
}

// decodeJob decodes the answer to a request for a job. It copies what it keeps.
func decodeJob(body []byte, id string, resp *http.Response) (job EmbedJob, err error) {
	switch err := unmarshal(body, &job); {
	case err != nil:
		return EmbedJob{}, err
	case job.ID != id:
		return EmbedJob{}, fmt.Errorf("%w: job_id is %s", ErrInvalidResponse, strconv.Quote(clean(job.ID, resp)))
	case job.Status == "":
		return EmbedJob{}, fmt.Errorf("%w: no status", ErrInvalidResponse)
	}
	return job, nil
}

// EmbedJobs lists all jobs of the key's user: GET /v1/embed-jobs. Jobs are
// yielded as they are decoded; entries without job_id or status are left out.
// An error, of the kinds of EmbedJob's, is yielded last: what came before it
// is not the whole list.
func (c *Client) EmbedJobs(ctx context.Context) iter.Seq2[EmbedJob, error] {
	return func(yield func(EmbedJob, error) bool) {
		resp, err := c.do(ctx, c.jobs)
		if err != nil {
			yield(EmbedJob{}, err)
			return
		}
		defer resp.Body.Close()
		stop := errors.New("stop")
		body := &cappedReader{r: resp.Body, left: maxListBytes}
		err = decodeList(body, func(job EmbedJob) error {
			if job.ID != "" && job.Status != "" && !yield(job, nil) {
				return stop
			}
			return nil
		})
		switch {
		case err == nil:
			_, _ = io.CopyN(io.Discard, body, 512) // to its end, so that the connection is used again
		case !errors.Is(err, stop):
			yield(EmbedJob{}, failed(resp, body.explain(err)))
		}
	}
}
