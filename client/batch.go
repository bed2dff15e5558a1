package client

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// batchPageSize is the greatest number of batches that the API sends at once.
const batchPageSize = "1000"

// BatchStatus is the state of a batch: the API's word in lower case and without
// BATCH_STATUS_. The API may gain values that are not listed here.
type BatchStatus string

// The documented statuses, but for "unspecified".
const (
	BatchQueued     BatchStatus = "queued"
	BatchInProgress BatchStatus = "in_progress"
	BatchCanceling  BatchStatus = "canceling"
	BatchCompleted  BatchStatus = "completed"
	BatchFailed     BatchStatus = "failed"
	BatchCanceled   BatchStatus = "canceled"
)

// UnmarshalText takes both spellings of canceled.
func (s *BatchStatus) UnmarshalText(text []byte) error {
	word := strings.TrimPrefix(strings.ToLower(string(text)), "batch_status_")
	*s = BatchStatus(strings.Replace(word, "cancell", "cancel", 1))
	return nil
}

// Settled reports whether a batch in this status has come to its end.
func (s BatchStatus) Settled() bool {
	return s == BatchCompleted || s == BatchFailed || s == BatchCanceled
}

// Batch is a batch as the API describes it. Strings that the API left out are
// empty.
//
// See https://docs.cohere.com/reference/retrieve-batch.
type Batch struct {
	ID                string              `json:"id"`
	Name              string              `json:"name"`
	Status            BatchStatus         `json:"status"`
	CreatedAt         Optional[time.Time] `json:"created_at"`
	UpdatedAt         Optional[time.Time] `json:"updated_at"`
	InputDatasetID    string              `json:"input_dataset_id"`
	OutputDatasetID   string              `json:"output_dataset_id"`
	InputTokens       Count               `json:"input_tokens"`
	OutputTokens      Count               `json:"output_tokens"`
	Model             string              `json:"model"`
	Records           Count               `json:"num_records"`
	SuccessfulRecords Count               `json:"num_successful_records"`
	FailedRecords     Count               `json:"num_failed_records"`
	StatusReason      string              `json:"status_reason"` // one line, at most 200 characters, without the API key
}

// Equal reports whether both say the same: times are compared by instant.
func (b *Batch) Equal(other *Batch) bool {
	same := *b
	same.CreatedAt, same.UpdatedAt = other.CreatedAt, other.UpdatedAt
	return same == *other && equalTimes(b.CreatedAt, other.CreatedAt) && equalTimes(b.UpdatedAt, other.UpdatedAt)
}

// Count is an optional number that the API may write as a string.
type Count struct{ Optional[float64] }

// UnmarshalJSON never fails: a value of a wrong type costs itself only.
func (c *Count) UnmarshalJSON(data []byte) error {
	data = bytes.Trim(data, `"`)
	if len(bytes.Trim(data, "0123456789+-.eE")) > 0 { // such as Inf, which strconv knows
		*c = Count{}
		return nil
	}
	return c.Optional.UnmarshalJSON(data)
}

// Batch fetches one batch: GET /v2/batches/{id}. Fields other than id and status
// that are missing or of a wrong type are absent in the batch. The error is of
// the kinds of EmbedJob's.
func (c *Client) Batch(ctx context.Context, id string) (*Batch, error) {
	var answer struct {
		Batch *Batch `json:"batch"`
	}
	err := c.get(ctx, c.batches, id, &answer, func(resp *http.Response) error {
		b := answer.Batch
		if b == nil {
			return fmt.Errorf("%w: no batch", ErrInvalidResponse)
		}
		defer b.tidy(resp)
		return checkJob(resp, id, "id", b.ID, string(b.Status))
	})
	if err != nil {
		return nil, err
	}
	return answer.Batch, nil
}

// Batches lists a page of the batches of the key's user: GET /v2/batches. The
// first page has the token "", the last one no next. Batches calls each with
// every batch as soon as it is decoded, which is each's until it returns; entries
// without id or status are left out. After an error, of the kinds of EmbedJob's,
// what was listed is not all of the page.
func (c *Client) Batches(ctx context.Context, token string, each func(*Batch)) (next string, err error) {
	query := url.Values{"page_size": {batchPageSize}}
	if token != "" {
		query.Set("page_token", token)
	}
	u := *c.batches
	u.RawQuery = query.Encode()
	err = list(ctx, c, &u, "batches", &next, func(batch *Batch, resp *http.Response) {
		if batch.ID != "" && batch.Status != "" {
			batch.tidy(resp)
			each(batch)
		}
	})
	if err != nil {
		return "", err
	}
	return next, nil
}

// tidy makes what the API says of a batch fit for labels.
func (b *Batch) tidy(resp *http.Response) {
	hideKey(resp, &b.ID, &b.Name, &b.InputDatasetID, &b.OutputDatasetID, &b.Model)
	if b.StatusReason != "" { // nearly never
		b.StatusReason = strings.TrimSpace(clean(b.StatusReason, resp))
	}
}
