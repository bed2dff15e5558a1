package client_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

func TestSplitIDs(t *testing.T) {
	for _, tt := range []struct {
		lists []string
		want  []string
	}{
		{nil, nil},
		{[]string{"", " ,\n\uFEFF,"}, nil},
		{[]string{"a"}, []string{"a"}},
		{[]string{"a,b", "c"}, []string{"a", "b", "c"}},
		{[]string{"\uFEFFa, b\r\n\uFEFFc\t,d\u00a0e\u2028f,"}, []string{"a", "b", "c", "d", "e", "f"}},
		{[]string{"a\uFEFFb a\u200bb \"c\""}, []string{"a\uFEFFb", "a\u200bb", `"c"`}}, // for CheckID to refuse
		{[]string{"a;b", "caf\xe9,caf\xe9"}, []string{"a;b", "caf\xe9", "caf\xe9"}},
	} {
		if got := client.SplitIDs(tt.lists...); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.lists, got, tt.want)
		}
	}
}

func TestRefusedIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		for _, tt := range []struct{ id, want string }{
			{"", `"" is not a job ID`},
			{".", `"." is not a job ID`},
			{"..", `".." is not a job ID`},
			{"caf\xe9", `job ID "caf\xe9" is not valid UTF-8`},
			{"\xff", `job ID "\xff" is not valid UTF-8`},
			{"a,b", `job ID "a,b" holds a comma or white space; write one ID in each entry`},
			{"a b", `job ID "a b" holds a comma or white space; write one ID in each entry`},
			{" a", `job ID " a" holds a comma or white space; write one ID in each entry`},
			{"a\n", `job ID "a\n" holds a comma or white space; write one ID in each entry`},
			{"\"a\",\u00a0'b'", `job ID "\"a\",\u00a0'b'" holds a comma or white space; write one ID in each entry`},
			{`"a"`, `job ID "\"a\"" is in quotes; leave them out`},
			{`'a'`, `job ID "'a'" is in quotes; leave them out`},
			{"a’", `job ID "a’" is in quotes; leave them out`},
			{`"`, `job ID "\"" is in quotes; leave them out`},
			{"${ID}", `job ID "${ID}" holds a variable that nobody expanded; write its value`},
			{"ebd-${ID}", `job ID "ebd-${ID}" holds a variable that nobody expanded; write its value`},
			{"$ID", `job ID "$ID" holds a variable that nobody expanded; write its value`},
			{"\uFEFFa", `job ID "\ufeffa" holds the invisible character U+FEFF; leave it out`},
			{"a\u200b", `job ID "a\u200b" holds the invisible character U+200B; leave it out`},
			{"a\x00b", `job ID "a\x00b" holds the invisible character U+0000; leave it out`},
			{"a\x1b[0mb", `job ID "a\x1b[0mb" holds the invisible character U+001B; leave it out`},
			{"https://api.cohere.com/v1/embed-jobs/ebd-1", `a URL is not a job ID; write its last part, "ebd-1"`},
			{"https://user:secret@host/v2/batches/2f6c?secret=1#secret", `a URL is not a job ID; write its last part, "2f6c"`},
			{"api.cohere.com/v1/embed-jobs/ebd-1/", `a URL is not a job ID; write its last part, "ebd-1"`},
			{"/v1/embed-jobs/a%2Fb", `a URL is not a job ID; write its last part, "b"`},
			{"v2/batches/2f6c", `a URL is not a job ID; write its last part, "2f6c"`},
			{"https://user:secret@host", "a URL is not a job ID; write the ID alone"},
			{"https://user:se%cret@host/a", "a URL is not a job ID; write the ID alone"},
			{strings.Repeat("a", 513), `job ID "` + strings.Repeat("a", 32) + `"... is longer than 512 characters`},
			{strings.Repeat("a€", 300), `job ID "` + strings.Repeat("a€", 8) + `"... is longer than 512 characters`},
			{strings.Repeat("€", 513), `job ID "` + strings.Repeat("€", 10) + `"... is longer than 512 characters`},
		} {
			for _, err := range []error{client.CheckID(tt.id), second(b.EmbedJob(t.Context(), tt.id))} {
				if err == nil || err.Error() != tt.want {
					t.Errorf("%.20q: got %v, want %s", tt.id, err, tt.want)
				}
			}
		}
		if got := b.api.Requests(); len(got) != 0 {
			t.Errorf("sent: %+v", got)
		}
	})
}

func TestParseBaseURL(t *testing.T) {
	for s, want := range map[string]string{
		"https://api.cohere.com":            "https://api.cohere.com",
		"https://api.cohere.com/":           "https://api.cohere.com",
		"\uFEFF https://api.cohere.com\r\n": "https://api.cohere.com",
		"http://127.0.0.1:8080":             "http://127.0.0.1:8080",
		"http://[::1]:8080/cohere":          "http://[::1]:8080/cohere",
		"HTTPS://api.cohere.com/a/b//":      "https://api.cohere.com/a/b",
		"https://host/with%2Fslash":         "https://host/with%2Fslash",
		"https://host/@team":                "https://host/@team",
		"https://host/v1/team":              "https://host/v1/team",
		"https://host/team-v1":              "https://host/team-v1",
	} {
		if u, err := client.ParseBaseURL(s); err != nil || u.String() != want {
			t.Errorf("%q: got %v, error %v, want %s", s, u, err, want)
		}
	}
}

func TestRefusedBaseURLs(t *testing.T) {
	for _, tt := range []struct{ url, want string }{
		{"", `"" is not of the form https://host or https://host/path`},
		{"api.cohere.com", `"api.cohere.com" is not of the form https://host or https://host/path`},
		{"/v1", `"/v1" is not of the form https://host or https://host/path`},
		{"api.cohere.com:443", `"api.cohere.com:443" is not of the form https://host or https://host/path`},
		{"//api.cohere.com", `"//api.cohere.com" is not of the form https://host or https://host/path`},
		{"https:", `"https:" is not of the form https://host or https://host/path`},
		{"https://", `"https://" is not of the form https://host or https://host/path`},
		{"https:///v1", `"https:///v1" is not of the form https://host or https://host/path`},
		{"https://:443", `"https://:443" is not of the form https://host or https://host/path`},
		{"https://api.cohere.com:65536/v", `"https://api.cohere.com:65536/v" holds a port above 65535`},
		{"https:api.cohere.com", `"https:api.cohere.com" is not of the form https://host or https://host/path`},
		{`https://"api.cohere.com`, `"https://\"api.cohere.com" is not of the form https://host or https://host/path`},
		{"https://a<b,c", `"https://a<b,c" is not of the form https://host or https://host/path`},
		{"https://%ff", `"https://%ff" is not of the form https://host or https://host/path`},
		{"ftp://api.cohere.com", `"ftp://api.cohere.com" is not of the form https://host or https://host/path`},
		{"unix:///run/api.sock", `"unix:///run/api.sock" is not of the form https://host or https://host/path`},
		{"https://api.cohere.com?", `"https://api.cohere.com?" is not of the form https://host or https://host/path`},
		{"https://api.cohere.com?a=b", `"https://api.cohere.com?a=b" is not of the form https://host or https://host/path`},
		{"https://api.cohere.com/#top", `"https://api.cohere.com/#top" is not of the form https://host or https://host/path`},

		{"https://api.cohere.com/v1", `"https://api.cohere.com/v1" holds /v1, which every request adds; write "https://api.cohere.com"`},
		{"https://api.cohere.com/v2/", `"https://api.cohere.com/v2/" holds /v2, which every request adds; write "https://api.cohere.com"`},
		{"https://host/a%2Fb/v1", `"https://host/a%2Fb/v1" holds /v1, which every request adds; write "https://host/a%2Fb"`},
		{"https://api.cohere.com/v1/embed-jobs", `"https://api.cohere.com/v1/embed-jobs" holds /v1/embed-jobs, which every request adds; write "https://api.cohere.com"`},
		{"https://host/a/v2/batches/2f6c", `"https://host/a/v2/batches/2f6c" holds /v2/batches/2f6c, which every request adds; write "https://host/a"`},

		{`"https://api.cohere.com"`, `"\"https://api.cohere.com\"" is in quotes; leave them out`},
		{"https://api.cohere.com'", `"https://api.cohere.com'" is in quotes; leave them out`},
		{"${CO_API_URL}", `"${CO_API_URL}" holds a variable that nobody expanded; write its value`},
		{"https://${HOST}/cohere", `"https://${HOST}/cohere" holds a variable that nobody expanded; write its value`},
		{"https://api.cohere.com\u200b", `"https://api.cohere.com\u200b" holds the invisible character U+200B; leave it out`},
		{"https://api.\ncohere.com", `"https://api.\ncohere.com" is not a URL`},

		{"https://api cohere.com", `"https://api cohere.com" is not a URL`},
		{"https://api.cohere.com:https", `"https://api.cohere.com:https" is not a URL`},
		{"https://[::1", `"https://[::1" is not a URL`},
		{"https://host/%zz", `"https://host/%zz" is not a URL`},
		{"://", `"://" is not a URL`},

		// What may be a secret is not repeated.
		{"https://user@host", "must not hold a user name or password"},
		{"https://user:secret@host", "must not hold a user name or password"},
		{"https://user:se%cret@host", "must not hold a user name or password"},
		{"https://user:${SECRET}@host", "must not hold a user name or password"},
		{`"https://user:secret@host"`, "must not hold a user name or password"},
		{"https://user:sec ret@host", "must not hold a user name or password"},
		{"https:/user:secret@host", "must not hold a user name or password"},
		{"user:secret@host", "must not hold a user name or password"},
		{"/https://user:secret@host", "must not hold a user name or password"},
		{"https://user:12#secret@host", "must not hold a user name or password"},
		{"https://host/@team/v1", `"https://host/@team/v1" holds /v1, which every request adds; write "https://host/@team"`},
	} {
		u, err := client.ParseBaseURL(tt.url)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q: got %v, error %v, want %s", tt.url, u, err, tt.want)
		}
	}
}
