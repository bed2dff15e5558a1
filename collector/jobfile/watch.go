package jobfile

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// Watcher tells followers of changes to files. One serves them all, since
// systems have few to give. Its zero value is ready to use.
type Watcher struct {
	mu        sync.Mutex
	followers []*Follower
	fs        *fsnotify.Watcher // nil until there is a directory
	done      chan struct{}     // closed when nothing is reported any longer
	closed    bool
}

// Close stops watching.
func (w *Watcher) Close() error {
	w.mu.Lock()
	fs, done := w.fs, w.done
	w.closed = true
	w.mu.Unlock()
	if fs == nil {
		return nil
	}
	err := fs.Close()
	<-done
	return err
}

func (w *Watcher) add(f *Follower) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.followers = append(w.followers, f)
}

func (w *Watcher) remove(f *Follower) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.followers = slices.DeleteFunc(w.followers, func(other *Follower) bool { return other == f })
}

// watch asks for reports of changes to the files and to the directories that
// patterns name. It watches directories, since files are replaced, and so are
// the links that Kubernetes lays to them.
func (w *Watcher) watch(patterns []string) error {
	notify, err := w.start()
	if err != nil {
		return err
	}
	for _, pattern := range patterns {
		for dir, settled := filepath.Dir(pattern), false; !settled; dir = filepath.Dir(dir) {
			found := glob(dir, true)
			settled = len(found) > 0 && !strings.ContainsAny(dir, `*?[\`) || dir == filepath.Dir(dir)
			for _, d := range found {
				if e := notify.Add(d); e != nil {
					err = e
				}
			}
		}
	}
	return err
}

func (w *Watcher) start() (*fsnotify.Watcher, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, fsnotify.ErrClosed
	}
	if w.fs != nil {
		return w.fs, nil
	}
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w.fs, w.done = fs, make(chan struct{})
	go w.report(fs, w.done)
	return fs, nil
}

// report tells followers of changes, and of errors too: reports were lost.
func (w *Watcher) report(fs *fsnotify.Watcher, done chan struct{}) {
	defer close(done)
	for {
		var ok bool
		select {
		case _, ok = <-fs.Events:
		case _, ok = <-fs.Errors:
		}
		if !ok {
			return
		}
		w.mu.Lock()
		for _, f := range w.followers {
			f.check(true)
		}
		w.mu.Unlock()
	}
}
