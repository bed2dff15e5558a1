package main

import (
	"slices"
	"sync"
	"time"
)

// reloads are those that were asked for, in order. They do not overlap.
type reloads struct {
	mu  sync.Mutex
	all []reload
}

type reload struct {
	began, ended time.Time // ended is zero while it goes on
	keys         []string  // accounts that have another key by it
}

func (rs *reloads) begin(keys []string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.all = append(rs.all, reload{began: time.Now(), keys: keys})
}

func (rs *reloads) end() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.all[len(rs.all)-1].ended = time.Now()
}

// during reports whether there was one between two times.
func (rs *reloads) during(from, to time.Time) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range slices.Backward(rs.all) {
		if !r.ended.IsZero() && r.ended.Before(from) {
			return false
		}
		if r.began.Before(to) {
			return true
		}
	}
	return false
}

// keySince returns when the reload began, of those that were over before a time,
// that last gave an account another key. What was known before is forgotten.
func (rs *reloads) keySince(account string, before time.Time) time.Time {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range slices.Backward(rs.all) {
		if !r.ended.IsZero() && r.ended.Before(before) && slices.Contains(r.keys, account) {
			return r.began
		}
	}
	return time.Time{}
}

func (rs *reloads) count() int {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return len(rs.all)
}
