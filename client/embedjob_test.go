package client_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

func some[T any](v T) client.Optional[T] { return client.Optional[T]{Value: v, Valid: true} }

// The example of the page, to the letter.
const exampleJSON = `{
 "job_id": "ebd-9f8a7c6d5b4e3a21",
 "status": "complete",
 "created_at": "2024-04-10T14:22:35Z",
 "input_dataset_id": "ds-1234abcd5678efgh",
 "model": "embed-multilingual-v2.0",
 "truncate": "END",
 "name": "Customer Reviews Embedding Job",
 "output_dataset_id": "ds-8765hgfedcba4321",
 "meta": {
  "api_version": {
   "version": "1.0.0",
   "is_deprecated": false,
   "is_experimental": false
  },
  "billed_units": {
   "images": 0,
   "input_tokens": 1520,
   "image_tokens": 0,
   "output_tokens": 1520,
   "search_units": 0,
   "classifications": 0
  },
  "tokens": {
   "input_tokens": 1520,
   "output_tokens": 1520
  },
  "cached_tokens": 0,
  "warnings": []
 }
}`

func wantExample() client.EmbedJob {
	return client.EmbedJob{
		ID:              "ebd-9f8a7c6d5b4e3a21",
		Status:          client.Complete,
		CreatedAt:       some(time.Date(2024, 4, 10, 14, 22, 35, 0, time.UTC)),
		InputDatasetID:  "ds-1234abcd5678efgh",
		Model:           "embed-multilingual-v2.0",
		Truncate:        "END",
		Name:            "Customer Reviews Embedding Job",
		OutputDatasetID: "ds-8765hgfedcba4321",
		Meta: client.Meta{
			APIVersion: client.APIVersion{Version: "1.0.0", Deprecated: some(false), Experimental: some(false)},
			BilledUnits: client.BilledUnits{
				Images:          some(0.0),
				InputTokens:     some(1520.0),
				ImageTokens:     some(0.0),
				OutputTokens:    some(1520.0),
				SearchUnits:     some(0.0),
				Classifications: some(0.0),
			},
			Tokens:       client.Tokens{InputTokens: some(1520.0), OutputTokens: some(1520.0)},
			CachedTokens: some(0.0),
			Warnings:     []string{},
		},
	}
}

// checkJob fetches the example, alone and from the list.
func checkJob(t *testing.T, what string, b *bench, want client.EmbedJob) {
	t.Helper()
	got, err := b.EmbedJob(t.Context(), example)
	if err != nil || !reflect.DeepEqual(got, &want) {
		t.Errorf("%s: got  %+v\nwant %+v\nerror %v", what, got, want, err)
	}
	jobs, err := b.list(t.Context())
	if err != nil || !reflect.DeepEqual(jobs, []client.EmbedJob{want}) {
		t.Errorf("%s: list: got  %+v\nwant %+v\nerror %v", what, jobs, want, err)
	}
}

func TestExample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		checkJob(t, "simulated", b, wantExample())
		b.user.Update(example, func(j *cohertest.Job) { j.Raw = exampleJSON })
		checkJob(t, "page", b, wantExample())
	})
}

// Every field has a value of its own, so that none can stand for another.
func TestFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		b.user.Update(example, func(j *cohertest.Job) {
			j.Raw = `{"job_id":"` + example + `","status":"cancelling","created_at":"2024-01-02T03:04:05.678+09:00",` +
				`"input_dataset_id":"in","model":"m","truncate":"START","name":"n","output_dataset_id":"out",` +
				`"meta":{"api_version":{"version":"2","is_deprecated":true,"is_experimental":false},` +
				`"billed_units":{"images":1,"input_tokens":2,"image_tokens":3,"output_tokens":4,"search_units":5,` +
				`"classifications":6,"pages":7},"tokens":{"input_tokens":8,"output_tokens":9},"cached_tokens":10,` +
				`"warnings":["a","b"],"new":{"x":[1]}},"new":[{"job_id":"x"}]}`
		})
		checkJob(t, "all", b, client.EmbedJob{
			ID:              example,
			Status:          client.Cancelling,
			CreatedAt:       some(time.Date(2024, 1, 2, 3, 4, 5, 678e6, time.FixedZone("", 9*60*60))),
			InputDatasetID:  "in",
			Model:           "m",
			Truncate:        "START",
			Name:            "n",
			OutputDatasetID: "out",
			Meta: client.Meta{
				APIVersion: client.APIVersion{Version: "2", Deprecated: some(true), Experimental: some(false)},
				BilledUnits: client.BilledUnits{
					Images: some(1.0), InputTokens: some(2.0), ImageTokens: some(3.0), OutputTokens: some(4.0),
					SearchUnits: some(5.0), Classifications: some(6.0), Pages: some(7.0),
				},
				Tokens:       client.Tokens{InputTokens: some(8.0), OutputTokens: some(9.0)},
				CachedTokens: some(10.0),
				Warnings:     []string{"a", "b"},
			},
		})
	})
}

// Every field counts.
func TestEqual(t *testing.T) {
	checkEqual(t, wantExample(), (*client.EmbedJob).Equal)
	job, other := wantExample(), wantExample()
	other.CreatedAt.Value = other.CreatedAt.Value.In(time.FixedZone("", 2*60*60))
	if !job.Equal(&other) {
		t.Error("the same instant elsewhere differs")
	}
	for _, lists := range [][2][]string{{nil, {}}, {{"a"}, {}}, {{"a"}, {"b"}}, {{"a", "b"}, {"b", "a"}}} {
		job.Meta.Warnings, other.Meta.Warnings = lists[0], lists[1]
		if job.Equal(&other) || other.Equal(&job) {
			t.Errorf("%q equals %q", lists[0], lists[1])
		}
	}
}

// checkEqual changes each field of a value in turn.
func checkEqual[T any](t *testing.T, value T, equal func(a, b *T) bool) {
	t.Helper()
	if !equal(&value, &value) {
		t.Errorf("%+v differs from itself", value)
	}
	changed := value
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		before := reflect.New(v.Type()).Elem()
		before.Set(v)
		switch x := v.Addr().Interface().(type) {
		case *time.Time:
			*x = x.Add(1)
		case *[]string:
			*x = append(slices.Clone(*x), "")
		default:
			switch v.Kind() {
			case reflect.Struct:
				for i := range v.NumField() {
					walk(name+"."+v.Type().Field(i).Name, v.Field(i))
				}
				return
			case reflect.String:
				v.SetString(v.String() + "x")
			case reflect.Float64:
				v.SetFloat(v.Float() + 1)
			case reflect.Bool:
				v.SetBool(!v.Bool())
			default:
				t.Fatalf("%s is a %s", name, v.Type())
			}
		}
		if equal(&value, &changed) || equal(&changed, &value) {
			t.Errorf("%s does not count", name)
		}
		v.Set(before)
	}
	walk("", reflect.ValueOf(&changed).Elem())
}

// What the simulated API leaves out or spoils.
func TestSpoiltFields(t *testing.T) {
	bare := client.EmbedJob{ID: example, Status: client.Complete}
	for _, tt := range []struct {
		name  string
		fault cohertest.Fault
		want  func(*client.EmbedJob)
	}{
		{"MissingFields", cohertest.MissingFields, func(j *client.EmbedJob) { *j = bare }},
		{"WrongTypes", cohertest.WrongTypes, func(j *client.EmbedJob) { *j = bare }},
		{"NullFields", cohertest.NullFields, func(j *client.EmbedJob) {
			j.Name, j.OutputDatasetID, j.Meta = "", "", client.Meta{}
		}},
		{"NullMeta", cohertest.NullMeta, func(j *client.EmbedJob) { j.Meta = client.Meta{} }},
		{"NumbersAsStrings", cohertest.NumbersAsStrings, func(j *client.EmbedJob) {
			j.Meta.BilledUnits, j.Meta.Tokens = client.BilledUnits{}, client.Tokens{}
			j.Meta.CachedTokens = client.Optional[float64]{}
		}},
		{"NumbersWithFraction", cohertest.NumbersWithFraction, func(*client.EmbedJob) {}},
		{"NumbersWithExponent", cohertest.NumbersWithExponent, func(*client.EmbedJob) {}},
		{"UnknownStatus", cohertest.UnknownStatus, func(j *client.EmbedJob) { j.Status = "hibernating" }},
		{"InvalidUTF8", cohertest.InvalidUTF8, func(j *client.EmbedJob) { j.Name = "caf\uFFFD \uFFFD\uFFFD" }},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, (*cohertest.API).StartInMemory)
			b.user.Fail(cohertest.All, tt.fault)
			want := wantExample()
			tt.want(&want)
			checkJob(t, tt.name, b, want)
		})
	}
}

// What the API says of a job becomes labels, which a key must not.
func TestKeyInFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		b.user.Update(example, func(j *cohertest.Job) {
			j.Raw = strings.NewReplacer(
				`": "ds-`, `": "`+key+`, ds-`, `"embed-`, `"embed-`+key, `"END`, `"`+key, `"Customer `, `"`+key+" "+key+" ",
				`"1.0.0`, `"1.0.`+strings.ReplaceAll(key, "s", `\u0073`), `"warnings": [`, `"warnings": ["`+key+` is old"`,
			).Replace(exampleJSON)
		})
		want := wantExample()
		want.InputDatasetID, want.OutputDatasetID = "<secret>, ds-1234abcd5678efgh", "<secret>, ds-8765hgfedcba4321"
		want.Model, want.Truncate, want.Name = "embed-<secret>multilingual-v2.0", "<secret>", "<secret> <secret> Reviews Embedding Job"
		want.Meta.APIVersion.Version, want.Meta.Warnings = "1.0.<secret>", []string{"<secret> is old"}
		checkJob(t, "key", b, want)

		b.user.Update(example, func(j *cohertest.Job) { j.Raw = `{"job_id":"` + key + `","status":"complete"}` })
		if jobs, err := b.list(t.Context()); err != nil || ids(jobs) != "<secret>" {
			t.Errorf("got %+v, error %v", jobs, err)
		}
	})
}

// A short key is none, but stands for the one that a proxy adds.
func TestShortKeyInFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		b.api.AddUser("Review").Add(exampleJob())
		b.Client = b.as(t, client.StaticKey("Review"))
		checkJob(t, "short key", b, wantExample())
	})
}

// Each field in turn is missing, null, and of every type that is not its own.
// All the others keep their values.
func TestFieldByField(t *testing.T) {
	types := map[string]string{
		"string": `"text"`, "number": `1712758955`, "bool": `true`, "object": `{"a":1}`, "array": `[1]`,
	}
	for _, field := range []struct {
		path  string // in the example
		typ   string
		clear func(*client.EmbedJob)
	}{
		{"created_at", "", func(j *client.EmbedJob) { j.CreatedAt = client.Optional[time.Time]{} }},
		{"input_dataset_id", "string", func(j *client.EmbedJob) { j.InputDatasetID = "" }},
		{"model", "string", func(j *client.EmbedJob) { j.Model = "" }},
		{"truncate", "string", func(j *client.EmbedJob) { j.Truncate = "" }},
		{"name", "string", func(j *client.EmbedJob) { j.Name = "" }},
		{"output_dataset_id", "string", func(j *client.EmbedJob) { j.OutputDatasetID = "" }},
		{"meta", "object", func(j *client.EmbedJob) { j.Meta = client.Meta{} }},
		{"meta.api_version", "object", func(j *client.EmbedJob) { j.Meta.APIVersion = client.APIVersion{} }},
		{"meta.api_version.version", "string", func(j *client.EmbedJob) { j.Meta.APIVersion.Version = "" }},
		{"meta.api_version.is_deprecated", "bool", func(j *client.EmbedJob) { j.Meta.APIVersion.Deprecated = client.Optional[bool]{} }},
		{"meta.api_version.is_experimental", "bool", func(j *client.EmbedJob) { j.Meta.APIVersion.Experimental = client.Optional[bool]{} }},
		{"meta.billed_units", "object", func(j *client.EmbedJob) { j.Meta.BilledUnits = client.BilledUnits{} }},
		{"meta.billed_units.images", "number", func(j *client.EmbedJob) { j.Meta.BilledUnits.Images = client.Optional[float64]{} }},
		{"meta.billed_units.input_tokens", "number", func(j *client.EmbedJob) { j.Meta.BilledUnits.InputTokens = client.Optional[float64]{} }},
		{"meta.billed_units.image_tokens", "number", func(j *client.EmbedJob) { j.Meta.BilledUnits.ImageTokens = client.Optional[float64]{} }},
		{"meta.billed_units.output_tokens", "number", func(j *client.EmbedJob) { j.Meta.BilledUnits.OutputTokens = client.Optional[float64]{} }},
		{"meta.billed_units.search_units", "number", func(j *client.EmbedJob) { j.Meta.BilledUnits.SearchUnits = client.Optional[float64]{} }},
		{"meta.billed_units.classifications", "number", func(j *client.EmbedJob) { j.Meta.BilledUnits.Classifications = client.Optional[float64]{} }},
		{"meta.billed_units.pages", "number", func(j *client.EmbedJob) { j.Meta.BilledUnits.Pages = client.Optional[float64]{} }},
		{"meta.tokens", "object", func(j *client.EmbedJob) { j.Meta.Tokens = client.Tokens{} }},
		{"meta.tokens.input_tokens", "number", func(j *client.EmbedJob) { j.Meta.Tokens.InputTokens = client.Optional[float64]{} }},
		{"meta.tokens.output_tokens", "number", func(j *client.EmbedJob) { j.Meta.Tokens.OutputTokens = client.Optional[float64]{} }},
		{"meta.cached_tokens", "number", func(j *client.EmbedJob) { j.Meta.CachedTokens = client.Optional[float64]{} }},
		{"meta.warnings", "array", func(j *client.EmbedJob) { j.Meta.Warnings = nil }},
	} {
		t.Run(field.path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, (*cohertest.API).StartInMemory)
				values := map[string]string{"missing": "", "null": "null"}
				for typ, value := range types {
					if typ != field.typ {
						values[typ] = value
					}
				}
				want := wantExample()
				field.clear(&want)
				for what, value := range values {
					b.user.Update(example, func(j *cohertest.Job) { j.Raw = with(t, field.path, value) })
					checkJob(t, what, b, want)
				}
			})
		})
	}
}

// with returns the example with another value for a field, or without it.
func with(t *testing.T, path, value string) string {
	t.Helper()
	var job map[string]any
	if err := json.Unmarshal([]byte(exampleJSON), &job); err != nil {
		t.Fatal(err)
	}
	object, names := job, strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		object = object[name].(map[string]any)
	}
	last := names[len(names)-1]
	object[last] = json.RawMessage(value)
	if value == "" {
		delete(object, last)
	}
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRequiredFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		for _, tt := range []struct{ raw, want string }{
			{`{}`, `invalid response: job_id is ""`},
			{`{"status":"complete"}`, `invalid response: job_id is ""`},
			{`{"job_id":null,"status":"complete"}`, `invalid response: job_id is ""`},
			{`{"job_id":7,"status":"complete"}`, `invalid response: job_id is ""`},
			{`{"job_id":"EBD-9f8a7c6d5b4e3a21","status":"complete"}`, `invalid response: job_id is "EBD-9f8a7c6d5b4e3a21"`},
			{`{"job_id":"a\n\"b\"","status":"complete"}`, `invalid response: job_id is "a \"b\""`},
			{`{"job_id":"` + key + `","status":"complete"}`, `invalid response: job_id is "<secret>"`},
			{`{"job_id":"` + example + `"}`, `invalid response: no status`},
			{`{"job_id":"` + example + `","status":null}`, `invalid response: no status`},
			{`{"job_id":"` + example + `","status":""}`, `invalid response: no status`},
			{`{"job_id":"` + example + `","status":1}`, `invalid response: no status`},
			{`{"job_id":"` + example + `","status":"complete"`, `invalid response: unexpected end of JSON input`},
			{`{"job_id":"` + example + `","status":"complete"} {}`, `invalid response: invalid character '{' after top-level value`},
		} {
			b.user.Fail(example, cohertest.Body(tt.raw))
			job, err := b.EmbedJob(t.Context(), example)
			if err == nil || err.Error() != tt.want || job != nil {
				t.Errorf("%s: got %+v, error %v, want %s", tt.raw, job, err, tt.want)
			}
			if client.ReasonOf(err) != client.InvalidResponse || client.StatusCode(err) != 200 {
				t.Errorf("%s: reason %s, status %d", tt.raw, client.ReasonOf(err), client.StatusCode(err))
			}
		}
	})
}

func TestNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		for text, want := range map[string]client.Optional[float64]{
			"1520":             some(1520.0),
			"1520.0":           some(1520.0),
			"1.52e3":           some(1520.0),
			"1.52E+03":         some(1520.0),
			"152000e-2":        some(1520.0),
			"0":                some(0.0),
			"0.0":              some(0.0),
			"0.5":              some(0.5),
			"-1":               some(-1.0),
			"1e300":            some(1e300),
			"9007199254740993": some(9007199254740992.0),
			"1e999":            {},
			`"1520"`:           {},
			"true":             {},
			"null":             {},
			"[1520]":           {},
		} {
			b.user.Update(example, func(j *cohertest.Job) { j.Raw = with(t, "meta.billed_units.input_tokens", text) })
			job := wantExample()
			job.Meta.BilledUnits.InputTokens = want
			checkJob(t, text, b, job)
		}
		for _, text := range []string{"01", "1.", ".5", "0x10", "NaN", "+1", "1_000"} {
			b.user.Fail(example, cohertest.Body(`{"job_id":"`+example+`","status":"complete","meta":{"cached_tokens":`+text+`}}`))
			if _, err := b.EmbedJob(t.Context(), example); client.ReasonOf(err) != client.InvalidResponse {
				t.Errorf("%s, which is not JSON: got %v", text, err)
			}
		}
	})
}

func TestCreatedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		base := time.Date(2024, 4, 10, 14, 22, 35, 0, time.UTC)
		for text, want := range map[string]client.Optional[time.Time]{
			`"2024-04-10T14:22:35Z"`:           some(base),
			`"2024-04-10T14:22:35+00:00"`:      some(base),
			`"2024-04-10T14:22:35-00:00"`:      some(base),
			`"2024-04-10T14:22:35.5Z"`:         some(base.Add(500 * time.Millisecond)),
			`"2024-04-10T14:22:35.123456Z"`:    some(base.Add(123456 * time.Microsecond)),
			`"2024-04-10T14:22:35.000000001Z"`: some(base.Add(1)),
			`"2024-04-10T16:22:35+02:00"`:      some(base),
			`"2024-04-10T07:52:35.25-06:30"`:   some(base.Add(250 * time.Millisecond)),
			`"1970-01-01T00:00:00Z"`:           some(time.Unix(0, 0)),
			`"1970-01-01T01:00:00+01:00"`:      some(time.Unix(0, 0)),
			`"1970-01-01T00:59:59+01:00"`:      {},
			`"1969-12-31T23:59:59.999Z"`:       {},
			`"0001-01-01T00:00:00Z"`:           {},
			`"9999-12-31T23:59:59Z"`:           some(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)),
			`"2024-04-10 14:22:35Z"`:           {},
			`"2024-04-10T14:22:35"`:            {},
			`"2024-04-10"`:                     {},
			`"2024-02-30T14:22:35Z"`:           {},
			`"2024-04-10T25:22:35Z"`:           {},
			`"Wed, 10 Apr 2024 14:22:35 GMT"`:  {},
			`"yesterday"`:                      {},
			`""`:                               {},
			`null`:                             {},
			`1712758955`:                       {},
			`{}`:                               {},
		} {
			b.user.Update(example, func(j *cohertest.Job) { j.Raw = with(t, "created_at", text) })
			job, err := b.EmbedJob(t.Context(), example)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			got := job.CreatedAt
			if got.Valid != want.Valid || !got.Value.Equal(want.Value) {
				t.Errorf("%s: got %+v, want %+v", text, got, want)
			}
		}
	})
}

func TestWarningsOfJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		for text, want := range map[string][]string{
			`[]`:              {},
			`["a","b"]`:       {"a", "b"},
			`["a",null,"b"]`:  {"a", "", "b"}, // counted all the same
			`["a",7,{"b":1}]`: {"a", "", ""},
			`null`:            nil,
			`"a"`:             nil,
		} {
			b.user.Update(example, func(j *cohertest.Job) { j.Raw = with(t, "meta.warnings", text) })
			job := wantExample()
			job.Meta.Warnings = want
			checkJob(t, text, b, job)
		}
	})
}

// Whatever a value was before.
func TestOptional(t *testing.T) {
	for text, want := range map[string]client.Optional[float64]{
		"null": {}, `"7"`: {}, "1e999": {}, "{}": {}, "8": some(8.0),
	} {
		got := some(7.0)
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: got %+v, error %v", text, got, err)
		}
		list := []client.Optional[bool]{some(true)}
		if err := json.Unmarshal([]byte("["+text+"]"), &list); err != nil || list[0].Valid || list[0].Value {
			t.Errorf("%s: got %+v, error %v", text, list, err)
		}
	}
}

func TestOptionalBool(t *testing.T) {
	for text, want := range map[string]client.Optional[bool]{
		"true": some(true), "false": some(false), "null": {}, "0": {}, "1": {}, `"true"`: {}, "[true]": {}, "{}": {},
	} {
		got := some(true)
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: got %+v, error %v", text, got, err)
		}
	}
}

func TestSettled(t *testing.T) {
	for status, want := range map[client.Status]bool{
		"processing": false, "complete": true, "cancelling": false, "cancelled": true, "failed": true,
		"hibernating": false, "Complete": false, "": false,
	} {
		if got := status.Settled(); got != want {
			t.Errorf("%q: got %t", status, got)
		}
	}
}

// answering is a client that gets this body, without a server.
func answering(body string) *client.Client {
	u, err := client.ParseBaseURL("https://api.cohere.com")
	if err != nil {
		panic(err)
	}
	return client.New(u, roundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode:    http.StatusOK,
			Header:        http.Header{},
			Body:          io.NopCloser(strings.NewReader(body)),
			ContentLength: int64(len(body)),
			Request:       req,
		}, nil
	}))
}

func seeds() []string {
	deep := func(n int) string { return strings.Repeat(`{"meta":`, n) + strings.Repeat("}", n) }
	return []string{
		exampleJSON,
		`{"job_id":"ebd-9f8a7c6d5b4e3a21","status":"failed","meta":{"billed_units":{"input_tokens":1.52e3,"pages":"7"}}}`,
		`{"job_id":"ebd-9f8a7c6d5b4e3a21","status":"failed","created_at":"2024-04-10T14:22:35.5+02:00","meta":[]}`,
		`{"job_id":"ebd-9f8a7c6d5b4e3a21","status":"failed","meta":{"tokens":{"input_tokens":1e999},"warnings":[1,null]}}`,
		`{"job_id":"ebd-9f8a7c6d5b4e3a21","status":"\ud800","name":"` + "\xff" + `","meta":{"api_version":{"is_deprecated":1}}}`,
		`{"JOB_ID":"ebd-9f8a7c6d5b4e3a21","status":"a","status":null}`,
		`{"job_id":"ebd-9f8a7c6d5b4e3a21","status":{}}`,
		`null`, `[]`, `[{}]`, `{`, `""`, `1`, ``, ` `, `{"job_id":`, `{}{}`, deep(100), deep(5000) + "x",
	}
}

// BenchmarkEmbedJob leaves the network out.
func BenchmarkEmbedJob(b *testing.B) {
	c := answering(exampleJSON)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.EmbedJob(b.Context(), example); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEqual(b *testing.B) {
	decode := func() (job client.EmbedJob) {
		if err := json.Unmarshal([]byte(exampleJSON), &job); err != nil {
			b.Fatal(err)
		}
		return job
	}
	one, other := decode(), decode()
	b.ReportAllocs()
	for b.Loop() {
		if !one.Equal(&other) {
			b.Fatal("differ")
		}
	}
}

// FuzzJob holds the decoding of a job against one into maps, which knows
// nothing of the types.
func FuzzJob(f *testing.F) {
	for _, seed := range seeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		job, err := answering(body).EmbedJob(t.Context(), example)
		if err != nil {
			if client.ReasonOf(err) != client.InvalidResponse || client.StatusCode(err) != 200 || job != nil {
				t.Errorf("got %+v, error %v", job, err)
			}
			checkText(t, err)
		}
		var fields map[string]any
		dec := json.NewDecoder(strings.NewReader(body))
		dec.UseNumber()
		if !json.Valid([]byte(body)) || dec.Decode(&fields) != nil || fields == nil {
			if err == nil {
				t.Errorf("not an object: got %+v", job)
			}
			return
		}
		if ambiguous(json.NewDecoder(strings.NewReader(body))) {
			return
		}
		if status, _ := fields["status"].(string); (fields["job_id"] == example && status != "") != (err == nil) {
			t.Fatalf("got error %v", err)
		}
		if err == nil {
			checkFields(t, job, fields)
		}
	})
}

func checkFields(t *testing.T, job *client.EmbedJob, fields map[string]any) {
	t.Helper()
	at := func(names ...string) any {
		var v any = fields
		for _, name := range names {
			object, _ := v.(map[string]any)
			v = object[name]
		}
		return v
	}
	for name, got := range map[string]string{
		"job_id": job.ID, "status": string(job.Status), "input_dataset_id": job.InputDatasetID, "model": job.Model,
		"truncate": job.Truncate, "name": job.Name, "output_dataset_id": job.OutputDatasetID,
	} {
		if want, _ := at(name).(string); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if want, _ := at("meta", "api_version", "version").(string); job.Meta.APIVersion.Version != want {
		t.Errorf("version: got %q, want %q", job.Meta.APIVersion.Version, want)
	}

	text, _ := at("created_at").(string)
	created, err := time.Parse(time.RFC3339, text)
	// The parser takes a few forms that RFC 3339 does not have; JSON does not.
	if got := job.CreatedAt; got.Valid && (err != nil || !got.Value.Equal(created)) || !got.Valid && !got.Value.IsZero() {
		t.Errorf("created_at: got %+v for %q", got, text)
	}

	billed, tokens := job.Meta.BilledUnits, job.Meta.Tokens
	for path, got := range map[string]client.Optional[float64]{
		"billed_units images":          billed.Images,
		"billed_units input_tokens":    billed.InputTokens,
		"billed_units image_tokens":    billed.ImageTokens,
		"billed_units output_tokens":   billed.OutputTokens,
		"billed_units search_units":    billed.SearchUnits,
		"billed_units classifications": billed.Classifications,
		"billed_units pages":           billed.Pages,
		"tokens input_tokens":          tokens.InputTokens,
		"tokens output_tokens":         tokens.OutputTokens,
		"cached_tokens":                job.Meta.CachedTokens,
	} {
		var want client.Optional[float64]
		if n, ok := at(append([]string{"meta"}, strings.Fields(path)...)...).(json.Number); ok {
			if v, err := strconv.ParseFloat(string(n), 64); err == nil {
				want = some(v)
			}
		}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", path, got, want)
		}
	}
	for name, got := range map[string]client.Optional[bool]{
		"is_deprecated": job.Meta.APIVersion.Deprecated, "is_experimental": job.Meta.APIVersion.Experimental,
	} {
		var want client.Optional[bool]
		if v, ok := at("meta", "api_version", name).(bool); ok {
			want = some(v)
		}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}

	list, ok := at("meta", "warnings").([]any)
	if got := job.Meta.Warnings; (got != nil) != ok || len(got) != len(list) {
		t.Errorf("warnings: got %q, want %v", got, list)
	}
	for i, v := range list {
		if want, _ := v.(string); job.Meta.Warnings[i] != want {
			t.Errorf("warning %d: got %q, want %v", i, job.Meta.Warnings[i], v)
		}
	}
}

// ambiguous reports whether an object holds a name twice, or one in other than
// the documented letters: it is up to the decoder what to make of these.
func ambiguous(dec *json.Decoder) bool {
	var walk func() bool
	walk = func() bool {
		token, err := dec.Token()
		if err != nil {
			return true
		}
		delim, _ := token.(json.Delim)
		if delim != '{' && delim != '[' {
			return false
		}
		seen := map[string]bool{}
		for dec.More() {
			if delim == '{' {
				name, err := dec.Token()
				if err != nil {
					return true
				}
				s := fmt.Sprint(name)
				if seen[s] || strings.ContainsFunc(s, func(r rune) bool { return r > 0x7e || r >= 'A' && r <= 'Z' }) {
					return true
				}
				seen[s] = true
			}
			if walk() {
				return true
			}
		}
		_, err = dec.Token()
		return err != nil
	}
	return walk()
}
