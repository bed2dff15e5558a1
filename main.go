// cohere_exporter lets Prometheus watch Cohere embed jobs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/alecthomas/kingpin/v2"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"
	slogkit "github.com/tjhop/slog-gokit"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector"
	"github.com/cohere-exporter/cohere_exporter/collector/web"
)

// keyVariable holds the API key itself. It is the one that Cohere's SDKs use,
// and there is no flag for it: flags show in the list of processes.
const keyVariable = "CO_API_KEY"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cohere_exporter: error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if version.Version == "" {
		version.Version = "devel" // not set by the linker
	}
	var (
		app = kingpin.New("cohere_exporter", "Prometheus exporter for Cohere embed jobs: their status and billed tokens.")

		account = newAccountFlags(app)

		configFile  = app.Flag("config.file", "YAML file with accounts, job files and discovery, instead of the --cohere flags.").PlaceHolder("FILE").Envar("COHERE_EXPORTER_CONFIG_FILE").String()
		configCheck = app.Flag("config.check", "Check the configuration, print the plan of API requests, and exit. Asks the API nothing.").Bool()
		once        = app.Flag("once", "Print one scrape and exit; with status 1 if anything is not up.").Bool()
		demo        = app.Flag("demo", "Watch the jobs of a built-in simulated API. Needs no key and no network.").Bool()

		toolkitFlags    = kingpinflag.AddFlags(app, ":10110")
		metricsPath     = app.Flag("web.telemetry-path", "Path of the metrics.").Default("/metrics").String()
		timeoutOffset   = duration(app.Flag("web.timeout-offset", "Kept back from Prometheus's scrape timeout to answer in time.").Default("500ms"))
		enableLifecycle = app.Flag("web.enable-lifecycle", "Allow to reload the configuration file by POST /-/reload.").Bool()

		logLevel  = app.Flag("log.level", "Least severe level to log: debug, info, warn or error.").Default("info").Enum("debug", "info", "warn", "error")
		logFormat = app.Flag("log.format", "Format of the log: logfmt or json.").Default("logfmt").Enum("logfmt", "json")
	)
	nameErrors(app)
	app.UsageWriter(os.Stdout)
	app.HelpFlag.Short('h')
	app.Version(version.Print("cohere_exporter"))
	if _, err := app.Parse(args); err != nil {
		return fmt.Errorf("%w; see --help", err)
	}
	logger, slogger := newLogger(os.Stderr, *logLevel, *logFormat)

	if err := web.CheckMetricsPath(*metricsPath); err != nil {
		return fmt.Errorf("--web.telemetry-path: %w", err)
	}
	if err := toolkit.Validate(*toolkitFlags.WebConfigFile); err != nil {
		return fmt.Errorf("--web.config.file: %w", err)
	}
	cfg, err := account.config(*configFile, *demo, logger)
	if err != nil {
		return err
	}
	if *configCheck {
		return cfg.Check(os.Stdout)
	}
	if *demo {
		server := startDemo(&cfg.Accounts[0], logger)
		defer server.Close()
	}

	own := prometheus.NewRegistry()
	own.MustRegister(
		versioncollector.NewCollector("cohere_exporter"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	set, err := collector.New(cfg, collector.Options{
		Logger:     logger,
		Registerer: own,
		UserAgent:  "cohere_exporter/" + version.Version,
	})
	if err != nil {
		return err
	}
	defer set.Close()
	if *once {
		return scrapeOnce(os.Stdout, set, own)
	}

	reloader := collector.NewReloader(*configFile, set, own, logger)
	options := web.Options{
		Set:           set,
		Own:           own,
		MetricsPath:   *metricsPath,
		TimeoutOffset: time.Duration(*timeoutOffset),
		Logger:        slogger,
	}
	if *enableLifecycle {
		options.Reload = reloader.Reload
	}
	handler, err := web.NewHandler(options)
	if err != nil {
		return err
	}
	return serve(handler, toolkitFlags, reloader, slogger)
}

// serve answers until SIGTERM or SIGINT, and then the scrapes under way.
func serve(handler http.Handler, flags *toolkit.FlagConfig, reloader *collector.Reloader, logger *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	started := sync.OnceFunc(func() { logger.Info("started cohere_exporter", "version", version.Info()) })
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { // there is one: errors before are all that is logged
			started()
			return context.Background()
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- toolkit.ListenAndServe(server, flags, logger) }()
	for {
		select {
		case <-hangup:
			_ = reloader.Reload() // it has logged what went wrong
		case err := <-ended:
			if *flags.WebSystemdSocket {
				return fmt.Errorf("--web.systemd-socket: %w", err)
			}
			return fmt.Errorf("--web.listen-address: %w; choose another", err)
		case <-ctx.Done():
			stop() // a second signal ends the process at once
			logger.Info("shutting down")
			return server.Shutdown(context.Background())
		}
	}
}

func newLogger(w io.Writer, lowest, format string) (log.Logger, *slog.Logger) {
	logger := log.NewLogfmtLogger(log.NewSyncWriter(w))
	if format == "json" {
		logger = log.NewJSONLogger(log.NewSyncWriter(w))
	}
	allowed := level.Allow(level.ParseDefault(lowest, level.InfoValue()))
	var slogLevel slog.Level
	_ = slogLevel.UnmarshalText([]byte(lowest)) // the names are the same
	slogger := slog.New(slogkit.NewGoKitHandler(level.NewFilter(logger, allowed), slogLevel)) // adds the time itself
	return level.NewFilter(log.With(logger, "time", log.DefaultTimestampUTC), allowed), slogger
}

// scrapeOnce prints one scrape. The error tells if anything is not up.
func scrapeOnce(w io.Writer, set *collector.Set, own *prometheus.Registry) error {
	families, err := web.Everything(context.Background(), set, own).Gather()
	if err != nil {
		return err
	}
	down := 0
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return err
		}
		for _, m := range family.Metric {
			switch family.GetName() {
			case "cohere_up", "cohere_list_up", "cohere_embed_job_up":
				if m.GetGauge().GetValue() == 0 {
					down++
				}
			}
		}
	}
	if down > 0 {
		return fmt.Errorf("%d of the series whose name ends in _up are 0; the fetch_error series tell why", down)
	}
	return nil
}

// startDemo starts the simulated API and has the account watch it.
func startDemo(account *collector.AccountConfig, logger log.Logger) *cohertest.Server {
	const key = "simulated-api-key"
	api := cohertest.New()
	ids := cohertest.Demo(api, key, time.Now())
	server := api.Start()
	account.BaseURL = server.URL
	account.HTTPClientConfig.Authorization = &config.Authorization{Credentials: key}
	if len(account.JobIDs) == 0 {
		account.JobIDs = ids
	}
	level.Info(logger).Log("msg", "simulated Cohere API", "url", server.URL, "api_key", key)
	return server
}

// accountFlags are the flags of the one account that needs no file.
type accountFlags struct {
	account    collector.AccountConfig
	jobIDs     []string
	keyFile    string
	discover   bool
	discovery  collector.Discover
	expression string

	given     map[string]*bool // which flags were
	variables []string         // that set flags, and the key
}

func newAccountFlags(app *kingpin.Application) *accountFlags {
	f := &accountFlags{
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

// config returns the configuration of flags and environment, or that of file.
func (f *accountFlags) config(file string, demo bool, logger log.Logger) (*collector.Config, error) {
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
func (f *accountFlags) notBeside(other string, logger log.Logger) error {
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
func (f *accountFlags) finish() (err error) {
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

// duration is the value of a flag in Prometheus's format, which knows days.
func duration(flag *kingpin.FlagClause) *model.Duration {
	var d model.Duration
	flag.SetValue(&d)
	return &d
}

// nameErrors makes the errors of all flags tell which flag they are about, and
// what it takes.
func nameErrors(app *kingpin.Application) {
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
