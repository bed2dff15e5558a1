package jobfile_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/cohere-exporter/cohere_exporter/collector/jobfile"
)

// jobDir is a directory with job files.
type jobDir struct {
	t    *testing.T
	path string
}

func newJobDir(t *testing.T) jobDir { return jobDir{t, t.TempDir()} }

func (d jobDir) join(name string) string { return filepath.Join(d.path, name) }

func (d jobDir) check(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d jobDir) mkdir(name string) {
	d.t.Helper()
	d.check(os.MkdirAll(d.join(name), 0o700))
}

func (d jobDir) write(name, text string) {
	d.t.Helper()
	d.check(os.WriteFile(d.join(name), []byte(text), 0o600))
}

func (d jobDir) append(name, text string) {
	d.t.Helper()
	file, err := os.OpenFile(d.join(name), os.O_APPEND|os.O_WRONLY, 0)
	d.check(err)
	_, err = file.WriteString(text)
	d.check(err)
	d.check(file.Close())
}

// link lays a symbolic link, in the place of one that is there.
func (d jobDir) link(target, name string) {
	d.t.Helper()
	d.check(os.Symlink(target, d.join("new")))
	d.rename("new", name)
}

func (d jobDir) rename(from, to string) {
	d.t.Helper()
	d.check(os.Rename(d.join(from), d.join(to)))
}

func (d jobDir) remove(name string) {
	d.t.Helper()
	d.check(os.RemoveAll(d.join(name)))
}

// follower follows files, and keeps its log.
type follower struct {
	jobDir
	*jobfile.Follower
	watcher *jobfile.Watcher
	logs    *logs
}

// logs is a log that is written in the background.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// follow follows the files that match patterns.
func (d jobDir) follow(patterns ...string) *follower {
	f := &follower{jobDir: d, watcher: &jobfile.Watcher{}, logs: &logs{}}
	d.t.Cleanup(func() {
		if err := f.watcher.Close(); err != nil {
			d.t.Error(err)
		}
	})
	f.change(patterns...)
	return f
}

// change goes over to other patterns, as a reload does.
func (f *follower) change(patterns ...string) {
	f.t.Helper()
	var paths []string
	for _, pattern := range patterns {
		paths = append(paths, f.join(pattern))
	}
	before := f.Follower
	f.Follower = f.watcher.Follow(paths, before, log.NewLogfmtLogger(f.logs))
	if before != nil {
		before.Close()
	}
	f.Ready(f.t.Context())
	f.t.Cleanup(f.Close)
}

// said returns what was logged since it was last called, without the directory.
func (f *follower) said() string {
	f.logs.mu.Lock()
	defer f.logs.mu.Unlock()
	defer f.logs.text.Reset()
	return strings.ReplaceAll(f.logs.text.String(), f.path+"/", "")
}

// success returns for each file whether its present content is in use, and for
// each pattern whose folder cannot be read that it is not.
func (f *follower) success() map[string]bool {
	r := f.Result()
	success := map[string]bool{}
	for _, file := range r.Files {
		success[strings.TrimPrefix(file.Path, f.path+"/")] = file.Err == nil
	}
	for _, pattern := range r.Patterns {
		if pattern.Err != nil {
			success[strings.TrimPrefix(pattern.Path, f.path+"/")] = false
		}
	}
	return success
}

// expect waits for IDs and successes, as they are read in the background.
func (f *follower) expect(success map[string]bool, ids ...string) {
	f.t.Helper()
	for range 1000 {
		f.Check()
		if slices.Equal(f.Result().IDs, ids) && (success == nil || reflect.DeepEqual(f.success(), success)) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.t.Fatalf("IDs are %q, want %q; success is %v, want %v", f.Result().IDs, ids, f.success(), success)
}

func TestRead(t *testing.T) {
	d := newJobDir(t)
	for _, tt := range []struct {
		name, text string
		want       []string
		err        string
	}{
		{"empty", "", nil, ""},
		{"IDs", "a\nb\na\n", []string{"a", "b"}, ""},
		{"white space", " \ta \r\n\r\n\n\u00a0b\n", []string{"a", "b"}, ""},
		{"byte order mark", "\uFEFFa\n", []string{"a"}, ""},
		{"comments", "# a b c\na # first\n  #b\nc#d\t#\n", []string{"a", "c"}, ""},
		{"last line", "a\nb", []string{"a"}, ""},
		{"only a last line", "a", nil, ""},
		{"last line in the middle of a character", "a\n\xc3", []string{"a"}, ""},
		{"no UTF-8", "a\n# \xff\n", nil, "not valid UTF-8"},
		{"two words", "a\nb c\n", nil, "line 2: more than one word"},
		{"no ID", "a\n\n..\n", nil, `line 3: ".." is not a job ID`},
		{"quotes", "a\n\"b\"\n", nil, `line 2: job ID "\"b\"" is in quotes; leave them out`},
		{"long ID", strings.Repeat("a", 513) + "\n", nil, `line 1: job ID "` + strings.Repeat("a", 32) + `"... is longer than 512 characters`},
		{"largest", strings.Repeat("#", 16<<20-1) + "\n", nil, ""},
		{"too large", strings.Repeat("#", 16<<20) + "\n", nil, "larger than 16 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d.write("jobs.txt", tt.text)
			r := jobfile.Read([]string{d.join("jobs.txt")})
			said := ""
			if err := r.Files[0].Err; err != nil {
				said = err.Error()
			}
			if !slices.Equal(r.IDs, tt.want) || said != tt.err {
				t.Errorf("got %q, %q", r.IDs, said)
			}
		})
	}
}

// All IDs of all files are there once, and what happens to files is followed.
func TestFollow(t *testing.T) {
	d := newJobDir(t)
	d.mkdir("more/one")
	f := d.follow("*.txt", "more/*/ids", "*.txt")
	d.write("b.txt", "b\na\n")
	d.write("a.txt", "c\na\n")
	d.write("ignored", "x\n")
	d.mkdir("dir.txt")

	f.expect(map[string]bool{"a.txt": true, "b.txt": true}, "c", "a", "b")
	d.append("a.txt", "d")
	d.append("b.txt", "e\n")
	f.expect(nil, "c", "a", "b", "e")
	d.append("a.txt", "\n")
	f.expect(nil, "c", "a", "d", "b", "e")
	d.write("a.txt", "d\n")
	f.expect(nil, "d", "b", "a", "e")
	d.write("new", "f\n")
	d.rename("new", "b.txt")
	f.expect(nil, "d", "f")
	d.write("more/one/ids", "g\n")
	f.expect(nil, "d", "f", "g")
	d.mkdir("more/two")
	d.write("more/two/ids", "h\n")
	f.expect(nil, "d", "f", "g", "h")
	d.remove("more/two")
	f.expect(nil, "d", "f", "g")
	d.remove("a.txt")
	f.expect(map[string]bool{"b.txt": true, "more/one/ids": true}, "f", "g")
	d.remove("b.txt")
	d.remove("more/one/ids")
	f.expect(map[string]bool{})
	if said := f.said(); said != "" {
		t.Error(said)
	}
}

// A folder that is gone may be a disk that is not mounted: its IDs stay.
func TestFolderGone(t *testing.T) {
	d := newJobDir(t)
	d.mkdir("disk")
	d.write("disk/a.txt", "a\n")
	d.write("b.txt", "b\n")
	f := d.follow("disk/*.txt", "*.txt")
	f.expect(map[string]bool{"b.txt": true, "disk/a.txt": true}, "b", "a")
	d.rename("disk", "elsewhere")
	f.expect(map[string]bool{"b.txt": true, "disk/a.txt": false, "disk/*.txt": false}, "b", "a")
	d.write("b.txt", "c\n")
	f.expect(nil, "c", "a")
	d.write("b.txt", "d\n")
	f.expect(nil, "d", "a")
	want := `level=warn msg="folder of job files cannot be read; IDs that were in it stay" pattern=disk/*.txt err="open disk: no such file or directory"` + "\n"
	if said := f.said(); said != want {
		t.Errorf("logged %s", said)
	}
	d.rename("elsewhere", "disk")
	f.expect(map[string]bool{"b.txt": true, "disk/a.txt": true}, "d", "a")
	d.remove("disk/a.txt") // a file that is taken out of a folder that is there
	f.expect(map[string]bool{"b.txt": true}, "d")
	want = `level=info msg="folder of job files can be read again" pattern=disk/*.txt` + "\n"
	if said := f.said(); said != want {
		t.Errorf("logged %s", said)
	}
}

// A volume of Kubernetes: files are links through ..data, which is swapped.
func TestKubernetes(t *testing.T) {
	d := newJobDir(t)
	f := d.follow("*")
	d.mkdir("..1")
	d.write("..1/jobs.txt", "a\n")
	d.link("..1", "..data")
	d.link("..data/jobs.txt", "jobs.txt")
	f.expect(nil, "a")

	d.mkdir("..2")
	d.write("..2/jobs.txt", "b\n")
	d.link("..2", "..data")
	d.remove("..1")
	f.expect(map[string]bool{"jobs.txt": true}, "b")
	if said := f.said(); said != "" {
		t.Error(said)
	}
}

// What cannot be used leaves the IDs that there were, and is said once.
func TestBadFiles(t *testing.T) {
	d := newJobDir(t)
	d.write("a.txt", "a\n")
	d.write("b.txt", "b\n")
	f := d.follow("*.txt")
	const unused = `level=warn msg="job file is not used; IDs that it had before stay" file=a.txt err=`
	f.expect(nil, "a", "b")
	bad, good := map[string]bool{"a.txt": false, "b.txt": true}, map[string]bool{"a.txt": true, "b.txt": true}
	for _, tt := range []struct {
		name    string
		change  func()
		ids     []string
		success map[string]bool
		said    string
	}{
		{"no UTF-8", func() { d.write("a.txt", "\xff\n") }, []string{"a", "b"}, bad, unused + "\"not valid UTF-8\"\n"},
		{"still", func() { d.write("a.txt", "c\n\xff\n"); d.write("b.txt", "b2\n") }, []string{"a", "b2"}, bad, ""},
		{"no ID", func() { d.write("a.txt", "c\n.\n"); d.write("b.txt", "d\n") }, []string{"a", "d"}, bad, unused + "\"line 2: \\\".\\\" is not a job ID\"\n"},
		{"good", func() { d.write("a.txt", "c\n") }, []string{"c", "d"}, good, "level=info msg=\"job file is good again\" file=a.txt\n"},
		{"link to nothing", func() { d.link("nothing", "a.txt") }, []string{"c", "d"}, bad, unused + "\"stat a.txt: no such file or directory\"\n"},
		{"gone", func() { d.remove("a.txt") }, []string{"d"}, map[string]bool{"b.txt": true}, ""},
		{"bad from the start", func() { d.write("a.txt", "x y\n") }, []string{"d"}, bad, unused + "\"line 1: more than one word\"\n"},
	} {
		tt.change()
		f.expect(tt.success, tt.ids...)
		said := f.said()
		for end := time.Now().Add(5 * time.Second); said != tt.said && time.Now().Before(end); said += f.said() {
			time.Sleep(time.Millisecond)
		}
		if said != tt.said {
			t.Errorf("%s: logged %q, want %q", tt.name, said, tt.said)
		}
	}
}

// Other patterns drop what they do not match, and keep the last good IDs of
// the rest.
func TestOtherPatterns(t *testing.T) {
	d := newJobDir(t)
	d.write("a.txt", "a\n")
	d.write("b.txt", "b\n")
	f := d.follow("*.txt")
	f.expect(nil, "a", "b")
	d.write("a.txt", "x y\n")
	f.change("a.*")
	f.expect(map[string]bool{"a.txt": false}, "a")
	f.change("c.*")
	f.expect(map[string]bool{})
}

// Where the file system does not report changes, files are read once a minute.
func TestUnwatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newJobDir(t)
		var w jobfile.Watcher
		logs := &logs{}
		d.check(w.Close())
		d.write("a.txt", "a\n")
		f := w.Follow([]string{d.join("*.txt")}, nil, log.NewLogfmtLogger(logs))
		defer f.Close()
		ids := func() []string {
			f.Check()
			time.Sleep(time.Second)
			return f.Result().IDs
		}
		for range 3 {
			if got := ids(); !slices.Equal(got, []string{"a"}) {
				t.Errorf("IDs are %q", got)
			}
			time.Sleep(18 * time.Second)
			d.write("a.txt", "b\n")
		}
		time.Sleep(3 * time.Second)
		if got := ids(); !slices.Equal(got, []string{"b"}) {
			t.Errorf("IDs are %q", got)
		}
		time.Sleep(time.Minute)
		ids()
		want := `level=warn msg="cannot watch job files; reading them once a minute" err="fsnotify: watcher already closed"` + "\n"
		if got := logs.text.String(); got != want {
			t.Errorf("logged %q", got)
		}
	})
}

// A file is read again unless it has been left alone: size and time tell that,
// but for a time that is still young.
func TestUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newJobDir(t)
		var w jobfile.Watcher
		d.check(w.Close()) // so that files are read once a minute
		old := time.Now().Add(-time.Hour)
		young := time.Now().Add(4 * time.Minute)
		var f *jobfile.Follower
		for _, step := range []struct {
			text string
			time time.Time
			want string
		}{
			{"a", old, "a"},
			{"b", old, "a"},
			{"long", old, "long"},
			{"word", old.Add(time.Second), "word"},
			{"wild", young, "wild"},
			{"wind", young, "wind"},
			{"wish", young, "wind"},
		} {
			d.write("a.txt", step.text+"\n")
			d.check(os.Chtimes(d.join("a.txt"), step.time, step.time))
			if f == nil {
				f = w.Follow([]string{d.join("*.txt")}, nil, log.NewNopLogger())
				defer f.Close()
			}
			f.Check()
			time.Sleep(time.Minute)
			if got := f.Result().IDs; !slices.Equal(got, []string{step.want}) {
				t.Errorf("%s of %v: IDs are %q", step.text, step.time, got)
			}
		}
	})
}

// Reading again costs little while nothing changes.
func BenchmarkCheck(b *testing.B) {
	path := filepath.Join(b.TempDir(), "jobs.txt")
	if err := os.WriteFile(path, []byte(strings.Repeat("ebd-9f8a7c6d5b4e3a21\n", 1000)), 0o600); err != nil {
		b.Fatal(err)
	}
	var w jobfile.Watcher
	defer w.Close()
	f := w.Follow([]string{path}, nil, log.NewNopLogger())
	defer f.Close()
	f.Ready(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		f.Check()
		f.Result()
	}
}
