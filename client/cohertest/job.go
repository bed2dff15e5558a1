package cohertest

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Job is an embed job as the API answers it. Only the ID is required.
type Job struct {
	ID     string
	Status string // by default "processing"
	Name   string // left out if empty

	Model           string    // by default "embed-multilingual-v3.0"
	Truncate        string    // by default "END"
	InputDatasetID  string    // by default derived from the ID
	OutputDatasetID string    // by default left out, or derived from the ID of a complete job
	CreatedAt       time.Time // by default an hour before the job was added

	// Billed units. The tokens are also those of meta.tokens.
	InputTokens, OutputTokens float64
	Images, ImageTokens       float64
	SearchUnits               float64
	Classifications           float64
	Pages                     float64 // left out if 0

	CachedTokens float64
	Warnings     []string

	APIVersion               string // by default "1"
	Deprecated, Experimental bool   // the API version

	// Raw, if set, is answered to the letter, alone and in the list.
	Raw string

	// ListWithoutMeta leaves meta out of the job's entry in the list. See also
	// [User.ListWithoutMeta].
	ListWithoutMeta bool

	// Script, if set, shapes a copy of the job at every answer: a job that changes by
	// time, without goroutines. It may be called concurrently.
	Script func(now time.Time, j *Job)
}

func (j *Job) setDefaults(now time.Time) {
	suffix := strings.TrimPrefix(j.ID, "ebd-")
	setDefault(&j.Status, "processing")
	setDefault(&j.Model, "embed-multilingual-v3.0")
	setDefault(&j.Truncate, "END")
	setDefault(&j.InputDatasetID, "ds-"+suffix+"-in")
	setDefault(&j.APIVersion, "1")
	if j.CreatedAt.IsZero() {
		j.CreatedAt = now.Add(-time.Hour).UTC()
	}
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// A text is a job's JSON. It is put together from literals, not marshalled from a struct,
// so that a client's mistaken tag cannot meet the same mistake here.
type text struct {
	json []byte
	meta int // where meta, the last member, begins; 0 if it cannot be left out
}

// appendEntry appends the job as an entry of the list.
func (t text) appendEntry(b []byte, withoutMeta bool) []byte {
	if withoutMeta && t.meta > 0 {
		b = append(b, t.json[:t.meta]...)
		return append(b, '}')
	}
	return append(b, t.json...)
}

// A style is a way to write a job or batch other than the documented one, which is the zero value.
type style struct {
	numbers  func(b []byte, n float64) []byte
	nulls    bool // optional members are null
	deep     bool // everything within meta is null, or the counts of a batch
	required bool // only the ID and status
	noStatus bool
	binary   bool   // the name is not UTF-8
	types    bool   // members are of the wrong type
	suffix   string // of the ID

	unknownStatus bool
	withoutTokens bool // a batch in a list
}

// render appends a job's JSON to b, which is empty.
func render(b []byte, j *Job, s style) text {
	if j.Raw != "" {
		return text{json: append(b, j.Raw...)}
	}
	number := s.numbers
	if number == nil {
		number = appendNumber
	}

	b = append(b, `{"job_id":`...)
	b = appendString(b, j.ID+s.suffix)
	status := j.Status
	if s.unknownStatus {
		status = "hibernating"
	}
	if !s.noStatus {
		b = append(b, `,"status":`...)
		b = appendString(b, status)
	}
	switch {
	case s.required:
		return text{json: append(b, '}')}
	case s.types:
		return text{json: append(b, `,"created_at":1712758955,"input_dataset_id":{},"model":7,`+
			`"truncate":false,"name":["a"],"output_dataset_id":3,"meta":{"api_version":"1",`+
			`"billed_units":[1520],"tokens":"1520","cached_tokens":{},"warnings":"none"}}`...)}
	}

	b = append(b, `,"created_at":"`...)
	b = j.CreatedAt.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","input_dataset_id":`...)
	b = appendString(b, j.InputDatasetID)
	b = append(b, `,"model":`...)
	b = appendString(b, j.Model)
	b = append(b, `,"truncate":`...)
	b = appendString(b, j.Truncate)
	switch {
	case s.nulls:
		return text{json: append(b, `,"name":null,"output_dataset_id":null,"meta":null}`...)}
	case s.binary:
		b = append(b, ",\"name\":\"caf\xe9 \xff\xfe\""...)
	case j.Name != "":
		b = append(b, `,"name":`...)
		b = appendString(b, j.Name)
	}
	switch {
	case j.OutputDatasetID != "":
		b = append(b, `,"output_dataset_id":`...)
		b = appendString(b, j.OutputDatasetID)
	case j.Status == "complete":
		b = append(b, `,"output_dataset_id":`...)
		b = appendString(b, "ds-"+strings.TrimPrefix(j.ID, "ebd-")+"-out")
	}

	t := text{meta: len(b)}
	if s.deep {
		b = append(b, `,"meta":{`+
			`"api_version":{"version":null,"is_deprecated":null,"is_experimental":null},`+
			`"billed_units":{"images":null,"input_tokens":null,"image_tokens":null,`+
			`"output_tokens":null,"search_units":null,"classifications":null,"pages":null},`+
			`"tokens":{"input_tokens":null,"output_tokens":null},`+
			`"cached_tokens":null,"warnings":null}}`...)
		t.json = b
		return t
	}

	b = append(b, `,"meta":{"api_version":{"version":`...)
	b = appendString(b, j.APIVersion)
	b = append(b, `,"is_deprecated":`...)
	b = strconv.AppendBool(b, j.Deprecated)
	b = append(b, `,"is_experimental":`...)
	b = strconv.AppendBool(b, j.Experimental)
	b = append(b, `},"billed_units":{"images":`...)
	b = number(b, j.Images)
	b = append(b, `,"input_tokens":`...)
	b = number(b, j.InputTokens)
	b = append(b, `,"image_tokens":`...)
	b = number(b, j.ImageTokens)
	b = append(b, `,"output_tokens":`...)
	b = number(b, j.OutputTokens)
	b = append(b, `,"search_units":`...)
	b = number(b, j.SearchUnits)
	b = append(b, `,"classifications":`...)
	b = number(b, j.Classifications)
	if j.Pages != 0 {
		b = append(b, `,"pages":`...)
		b = number(b, j.Pages)
	}
	b = append(b, `},"tokens":{"input_tokens":`...)
	b = number(b, j.InputTokens)
	b = append(b, `,"output_tokens":`...)
	b = number(b, j.OutputTokens)
	b = append(b, `},"cached_tokens":`...)
	b = number(b, j.CachedTokens)
	b = append(b, `,"warnings":[`...)
	for i, warning := range j.Warnings {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, warning)
	}
	b = append(b, `]}}`...)
	t.json = b
	return t
}

func appendNumber(b []byte, n float64) []byte {
	return strconv.AppendFloat(b, n, 'f', -1, 64)
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			quoted, _ := json.Marshal(s) // does not fail on a string
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// Lists of 10,000 jobs take megabytes, which would show in the benchmarks of a client.
var buffers = sync.Pool{New: func() any { return new([]byte) }}
