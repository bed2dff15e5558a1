package collector

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// Config says what to watch: one account without a name, from flags, or any
// number of named ones, from a file.
type Config struct {
	Accounts []AccountConfig `yaml:"accounts"`

	// FromFile makes the name of the account a label of every series.
	FromFile bool `yaml:"-"`
}

// AccountConfig is one API key and what to watch with it. Start from
// DefaultAccountConfig.
type AccountConfig struct {
	Name                  string                  `yaml:"name"`
	HTTPClientConfig      config.HTTPClientConfig `yaml:"http_client_config"`
	JobIDs                []string                `yaml:"job_ids,omitempty"`
	JobIDFiles            []string                `yaml:"job_id_files,omitempty"`
	Discover              *Discover               `yaml:"discover,omitempty"`
	BaseURL               string                  `yaml:"base_url"`
	ClientName            string                  `yaml:"client_name"`
	Fetch                 string                  `yaml:"fetch,omitempty"` // FetchGet or FetchList; "" is get, or list with discovery
	Timeout               model.Duration          `yaml:"timeout"`
	MaxConcurrentRequests int                     `yaml:"max_concurrent_requests"`
	RequestsPerMinute     float64                 `yaml:"requests_per_minute"` // 0: no limit
	RefreshInterval       model.Duration          `yaml:"refresh_interval"`
	SettledInterval       model.Duration          `yaml:"settled_interval"`
	MaxStaleness          model.Duration          `yaml:"max_staleness"`
}

// Discover is which of the jobs that the list shows to watch.
type Discover struct {
	MaxAge  model.Duration `yaml:"max_age"`  // by creation time
	Name    Regexp         `yaml:"name"`     // anchored
	MaxJobs int            `yaml:"max_jobs"` // the newest
}

// The ways to fetch.
const (
	FetchGet  = "get"  // one request for each job
	FetchList = "list" // one for all
)

// DefaultAccountConfig has the defaults of the flags.
func DefaultAccountConfig() AccountConfig {
	return AccountConfig{
		HTTPClientConfig:      config.HTTPClientConfig{EnableHTTP2: true},
		BaseURL:               "https://api.cohere.com",
		ClientName:            "cohere_exporter",
		Timeout:               model.Duration(10 * time.Second),
		MaxConcurrentRequests: 20,
		MaxStaleness:          model.Duration(5 * time.Minute),
	}
}

// DefaultDiscover has the defaults of the flags.
func DefaultDiscover() Discover {
	return Discover{
		MaxAge:  model.Duration(7 * 24 * time.Hour),
		Name:    MustRegexp(".*"),
		MaxJobs: 500,
	}
}

func (c *AccountConfig) policy() policy {
	return policy{
		refresh:   time.Duration(c.RefreshInterval),
		settled:   time.Duration(c.SettledInterval),
		staleness: time.Duration(c.MaxStaleness),
		list:      c.list(),
		discover:  c.Discover != nil,
		units:     c.MaxConcurrentRequests,
	}
}

// list tells whether one request fetches all jobs.
func (c *AccountConfig) list() bool {
	return c.Fetch == FetchList || c.Fetch == "" && c.Discover != nil
}

// httpClient returns what authenticates with the account's key. It does not
// follow redirects, which would carry the key away, and takes proxies from the
// environment unless one is set. dial, if not nil, takes the place of the
// network.
func (c *AccountConfig) httpClient(dial config.DialContextFunc) (*http.Client, error) {
	cfg := c.HTTPClientConfig
	authorization := cfg.Authorization
	cfg.Authorization = nil // sent by the client, which refuses to send an empty one
	cfg.FollowRedirects = false
	if cfg.ProxyURL.URL == nil && cfg.NoProxy == "" {
		cfg.ProxyFromEnvironment = true
	}
	var opts []config.HTTPClientOption
	if dial != nil {
		opts = append(opts, config.WithDialContextFunc(dial))
	}
	hc, err := config.NewClientFromConfig(cfg, "cohere", opts...)
	if err != nil {
		return nil, err
	}
	if authorization != nil {
		key := client.StaticKey(string(authorization.Credentials))
		if authorization.CredentialsFile != "" {
			key = client.KeyFile(authorization.CredentialsFile)
		}
		scheme := authorization.Type
		if scheme == "" {
			scheme = "Bearer"
		}
		hc.Transport = client.Authorize(scheme, key, hc.Transport)
	}
	return hc, nil
}

// sameAPI tells whether other speaks to the same API with the same key, so that
// what was learned from it still holds.
func (c *AccountConfig) sameAPI(other *AccountConfig) bool {
	return c.BaseURL == other.BaseURL &&
		reflect.DeepEqual(c.HTTPClientConfig.Authorization, other.HTTPClientConfig.Authorization)
}

// sameClient tells whether other asks in the same way, too.
func (c *AccountConfig) sameClient(other *AccountConfig) bool {
	return c.sameAPI(other) && c.ClientName == other.ClientName &&
		reflect.DeepEqual(c.HTTPClientConfig, other.HTTPClientConfig)
}

// setting names a setting the way the user wrote it: base-url is
// --cohere.base-url or base_url.
func (c *AccountConfig) setting(name string) string {
	if c.Name == "" {
		return "--cohere." + name
	}
	return strings.ReplaceAll(name, "-", "_")
}

// Validate says what keeps the account from being watched, naming the flag or
// key and the remedy.
func (c *AccountConfig) Validate() error {
	if _, err := c.baseURL(); err != nil {
		return err
	}
	for _, id := range c.JobIDs {
		if err := client.CheckID(id); err != nil {
			return fmt.Errorf("%s: %w", c.setting("job-id"), err)
		}
	}
	switch {
	case c.MaxConcurrentRequests < 1:
		return errors.New(c.setting("max-concurrent-requests") + " must be at least 1")
	case c.RequestsPerMinute != 0 && !(c.RequestsPerMinute >= 1e-6 && c.RequestsPerMinute <= 1e6): // NaN is neither
		return errors.New(c.setting("requests-per-minute") + " must be between 0.000001 and 1000000, or 0 for no limit")
	case c.Timeout <= 0:
		return errors.New(c.setting("timeout") + " must be longer than 0s")
	case c.Fetch != "" && c.Fetch != FetchGet && c.Fetch != FetchList:
		return fmt.Errorf("%s is %q; it must be get or list", c.setting("fetch"), c.Fetch)
	case strings.ContainsFunc(c.ClientName, unicode.IsControl):
		return errors.New(c.setting("client-name") + " must not hold control characters; it is sent as a header")
	case c.Discover != nil && c.Discover.MaxAge <= 0:
		return errors.New(c.setting("discover.max-age") + " must be longer than 0s")
	case c.Discover != nil && c.Discover.MaxJobs < 1:
		return errors.New(c.setting("discover.max-jobs") + " must be at least 1")
	}
	return nil
}

func (c *AccountConfig) baseURL() (*url.URL, error) {
	u, err := client.ParseBaseURL(c.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.setting("base-url"), err)
	}
	return u, nil
}
