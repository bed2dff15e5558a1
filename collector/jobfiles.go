package collector

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/fsnotify/fsnotify"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// maxJobFileBytes is the greatest size of a job file.
const maxJobFileBytes = 16 << 20

// rereadAfter is how long job files may go unread: not every file system tells
// of changes.
const rereadAfter = time.Minute

// dirWatcher counts what happens in directories. One serves all accounts, since
// systems have few to give. Its zero value is ready to use.
type dirWatcher struct {
	events atomic.Uint64

	mu     sync.Mutex
	fs     *fsnotify.Watcher // nil until there is a directory
	done   chan struct{}     // closed when nothing is counted anymore
	closed bool
}

// add watches one more directory. It may be watched already.
func (w *dirWatcher) add(dir string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fsnotify.ErrClosed
	}
	if w.fs == nil {
		watcher, err := fsnotify.NewWatcher()
		if err != nil {
			return err
		}
		w.fs, w.done = watcher, make(chan struct{})
		go w.count()
	}
	return w.fs.Add(dir)
}

// count counts errors too: events were lost.
func (w *dirWatcher) count() {
	defer close(w.done)
	for {
		var ok bool
		select {
		case _, ok = <-w.fs.Events:
		case _, ok = <-w.fs.Errors:
		}
		if !ok {
			return
		}
		w.events.Add(1)
	}
}

// Close stops watching.
func (w *dirWatcher) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed = true; w.fs == nil {
		return nil
	}
	err := w.fs.Close()
	<-w.done
	return err
}

// jobFiles are the files that hold job IDs of one account. They are read when
// their IDs are asked for, if something may have changed since.
type jobFiles struct {
	watcher *dirWatcher
	logger  log.Logger

	mu       sync.Mutex
	patterns []string
	files    []jobFile // by path
	ids      []string
	events   uint64    // the watcher's before the files were last read
	readAt   time.Time // zero: to be read
	unheard  string    // why changes are not told of
}

// jobFile is one of them.
type jobFile struct {
	path string
	ids  []string // the last good ones
	err  error    // why they are not those of its present content
}

func newJobFiles(patterns []string, w *dirWatcher, logger log.Logger) *jobFiles {
	return &jobFiles{patterns: patterns, watcher: w, logger: logger}
}

// follow goes over to other patterns. What is known of files that match these
// too stays.
func (f *jobFiles) follow(patterns []string, logger log.Logger) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.patterns, f.logger, f.readAt = patterns, logger, time.Time{}
}

// read returns the IDs that the files hold, each once, and the files. Neither
// may be changed by the caller.
func (f *jobFiles) read() ([]string, []jobFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// What happens from here on counts for the next time.
	events, now := f.watcher.events.Load(), time.Now()
	if events != f.events || now.Sub(f.readAt) >= rereadAfter {
		f.events, f.readAt = events, now
		f.watch()
		f.reread()
	}
	return f.ids, f.files
}

// watch asks to be told of changes to the files and to the directories that
// the patterns name. It watches directories, since files are replaced, and so
// are the links that Kubernetes lays to them.
func (f *jobFiles) watch() {
	unheard := ""
	for _, pattern := range f.patterns {
		for dir, settled := filepath.Dir(pattern), false; !settled; dir = filepath.Dir(dir) {
			found := glob(dir, true)
			settled = len(found) > 0 && !strings.ContainsAny(dir, `*?[\`) || dir == filepath.Dir(dir)
			for _, d := range found {
				if err := f.watcher.add(d); err != nil {
					unheard = err.Error()
				}
			}
		}
	}
	if unheard != "" && unheard != f.unheard {
		level.Warn(f.logger).Log("msg", "cannot watch job files; reading them once a minute", "err", unheard)
	}
	f.unheard = unheard
}

// glob returns the directories, or all else, that match a pattern.
func glob(pattern string, dirs bool) []string {
	paths, _ := filepath.Glob(pattern) // patterns are checked when they are loaded
	return slices.DeleteFunc(paths, func(path string) bool {
		info, err := os.Stat(path)
		return (err == nil && info.IsDir()) != dirs
	})
}

// reread reads all files.
func (f *jobFiles) reread() {
	paths := matches(f.patterns)
	before := map[string]jobFile{}
	for _, file := range f.files {
		before[file.path] = file
		// A directory that cannot be read is not one without files.
		if _, err := os.Lstat(file.path); !errors.Is(err, fs.ErrNotExist) && f.match(file.path) {
			paths = append(paths, file.path)
		}
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)

	f.files = make([]jobFile, len(paths))
	f.ids = nil
	seen := map[string]bool{}
	for i, path := range paths {
		f.files[i] = f.reload(before[path], path)
		for _, id := range f.files[i].ids {
			if !seen[id] {
				seen[id] = true
				f.ids = append(f.ids, id)
			}
		}
	}
}

// matches returns the files that match any of the patterns, sorted.
func matches(patterns []string) []string {
	var paths []string
	for _, pattern := range patterns {
		paths = append(paths, glob(pattern, false)...)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func (f *jobFiles) match(path string) bool {
	return slices.ContainsFunc(f.patterns, func(pattern string) bool {
		ok, _ := filepath.Match(pattern, path)
		return ok
	})
}

// reload reads one file. Where that fails, the IDs that it had stay.
func (f *jobFiles) reload(before jobFile, path string) jobFile {
	ids, err := readJobFile(path)
	switch {
	case err == nil && before.err != nil:
		level.Info(f.logger).Log("msg", "job file is good again", "file", path)
	case err != nil && (before.err == nil || before.err.Error() != err.Error()):
		level.Warn(f.logger).Log("msg", "job file is not used; IDs that it had before stay", "file", path, "err", err)
	}
	if err != nil {
		ids = before.ids
	}
	return jobFile{path, ids, err}
}

// readJobFile reads a job file: an ID a line, of those that are complete.
func readJobFile(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // reading a pipe could take forever
		return nil, errors.New("not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxJobFileBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxJobFileBytes:
		return nil, errors.New("larger than 16 MiB")
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the rest is still being written
	if !utf8.Valid(text) {
		return nil, errors.New("not valid UTF-8")
	}
	var ids []string
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\uFEFF")) {
		n++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		switch len(words) {
		case 0:
			continue
		case 1:
			err = client.CheckID(words[0])
		default:
			err = errors.New("more than one word")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		ids = append(ids, words[0])
	}
	return ids, nil
}
