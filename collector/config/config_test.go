package config_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	promconfig "github.com/prometheus/common/config"

	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// account returns an account that watches one job, changed.
func account(change func(a *config.Account)) *config.Account {
	a, jobs, discover := config.Default(), config.DefaultJobs(), config.DefaultDiscover()
	a.EmbedJobs = &jobs
	jobs.IDs = []string{"a"}
	jobs.Discover = &discover
	change(&a)
	return &a
}

// What is wrong is named the way the user wrote it.
func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		change    func(a *config.Account)
		flag, key string
		problem   string
	}{
		{func(*config.Account) {}, "", "", ""},
		{func(a *config.Account) { a.EmbedJobs = nil }, "", "", ""},
		{func(a *config.Account) { // the least of all
			a.EmbedJobs.MaxConcurrentRequests, a.EmbedJobs.RequestsPerMinute, a.EmbedJobs.Discover.MaxJobs = 1, 1e-6, 1
		}, "", "", ""},
		{func(a *config.Account) { a.EmbedJobs.RequestsPerMinute = 1e6 }, "", "", ""},
		{
			func(a *config.Account) { a.BaseURL = "api.cohere.com" },
			"--cohere.base-url", "base_url", `"api.cohere.com" is not of the form https://host or https://host/path`,
		},
		{
			func(a *config.Account) { a.Timeout = 0 },
			"--cohere.timeout", "timeout", "must be longer than 0s",
		},
		{
			func(a *config.Account) { a.ClientName = "a\n" },
			"--cohere.client-name", "client_name", "must not hold control characters; it is sent as a header",
		},
		{
			func(a *config.Account) { a.EmbedJobs.IDs = []string{"a", "."} },
			"--cohere.job-id", "embed_jobs.ids[1]", `"." is not a job ID`,
		},
		{
			func(a *config.Account) { a.EmbedJobs.Fetch = "all" },
			"--cohere.fetch", "embed_jobs.fetch", `must be get or list, not "all"`,
		},
		{
			func(a *config.Account) { a.EmbedJobs.MaxConcurrentRequests = 0 },
			"--cohere.max-concurrent-requests", "embed_jobs.max_concurrent_requests", "must be at least 1",
		},
		{
			func(a *config.Account) { a.EmbedJobs.RequestsPerMinute = 1e-7 },
			"--cohere.requests-per-minute", "embed_jobs.requests_per_minute", "must be between 0.000001 and 1000000, or 0 for no limit",
		},
		{
			func(a *config.Account) { a.EmbedJobs.Discover.MaxAge = 0 },
			"--cohere.discover.max-age", "embed_jobs.discover.max_age", "must be longer than 0s",
		},
		{
			func(a *config.Account) { a.EmbedJobs.Discover.MaxJobs = 0 },
			"--cohere.discover.max-jobs", "embed_jobs.discover.max_jobs", "must be at least 1",
		},
	} {
		for name, setting := range map[string]string{"": tt.flag, "search": tt.key} {
			a := account(tt.change)
			a.Name = name
			got, want := "", ""
			if err := a.Validate(); err != nil {
				got = err.Error()
			}
			if tt.problem != "" {
				want = setting + ": " + tt.problem
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
}

func TestDiscoverEqual(t *testing.T) {
	discover := func(change func(d *config.Discover)) *config.Discover {
		d := config.DefaultDiscover()
		change(&d)
		return &d
	}
	for name, d := range map[string]*config.Discover{
		"nothing":  nil,
		"default":  discover(func(*config.Discover) {}),
		"max_age":  discover(func(d *config.Discover) { d.MaxAge++ }),
		"name":     discover(func(d *config.Discover) { d.Name = config.MustRegexp("a") }),
		"max_jobs": discover(func(d *config.Discover) { d.MaxJobs++ }),
	} {
		for other, want := range map[*config.Discover]bool{
			nil:                                 name == "nothing",
			discover(func(*config.Discover) {}): name == "default",
		} {
			if d.Equal(other) != want || other.Equal(d) != want {
				t.Errorf("%s equals %+v: want %v", name, other, want)
			}
		}
	}
}

// A key file that cannot be used is known at once, and read anew later.
func TestKeyProblem(t *testing.T) {
	dir := configDir(t, "")
	const key = "http_client_config.authorization.credentials_file: "
	const remedy = "; name a file that holds the API key in one line"
	for file, want := range map[string]string{
		"good.key":  "",
		"empty.key": key + dir + "/empty.key is empty" + remedy,
		"long.key":  key + dir + "/long.key holds several lines" + remedy,
		".":         key + "not a regular file" + remedy,
		fileKey:     key + "no such file or directory" + remedy, // which is not repeated
	} {
		a := config.Default()
		a.Name = "search"
		a.HTTPClientConfig.Authorization = &promconfig.Authorization{CredentialsFile: filepath.Join(dir, file)}
		got := ""
		if err := a.KeyProblem(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}

	a := config.Default()
	if err := a.KeyProblem(); err != nil {
		t.Errorf("without a file: %v", err)
	}
	a.HTTPClientConfig.Authorization = &promconfig.Authorization{CredentialsFile: filepath.Join(dir, "missing.key")}
	if err := a.KeyProblem(); err == nil || err.Error() != "--cohere.api-key-file: no such file or directory"+remedy {
		t.Errorf("from flags: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "missing.key"), []byte(fileKey), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.KeyProblem(); err != nil {
		t.Errorf("once the file is there: %v", err)
	}
}

func TestTransport(t *testing.T) {
	var sent []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Header.Get("Authorization"))
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer server.Close()
	dir := configDir(t, "")
	for want, authorization := range map[string]promconfig.Authorization{
		"Bearer " + fileKey: {CredentialsFile: filepath.Join(dir, "good.key")},
		"Token " + fileKey:  {Credentials: fileKey, Type: "Token"},
	} {
		sent = nil
		a := config.Default()
		a.HTTPClientConfig.Authorization = &authorization
		transport, err := a.Transport(nil)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest(http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		(&http.Client{Transport: transport}).CloseIdleConnections()
		if resp.StatusCode != http.StatusFound || len(sent) != 1 || sent[0] != want {
			t.Errorf("status %d after %q were sent, want 302 after %q", resp.StatusCode, sent, want)
		}
	}
}

func TestSame(t *testing.T) {
	key := func(file string) func(*config.Account) {
		return func(a *config.Account) {
			a.HTTPClientConfig.Authorization = &promconfig.Authorization{CredentialsFile: file}
		}
	}
	for _, tt := range []struct {
		change      func(*config.Account)
		api, client bool
	}{
		{key("a.key"), true, true},
		{func(a *config.Account) { key("a.key")(a); a.EmbedJobs = nil }, true, true},
		{func(a *config.Account) { key("a.key")(a); a.ClientName = "b" }, true, false},
		{func(a *config.Account) { key("a.key")(a); a.HTTPClientConfig.EnableHTTP2 = false }, true, false},
		{func(a *config.Account) { key("a.key")(a); a.BaseURL = "https://example.com" }, false, false},
		{key("b.key"), false, false},
		{func(*config.Account) {}, false, false},
	} {
		a, b := account(key("a.key")), account(tt.change)
		if api, client := a.SameAPI(b), a.SameClient(b); api != tt.api || client != tt.client {
			t.Errorf("same API %v, same client %v; want %v, %v", api, client, tt.api, tt.client)
		}
	}
}

func TestList(t *testing.T) {
	discover := config.DefaultDiscover()
	for _, tt := range []struct {
		jobs config.Jobs
		want bool
	}{
		{config.Jobs{}, false},
		{config.Jobs{Fetch: config.FetchList}, true},
		{config.Jobs{Discover: &discover}, true},
		{config.Jobs{Discover: &discover, Fetch: config.FetchGet}, false},
	} {
		if got := tt.jobs.List(); got != tt.want {
			t.Errorf("%+v: %v", tt.jobs, got)
		}
	}
}

func TestRegexp(t *testing.T) {
	re, err := config.NewRegexp("nightly|a.b")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"nightly": true, "a\nb": true, "nightly-1": false, "1-nightly": false} {
		if re.MatchString(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	if got := re.String(); got != "nightly|a.b" {
		t.Errorf("it is %s", got)
	}
	for _, text := range []string{"nightly-(", "a)|(b"} {
		if _, err := config.NewRegexp(text); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}
