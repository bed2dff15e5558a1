package client

import (
	"context"
	"hash/maphash"
	"iter"
	"net/http"
)

// Job is what EmbedJob was called.
type Job = EmbedJob

// Digest tells answers apart. That of no answer is 0.
type Digest uint64

var digestSeed = maphash.MakeSeed()

// EmbedJobIfNew is EmbedJob for those who have an answer already: where this one
// is the same to the byte, which its digest tells, it is not decoded, and the
// job is empty. Settled jobs hardly ever change.
func (c *Client) EmbedJobIfNew(ctx context.Context, id string, have Digest) (job EmbedJob, digest Digest, err error) {
	err = c.get(ctx, c.embedJobs, id, func(body []byte, resp *http.Response) error {
		if digest = Digest(maphash.Bytes(digestSeed, body)); digest != have {
			job, err = decodeEmbedJob(body, id, resp)
		}
		return err
	})
	if err != nil {
		digest = 0
	}
	return job, digest, err
}

// EmbedJobs is EachEmbedJob as an iterator. An error is yielded last.
func (c *Client) EmbedJobs(ctx context.Context) iter.Seq2[EmbedJob, error] {
	return func(yield func(EmbedJob, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		going := true
		err := c.EachEmbedJob(ctx, func(job *EmbedJob) {
			if going && !yield(*job, nil) {
				going = false
				stop()
			}
		})
		if err != nil && going {
			yield(EmbedJob{}, err)
		}
	}
}
