package deploy_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	securityFile     = "../.github/SECURITY.md"
	contributingFile = "../.github/CONTRIBUTING.md"
)

// What is said of attackers has tests, and they exist.
func TestSecurityClaims(t *testing.T) {
	named := regexp.MustCompile(`^([\w/]+)\.(Test\w+)$`)
	for _, table := range markdownTables(t, securityFile, "can or cannot", "shown by") {
		for _, row := range table {
			tests := code(row[1])
			if len(tests) == 0 {
				t.Errorf("nothing shows: %s", row[0])
			}
			for _, test := range tests {
				m := named.FindStringSubmatch(test)
				if m == nil || !hasTest(t, m[1], m[2]) {
					t.Errorf("there is no test %s", test)
				}
			}
		}
	}
}

func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.Contains(string(readFile(t, file)), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}

// The drawing has every folder of the program, and files are where the steps
// say.
func TestContributing(t *testing.T) {
	text := string(readFile(t, contributingFile))
	_, drawing, _ := strings.Cut(text, "```\nmain.go ")
	drawing, rest, _ := strings.Cut(drawing, "```")
	drawn := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(?:[│├└─ ]*)([\w./]+) `).FindAllStringSubmatch(drawing, -1) {
		drawn[m[1]] = true
	}
	packages := map[string]bool{}
	for _, file := range append(glob(t, "../collector/*/*.go"), glob(t, "../client/*/*.go")...) {
		packages[strings.TrimPrefix(filepath.Dir(file), "../")] = true
	}
	for folder := range packages {
		if !drawn[folder] {
			t.Errorf("the drawing lacks %s", folder)
		}
	}
	named := code(rest)
	for _, path := range slices.Concat(slices.Collect(maps.Keys(drawn)), named) {
		if path == "testing/synctest" || !strings.Contains(path, "/") {
			continue
		}
		if _, err := os.Stat(filepath.Join("..", path)); err != nil {
			t.Error(err)
		}
	}
	if len(named) == 0 {
		t.Error("no step names a file")
	}
}
