package client

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// decompress has the body of an answer decoded while it is read. Requests ask
// for gzip, so that net/http does not.
func decompress(resp *http.Response) error {
	switch coding := strings.ToLower(strings.Join(resp.Header.Values("Content-Encoding"), ", ")); coding {
	case "", "identity":
	case "gzip", "x-gzip":
		resp.Body = &gzipBody{ReadCloser: resp.Body}
	default:
		return fmt.Errorf("%w: Content-Encoding is %q", ErrInvalidResponse, clean(coding, resp))
	}
	return nil
}

type gzipBody struct {
	io.ReadCloser
	gunzip *gunzip // from the first Read to Close
	err    error   // of the latest Read
}

// gunzip is a decoder and its buffer, to be used again.
type gunzip struct {
	gzip.Reader
	in *bufio.Reader
}

var gunzips = sync.Pool{New: func() any { return &gunzip{in: bufio.NewReader(nil)} }}

func (b *gzipBody) Read(p []byte) (n int, err error) {
	if b.err == nil && b.gunzip == nil {
		b.gunzip = gunzips.Get().(*gunzip)
		b.gunzip.in.Reset(b.ReadCloser)
		b.err = b.gunzip.Reset(b.gunzip.in)
	}
	if b.err == nil {
		n, b.err = b.gunzip.Read(p)
	}
	return n, b.err
}

func (b *gzipBody) Close() error {
	if b.gunzip != nil {
		b.gunzip.in.Reset(nil)
		gunzips.Put(b.gunzip)
		b.gunzip, b.err = nil, http.ErrBodyReadAfterClose
	}
	return b.ReadCloser.Close()
}

// buffers hold bodies while they are decoded.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// cappedReader fails after a number of bytes, and remembers how it ended.
type cappedReader struct {
	r       io.Reader
	left    int64
	read    int64
	decoded func() int64 // of the bytes read; nil if they are decoded at once
	err     error
}

func (c *cappedReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.decoded != nil && c.read-c.decoded() > maxJobBytes { // a decoder keeps the rest
		c.err = errTooLarge
		return 0, c.err
	}
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1]
	}
	n, err := c.r.Read(p)
	if int64(n) > c.left {
		n, err = int(c.left), errTooLarge
	}
	c.left -= int64(n)
	c.read += int64(n)
	c.err = err
	return n, err
}

var errTooLarge = errors.New("too large")

// explain says why a body could not be used: err is what its reader met. An
// answer that the time limit cut short is no invalid one.
func (c *cappedReader) explain(err error) error {
	if c.err != nil && !errors.Is(c.err, io.EOF) {
		err = c.err
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if reason := ReasonOf(err); reason == Timeout || errors.Is(err, context.Canceled) || reason == InvalidResponse {
		return err
	}
	return fmt.Errorf("%w: %w", ErrInvalidResponse, err)
}
