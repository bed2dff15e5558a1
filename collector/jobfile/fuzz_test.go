package jobfile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/jobfile"
)

// White space, comments and a line that is still being written change nothing;
// an error names the first bad line.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"", "a\nb\na\n", " \ta \r\n\r\n\n\u00a0b\n", "\uFEFFa\n", "# a b c\na # first\n  #b\nc#d\t#\n", "a\nb", "a\n\xc3", "a\n# \xff\n", "a\nb c\n", "a\n\n..\n",
		"a\n\"b\"\n", strings.Repeat("a", 513) + "\n", "https://api.cohere.com/v1/embed-jobs/a\n", "a\rb\n", "a\x85b\n", "a\x00\n", "a,b\n", "a\n\uFEFFb\n",
	} {
		f.Add(seed)
	}
	path := filepath.Join(f.TempDir(), "jobs.txt")
	read := func(t *testing.T, text string) ([]string, string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := jobfile.Read([]string{path})
		if err := r.Files[0].Err; err != nil {
			return r.IDs, err.Error()
		}
		return r.IDs, ""
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids, problem := read(t, text)
		whole := text[:strings.LastIndex(text, "\n")+1]
		if line := 0; problem != "" {
			if len(ids) > 0 || strings.ContainsFunc(problem, unicode.IsControl) {
				t.Errorf("got %q, %q", ids, problem)
			}
			if n, _ := fmt.Sscanf(problem, "line %d: ", &line); n > 0 {
				lines := slices.Collect(strings.Lines(whole))
				if _, before := read(t, strings.Join(lines[:line-1], "")); before != "" {
					t.Errorf("%q, but without it %q", problem, before)
				}
				if _, after := read(t, strings.Join(lines[:line], "")); after != problem {
					t.Errorf("%q, but at its end %q", problem, after)
				}
			}
			return
		}
		seen := map[string]bool{}
		for _, id := range ids {
			if err := client.CheckID(id); err != nil || seen[id] || strings.Contains(id, "#") {
				t.Errorf("%q in %q: %v", id, ids, err)
			}
			seen[id] = true
		}
		for _, same := range []string{
			whole,
			whole + "b \"c\" \xff",
			strings.ReplaceAll(whole, "\n", "\t # \"b\" c\r\n"),
			strings.Join(ids, "\n\n") + "\n",
		} {
			if got, problem := read(t, same); !slices.Equal(got, ids) || problem != "" {
				t.Errorf("%q: got %q, then %q, %s", text, ids, got, problem)
			}
		}
	})
}
