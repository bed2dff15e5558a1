// Package deploy_test uses what is shipped in this folder for real: every
// file is read by the program that it was written for.
package deploy_test

import (
	"os"
	"os/exec"
	"testing"
)

// tool returns the path of a program that a test needs. Without it the test
// is skipped, but not under CI=true, where everything must be there.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is needed: %v", name, err)
	}
	t.Skipf("%s is not installed", name)
	return ""
}
