package jobfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// maxBytes is the greatest size of a file.
const maxBytes = 16 << 20

// trustAfter is how long a file has to have been left alone for its size and
// time to tell that it is the same: some file systems count in whole seconds.
const trustAfter = 2 * time.Second

// Result is what was found.
type Result struct {
	IDs      []string // each once, in the order of files and lines
	Files    []File   // by path
	Patterns []File   // as they were given
}

// File is what was found in a file, or in all files of a pattern.
type File struct {
	Path string
	IDs  int   // how many it has
	Err  error // why they are not those of its present content
}

// Read reads the files that match the patterns once.
func Read(patterns []string) Result { return readFiles(patterns, nil).result(patterns) }

// fileSet is what is known of files. It does not change once it is made.
type fileSet struct {
	files   map[string]file  // by path
	folders map[string]error // why the folder of a pattern cannot be read
}

// file is what is known of one.
type file struct {
	ids    []string    // the last good ones
	err    error       // why they are not those of its present content
	info   os.FileInfo // when it was read
	readAt time.Time

	folderGone bool // or cannot be read, which err says
}

// readFiles reads what may have changed since before.
func readFiles(patterns []string, before map[string]file) fileSet {
	s := fileSet{files: map[string]file{}, folders: map[string]error{}}
	for _, pattern := range patterns {
		if err := readable(folder(pattern)); err != nil {
			s.folders[pattern] = err
			for path, f := range before {
				if matches(pattern, path) {
					s.files[path] = file{ids: f.ids, err: err, folderGone: true}
				}
			}
			continue
		}
		paths := glob(pattern, false)
		for path := range before {
			// What cannot be looked at is not gone.
			if _, err := os.Lstat(path); matches(pattern, path) && !errors.Is(err, fs.ErrNotExist) {
				paths = append(paths, path)
			}
		}
		for _, path := range paths {
			if _, ok := s.files[path]; !ok {
				s.files[path] = reread(before[path], path)
			}
		}
	}
	return s
}

// reread reads a file if it may have changed. Where that fails, the IDs that it
// had, if any, stay.
func reread(before file, path string) file {
	info, err := os.Stat(path)
	if err != nil {
		return file{ids: before.ids, err: err}
	}
	if before.err == nil && os.SameFile(info, before.info) &&
		info.Size() == before.info.Size() && info.ModTime().Equal(before.info.ModTime()) &&
		before.readAt.Sub(info.ModTime()) > trustAfter {
		return before
	}
	f := file{info: info, readAt: time.Now()}
	if f.ids, f.err = readFile(path, info); f.err != nil {
		f.ids = before.ids
	}
	return f
}

// paths returns the paths of all files, sorted.
func (s fileSet) paths() []string { return slices.Sorted(maps.Keys(s.files)) }

// result returns what is known of files that match any of the patterns.
func (s fileSet) result(patterns []string) Result {
	var r Result
	for _, pattern := range patterns {
		r.Patterns = append(r.Patterns, File{Path: pattern, Err: s.folders[pattern]})
	}
	seen := map[string]bool{}
	for _, path := range s.paths() {
		f, matched := s.files[path], false
		for i, pattern := range patterns {
			if matches(pattern, path) {
				matched = true
				r.Patterns[i].IDs += len(f.ids)
			}
		}
		if !matched {
			continue
		}
		r.Files = append(r.Files, File{path, len(f.ids), f.err})
		for _, id := range f.ids {
			if !seen[id] {
				seen[id] = true
				r.IDs = append(r.IDs, id)
			}
		}
	}
	return r
}

func matches(pattern, path string) bool {
	ok, _ := filepath.Match(pattern, path) // patterns are checked when they are loaded
	return ok
}

// folder returns the folder that a pattern names without asterisks and the like.
func folder(pattern string) string {
	dir := filepath.Dir(pattern)
	for strings.ContainsAny(dir, `*?[\`) {
		dir = filepath.Dir(dir)
	}
	return dir
}

// readable says why a folder cannot be read.
func readable(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err = d.Readdirnames(1); errors.Is(err, io.EOF) {
		return nil // empty
	}
	return err
}

// glob returns the directories, or all else, that match a pattern.
func glob(pattern string, dirs bool) []string {
	paths, _ := filepath.Glob(pattern)
	return slices.DeleteFunc(paths, func(path string) bool {
		info, err := os.Stat(path)
		return (err == nil && info.IsDir()) != dirs
	})
}

// readFile reads a file: an ID a line, of those that are complete.
func readFile(path string, info os.FileInfo) ([]string, error) {
	if !info.Mode().IsRegular() { // reading a pipe could take forever
		return nil, errors.New("not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxBytes:
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
