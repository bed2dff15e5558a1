package jobfile_test

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// A file that hangs, as on a network disk, holds nobody up: what was known last
// goes on, and what comes once the disk is back is read then.
func TestHangingFile(t *testing.T) {
	d := newJobDir(t)
	d.write("a.txt", "a\n")
	d.write("b.txt", "b\n")
	f := d.follow("*.txt")
	f.expect(nil, "a", "b")

	d.write("a.txt", "c\n")
	release := hang(t, d.join("a.txt"))
	d.write("b.txt", "d\n")
	time.Sleep(10 * time.Millisecond) // for the one who reads
	f.Check()
	if got := f.Result().IDs; !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("IDs are %q", got)
	}
	release()
	f.expect(nil, "c", "d")
}

// hang makes whoever opens a file wait: a lease does that.
func hang(t *testing.T, path string) (release func()) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := lease(file, syscall.F_WRLCK); err != nil {
		t.Fatalf("this file system has no leases: %v", err)
	}
	return func() {
		_ = lease(file, syscall.F_UNLCK)
		file.Close()
	}
}

func lease(file *os.File, kind uintptr) error {
	const setLease = 1024
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), setLease, kind)
	if errno != 0 {
		return errno
	}
	return nil
}
