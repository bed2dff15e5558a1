// Package config says what to watch: accounts, each with its kinds of jobs.
// It has the types, their defaults and their validation, and reads them from a
// file.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"time"
	"unicode"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// DefaultRequestsPerMinute leaves a production key 10 of its 50 requests.
const DefaultRequestsPerMinute = 40

// Config is one account without a name, from flags, or any number of named
// ones, from a file.
type Config struct {
	Accounts []Account `yaml:"accounts"`

	// FromFile makes the name of the account a label of every series.
	FromFile bool `yaml:"-"`
}

// Account is one API key and what to watch with it. Start from Default.
type Account struct {
	Name             string                      `yaml:"name"`
	HTTPClientConfig promconfig.HTTPClientConfig `yaml:"-"` // see inFile
	BaseURL          string                      `yaml:"base_url"`
	ClientName       string                      `yaml:"client_name"` // sent as X-Client-Name
	Timeout          model.Duration              `yaml:"timeout"`     // of one request

	EmbedJobs *Jobs `yaml:"embed_jobs,omitempty"` // nil: not watched
	Batches   *Jobs `yaml:"batches,omitempty"`
}

// Kind is a kind of jobs.
type Kind struct {
	Name       string // its key in the file, and the label resource
	IDFlag     string // the flag that its IDs come from
	IDVariable string // the same from the environment

	of func(*Account) **Jobs
}

// Kinds are all kinds that an account may watch.
var Kinds = []Kind{
	{"embed_jobs", "job-id", "COHERE_JOB_IDS", func(a *Account) **Jobs { return &a.EmbedJobs }},
	{"batches", "batch-id", "COHERE_BATCH_IDS", func(a *Account) **Jobs { return &a.Batches }},
}

// Jobs returns what the account watches of the kind, nil if that is nothing.
func (k Kind) Jobs(a *Account) *Jobs { return *k.of(a) }

// Watch has the account watch jobs of the kind.
func (k Kind) Watch(a *Account, jobs *Jobs) { *k.of(a) = jobs }

// Word is the kind's name on the command line: embed-jobs.
func (k Kind) Word() string { return strings.ReplaceAll(k.Name, "_", "-") }

// Jobs is what to watch of one kind, and how. Start from DefaultJobs.
type Jobs struct {
	IDs                   []string       `yaml:"ids,omitempty"`
	IDFiles               []string       `yaml:"id_files,omitempty"` // paths or patterns
	Discover              *Discover      `yaml:"discover,omitempty"` // nil: only those above
	Fetch                 string         `yaml:"fetch,omitempty"`    // FetchGet, FetchList, or "": see List
	MaxConcurrentRequests int            `yaml:"max_concurrent_requests"`
	RequestsPerMinute     float64        `yaml:"requests_per_minute"` // 0: no limit
	RefreshInterval       model.Duration `yaml:"refresh_interval"`
	SettledInterval       model.Duration `yaml:"settled_interval"`
	MaxStaleness          model.Duration `yaml:"max_staleness"`
}

// The ways to fetch.
const (
	FetchGet  = "get"  // one request for each job
	FetchList = "list" // one for all
)

// Discover is which of the jobs that the API lists to watch. Start from
// DefaultDiscover.
type Discover struct {
	MaxAge  model.Duration `yaml:"max_age"`  // by creation time
	Name    Regexp         `yaml:"name"`     // anchored
	MaxJobs int            `yaml:"max_jobs"` // the newest
}

// Default returns an account with the defaults of flags and file. It watches
// nothing yet.
func Default() Account {
	return Account{
		HTTPClientConfig: promconfig.HTTPClientConfig{EnableHTTP2: true},
		BaseURL:          "https://api.cohere.com",
		ClientName:       "cohere_exporter",
		Timeout:          model.Duration(10 * time.Second),
	}
}

// DefaultJobs returns the defaults for one kind.
func DefaultJobs() Jobs {
	return Jobs{
		MaxConcurrentRequests: 20,
		RequestsPerMinute:     DefaultRequestsPerMinute,
		MaxStaleness:          model.Duration(5 * time.Minute),
	}
}

// DefaultDiscover returns the defaults for discovery.
func DefaultDiscover() Discover {
	return Discover{
		MaxAge:  model.Duration(7 * 24 * time.Hour),
		Name:    MustRegexp(".*"),
		MaxJobs: 500,
	}
}

// List reports whether one request fetches all jobs. That is the default with
// discovery.
func (j *Jobs) List() bool {
	return j.Fetch == FetchList || j.Fetch == "" && j.Discover != nil
}

// ParseBaseURL returns the address of the API.
func (a *Account) ParseBaseURL() (*url.URL, error) {
	u, err := client.ParseBaseURL(a.BaseURL)
	if err != nil {
		return nil, a.mistake("base_url", "%w", err)
	}
	return u, nil
}

// Transport returns what authenticates requests with the account's key and sends
// them. It takes proxies from the environment unless one is set. dial, if not
// nil, replaces the network.
func (a *Account) Transport(dial promconfig.DialContextFunc) (http.RoundTripper, error) {
	cfg := a.HTTPClientConfig
	authorization := cfg.Authorization
	cfg.Authorization = nil // sent by client.Authorize, which refuses to send an empty one
	if cfg.ProxyURL.URL == nil && cfg.NoProxy == "" {
		cfg.ProxyFromEnvironment = true
	}
	transport, err := promconfig.NewRoundTripperFromConfig(cfg, "cohere", promconfig.WithDialContextFunc(dial))
	if err != nil || authorization == nil {
		return transport, err
	}
	key := client.StaticKey(string(authorization.Credentials))
	if authorization.CredentialsFile != "" {
		key = client.KeyFile(authorization.CredentialsFile)
	}
	return client.Authorize(cmp.Or(authorization.Type, "Bearer"), key, transport), nil
}

// SameAPI reports whether other uses the same API with the same key, so that
// what was learned from it still holds.
func (a *Account) SameAPI(other *Account) bool {
	return a.BaseURL == other.BaseURL &&
		reflect.DeepEqual(a.HTTPClientConfig.Authorization, other.HTTPClientConfig.Authorization)
}

// SameClient reports whether other also sends its requests in the same way.
func (a *Account) SameClient(other *Account) bool {
	return a.SameAPI(other) && a.ClientName == other.ClientName &&
		reflect.DeepEqual(a.HTTPClientConfig, other.HTTPClientConfig)
}

// keyFile is the key of the file that holds the API key.
const keyFile = "http_client_config.authorization.credentials_file"

// Setting names a setting the way the user wrote it: embed_jobs.max_staleness,
// its key within the account, or --cohere.max-staleness.
func (a *Account) Setting(key string) string {
	if a.Name != "" {
		return key
	}
	if key == keyFile {
		return "--cohere.api-key-file"
	}
	for _, kind := range Kinds {
		if rest, ok := strings.CutPrefix(key, kind.Name+"."); ok {
			key = rest
			if strings.HasPrefix(rest, "ids") {
				key = kind.IDFlag
			}
		}
	}
	return "--cohere." + strings.ReplaceAll(key, "_", "-")
}

// settingError is a setting that cannot be used, and why.
type settingError struct {
	account *Account
	key     string // within the account, such as embed_jobs.ids[0]
	err     error
}

func (e *settingError) Error() string { return e.account.Setting(e.key) + ": " + e.err.Error() }
func (e *settingError) Unwrap() error { return e.err }

func (a *Account) mistake(key, format string, args ...any) error {
	return &settingError{a, key, fmt.Errorf(format, args...)}
}

// KeyProblem says why the file with the API key cannot be used at present, or
// nil. That need not be for long: it is read anew for every request.
func (a *Account) KeyProblem() error {
	authorization := a.HTTPClientConfig.Authorization
	if authorization == nil || authorization.CredentialsFile == "" {
		return nil
	}
	_, err := client.KeyFile(authorization.CredentialsFile)()
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err // without the path: it could be the key
	}
	if err != nil {
		return a.mistake(keyFile, "%w; name a file that holds the API key in one line", err)
	}
	return nil
}

// Validate says what keeps the account from being watched, naming the flag or
// key and the remedy. It looks at no file, and not at HTTPClientConfig.
func (a *Account) Validate() error {
	if _, err := a.ParseBaseURL(); err != nil {
		return err
	}
	switch {
	case a.Timeout <= 0:
		return a.mistake("timeout", "must be longer than 0s")
	case strings.ContainsFunc(a.ClientName, unicode.IsControl):
		return a.mistake("client_name", "must not hold control characters; it is sent as a header")
	}
	for _, kind := range Kinds {
		if j := kind.Jobs(a); j != nil {
			if key, err := j.problem(); err != nil {
				return a.mistake(kind.Name+"."+key, "%w", err)
			}
		}
	}
	return nil
}

// problem returns the key of a setting that cannot be used, and why.
func (j *Jobs) problem() (key string, err error) {
	for i, id := range j.IDs {
		if err := client.CheckID(id); err != nil {
			return fmt.Sprintf("ids[%d]", i), err
		}
	}
	for i, pattern := range j.IDFiles {
		if _, err := filepath.Match(pattern, ""); err != nil || pattern == "" {
			return fmt.Sprintf("id_files[%d]", i), fmt.Errorf("%q is not a path or pattern; see https://pkg.go.dev/path/filepath#Match", pattern)
		}
	}
	switch {
	case j.Fetch != "" && j.Fetch != FetchGet && j.Fetch != FetchList:
		return "fetch", fmt.Errorf("must be get or list, not %q", j.Fetch)
	case j.MaxConcurrentRequests < 1:
		return "max_concurrent_requests", errors.New("must be at least 1")
	case j.RequestsPerMinute != 0 && !(j.RequestsPerMinute >= 1e-6 && j.RequestsPerMinute <= 1e6): // NaN is neither
		return "requests_per_minute", errors.New("must be between 0.000001 and 1000000, or 0 for no limit")
	case j.Discover != nil && j.Discover.MaxAge <= 0:
		return "discover.max_age", errors.New("must be longer than 0s")
	case j.Discover != nil && j.Discover.MaxJobs < 1:
		return "discover.max_jobs", errors.New("must be at least 1")
	}
	return "", nil
}

// Equal reports whether the same is discovered.
func (d *Discover) Equal(other *Discover) bool {
	return reflect.DeepEqual(d, other)
}
