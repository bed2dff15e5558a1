package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// findings are what is wrong, with the rule that it breaks.
type findings struct {
	start time.Time

	mu    sync.Mutex
	first []string
	count map[string]int // by rule
}

// keptFindings is how many of each rule are kept, so that one that is broken
// everywhere does not hide another.
const keptFindings = 10

func newFindings(start time.Time) *findings {
	return &findings{start: start, count: map[string]int{}}
}

func (f *findings) add(rule, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[rule]++
	if f.count[rule] <= keptFindings {
		f.first = append(f.first, fmt.Sprintf("%7.1fs %s: %s", time.Since(f.start).Seconds(), rule, fmt.Sprintf(format, args...)))
	}
}

// print prints at most so many findings, and how many there are of each rule. It
// reports whether there are any.
func (f *findings) print(w io.Writer, most int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.count) == 0 {
		fmt.Fprintln(w, "no findings")
		return false
	}
	for _, line := range f.first[:min(most, len(f.first))] {
		fmt.Fprintln(w, line)
	}
	for _, rule := range slices.Sorted(maps.Keys(f.count)) {
		fmt.Fprintf(w, "found %d times: %s\n", f.count[rule], rule)
	}
	return true
}
