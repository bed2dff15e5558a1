package flags_test

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// A list of IDs means the same as a flag, as several and in the environment.
func FuzzIDFlags(f *testing.F) {
	for _, seed := range []string{
		"a", "a,b c", "\uFEFFa, b\r\n\uFEFFc\t", "", ",", "@flags_test.go", "--demo", "-", "a=b", "$A", "${A}", `"a"`, "..", "caf\xe9", "a\u200b",
		"https://user:secret@host/v1/embed-jobs/a", "%(a)s", strings.Repeat("a", 513),
	} {
		f.Add(seed)
	}
	for _, name := range variables {
		f.Setenv(name, "")
	}
	f.Setenv("CO_API_KEY", testKey)
	f.Fuzz(func(t *testing.T, list string) {
		if strings.Contains(list, "\x00") {
			return // which neither arguments nor the environment can hold
		}
		ids := func(variable string, args ...string) ([]string, string) {
			t.Setenv("COHERE_JOB_IDS", variable)
			cfg, logged, err := parse(args)
			if logged != "" {
				t.Errorf("%q: logged %s", args, logged)
			}
			if err != nil {
				return nil, err.Error()
			}
			return cfg.Accounts[0].EmbedJobs.IDs, ""
		}
		got, problem := ids("", "--cohere.job-id="+list)
		var apart []string
		for _, part := range strings.Split(list, ",") {
			apart = append(apart, "--cohere.job-id="+part)
		}
		for name, same := range map[string]func() ([]string, string){
			"apart":       func() ([]string, string) { return ids("b", apart...) },
			"environment": func() ([]string, string) { return ids(list) },
		} {
			if g, p := same(); !slices.Equal(g, got) || p != problem {
				t.Errorf("%q: got %q, %s; %s %q, %s", list, got, problem, name, g, p)
			}
		}
		for _, id := range got {
			if err := client.CheckID(id); err != nil {
				t.Errorf("%q holds %q: %v", list, id, err)
			}
		}
		switch {
		case problem == "":
		case !utf8.ValidString(problem), strings.ContainsFunc(problem, unicode.IsControl),
			!strings.HasPrefix(problem, "--cohere.job-id: ") && !strings.HasPrefix(problem, "nothing to watch: set --cohere.job-id"):
			t.Errorf("%q: %q", list, problem)
		}
	})
}
