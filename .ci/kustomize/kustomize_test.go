// Package kustomize_test holds the version of kustomize that all tests use.
//
// Run it with -count=1, as go test does not see a change outside its module.
package kustomize_test

import (
	"os/exec"
	"testing"
)

func TestBuild(t *testing.T) {
	for _, folder := range []string{"base", "alertmanager", "overlays/scale-out", "overlays/secured"} {
		output, err := exec.Command("go", "tool", "kustomize", "build", "../../deploy/kubernetes/"+folder).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", folder, err, output)
		}
	}
}
