// Package filetest has files that are slow to open, as on a network disk, for
// tests.
package filetest

import (
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long to wait for what takes no time on a machine that is not
// busy with something else. It is shorter than the kernel's with a lease.
const patience = 20 * time.Second

// Hanging is a file that whoever opens it has to wait for.
type Hanging struct {
	t    testing.TB
	file *os.File

	mu       sync.Mutex
	opened   bool
	released bool
}

// Hang makes whoever opens the file wait until it is released, at the end of
// the test at the latest. It hangs under any name that it is given later.
func Hang(t testing.TB, path string) *Hanging {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	h := &Hanging{t: t, file: file}
	if _, err := h.lease(syscall.F_SETLEASE, syscall.F_WRLCK); err != nil {
		file.Close()
		if os.Getenv("CI") == "true" {
			t.Fatalf("this file system has no leases: %v", err)
		}
		t.Skipf("this file system has no leases: %v", err)
	}
	t.Cleanup(h.Release)
	return h
}

// lease sets or gets the lease, for which the kernel has others wait.
func (h *Hanging) lease(command int, kind uintptr) (uintptr, error) {
	kind, _, errno := syscall.Syscall(syscall.SYS_FCNTL, h.file.Fd(), uintptr(command), kind)
	if errno != 0 {
		return 0, errno
	}
	return kind, nil
}

// Opened reports whether somebody waits for the file, or did until it was
// released.
func (h *Hanging) Opened() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.check()
}

func (h *Hanging) check() bool {
	if h.opened || h.released {
		return h.opened
	}
	kind, err := h.lease(syscall.F_GETLEASE, 0)
	if err != nil {
		h.t.Error(err)
	}
	h.opened = kind != syscall.F_WRLCK
	return h.opened
}

// AwaitOpened waits until somebody waits for the file.
func (h *Hanging) AwaitOpened() {
	h.t.Helper()
	for deadline := time.Now().Add(patience); !h.Opened(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatal("nobody opens the file")
		}
	}
}

// Meanwhile runs f, which must not wait for the file.
func (h *Hanging) Meanwhile(what string, f func()) {
	h.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		h.t.Errorf("%s waits for the file", what)
		h.Release()
		<-done
	}
}

// Release ends the wait of everybody.
func (h *Hanging) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released {
		return
	}
	h.check()
	h.released = true
	h.file.Close() // and with it the lease
}
