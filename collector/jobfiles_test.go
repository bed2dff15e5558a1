package collector

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
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
	d.check(os.Rename(d.join("new"), d.join(name)))
}

func (d jobDir) remove(name string) {
	d.t.Helper()
	d.check(os.RemoveAll(d.join(name)))
}

// files reads the files that match a pattern.
func (d jobDir) files(logs *strings.Builder, patterns ...string) *jobFiles {
	for i, pattern := range patterns {
		patterns[i] = d.join(pattern)
	}
	w := &dirWatcher{}
	d.t.Cleanup(func() {
		if err := w.Close(); err != nil {
			d.t.Error(err)
		}
	})
	return newJobFiles(patterns, w, log.NewLogfmtLogger(logs))
}

// said returns what was logged since it was last called, without the directory.
func (d jobDir) said(logs *strings.Builder) string {
	defer logs.Reset()
	return strings.ReplaceAll(logs.String(), d.path+"/", "")
}

// expect reads again and again until the IDs are those, as scrapes would.
func expect(t *testing.T, f *jobFiles, want ...string) {
	t.Helper()
	var got []string
	for range 500 {
		if got, _ = f.read(); slices.Equal(got, want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("IDs are %q, want %q", got, want)
}

// success returns for each file whether its present content is in use.
func (d jobDir) success(f *jobFiles) map[string]bool {
	_, files := f.read()
	success := map[string]bool{}
	for _, file := range files {
		success[strings.TrimPrefix(file.path, d.path+"/")] = file.err == nil
	}
	return success
}

func (d jobDir) expectSuccess(f *jobFiles, want map[string]bool) {
	d.t.Helper()
	if got := d.success(f); !reflect.DeepEqual(got, want) {
		d.t.Errorf("success is %v, want %v", got, want)
	}
}

func TestReadJobFile(t *testing.T) {
	d := newJobDir(t)
	for _, tt := range []struct {
		name, text string
		want       []string
		err        string
	}{
		{"empty", "", nil, ""},
		{"IDs", "a\nb\na\n", []string{"a", "b", "a"}, ""},
		{"white space", " \ta \r\n\r\n\n\u00a0b\n", []string{"a", "b"}, ""},
		{"comments", "# a b c\na # first\n  #b\nc#d\t#\n", []string{"a", "c"}, ""},
		{"last line", "a\nb", []string{"a"}, ""},
		{"only a last line", "a", nil, ""},
		{"last line in the middle of a character", "a\n\xc3", []string{"a"}, ""},
		{"no UTF-8", "a\n# \xff\n", nil, "not valid UTF-8"},
		{"two words", "a\nb c\n", nil, "line 2: more than one word"},
		{"no ID", "a\n\n..\n", nil, `line 3: ".." is not a job ID`},
		{"long ID", strings.Repeat("a", 513) + "\n", nil, `line 1: job ID "` + strings.Repeat("a", 32) + `"... is longer than 512 characters`},
		{"largest", strings.Repeat("#", 16<<20-1) + "\n", nil, ""},
		{"too large", strings.Repeat("#", 16<<20) + "\n", nil, "larger than 16 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d.write("jobs.txt", tt.text)
			got, err := readJobFile(d.join("jobs.txt"))
			said := ""
			if err != nil {
				said = err.Error()
			}
			if !slices.Equal(got, tt.want) || said != tt.err {
				t.Errorf("got %q, %q", got, said)
			}
		})
	}
}

// All IDs of all files are there once, and what happens to files is followed.
func TestJobFilesFollowed(t *testing.T) {
	d := newJobDir(t)
	var logs strings.Builder
	f := d.files(&logs, "*.txt", "more/*/ids", "*.txt")
	d.write("b.txt", "b\na\n")
	d.write("a.txt", "c\na\n")
	d.write("ignored", "x\n")
	d.mkdir("dir.txt")

	expect(t, f, "c", "a", "b")
	d.expectSuccess(f, map[string]bool{"a.txt": true, "b.txt": true})
	d.append("a.txt", "d")
	d.append("b.txt", "e\n")
	expect(t, f, "c", "a", "b", "e")
	d.append("a.txt", "\n")
	expect(t, f, "c", "a", "d", "b", "e")
	d.write("a.txt", "d\n")
	expect(t, f, "d", "b", "a", "e")
	d.write("new", "f\n")
	d.check(os.Rename(d.join("new"), d.join("b.txt")))
	expect(t, f, "d", "f")
	d.mkdir("more/one")
	d.write("more/one/ids", "g\n")
	expect(t, f, "d", "f", "g")
	d.mkdir("more/two")
	expect(t, f, "d", "f", "g")
	d.write("more/two/ids", "h\n")
	expect(t, f, "d", "f", "g", "h")
	d.remove("more")
	expect(t, f, "d", "f")
	d.remove("a.txt")
	expect(t, f, "f")
	d.expectSuccess(f, map[string]bool{"b.txt": true})
	d.remove("b.txt")
	expect(t, f)
	d.expectSuccess(f, map[string]bool{})
	if logs.Len() > 0 {
		t.Error(logs.String())
	}
}

// A volume of Kubernetes: files are links through ..data, which is swapped.
func TestJobFilesKubernetes(t *testing.T) {
	d := newJobDir(t)
	var logs strings.Builder
	f := d.files(&logs, "*")
	d.mkdir("..1")
	d.write("..1/jobs.txt", "a\n")
	d.link("..1", "..data")
	d.link("..data/jobs.txt", "jobs.txt")
	expect(t, f, "a")

	d.mkdir("..2")
	d.write("..2/jobs.txt", "b\n")
	d.link("..2", "..data")
	d.remove("..1")
	expect(t, f, "b")
	d.expectSuccess(f, map[string]bool{"jobs.txt": true})
	if logs.Len() > 0 {
		t.Error(logs.String())
	}
}

// What cannot be used leaves the IDs that there were, and is told of once.
func TestJobFilesBad(t *testing.T) {
	d := newJobDir(t)
	var logs strings.Builder
	f := d.files(&logs, "*.txt")
	const unused = `level=warn msg="job file is not used; IDs that it had before stay" file=a.txt err=`
	d.write("a.txt", "a\n")
	d.write("b.txt", "b\n")
	expect(t, f, "a", "b")
	for _, tt := range []struct {
		name   string
		change func()
		ids    []string
		good   bool
		said   string
	}{
		{"no UTF-8", func() { d.write("a.txt", "\xff\n") }, []string{"a", "b"}, false, unused + "\"not valid UTF-8\"\n"},
		{"still", func() { d.write("a.txt", "c\n\xff\n") }, []string{"a", "b"}, false, ""},
		{"no ID", func() { d.write("a.txt", "c\n.\n") }, []string{"a", "b"}, false, unused + "\"line 2: \\\".\\\" is not a job ID\"\n"},
		{"other file", func() { d.write("b.txt", "d\n") }, []string{"a", "d"}, false, ""},
		{"good", func() { d.write("a.txt", "c\n") }, []string{"c", "d"}, true, "level=info msg=\"job file is good again\" file=a.txt\n"},
		{"link to nothing", func() { d.link("nothing", "a.txt") }, []string{"c", "d"}, false, unused + "\"stat a.txt: no such file or directory\"\n"},
		{"directory", func() { d.remove("a.txt"); d.mkdir("a.txt") }, []string{"c", "d"}, false, unused + "\"not a regular file\"\n"},
		{"gone", func() { d.remove("a.txt") }, []string{"d"}, true, ""},
		{"bad from the start", func() { d.write("a.txt", "x y\n") }, []string{"d"}, false, unused + "\"line 1: more than one word\"\n"},
	} {
		tt.change()
		f.follow(f.patterns, f.logger) // reads again now
		ids, _ := f.read()
		f.follow(f.patterns, f.logger)
		f.read()
		if !slices.Equal(ids, tt.ids) {
			t.Errorf("%s: IDs are %q, want %q", tt.name, ids, tt.ids)
		}
		if good, there := d.success(f)["a.txt"]; good != tt.good && (there || !tt.good) {
			t.Errorf("%s: success is %t, want %t", tt.name, good, tt.good)
		}
		if said := d.said(&logs); said != tt.said {
			t.Errorf("%s: logged %q, want %q", tt.name, said, tt.said)
		}
	}
}

// Other patterns drop what they do not match, and keep the last good IDs of
// the rest.
func TestJobFilesFollow(t *testing.T) {
	d := newJobDir(t)
	var logs strings.Builder
	f := d.files(&logs, "*.txt")
	d.write("a.txt", "a\n")
	d.write("b.txt", "b\n")
	expect(t, f, "a", "b")
	d.write("a.txt", "x y\n")
	f.follow([]string{d.join("a.*")}, f.logger)
	expect(t, f, "a")
	d.expectSuccess(f, map[string]bool{"a.txt": false})
	f.follow(nil, f.logger)
	expect(t, f)
}

// Where the file system does not tell of changes, files are read once a minute.
func TestJobFilesUnwatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newJobDir(t)
		var logs strings.Builder
		f := d.files(&logs, "*.txt")
		if err := f.watcher.Close(); err != nil {
			t.Fatal(err)
		}
		d.write("a.txt", "a\n")
		for range 3 {
			if ids, _ := f.read(); !slices.Equal(ids, []string{"a"}) {
				t.Errorf("IDs are %q", ids)
			}
			time.Sleep(19 * time.Second)
			d.write("a.txt", "b\n")
		}
		time.Sleep(3 * time.Second)
		if ids, _ := f.read(); !slices.Equal(ids, []string{"b"}) {
			t.Errorf("IDs are %q", ids)
		}
		want := `level=warn msg="cannot watch job files; reading them once a minute" err="fsnotify: watcher already closed"` + "\n"
		if got := d.said(&logs); got != want {
			t.Errorf("logged %q", got)
		}
	})
}

// Reading again costs nothing while nothing changes.
func BenchmarkJobFiles(b *testing.B) {
	path := filepath.Join(b.TempDir(), "jobs.txt")
	if err := os.WriteFile(path, []byte(strings.Repeat("ebd-9f8a7c6d5b4e3a21\n", 1000)), 0o600); err != nil {
		b.Fatal(err)
	}
	w := &dirWatcher{}
	defer w.Close()
	f := newJobFiles([]string{path}, w, log.NewNopLogger())
	b.ReportAllocs()
	for b.Loop() {
		f.read()
	}
}
