// Package flags is the command line of cohere_exporter as far as it says what
// to watch.
package flags

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/alecthomas/kingpin/v2"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector"
)

// keyVariable holds the API key itself. It is the one that Cohere's SDKs use,
// and there is no flag for it: flags show in the list of processes.
const keyVariable = "CO_API_KEY"

// Account are the flags of the one account that needs no file.
type Account struct {
	account    collector.AccountConfig
	jobIDs     []string
	keyFile    string
	discover   bool
	discovery  collector.Discover
	expression string

	given     map[string]*bool // which flags were
	variables []string         // that set flags, and the key
}

// Add adds the flags of an account.
func Add(app *kingpin.Application) *Account {
	f := &Account{
		account:   collector.DefaultAccountConfig(),
		discovery: collector.DefaultDiscover(),
		given:     map[string]*bool{},
		variables: []string{"COHERE_JOB_IDS", "COHERE_API_KEY_FILE", keyVariable, "CO_API_URL", "COHERE_DISCOVER"},
	}
	flag := func(name, help string) *kingpin.FlagClause {
		given := new(bool)
		f.given["--cohere."+name] = given
		return app.Flag("cohere."+name, help).IsSetByUser(given)
	}
	a, d := &f.account, &f.discovery
	flag("job-id", "Job to fetch. Repeatable, and each value may be a list, separated by commas or white space.").PlaceHolder("ID").Envar("COHERE_JOB_IDS").StringsVar(&f.jobIDs)
	flag("api-key-file", "File with the API key. A changed file is used at the next request. The key itself may be in "+keyVariable+".").PlaceHolder("FILE").Envar("COHERE_API_KEY_FILE").StringVar(&f.keyFile)
	flag("base-url", "Where the API is.").Envar("CO_API_URL").Default(a.BaseURL).StringVar(&a.BaseURL)
	flag("client-name", "Sent as X-Client-Name.").Default(a.ClientName).StringVar(&a.ClientName)
	flag("timeout", "Limit of one API request.").Default(a.Timeout.String()).SetValue(&a.Timeout)
	flag("max-concurrent-requests", "API requests under way at once.").Default(strconv.Itoa(a.MaxConcurrentRequests)).IntVar(&a.MaxConcurrentRequests)
	flag("requests-per-minute", "Budget of API requests in any minute; 0 sets no limit.").Default("0").Float64Var(&a.RequestsPerMinute)
	flag("refresh-interval", "A job younger than this is not fetched again. Set it a little below the scrape interval.").Default(a.RefreshInterval.String()).SetValue(&a.RefreshInterval)
	flag("settled-interval", "The same for complete, cancelled and failed jobs, where it is the longer of the two.").Default(a.SettledInterval.String()).SetValue(&a.SettledInterval)
	flag("max-staleness", "How far beyond its interval an active job's last known values are served.").Default(a.MaxStaleness.String()).SetValue(&a.MaxStaleness)
	flag("fetch", "One request for each job (get), or one for all (list). With discovery list is the default.").PlaceHolder("get|list").EnumVar(&a.Fetch, collector.FetchGet, collector.FetchList)
	flag("discover", "Also watch every job that the API lists, within the next three bounds.").Envar("COHERE_DISCOVER").BoolVar(&f.discover)
	flag("discover.max-age", "By creation time.").Default("7d").SetValue(&d.MaxAge)
	flag("discover.name", "Anchored RE2, as in Prometheus.").Default(d.Name.String()).StringVar(&f.expression)
	flag("discover.max-jobs", "The newest; the rest are counted in cohere_embed_jobs_dropped.").Default(strconv.Itoa(d.MaxJobs)).IntVar(&d.MaxJobs)
	return f
}

// Config returns the configuration of flags and environment, or that of file, or
// one for the demonstration, which lacks the address, the key and, unless they
// were given, the jobs.
func (f *Account) Config(file string, demo bool, logger log.Logger) (*collector.Config, error) {
	switch {
	case demo && file != "":
		return nil, errors.New("--demo watches its own account; leave out --config.file and COHERE_EXPORTER_CONFIG_FILE")
	case demo:
		account := collector.DefaultAccountConfig()
		if *f.given["--cohere.job-id"] {
			account.JobIDs = splitIDs(f.jobIDs)
		}
		delete(f.given, "--cohere.job-id")
		if err := account.Validate(); err != nil {
			return nil, err
		}
		return &collector.Config{Accounts: []collector.AccountConfig{account}}, f.notBeside("--demo", logger)
	case file != "":
		if err := f.notBeside("--config.file", logger); err != nil {
			return nil, err
		}
		cfg, err := collector.LoadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--config.file: %w", err)
		}
		return cfg, nil
	}
	if err := f.finish(); err != nil {
		return nil, err
	}
	return &collector.Config{Accounts: []collector.AccountConfig{f.account}}, nil
}

// notBeside refuses account flags beside another source of accounts, and tells
// of variables that count for nothing there.
func (f *Account) notBeside(other string, logger log.Logger) error {
	for _, name := range slices.Sorted(maps.Keys(f.given)) {
		if *f.given[name] {
			return fmt.Errorf("%s cannot be used with %s; leave out one of them", name, other)
		}
	}
	ignored := slices.DeleteFunc(slices.Clone(f.variables), func(name string) bool { return os.Getenv(name) == "" })
	if len(ignored) > 0 {
		level.Warn(logger).Log("msg", "environment variables are ignored", "because_of", other, "variables", strings.Join(ignored, ","))
	}
	return nil
}

// finish makes an account of the flags.
func (f *Account) finish() (err error) {
	a := &f.account
	a.JobIDs = splitIDs(f.jobIDs)
	if f.discover {
		if f.discovery.Name, err = collector.NewRegexp(f.expression); err != nil {
			return fmt.Errorf("--cohere.discover.name: %w", err)
		}
		a.Discover = &f.discovery
	}
	for _, name := range []string{"max-age", "name", "max-jobs"} {
		if name = "--cohere.discover." + name; *f.given[name] && !f.discover {
			return errors.New(name + " needs --cohere.discover")
		}
	}
	if len(a.JobIDs) == 0 && !f.discover {
		return errors.New("nothing to watch: set --cohere.job-id (or COHERE_JOB_IDS), or --cohere.discover, or try --demo")
	}
	if err := a.Validate(); err != nil {
		return err
	}
	a.HTTPClientConfig.Authorization = &config.Authorization{CredentialsFile: f.keyFile}
	if f.keyFile != "" {
		_, err := client.KeyFile(f.keyFile)()
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err // without the path: it could be the key
		}
		if err != nil {
			return fmt.Errorf("--cohere.api-key-file: %w; name a file that holds the API key in one line", err)
		}
		return nil
	}
	key := os.Getenv(keyVariable)
	if key == "" {
		return fmt.Errorf("no API key: set --cohere.api-key-file or %s", keyVariable)
	}
	if _, err := client.StaticKey(key)(); err != nil {
		return fmt.Errorf("%s %w; set it to the API key, or set --cohere.api-key-file", keyVariable, err)
	}
	a.HTTPClientConfig.Authorization.Credentials = config.Secret(key)
	return nil
}

// splitIDs takes lists of job IDs apart.
func splitIDs(lists []string) (ids []string) {
	for _, list := range lists {
		ids = append(ids, strings.FieldsFunc(list, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })...)
	}
	return ids
}

// Duration is the value of a flag in Prometheus's format, which knows days.
func Duration(flag *kingpin.FlagClause) *model.Duration {
	var d model.Duration
	flag.SetValue(&d)
	return &d
}

// NameErrors makes the errors of all flags tell which flag they are about, and
// what it takes.
func NameErrors(app *kingpin.Application) {
	for _, flag := range app.Model().Flags {
		named := namedValue{flag.Value, flag.Name}
		switch flag.Value.(type) {
		case interface{ IsBoolFlag() bool }:
			app.GetFlag(flag.Name).SetValue(namedBool{named})
		case interface{ IsCumulative() bool }: // takes any text
		default:
			app.GetFlag(flag.Name).SetValue(named)
		}
	}
}

type namedValue struct {
	kingpin.Value
	name string
}

func (v namedValue) Set(s string) error {
	err := v.Value.Set(s)
	takes := ""
	switch value := v.Value.(type) {
	case *model.Duration:
		takes = "a duration such as 30s, 5m or 7d"
	case kingpin.Getter:
		switch value.Get().(type) {
		case int:
			takes = "a whole number"
			_, err = strconv.Atoi(s) // kingpin would cut 1.5 to 1
		case float64:
			takes = "a number"
		case bool:
			takes = "true or false"
		}
	}
	switch {
	case err == nil:
		return nil
	case takes == "":
		return fmt.Errorf("--%s: %w", v.name, err)
	}
	return fmt.Errorf("--%s takes %s, not %q", v.name, takes, s)
}

type namedBool struct{ namedValue }

func (namedBool) IsBoolFlag() bool { return true }
