package deploy_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The image, the archives of a release, and what the gate builds twice are
// built alike, by the same version of Go.
func TestReleaseFlags(t *testing.T) {
	flags := map[string]string{}
	for _, path := range []string{"../Dockerfile", "../.goreleaser.yaml", "../.ci/builds"} {
		text := strings.ReplaceAll(string(readFile(t, path)), "$v.", "github.com/prometheus/common/version.")
		found := regexp.MustCompile(`-trimpath|-buildvcs=\w+|CGO_ENABLED=\d|-s -w|-X [\w./]+=`).FindAllString(text, -1)
		slices.Sort(found)
		flags[path] = strings.Join(slices.Compact(found), " ")
	}
	if want := flags["../Dockerfile"]; strings.Count(want, "-X ") != 4 || !equalValues(flags) {
		t.Errorf("flags differ: %q", flags)
	}

	versions := map[string]string{}
	for _, path := range append(glob(t, "../.github/workflows/*.yml"), "../Dockerfile") {
		for i, m := range regexp.MustCompile(`(?:golang:|go-version: ')([\d.]+)`).FindAllStringSubmatch(string(readFile(t, path)), -1) {
			versions[path+strings.Repeat("+", i)] = m[1]
		}
	}
	if len(versions) != 4 || !equalValues(versions) {
		t.Errorf("versions of Go differ: %q", versions)
	}
}

func equalValues(m map[string]string) bool {
	values := slices.Sorted(maps.Values(m))
	return len(slices.Compact(values)) == 1
}

// Actions are what a hash says, whoever moves a tag, and a job may do what it
// is said to need.
func TestWorkflows(t *testing.T) {
	for _, path := range glob(t, "../.github/workflows/*.yml") {
		var workflow struct {
			Permissions *map[string]string
			Jobs        map[string]struct {
				Permissions map[string]string
				Container   struct{ Image string }
			}
		}
		if err := yaml.Unmarshal(readFile(t, path), &workflow); err != nil { // GitHub's other keys are actionlint's
			t.Fatal(err)
		}
		if workflow.Permissions == nil || len(*workflow.Permissions) > 0 {
			t.Errorf("%s: permissions are not {} but for jobs", path)
		}
		for name, job := range workflow.Jobs {
			if len(job.Permissions) == 0 {
				t.Errorf("%s: job %s does not say its permissions", path, name)
			}
			if image := job.Container.Image; image != "" && !strings.Contains(image, "@sha256:") {
				t.Errorf("%s: job %s: image %s has no hash", path, name, image)
			}
		}
		pinned := regexp.MustCompile(`^\./|^[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
		for _, m := range regexp.MustCompile(`uses: (.*)`).FindAllStringSubmatch(string(readFile(t, path)), -1) {
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s: %s is not a full hash with its version", path, m[1])
			}
		}
	}
}
