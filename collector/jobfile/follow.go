// Package jobfile reads job IDs from files and follows their changes.
//
// Files are read in the background: nobody who wants to know the IDs has to
// wait for a slow file system, and no lock is held while a file is read.
package jobfile

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// How long files may go unread, since not every file system reports changes,
// and how long to wait before they are read once more, since changes come in
// bursts.
const (
	rereadAfter = time.Minute
	pause       = 100 * time.Millisecond
)

// Follower knows the IDs in the files that match some patterns. It is safe for
// concurrent use.
type Follower struct {
	patterns []string
	watcher  *Watcher
	logger   log.Logger
	first    chan struct{} // closed after the first reading
	watchErr error         // why changes are not reported; for the one that reads

	mu      sync.Mutex
	known   fileSet
	result  Result
	readAt  time.Time // when the last reading began
	reading bool
	changed bool // something has, since
	closed  bool
}

// Follow starts to read files. What before, which may be nil, knows of them
// holds until they are read.
func (w *Watcher) Follow(patterns []string, before *Follower, logger log.Logger) *Follower {
	f := &Follower{patterns: patterns, watcher: w, logger: logger, first: make(chan struct{})}
	if before != nil {
		before.mu.Lock()
		f.known = before.known
		before.mu.Unlock()
		f.result = f.known.result(patterns)
	}
	w.add(f)
	f.check(true)
	return f
}

// Follows reports whether these are the patterns that are followed.
func (f *Follower) Follows(patterns []string) bool { return slices.Equal(f.patterns, patterns) }

// Ready waits for the first reading, until ctx ends.
func (f *Follower) Ready(ctx context.Context) {
	select {
	case <-f.first:
	case <-ctx.Done():
	}
}

// Result returns what was found last. It must not be changed.
func (f *Follower) Result() Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.result
}

// Check has the files read in the background if that was long ago.
func (f *Follower) Check() { f.check(false) }

// Close ends following. A reading that hangs is left to itself.
func (f *Follower) Close() {
	f.watcher.remove(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}

func (f *Follower) check(changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = f.changed || changed
	if !f.reading && !f.closed && (f.changed || time.Since(f.readAt) >= rereadAfter) {
		f.reading = true
		go f.read()
	}
}

// read reads the files until nothing changes any longer.
func (f *Follower) read() {
	for before, more := f.begin(); more; before, more = f.begin() {
		f.watch()
		now := readFiles(f.patterns, before.files)
		f.publish(now)
		f.report(before, now)
		time.Sleep(pause)
	}
}

func (f *Follower) watch() {
	err := f.watcher.watch(f.patterns)
	if worse(err, f.watchErr) {
		level.Warn(f.logger).Log("msg", "cannot watch job files; reading them once a minute", "err", err)
	}
	f.watchErr = err
}

// worse reports whether an error is not the one that there was.
func worse(err, was error) bool { return err != nil && (was == nil || was.Error() != err.Error()) }

// begin begins one more reading, if there is reason for one.
func (f *Follower) begin() (before fileSet, more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || !f.changed && time.Since(f.readAt) < rereadAfter {
		f.reading = false
		return fileSet{}, false
	}
	f.changed, f.readAt = false, time.Now()
	return f.known, true
}

func (f *Follower) publish(now fileSet) {
	result := now.result(f.patterns)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known, f.result = now, result
	select {
	case <-f.first:
	default:
		close(f.first)
	}
}

// report logs what became better or worse.
func (f *Follower) report(before, now fileSet) {
	for _, pattern := range f.patterns {
		err, was := now.folders[pattern], before.folders[pattern]
		switch {
		case err == nil && was != nil:
			level.Info(f.logger).Log("msg", "folder of job files can be read again", "pattern", pattern)
		case worse(err, was):
			level.Warn(f.logger).Log("msg", "folder of job files cannot be read; IDs that were in it stay", "pattern", pattern, "err", err)
		}
	}
	for _, path := range now.paths() {
		file, was := now.files[path], before.files[path]
		switch {
		case file.folderGone: // which was said of the folder
		case file.err == nil && was.err != nil && !was.folderGone:
			level.Info(f.logger).Log("msg", "job file is good again", "file", path)
		case worse(file.err, was.err):
			level.Warn(f.logger).Log("msg", "job file is not used; IDs that it had before stay", "file", path, "err", file.err)
		}
	}
}
