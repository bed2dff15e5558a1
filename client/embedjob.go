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

// Job is an embed job as the API describes it. Strings that the API left out
// are empty.
//
// See https://docs.cohere.com/reference/get-embed-job.
type Job struct {
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
// and status that are missing or of a wrong type are absent in the Job. The
// error is an Error if the API refused, or answers to ErrInvalidResponse or
// ErrNoKey; ReasonOf tells its kind.
func (c *Client) EmbedJob(ctx context.Context, id string) (Job, error) {
	job, _, err := c.EmbedJobIfNew(ctx, id, 0)
	return job, err
}

// Digest tells answers apart. That of no answer is 0.
type Digest uint64

var digestSeed = maphash.MakeSeed()

// EmbedJobIfNew is EmbedJob for those who have an answer already: where this one
// is the same to the byte, which its digest tells, it is not decoded, and the
// Job is empty. Settled jobs hardly ever change.
func (c *Client) EmbedJobIfNew(ctx context.Context, id string, have Digest) (Job, Digest, error) {
	if err := CheckID(id); err != nil {
		return Job{}, 0, err
	}
	u := *c.jobs
	u.Path += "/" + id
	u.RawPath = c.jobs.EscapedPath() + "/" + url.PathEscape(id)

	resp, err := c.do(ctx, &u)
	if err != nil {
		return Job{}, 0, err
	}
	defer resp.Body.Close()
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxKeptBytes {
			buffers.Put(buf)
		}
	}()
	if err := readAll(buf, resp, maxJobBytes); err != nil {
		return Job{}, 0, failed(resp, err)
	}
	digest := Digest(maphash.Bytes(digestSeed, buf.Bytes()))
	if digest == have {
		return Job{}, digest, nil
	}
	job, err := decodeJob(buf.Bytes(), id, resp)
	if err != nil {
		return Job{}, 0, failed(resp, err)
	}
	return job, digest, nil
}

// decodeJob decodes the answer to a request for a job. It copies what it keeps.
func decodeJob(body []byte, id string, resp *http.Response) (job Job, err error) {
	switch err := unmarshal(body, &job); {
	case err != nil:
		return Job{}, err
	case job.ID != id:
		return Job{}, fmt.Errorf("%w: job_id is %s", ErrInvalidResponse, strconv.Quote(clean(job.ID, resp)))
	case job.Status == "":
		return Job{}, fmt.Errorf("%w: no status", ErrInvalidResponse)
	}
	return job, nil
}

// EmbedJobs lists all jobs of the key's user: GET /v1/embed-jobs. Jobs are
// yielded as they are decoded; entries without job_id or status are left out.
// An error, of the kinds of EmbedJob's, is yielded last: what came before it
// is not the whole list.
func (c *Client) EmbedJobs(ctx context.Context) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		resp, err := c.do(ctx, c.jobs)
		if err != nil {
			yield(Job{}, err)
			return
		}
		defer resp.Body.Close()
		stop := errors.New("stop")
		body := &cappedReader{r: resp.Body, left: maxListBytes}
		err = decodeList(body, func(job Job) error {
			if job.ID != "" && job.Status != "" && !yield(job, nil) {
				return stop
			}
			return nil
		})
		switch {
		case err == nil:
			_, _ = io.CopyN(io.Discard, body, 512) // to its end, so that the connection is used again
		case !errors.Is(err, stop):
			yield(Job{}, failed(resp, body.explain(err)))
		}
	}
}
