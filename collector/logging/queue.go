package logging

import (
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	queueLength = 1000

	// patience is how long the last lines may take to be written.
	patience = time.Second
)

// Queue takes lines for a writer that may block for ever, or fail: a pipe that
// nobody drains, a socket whose other end is gone. It is safe for concurrent
// use.
type Queue struct {
	// Dropped counts the lines that were lost.
	Dropped prometheus.Counter

	lines   chan []byte   // nil ends it
	written chan struct{} // closed when all is
}

// NewQueue returns the queue of what is to be written to w.
func NewQueue(w io.Writer) *Queue {
	q := &Queue{
		Dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cohere_exporter_log_lines_dropped_total",
			Help: "Lines of the log that were lost because nobody drained it in time, or at all.",
		}),
		lines:   make(chan []byte, queueLength),
		written: make(chan struct{}),
	}
	go q.write(w)
	return q
}

func (q *Queue) write(w io.Writer) {
	defer close(q.written)
	for line := <-q.lines; line != nil; line = <-q.lines {
		if _, err := w.Write(line); err != nil {
			q.Dropped.Inc()
		}
	}
}

// Write implements io.Writer. It drops a line that finds the queue full.
func (q *Queue) Write(line []byte) (int, error) {
	select {
	case q.lines <- append([]byte{}, line...):
	default:
		q.Dropped.Inc()
	}
	return len(line), nil
}

// Close has the queue written to its end, and waits for no more than a second.
func (q *Queue) Close() {
	late := time.After(patience)
	select {
	case q.lines <- nil:
	case <-late:
		return
	}
	select {
	case <-q.written:
	case <-late:
	}
}
