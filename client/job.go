package client

import (
	"encoding/json"
	"errors"
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

// Optional is a value that the API may leave out. Where it was absent, null, of
// another type or a time before 1970, Valid is false.
type Optional[T any] struct {
	Value T
	Valid bool
}

// UnmarshalJSON never fails: a value of a wrong type costs itself only.
func (o *Optional[T]) UnmarshalJSON(data []byte) error {
	*o = Optional[T]{}
	if string(data) == "null" {
		return nil
	}
	var err error
	switch v := any(&o.Value).(type) { // several times faster than another Unmarshal
	case *float64:
		*v, err = strconv.ParseFloat(string(data), 64)
	case *bool:
		if *v = string(data) == "true"; !*v && string(data) != "false" {
			err = errors.New("not a bool")
		}
	case *time.Time:
		if err = v.UnmarshalJSON(data); v.Unix() < 0 {
			err = errors.New("before 1970")
		}
	default:
		err = json.Unmarshal(data, v)
	}
	if o.Valid = err == nil; !o.Valid {
		*o = Optional[T]{}
	}
	return nil
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
