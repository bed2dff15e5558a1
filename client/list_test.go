package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

func ids(jobs []client.EmbedJob) string {
	var ids []string
	for _, job := range jobs {
		ids = append(ids, job.ID)
	}
	return strings.Join(ids, " ")
}

func TestList(t *testing.T) {
	const a, b, c = `{"job_id":"a","status":"complete"}`, `{"job_id":"b","status":"failed"}`, `{"job_id":"c","status":"new"}`
	for _, tt := range []struct{ name, body, ids, err string }{
		{"all", `{"embed_jobs":[` + a + `,` + b + `,` + c + `]}`, "a b c", ""},
		{"none", `{"embed_jobs":[]}`, "", ""},
		{"null", `{"embed_jobs":null}`, "", ""},
		{"blanks", " \n{ \"embed_jobs\" :\t[ " + a + " , " + b + " ] } \n", "a b", ""},
		{"other members", `{"x":{"embed_jobs":[` + c + `]},"embed_jobs":[` + a + `],"y":[1,"]}"],"z":null}`, "a", ""},
		{"without ID", `{"embed_jobs":[{"status":"complete"},` + a + `,{"job_id":"","status":"complete"},{"job_id":null,"status":"complete"},{"job_id":7,"status":"complete"}]}`, "a", ""},
		{"without status", `{"embed_jobs":[{"job_id":"x"},` + a + `,{"job_id":"y","status":null},{"job_id":"z","status":{}}]}`, "a", ""},
		{"of other types", `{"embed_jobs":[null,1,"a",true,[` + c + `],{},` + a + `]}`, "a", ""},
		{"wrong types within", `{"embed_jobs":[{"job_id":"w","status":"complete","name":1,"meta":"x"},` + a + `]}`, "w a", ""},
		{"next to nothing", `{"embed_jobs":[{"job_id":"a","status":"complete","name":"n"},{"job_id":"b","status":"x"}],"next_page_token":7}`, "a b", ""},
		{"twice", `{"embed_jobs":[` + a + `,` + a + `]}`, "a a", ""},

		{"empty object", `{}`, "", "no embed_jobs"},
		{"missing", `{"jobs":[` + a + `]}`, "", "no embed_jobs"},
		{"an object", `{"embed_jobs":{"a":` + a + `}}`, "", "embed_jobs is not an array"},
		{"a string", `{"embed_jobs":"none"}`, "", "embed_jobs is not an array"},
		{"a job", a, "", "no embed_jobs"},
		{"empty", ``, "", "unexpected EOF"},
		{"body null", `null`, "", "<nil> where { should be"},
		{"an array", `[` + a + `]`, "", "[ where { should be"},
		{"HTML", `<html>`, "", "invalid character '<' looking for beginning of value"},
		{"cut in the name", `{"embed_j`, "", "unexpected EOF"},
		{"cut before the value", `{"embed_jobs":`, "", "unexpected EOF"},
		{"cut after the bracket", `{"embed_jobs":[`, "", "unexpected EOF"},
		{"cut in a job", `{"embed_jobs":[` + a + `,{"job_id":"b"`, "a", "unexpected EOF"},
		{"cut after a job", `{"embed_jobs":[` + a, "a", "unexpected EOF"},
		{"cut after a comma", `{"embed_jobs":[` + a + `,`, "a", "unexpected EOF"},
		{"cut after the jobs", `{"embed_jobs":[` + a + `]`, "a", "unexpected EOF"},
		{"cut in another member", `{"embed_jobs":[` + a + `],"x":{`, "a", "unexpected EOF"},
		{"wrong bracket", `{"embed_jobs":[` + a + `}`, "a", "invalid character '}' after array element"},
		{"wrong bracket, and more", `{"embed_jobs":[` + a + `}` + strings.Repeat(" ", 64<<10), "a", "invalid character '}' after array element"},
		{"no comma", `{"embed_jobs":[` + a + ` ` + b + `]}`, "a", "expected comma after array element"},
		{"text behind it", `{"embed_jobs":[` + a + `]}` + "\n<!-- -->", "a", "invalid character '<' looking for beginning of value"},
		{"another list behind it", `{"embed_jobs":[` + a + `]}{"embed_jobs":[` + b + `]}`, "a", "{ behind the list"},
		{"broken job", `{"embed_jobs":[` + a + `,{"job_id":b},` + c + `]}`, "a", "invalid character 'b' looking for beginning of value"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, (*cohertest.API).StartInMemory)
				b.user.Fail(cohertest.List, cohertest.Body(tt.body))
				jobs, err := b.list(t.Context())
				if got := ids(jobs); got != tt.ids {
					t.Errorf("got %s, want %s", got, tt.ids)
				}
				if err == nil {
					if tt.err != "" {
						t.Errorf("no error, want %s", tt.err)
					}
					return
				}
				if client.ReasonOf(err) != client.InvalidResponse || client.StatusCode(err) != 200 {
					t.Errorf("got %s, %d: %v", client.ReasonOf(err), client.StatusCode(err), err)
				}
				checkText(t, err)
				if err.Error() != "invalid response: "+tt.err {
					t.Errorf("got %v, want %s", err, tt.err)
				}
			})
		})
	}
}

// Without meta in the list there are no tokens, which is not the same as zero.
func TestListWithoutMeta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		b.user.ListWithoutMeta(true)
		want := wantExample()
		want.Meta = client.Meta{}
		if jobs, err := b.list(t.Context()); err != nil || !reflect.DeepEqual(jobs, []client.EmbedJob{want}) {
			t.Errorf("got %+v, error %v", jobs, err)
		}
	})
}

// A job is there as soon as the API has sent it.
func TestListStreams(t *testing.T) {
	for name, server := range inMemory {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, server)
			b.user.Fail(cohertest.List, func(w http.ResponseWriter, _ *http.Request, _ *cohertest.Call) {
				_, _ = io.WriteString(w, `{"embed_jobs":[`)
				for i := range 3 {
					_, _ = fmt.Fprintf(w, `{"job_id":"ebd-%d","status":"complete"},`, i)
					_ = http.NewResponseController(w).Flush()
					time.Sleep(time.Minute)
				}
				_, _ = io.WriteString(w, `{"job_id":"ebd-3","status":"complete"}]}`)
			})
			began := time.Now()
			n := 0
			err := b.EmbedJobs(t.Context(), func(job *client.EmbedJob) {
				if want := fmt.Sprint("ebd-", n); job.ID != want {
					t.Errorf("%s: got %+v", name, job)
				}
				if got, want := time.Since(began), time.Duration(n)*time.Minute; got != want {
					t.Errorf("%s: job %d after %v, want %v", name, n, got, want)
				}
				n++
			})
			if n != 4 || err != nil {
				t.Errorf("%s: got %d jobs, error %v", name, n, err)
			}
		})
	}
}

// The deadline of a list holds to its end; what came before is the caller's.
func TestListDeadline(t *testing.T) {
	for name, server := range inMemory {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, server)
			b.user.Fail(cohertest.List, func(w http.ResponseWriter, r *http.Request, _ *cohertest.Call) {
				_, _ = io.WriteString(w, `{"embed_jobs":[{"job_id":"a","status":"complete"},{"job_id":`)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			began := time.Now()
			jobs, err := b.list(ctx)
			if ids(jobs) != "a" || client.ReasonOf(err) != client.Timeout || client.StatusCode(err) != 200 {
				t.Errorf("%s: got %v, error %v", name, jobs, err)
			}
			if got := time.Since(began); got != 10*time.Second {
				t.Errorf("%s: took %v", name, got)
			}
		})
	}
}

// A panic of the caller's leaves nothing behind.
func TestListPanic(t *testing.T) {
	for name, server := range inMemory {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, server)
			func() {
				defer func() {
					if recover() != "enough" {
						t.Errorf("%s: no panic", name)
					}
				}()
				_ = b.EmbedJobs(t.Context(), func(*client.EmbedJob) { panic("enough") })
			}()
			if _, err := b.EmbedJob(t.Context(), example); err != nil {
				t.Errorf("%s: afterwards: %v", name, err)
			}
		})
	}
}

// A list may have 64 MiB, to the byte, and no more is read of an endless one.
func TestListLimit(t *testing.T) {
	const (
		limit = 64 << 20
		begin = `{"embed_jobs":[`
		end   = `{"job_id":"last","status":"complete"}]}`
	)
	entry := `{"job_id":"ebd-1","status":"complete"}` + strings.Repeat(" ", 64<<10) + "," // read fastest
	n := (limit - len(begin) - len(end)) / len(entry)
	blanks := limit - len(begin) - len(end) - n*len(entry)
	for name, tt := range map[string]struct {
		blanks, behind int
		text           string
	}{
		"64 MiB":      {blanks, 0, ""},
		"more":        {blanks + 1, 1000, "invalid response: too large"},
		"more blanks": {blanks, 1000, "invalid response: too large"},
	} {
		t.Run(name, func(t *testing.T) {
			body := &counter{r: io.MultiReader(
				strings.NewReader(begin),
				&repeater{text: entry, n: n},
				strings.NewReader(strings.Repeat(" ", tt.blanks)),
				strings.NewReader(end),
				&repeater{text: " ", n: tt.behind},
			)}
			c := client.New(parseURL(t, "https://api.cohere.com"), roundTripper(func(req *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body, Request: req}, nil
			}))
			b := &bench{Client: c}
			jobs, err := b.list(t.Context())
			if len(jobs) != n+1 {
				t.Errorf("got %d jobs, want %d", len(jobs), n+1)
			}
			switch {
			case (err != nil) != (tt.text != ""):
				t.Errorf("got error %v", err)
			case err != nil && (!errors.Is(err, client.ErrInvalidResponse) || err.Error() != tt.text):
				t.Errorf("got error %v", err)
			}
			if body.n > limit+1 {
				t.Errorf("%d bytes beyond the limit were read", body.n-limit)
			}
			if !body.closed {
				t.Error("body was not closed")
			}
		})
	}
}

// counter counts what is read of a body.
type counter struct {
	r      io.Reader
	n      int
	closed bool
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func (c *counter) Close() error {
	c.closed = true
	return nil
}

// repeater is a text, n times over.
type repeater struct {
	text string
	n    int
	at   int
}

func (r *repeater) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.text[r.at:])
	if r.at += n; r.at == len(r.text) {
		r.at = 0
		r.n--
	}
	return n, nil
}

// FuzzList holds the list against one that is decoded at once.
func FuzzList(f *testing.F) {
	f.Add(`{"embed_jobs":null}`)
	f.Add(`{"x":[{}],"embed_jobs":[1,null,{"job_id":"a","status":"b"},{"job_id":"c"}],"y":"]"}`)
	f.Add(`{"embed_jobs":[{"job_id":"a","status":"b"},`)
	for _, seed := range seeds() {
		f.Add(seed)
		f.Add(`{"embed_jobs":[` + seed + `,{"job_id":"b","status":"bare"},` + seed + `]}`)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var got []client.EmbedJob
		err := answering(body).EmbedJobs(t.Context(), func(job *client.EmbedJob) {
			if job.ID == "" || job.Status == "" {
				t.Errorf("got %+v", job)
			}
			got = append(got, *job)
		})
		if err != nil {
			if client.ReasonOf(err) != client.InvalidResponse || client.StatusCode(err) != 200 {
				t.Errorf("got %v", err)
			}
			checkText(t, err)
		}

		valid := json.Valid([]byte(body))
		if !valid || ambiguous(json.NewDecoder(strings.NewReader(body))) {
			return
		}
		var whole struct {
			EmbedJobs json.RawMessage `json:"embed_jobs"`
		}
		var raw []json.RawMessage
		if json.Unmarshal([]byte(body), &whole) != nil || whole.EmbedJobs == nil || json.Unmarshal(whole.EmbedJobs, &raw) != nil {
			if err == nil {
				t.Errorf("not a list: got %+v", got)
			}
			return
		}
		var want []client.EmbedJob
		for _, entry := range raw {
			var job client.EmbedJob
			_ = json.Unmarshal(entry, &job) // as far as it is one
			if job.ID != "" && job.Status != "" {
				want = append(want, job)
			}
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, error %v\nwant %+v", got, err, want)
		}
	})
}

// BenchmarkList reads a list of 10,000 jobs as the client does, and the way
// that comes to mind first.
func BenchmarkList(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("jobs=%d", n), func(b *testing.B) { benchmarkList(b, n) })
	}
}

func benchmarkList(b *testing.B, n int) {
	api := cohertest.New()
	user := api.AddUser(key)
	for i := range n {
		j := exampleJob()
		j.ID = fmt.Sprintf("ebd-%016x", i)
		user.Add(j)
	}
	server := api.StartInMemory()
	defer server.Close()
	hc := &http.Client{Transport: authorized(client.StaticKey(key), server.Client.Transport)}
	resp, err := hc.Get(server.URL + "/v1/embed-jobs")
	if err != nil {
		b.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()

	// The network is left out, which costs both the same.
	c := client.New(parseURL(b, server.URL), roundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusOK,
			Header:     http.Header{},
			Body:       io.NopCloser(bytes.NewReader(body)),
			Request:    req,
		}, nil
	}))
	b.Run("stream", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			jobs := 0
			if err := c.EmbedJobs(b.Context(), func(*client.EmbedJob) { jobs++ }); err != nil || jobs != n {
				b.Fatalf("got %d jobs, error %v", jobs, err)
			}
		}
	})
	b.Run("slice", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			var list struct {
				EmbedJobs []client.EmbedJob `json:"embed_jobs"`
			}
			data, err := io.ReadAll(bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			if err := json.Unmarshal(data, &list); err != nil {
				b.Fatal(err)
			}
			if len(list.EmbedJobs) != n {
				b.Fatalf("got %d jobs", len(list.EmbedJobs))
			}
		}
	})
}
