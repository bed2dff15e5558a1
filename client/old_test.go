package client_test

import (
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// An answer that is known to the byte is not decoded again; any other is.
func TestEmbedJobIfNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		first, digest, err := b.EmbedJobIfNew(t.Context(), example, 0)
		if err != nil || first.ID != example || digest == 0 {
			t.Fatalf("got %+v, %v, %v", first, digest, err)
		}
		if again, same, err := b.EmbedJobIfNew(t.Context(), example, digest); err != nil || same != digest || !reflect.DeepEqual(again, client.EmbedJob{}) {
			t.Errorf("the same: got %+v, %v, %v", again, same, err)
		}
		b.user.Update(example, func(j *cohertest.Job) { j.InputTokens++ })
		next, other, err := b.EmbedJobIfNew(t.Context(), example, digest)
		if err != nil || other == digest || next.Meta.BilledUnits.InputTokens.Value != first.Meta.BilledUnits.InputTokens.Value+1 {
			t.Errorf("another: got %+v, %v, %v", next, other, err)
		}
		b.user.Fail(example, cohertest.NotJSON)
		if job, none, err := b.EmbedJobIfNew(t.Context(), example, other); client.ReasonOf(err) != client.InvalidResponse || none != 0 || job.ID != "" {
			t.Errorf("no job: got %+v, %v, %v", job, none, err)
		}
	})
}

// Each range over a list asks for it anew, and nothing does before.
func TestListTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		list := b.EmbedJobs(t.Context())
		if got := b.api.Requests(); len(got) != 0 {
			t.Errorf("asked before it is ranged over: %+v", got)
		}
		for range 2 {
			n := 0
			for job, err := range list {
				if err != nil || job.ID != example {
					t.Errorf("got %+v, error %v", job, err)
				}
				n++
			}
			if n != 1 {
				t.Errorf("got %d jobs", n)
			}
		}
		if got := len(b.api.Requests()); got != 2 {
			t.Errorf("got %d requests", got)
		}
	})
}

// Who has seen enough may go: nothing is read any further, nothing stays
// behind, and the next request works.
func TestListBreak(t *testing.T) {
	for name, server := range inMemory {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, server)
			b.user.Fail(cohertest.List, cohertest.Endless)
			for _, n := range []int{1, 1000} {
				seen := 0
				for job, err := range b.EmbedJobs(t.Context()) {
					if err != nil || job.ID != "ebd-0" {
						t.Fatalf("%s: got %+v, error %v", name, job, err)
					}
					if seen++; seen == n {
						break
					}
				}
				if seen != n {
					t.Errorf("%s: got %d jobs, want %d", name, seen, n)
				}
			}
			// Also of an error.
			b.user.Fail(cohertest.List, cohertest.Empty)
			for _, err := range b.EmbedJobs(t.Context()) {
				if err == nil {
					t.Errorf("%s: no error", name)
				}
				break
			}
			// And by a panic.
			b.user.Fail(cohertest.List, nil)
			func() {
				defer func() {
					if recover() != "enough" {
						t.Errorf("%s: no panic", name)
					}
				}()
				for range b.EmbedJobs(t.Context()) {
					panic("enough")
				}
			}()
			if _, err := b.EmbedJob(t.Context(), example); err != nil {
				t.Errorf("%s: afterwards: %v", name, err)
			}
		})
	}
}
