package flags_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/go-kit/log"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/flags"
)

const testKey = "sk-5ecret-of/the+flags=tests"

// variables are all that count.
var variables = []string{
	"COHERE_JOB_IDS", "COHERE_BATCH_IDS", "COHERE_API_KEY_FILE", "CO_API_KEY", "CO_API_URL", "COHERE_DISCOVER", "COHERE_EXPORTER_CONFIG_FILE",
}

// usage is a command line, separated by white space, and a variable of the
// environment. KEY in it is what suffices to watch a job.
type usage struct{ args, env string }

// config parses the command line as the program does.
func (u usage) config(t *testing.T) (cfg *config.Config, logged string, err error) {
	t.Helper()
	for _, name := range variables {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	if name, value, given := strings.Cut(u.env, "="); given {
		t.Setenv(name, value)
	}
	return parse(strings.Fields(strings.Replace(u.args, "KEY", "--cohere.job-id=a --cohere.api-key-file=good.key", 1)))
}

// parse parses arguments as the program does.
func parse(args []string) (cfg *config.Config, logged string, err error) {
	app := kingpin.New("cohere_exporter", "")
	account := flags.Add(app)
	file := app.Flag("config.file", "").Envar("COHERE_EXPORTER_CONFIG_FILE").String()
	demo := app.Flag("demo", "").Bool()
	app.Flag("once", "").Bool()
	flags.Duration(app.Flag("web.timeout-offset", "").Default("500ms"))
	app.Flag("log.level", "").Default("info").Enum("debug", "info", "warn", "error")
	if err := flags.Parse(app, args); err != nil {
		return nil, "", err
	}
	var logs strings.Builder
	cfg, err = account.Config(*file, *demo, log.NewLogfmtLogger(&logs))
	return cfg, logs.String(), err
}

// inDir goes to a directory with these files.
func inDir(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const accountHead = "accounts:\n  - name: search\n    http_client_config: {authorization: {credentials_file: good.key}}\n"

// Whatever is wrong is said in one line that names the flag, the variable, or
// the line of the file, and the remedy.
func TestBadUsage(t *testing.T) {
	inDir(t, map[string]string{
		"good.key": testKey + "\n", "empty.key": " \n", "lines.key": "one\ntwo\n", "control.key": "a\x00b",
		"quoted.key": `"` + testKey + `"`, "bearer.key": "Bearer " + testKey, "variable.key": "${CO_API_KEY}", "invisible.key": testKey + "\u200b",
		"bad.yml":       "accounts:\n  - nme: search\n",
		"quoted.yml":    accountHead + "    embed_jobs:\n      ids:\n        - a\n        - '\"b\"'\n",
		"two.yml":       accountHead + "    embed_jobs:\n      ids: ['a, b']\n",
		"url.yml":       accountHead + "    batches:\n      ids: ['https://api.cohere.com/v2/batches/b']\n",
		"variable.yml":  accountHead + "    embed_jobs: {ids: [a]}\n    base_url: ${CO_API_URL}\n",
		"version.yml":   accountHead + "    embed_jobs: {ids: [a]}\n    base_url: https://api.cohere.com/v1\n",
		"invisible.yml": accountHead + "    embed_jobs: {ids: [\"a\\u200bb\"]}\n",
	})
	const (
		noKey    = "no API key: set --cohere.api-key-file or CO_API_KEY"
		keyFile  = "; name a file that holds the API key in one line"
		variable = "; set it to the API key, or set --cohere.api-key-file"
		nothing  = "nothing to watch: set --cohere.job-id, --cohere.batch-id or --cohere.discover, or try --demo"
		duration = " takes a duration such as 30s, 5m or 7d, not "
		perMin   = "--cohere.requests-per-minute: must be between 0.000001 and 1000000, or 0 for no limit"
	)
	for _, c := range []struct{ args, env, want string }{
		{"", "", nothing},
		{"--cohere.api-key-file=good.key --cohere.job-id=,", "", nothing},
		{"--cohere.job-id=a", "", noKey},
		{"--cohere.batch-id=a", "", noKey},
		{"--cohere.job-id=a", "CO_API_KEY=", noKey},
		{"--cohere.job-id=a", "CO_API_KEY= ", "CO_API_KEY is empty" + variable},
		{"--cohere.job-id=a", "CO_API_KEY=" + testKey + "\nb", "CO_API_KEY holds several lines" + variable},
		{"--cohere.job-id=a", "COHERE_API_KEY_FILE=" + testKey, "--cohere.api-key-file: no such file or directory" + keyFile},
		{"--cohere.job-id=a --cohere.api-key-file=missing.key", "CO_API_KEY=" + testKey, "--cohere.api-key-file: no such file or directory" + keyFile},
		{"--cohere.job-id=a --cohere.api-key-file=empty.key", "", "--cohere.api-key-file: empty.key is empty" + keyFile},
		{"--cohere.job-id=a --cohere.api-key-file=lines.key", "", "--cohere.api-key-file: lines.key holds several lines" + keyFile},
		{"--cohere.job-id=a --cohere.api-key-file=control.key", "", "--cohere.api-key-file: control.key holds control characters" + keyFile},
		{"--cohere.job-id=a --cohere.api-key-file=.", "", "--cohere.api-key-file: not a regular file" + keyFile},

		{"KEY --cohere.base-url=ftp://x", "", `--cohere.base-url: "ftp://x" is not of the form https://host or https://host/path`},
		{"KEY --cohere.base-url=https://u:" + testKey + "@x", "", "--cohere.base-url: must not hold a user name or password"},
		{"KEY", "CO_API_URL=nonsense", `--cohere.base-url: "nonsense" is not of the form https://host or https://host/path`},
		{"KEY --cohere.timeout=5", "", "--cohere.timeout" + duration + `"5"`},
		{"KEY --cohere.timeout=0s", "", "--cohere.timeout: must be longer than 0s"},
		{"KEY --cohere.refresh-interval=soon", "", "--cohere.refresh-interval" + duration + `"soon"`},
		{"KEY --cohere.settled-interval=", "", "--cohere.settled-interval" + duration + `""`},
		{"KEY --cohere.max-staleness=-1s", "", "--cohere.max-staleness" + duration + `"-1s"`},
		{"KEY --web.timeout-offset=-1s", "", "--web.timeout-offset" + duration + `"-1s"`},
		{"KEY --cohere.max-concurrent-requests=1.5", "", `--cohere.max-concurrent-requests takes a whole number, not "1.5"`},
		{"KEY --cohere.max-concurrent-requests=0", "", "--cohere.max-concurrent-requests: must be at least 1"},
		{"KEY --cohere.requests-per-minute=many", "", `--cohere.requests-per-minute takes a number, not "many"`},
		{"KEY --cohere.requests-per-minute=-1", "", perMin},
		{"KEY --cohere.requests-per-minute=NaN", "", perMin},
		{"KEY --cohere.fetch=both", "", "--cohere.fetch: enum value must be one of get,list, got 'both'"},
		{"KEY --log.level=loud", "", "--log.level: enum value must be one of debug,info,warn,error, got 'loud'"},
		{"KEY --cohere.client-name=a\x00", "", "--cohere.client-name: must not hold control characters; it is sent as a header"},
		{"KEY --cohere.api-key=" + testKey, "", "unknown long flag '--cohere.api-key'"},
		{"KEY --cohere.job-id", "", "expected argument for flag '--cohere.job-id'"},
		{"KEY stray", "", "unexpected stray"},
		{"KEY --cohere.job-id=a\xff", "", `--cohere.job-id: job ID "a\xff" is not valid UTF-8`},
		{"KEY --cohere.job-id=..", "", `--cohere.job-id: ".." is not a job ID`},
		{"KEY --cohere.batch-id=..", "", `--cohere.batch-id: ".." is not a job ID`},

		// What takes no value.
		{"--demo=true", "", `--demo takes no value, not even "true"; give it alone, or leave it out`},
		{"--demo --once=false", "", `--once takes no value, not even "false"; give it alone, or leave it out`},
		{"--no-demo=", "", `--no-demo takes no value, not even ""; give it alone, or leave it out`},

		// What people paste.
		{`KEY --cohere.job-id="b"`, "", `--cohere.job-id: job ID "\"b\"" is in quotes; leave them out`},
		{"KEY --cohere.batch-id=“b”", "", "--cohere.batch-id: job ID \"“b”\" is in quotes; leave them out"},
		{"KEY --cohere.job-id=${JOB}", "", `--cohere.job-id: job ID "${JOB}" holds a variable that nobody expanded; write its value`},
		{"KEY --cohere.job-id=a\u200bb", "", `--cohere.job-id: job ID "a\u200bb" holds the invisible character U+200B; leave it out`},
		{"KEY --cohere.job-id=https://api.cohere.com/v1/embed-jobs/b", "", `--cohere.job-id: a URL is not a job ID; write its last part, "b"`},
		{"--cohere.api-key-file=good.key", `COHERE_JOB_IDS="b"`, `--cohere.job-id: job ID "\"b\"" is in quotes; leave them out`},
		{"--cohere.api-key-file=good.key", "COHERE_BATCH_IDS=${IDS}", `--cohere.batch-id: job ID "${IDS}" holds a variable that nobody expanded; write its value`},
		{"KEY --cohere.base-url=https://api.cohere.com/v1", "", `--cohere.base-url: "https://api.cohere.com/v1" holds /v1, which every request adds; write "https://api.cohere.com"`},
		{"KEY", "CO_API_URL=https://proxy/cohere/v2/batches", `--cohere.base-url: "https://proxy/cohere/v2/batches" holds /v2/batches, which every request adds; write "https://proxy/cohere"`},
		{"KEY", "CO_API_URL=$CO_API_URL", `--cohere.base-url: "$CO_API_URL" holds a variable that nobody expanded; write its value`},
		{"--cohere.job-id=a", `CO_API_KEY="` + testKey + `"`, "CO_API_KEY is in quotes; leave them out" + variable},
		{"--cohere.job-id=a", "CO_API_KEY=Bearer " + testKey, `CO_API_KEY begins with "Bearer "; leave that out` + variable},
		{"--cohere.job-id=a", "CO_API_KEY=${KEY}", "CO_API_KEY holds a variable that nobody expanded; write its value" + variable},
		{"--cohere.job-id=a", "CO_API_KEY=" + testKey + "\u200b", "CO_API_KEY holds the invisible character U+200B; leave it out" + variable},
		{"--cohere.job-id=a --cohere.api-key-file=quoted.key", "", "--cohere.api-key-file: quoted.key is in quotes; leave them out" + keyFile},
		{"--cohere.job-id=a --cohere.api-key-file=bearer.key", "", `--cohere.api-key-file: bearer.key begins with "Bearer "; leave that out` + keyFile},
		{"--cohere.job-id=a --cohere.api-key-file=variable.key", "", "--cohere.api-key-file: variable.key holds a variable that nobody expanded; write its value" + keyFile},
		{"--cohere.job-id=a --cohere.api-key-file=invisible.key", "", "--cohere.api-key-file: invisible.key holds the invisible character U+200B; leave it out" + keyFile},
		{"--config.file=quoted.yml", "", `--config.file: quoted.yml:7: embed_jobs.ids[1]: job ID "\"b\"" is in quotes; leave them out`},
		{"--config.file=two.yml", "", `--config.file: two.yml:5: embed_jobs.ids[0]: job ID "a, b" holds a comma or white space; write one ID in each entry`},
		{"--config.file=url.yml", "", `--config.file: url.yml:5: batches.ids[0]: a URL is not a job ID; write its last part, "b"`},
		{"--config.file=variable.yml", "", `--config.file: variable.yml:5: base_url: "${CO_API_URL}" holds a variable that nobody expanded; write its value`},
		{"--config.file=version.yml", "", `--config.file: version.yml:5: base_url: "https://api.cohere.com/v1" holds /v1, which every request adds; write "https://api.cohere.com"`},
		{"--config.file=invisible.yml", "", `--config.file: invisible.yml:4: embed_jobs.ids[0]: job ID "a\u200bb" holds the invisible character U+200B; leave it out`},

		// Discovery.
		{"KEY --cohere.discover.max-jobs=3", "", "--cohere.discover.max-jobs needs --cohere.discover"},
		{"KEY --cohere.discover.max-age=3d", "", "--cohere.discover.max-age needs --cohere.discover"},
		{"KEY --cohere.discover.name=x", "", "--cohere.discover.name needs --cohere.discover"},
		{"KEY --cohere.discover=embed-jobs --cohere.discover.max-jobs=0", "", "--cohere.discover.max-jobs: must be at least 1"},
		{"KEY --cohere.discover=embed-jobs --cohere.discover.max-age=0s", "", "--cohere.discover.max-age: must be longer than 0s"},
		{"KEY --cohere.discover=embed-jobs --cohere.discover.name=(", "", "--cohere.discover.name: must be a regular expression (RE2); missing closing )"},
		{"KEY --cohere.discover=true", "", `--cohere.discover: "true" is no kind of jobs; it takes embed-jobs or batches`},
		{"KEY --cohere.discover=embed-jobs,embed_jobs", "", `--cohere.discover: "embed_jobs" is no kind of jobs; it takes embed-jobs or batches`},
		{"KEY", "COHERE_DISCOVER=true", `--cohere.discover: "true" is no kind of jobs; it takes embed-jobs or batches`},
		{"KEY --cohere.discover", "", "expected argument for flag '--cohere.discover'"},

		// What goes without the account's flags.
		{"--demo --cohere.timeout=10s", "", "--cohere.timeout cannot be used with --demo; leave out one of them"},
		{"--demo --cohere.base-url=https://api.cohere.com", "", "--cohere.base-url cannot be used with --demo; leave out one of them"},
		{"--demo --cohere.api-key-file=good.key", "", "--cohere.api-key-file cannot be used with --demo; leave out one of them"},
		{"--demo --cohere.client-name=x", "", "--cohere.client-name cannot be used with --demo; leave out one of them"},
		{"--demo --cohere.discover=embed-jobs", "", "--cohere.discover cannot be used with --demo; leave out one of them"},
		{"--demo --cohere.job-id=..", "", `--cohere.job-id: ".." is not a job ID`},
		{"--demo --cohere.requests-per-minute=-1", "", perMin},
		{"--demo --config.file=bad.yml", "", "--demo watches its own account; leave out --config.file and COHERE_EXPORTER_CONFIG_FILE"},
		{"--config.file=bad.yml --cohere.job-id=a", "", "--cohere.job-id cannot be used with --config.file; leave out one of them"},
		{"--config.file=bad.yml --cohere.batch-id=a", "", "--cohere.batch-id cannot be used with --config.file; leave out one of them"},
		{"--cohere.fetch=get", "COHERE_EXPORTER_CONFIG_FILE=bad.yml", "--cohere.fetch cannot be used with --config.file; leave out one of them"},
		{"--config.file=missing.yml", "", "--config.file: open missing.yml: no such file or directory"},
		{"--config.file=bad.yml", "", "--config.file: bad.yml:2: unknown key nme"},
	} {
		t.Run(c.args+" "+c.env, func(t *testing.T) {
			cfg, logged, err := usage{c.args, c.env}.config(t)
			if cfg != nil || err == nil || err.Error() != c.want || logged != "" {
				t.Errorf("got %+v, %q\n%v\nwant\n%s", cfg, logged, err, c.want)
			}
			if strings.Contains(c.want, testKey) {
				t.Error("the key shows")
			}
		})
	}
}

// What the flags say is what is watched.
func TestConfig(t *testing.T) {
	inDir(t, map[string]string{
		"good.key":     testKey + "\n",
		"exporter.yml": accountHead + "    embed_jobs: {ids: [a]}\n",
	})
	type (
		account = config.Account
		jobs    = config.Jobs
	)
	both := func(a *account) []*jobs { return []*jobs{a.EmbedJobs, a.Batches} }
	embedJobs := func(ids ...string) func(*account) {
		return func(a *account) { a.EmbedJobs.IDs, a.Batches = ids, nil }
	}
	batches := func(ids ...string) func(*account) {
		return func(a *account) { a.Batches.IDs, a.EmbedJobs = ids, nil }
	}
	ofBoth := func(change func(*jobs)) func(*account) {
		return func(a *account) {
			for _, j := range both(a) {
				j.IDs = []string{"a"}
				change(j)
			}
		}
	}
	const key, ids = "--cohere.api-key-file=good.key ", "--cohere.job-id=a --cohere.batch-id=a "
	for _, c := range []struct {
		args, env string
		want      func(a *account) // changes the defaults of both kinds
	}{
		{key + "--cohere.job-id=a", "", embedJobs("a")},
		{key + "--cohere.batch-id=a", "", batches("a")},
		{key + "--cohere.job-id=a,b,,c --cohere.job-id=\ufeffd", "", embedJobs("a", "b", "c", "d")},
		{key, "COHERE_JOB_IDS= a,b  c\n\nd,,\te ", embedJobs("a", "b", "c", "d", "e")},
		{key, "COHERE_BATCH_IDS=a,b", batches("a", "b")},
		{key + "--cohere.job-id=a", "COHERE_JOB_IDS=b", embedJobs("a")},
		{key + "--cohere.job-id=a", "COHERE_API_KEY_FILE=missing.key", embedJobs("a")},
		{key + "--cohere.job-id=a", "CO_API_KEY=wrong", embedJobs("a")},
		{"--cohere.job-id=a", "COHERE_API_KEY_FILE=good.key", embedJobs("a")},
		{"--cohere.job-id=a", "CO_API_KEY= \ufeff" + testKey + "\n", func(a *account) {
			embedJobs("a")(a)
			a.HTTPClientConfig.Authorization = &promconfig.Authorization{Credentials: " \ufeff" + testKey + "\n"} // stripped when it is sent
		}},
		{key + "--cohere.job-id=a", "CO_API_URL=https://example.com/cohere/", func(a *account) {
			embedJobs("a")(a)
			a.BaseURL = "https://example.com/cohere/"
		}},
		{key + "--cohere.job-id=a --cohere.client-name=team --cohere.timeout=1d", "", func(a *account) {
			embedJobs("a")(a)
			a.ClientName, a.Timeout = "team", model.Duration(24*time.Hour)
		}},
		{key + ids + "--cohere.max-concurrent-requests=3 --cohere.requests-per-minute=0.5 --cohere.fetch=list", "", ofBoth(func(j *jobs) {
			j.MaxConcurrentRequests, j.RequestsPerMinute, j.Fetch = 3, .5, config.FetchList
		})},
		{key + ids + "--cohere.refresh-interval=1m --cohere.settled-interval=2h --cohere.max-staleness=0s", "", ofBoth(func(j *jobs) {
			j.RefreshInterval, j.SettledInterval, j.MaxStaleness = model.Duration(time.Minute), model.Duration(2*time.Hour), 0
		})},
		{key + "--cohere.discover=embed-jobs", "", func(a *account) {
			a.EmbedJobs.Discover, a.Batches = discover(nil), nil
		}},
		{key + "--cohere.discover=batches", "", func(a *account) {
			a.Batches.Discover, a.EmbedJobs = discover(nil), nil
		}},
		{key, "COHERE_DISCOVER=batches", func(a *account) {
			a.Batches.Discover, a.EmbedJobs = discover(nil), nil
		}},
		{key + "--cohere.discover=embed-jobs,batches --cohere.discover.max-age=1d --cohere.discover.name=n.* --cohere.discover.max-jobs=7", "", func(a *account) {
			for _, j := range both(a) {
				j.Discover = discover(func(d *config.Discover) {
					d.MaxAge, d.Name, d.MaxJobs = model.Duration(24*time.Hour), config.MustRegexp("n.*"), 7
				})
			}
		}},
		{key + "--cohere.discover=embed-jobs --cohere.discover=batches --cohere.batch-id=a", "", func(a *account) {
			a.EmbedJobs.Discover, a.Batches.Discover, a.Batches.IDs = discover(nil), discover(nil), []string{"a"}
		}},

		{"--demo", "", func(*account) {}},
		{"--demo --cohere.job-id=a --cohere.batch-id=b", "", func(a *account) {
			a.EmbedJobs.IDs, a.Batches.IDs = []string{"a"}, []string{"b"}
		}},
		{"--demo --cohere.batch-id=b", "", func(a *account) { a.EmbedJobs, a.Batches.IDs = nil, []string{"b"} }},
		{"--demo " + ids + "--cohere.max-concurrent-requests=3 --cohere.requests-per-minute=7 --cohere.fetch=list" +
			" --cohere.refresh-interval=1m --cohere.settled-interval=2h --cohere.max-staleness=3s", "", ofBoth(func(j *jobs) {
			j.MaxConcurrentRequests, j.RequestsPerMinute, j.Fetch = 3, 7, config.FetchList
			j.RefreshInterval, j.SettledInterval, j.MaxStaleness = model.Duration(time.Minute), model.Duration(2*time.Hour), model.Duration(3*time.Second)
		})},
	} {
		t.Run(c.args+" "+c.env, func(t *testing.T) {
			want := config.Default()
			embedJobs, batches := config.DefaultJobs(), config.DefaultJobs()
			want.EmbedJobs, want.Batches = &embedJobs, &batches
			if !strings.Contains(c.args, "--demo") {
				want.HTTPClientConfig.Authorization = &promconfig.Authorization{CredentialsFile: "good.key"}
			}
			c.want(&want)
			cfg, logged, err := usage{c.args, c.env}.config(t)
			if err != nil || logged != "" || cfg.FromFile || len(cfg.Accounts) != 1 {
				t.Fatalf("%+v, %q, %v", cfg, logged, err)
			}
			if got := cfg.Accounts[0]; !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%+v\n%+v\n%+v\nwant\n%+v\n%+v\n%+v", got, got.EmbedJobs, got.Batches, want, want.EmbedJobs, want.Batches)
			}
		})
	}
	t.Run("file", func(t *testing.T) {
		cfg, _, err := usage{args: "--config.file=exporter.yml"}.config(t)
		if err != nil || !cfg.FromFile || len(cfg.Accounts) != 1 || cfg.Accounts[0].Name != "search" {
			t.Errorf("%+v, %v", cfg, err)
		}
	})
}

func discover(change func(*config.Discover)) *config.Discover {
	d := config.DefaultDiscover()
	if change != nil {
		change(&d)
	}
	return &d
}

// Beside the demonstration and a file the account's variables count for
// nothing, which is said.
func TestIgnoredVariables(t *testing.T) {
	inDir(t, map[string]string{"good.key": testKey, "exporter.yml": accountHead + "    embed_jobs: {ids: [a]}\n"})
	file, err := filepath.Abs("exporter.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, variable := range []string{
		"COHERE_JOB_IDS=..", "COHERE_BATCH_IDS=..", "COHERE_API_KEY_FILE=missing.key", "CO_API_KEY=" + testKey, "CO_API_URL=nonsense", "COHERE_DISCOVER=true",
	} {
		for other, args := range map[string]string{"--demo": "--demo", "--config.file": "--config.file=" + file} {
			name, _, _ := strings.Cut(variable, "=")
			cfg, logged, err := usage{args, variable}.config(t)
			if want := `level=warn msg="environment variables are ignored" because_of=` + other + " variables=" + name + "\n"; err != nil || logged != want {
				t.Errorf("%s with %s: logged %q, %v", other, name, logged, err)
				continue
			}
			plain, _, err := usage{args: args}.config(t)
			if err != nil || !reflect.DeepEqual(cfg, plain) {
				t.Errorf("%s counts %s: %+v, %v", other, name, cfg.Accounts[0], err)
			}
		}
	}
}
