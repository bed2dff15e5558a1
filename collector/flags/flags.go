// Package flags is the command line of cohere_exporter as far as it says what
// to watch.
package flags

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	promconfig "github.com/prometheus/common/config"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// keyVariable holds the API key itself. It is the one that Cohere's SDKs use,
// and there is no flag for it: flags show in the list of processes.
const keyVariable = "CO_API_KEY"

// Account is the flags of the one account that needs no file.
type Account struct {
	account    config.Account
	jobs       config.Jobs // of every kind, but for IDs and discovery
	ids        map[string]*[]string
	keyFile    string
	discover   []string // kinds
	discovery  config.Discover
	expression string

	given     map[string]*bool // which flags were, by name without --cohere.
	variables []string         // that set flags, and the key
}

// Add adds the flags of an account.
func Add(app *kingpin.Application) *Account {
	f := &Account{
		account:   config.Default(),
		jobs:      config.DefaultJobs(),
		ids:       map[string]*[]string{},
		discovery: config.DefaultDiscover(),
		given:     map[string]*bool{},
	}
	flag := func(name, help string) *kingpin.FlagClause {
		f.given[name] = new(bool)
		return app.Flag("cohere."+name, help).IsSetByUser(f.given[name])
	}
	a, j, d := &f.account, &f.jobs, &f.discovery
	for _, kind := range config.Kinds {
		f.variables = append(f.variables, kind.IDVariable)
		f.ids[kind.Name] = flag(kind.IDFlag, "IDs of "+strings.ReplaceAll(kind.Name, "_", " ")+" to fetch. Repeatable, and each value may be a list, separated by commas or white space.").PlaceHolder("ID").Envar(kind.IDVariable).Strings()
	}
	f.variables = append(f.variables, "COHERE_API_KEY_FILE", keyVariable, "CO_API_URL", "COHERE_DISCOVER")
	flag("api-key-file", "File with the API key. A changed file is used at the next request. The key itself may be in "+keyVariable+".").PlaceHolder("FILE").Envar("COHERE_API_KEY_FILE").StringVar(&f.keyFile)
	flag("base-url", "Where the API is.").Envar("CO_API_URL").Default(a.BaseURL).StringVar(&a.BaseURL)
	flag("client-name", "Sent as X-Client-Name.").Default(a.ClientName).StringVar(&a.ClientName)
	flag("timeout", "Limit of one API request.").Default(a.Timeout.String()).SetValue(&a.Timeout)
	flag("max-concurrent-requests", "API requests in flight at once, for each kind of jobs.").Default(strconv.Itoa(j.MaxConcurrentRequests)).IntVar(&j.MaxConcurrentRequests)
	flag("requests-per-minute", "Budget of API requests in any minute, for each kind of jobs; 0 sets no limit.").Default(strconv.FormatFloat(j.RequestsPerMinute, 'f', -1, 64)).Float64Var(&j.RequestsPerMinute)
	flag("refresh-interval", "A job fetched less than this ago is not fetched again. Set it a little below the scrape interval.").Default(j.RefreshInterval.String()).SetValue(&j.RefreshInterval)
	flag("settled-interval", "The same for jobs that have come to their end, where it is the longer of the two.").Default(j.SettledInterval.String()).SetValue(&j.SettledInterval)
	flag("max-staleness", "How far beyond its interval an active job's last known values are served.").Default(j.MaxStaleness.String()).SetValue(&j.MaxStaleness)
	flag("fetch", "One request for each job (get), or one for all (list). With discovery list is the default.").PlaceHolder("get|list").EnumVar(&j.Fetch, config.FetchGet, config.FetchList)
	flag("discover", "Also watch every job of that kind that the API lists, within the next three bounds: "+strings.Join(kindWords(), " or ")+". Repeatable, and each value may be a list.").PlaceHolder("KIND").Envar("COHERE_DISCOVER").StringsVar(&f.discover)
	flag("discover.max-age", "By creation time.").Default("7d").SetValue(&d.MaxAge)
	flag("discover.name", "Anchored RE2, as in Prometheus.").Default(d.Name.String()).StringVar(&f.expression)
	flag("discover.max-jobs", "Of each kind, the newest; the rest are counted in metrics whose names end in _dropped.").Default(strconv.Itoa(d.MaxJobs)).IntVar(&d.MaxJobs)
	return f
}

// kindWords are the values of --cohere.discover.
func kindWords() (words []string) {
	for _, kind := range config.Kinds {
		words = append(words, kind.Word())
	}
	return words
}

// Config returns the configuration of flags and environment, or that of file, or
// one for the demonstration, which lacks the address, the key and, unless they
// were given, the jobs.
func (f *Account) Config(file string, demo bool, logger log.Logger) (*config.Config, error) {
	switch {
	case demo && file != "":
		return nil, errors.New("--demo watches its own account; leave out --config.file and COHERE_EXPORTER_CONFIG_FILE")
	case demo:
		if err := f.alone("--demo", logger, "job-id", "batch-id", "max-concurrent-requests", "requests-per-minute",
			"refresh-interval", "settled-interval", "max-staleness", "fetch"); err != nil {
			return nil, err
		}
		f.account.BaseURL = config.Default().BaseURL // without CO_API_URL
		f.discover = nil
	case file != "":
		if err := f.alone("--config.file", logger); err != nil {
			return nil, err
		}
		cfg, err := config.LoadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--config.file: %w", err)
		}
		return cfg, nil
	}
	if err := f.watch(demo); err != nil {
		return nil, err
	}
	if !demo {
		if err := f.authorize(); err != nil {
			return nil, err
		}
	}
	return &config.Config{Accounts: []config.Account{f.account}}, nil
}

// alone refuses account flags, but for some, beside another source of accounts,
// and warns of variables that count for nothing there.
func (f *Account) alone(other string, logger log.Logger, but ...string) error {
	for _, name := range slices.Sorted(maps.Keys(f.given)) {
		if *f.given[name] && !slices.Contains(but, name) {
			return fmt.Errorf("--cohere.%s cannot be used with %s; leave out one of them", name, other)
		}
	}
	for _, kind := range config.Kinds { // from the environment
		if !*f.given[kind.IDFlag] {
			*f.ids[kind.Name] = nil
		}
	}
	ignored := slices.DeleteFunc(slices.Clone(f.variables), func(name string) bool { return os.Getenv(name) == "" })
	if len(ignored) > 0 {
		level.Warn(logger).Log("msg", "environment variables are ignored", "because_of", other, "variables", strings.Join(ignored, ","))
	}
	return nil
}

// watch adds what to watch to the account.
func (f *Account) watch(demo bool) (err error) {
	discover := client.SplitIDs(f.discover...)
	for _, word := range discover {
		if kinds := kindWords(); !slices.Contains(kinds, word) {
			return fmt.Errorf("--cohere.discover: %q is no kind of jobs; it takes %s", word, strings.Join(kinds, " or "))
		}
	}
	for _, name := range []string{"max-age", "name", "max-jobs"} {
		if name = "discover." + name; *f.given[name] && len(discover) == 0 {
			return fmt.Errorf("--cohere.%s needs --cohere.discover", name)
		}
	}
	if f.discovery.Name, err = config.NewRegexp(f.expression); err != nil {
		return fmt.Errorf("--cohere.discover.name: %w", err)
	}
	ids, given := map[string][]string{}, false
	for _, kind := range config.Kinds {
		ids[kind.Name] = client.SplitIDs(*f.ids[kind.Name]...)
		given = given || len(ids[kind.Name]) > 0
	}
	watched := false
	for _, kind := range config.Kinds {
		jobs := f.jobs
		jobs.IDs = ids[kind.Name]
		if slices.Contains(discover, kind.Word()) {
			jobs.Discover = &f.discovery
		}
		if len(jobs.IDs) > 0 || jobs.Discover != nil || demo && !given {
			kind.Watch(&f.account, &jobs)
			watched = true
		}
	}
	if !watched {
		return errors.New("nothing to watch: set --cohere.job-id, --cohere.batch-id or --cohere.discover, or try --demo")
	}
	return f.account.Validate()
}

// authorize adds the key to the account.
func (f *Account) authorize() error {
	a := &f.account
	a.HTTPClientConfig.Authorization = &promconfig.Authorization{CredentialsFile: f.keyFile}
	if f.keyFile != "" {
		return a.KeyProblem()
	}
	key := os.Getenv(keyVariable)
	if key == "" {
		return fmt.Errorf("no API key: set --cohere.api-key-file or %s", keyVariable)
	}
	if _, err := client.StaticKey(key)(); err != nil {
		return fmt.Errorf("%s %w; set it to the API key, or set --cohere.api-key-file", keyVariable, err)
	}
	a.HTTPClientConfig.Authorization.Credentials = promconfig.Secret(key)
	return nil
}
