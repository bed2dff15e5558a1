package jobfile_test

import (
	"slices"
	"testing"

	"github.com/cohere-exporter/cohere_exporter/collector/jobfile/filetest"
)

// A file that hangs, as on a network disk, holds nobody up: what was known last
// goes on, and what comes once the disk is back is read then.
func TestHangingFile(t *testing.T) {
	d := newJobDir(t)
	d.write("a.txt", "a\n")
	d.write("b.txt", "b\n")
	f := d.follow("*.txt")
	f.expect(nil, "a", "b")

	d.write("new", "c\n")
	hanging := filetest.Hang(t, d.join("new"))
	d.rename("new", "a.txt")
	d.write("b.txt", "d\n")
	hanging.AwaitOpened()
	hanging.Meanwhile("who asks for the IDs", func() {
		f.Check()
		if got := f.Result().IDs; !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("IDs are %q", got)
		}
	})
	hanging.Release()
	f.expect(nil, "c", "d")
}
