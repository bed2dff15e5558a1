// cohere_exporter lets Prometheus watch Cohere's embed jobs and batches.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/flags"
	"github.com/cohere-exporter/cohere_exporter/collector/logging"
	"github.com/cohere-exporter/cohere_exporter/collector/web"
)

// After SIGTERM scrapes in flight have this long to end, and all answers this
// long to be written: the process ends within 20 s.
const (
	scrapeGrace     = 8 * time.Second
	shutdownTimeout = 18 * time.Second
)

func main() {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // from the first moment on: unasked for, it would end the process
	signal.Ignore(syscall.SIGPIPE)        // the log's reader may leave; that is a failed write
	if run(os.Args[1:], hangup) != nil {
		os.Exit(1)
	}
}

// run says by itself what is wrong.
func run(args []string, hangup <-chan os.Signal) (err error) {
	if version.Version == "" {
		version.Version = "devel" // not set by the linker
	}
	var (
		app = kingpin.New("cohere_exporter", "Prometheus exporter for Cohere's embed jobs and batches: their status and billed tokens.")

		account = flags.Add(app)

		configFile  = app.Flag("config.file", "YAML file with accounts, job files and discovery, instead of the --cohere flags.").PlaceHolder("FILE").Envar("COHERE_EXPORTER_CONFIG_FILE").String()
		configCheck = app.Flag("config.check", "Check the configuration, print the plan of API requests, and exit. Asks the API nothing.").Bool()
		once        = app.Flag("once", "Fetch everything once, as fast as the budget allows, print it and exit; with status 1 if anything is not up.").Bool()
		demo        = app.Flag("demo", "Watch the jobs of a built-in simulated API. Needs no key and no network.").Bool()

		toolkitFlags    = kingpinflag.AddFlags(app, ":10110")
		metricsPath     = app.Flag("web.telemetry-path", "Path of the metrics.").Default("/metrics").String()
		timeoutOffset   = flags.Duration(app.Flag("web.timeout-offset", "Kept back from Prometheus's scrape timeout to answer in time.").Default("500ms"))
		enableLifecycle = app.Flag("web.enable-lifecycle", "Allow to reload the configuration file by POST /-/reload.").Bool()

		logLevel  = app.Flag("log.level", "Least severe level to log: debug, info, warn or error.").Default("info").Enum("debug", "info", "warn", "error")
		logFormat = app.Flag("log.format", "Format of the log: logfmt or json.").Default("logfmt").Enum("logfmt", "json")
	)
	app.UsageWriter(os.Stdout)
	app.HelpFlag.Short('h')
	app.Version(version.Print("cohere_exporter"))
	if err := flags.Parse(app, args); err != nil {
		fmt.Fprintf(os.Stderr, "cohere_exporter: error: %v; see --help\n", err)
		return err
	}
	lines := logging.NewQueue(os.Stderr)
	defer lines.Close()
	logger := logging.New(lines, *logLevel, *logFormat)
	slogger := slog.New(logging.Handler(logger))
	logging.Capture(logger)
	defer func() {
		if err != nil {
			level.Error(logger).Log("msg", "exiting", "err", err)
		}
	}()

	if err := web.CheckMetricsPath(*metricsPath); err != nil {
		return fmt.Errorf("--web.telemetry-path: %w", err)
	}
	if err := toolkit.Validate(*toolkitFlags.WebConfigFile); err != nil {
		return fmt.Errorf("--web.config.file: %w", err)
	}
	cfg, err := account.Config(*configFile, *demo, logger)
	if err != nil {
		return err
	}
	if *demo {
		server := startDemo(&cfg.Accounts[0], logger)
		defer server.Close()
	}
	if *configCheck {
		return collector.Check(os.Stdout, cfg)
	}

	own := prometheus.NewRegistry()
	own.MustRegister(
		versioncollector.NewCollector("cohere_exporter"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		lines.Dropped,
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
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		return scrapeOnce(ctx, os.Stdout, set, own)
	}

	reloader := collector.NewReloader(*configFile, set, own, logger)
	ending, endScrapes := context.WithCancel(context.Background())
	defer endScrapes()
	options := web.Options{
		Set:           set,
		Own:           own,
		MetricsPath:   *metricsPath,
		TimeoutOffset: time.Duration(*timeoutOffset),
		Logger:        slogger,
		Ending:        ending,
	}
	if *enableLifecycle {
		options.Reload = reloader.Reload
	}
	handler, err := web.NewHandler(options)
	if err != nil {
		return err
	}
	go reloader.Run(ending, hangup)
	return serve(handler, toolkitFlags, endScrapes, slogger)
}

// serve answers until SIGTERM or SIGINT, and then the scrapes in flight.
func serve(handler http.Handler, listen *toolkit.FlagConfig, endScrapes func(), logger *slog.Logger) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	started := sync.OnceFunc(func() { logger.Info("started cohere_exporter", "version", version.Info()) })
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      web.WriteTimeout,
		MaxHeaderBytes:    web.MaxHeaderBytes,
		IdleTimeout:       45 * time.Second, // a client that left its answer unread in its buffers looks idle
		HTTP2:             &http.HTTP2Config{WriteByteTimeout: web.WriteTimeout},
		BaseContext: func(net.Listener) context.Context { // there is one: errors before are all that is logged
			started()
			return context.Background()
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- toolkit.ListenAndServe(server, listen, logger) }()
	select {
	case err := <-ended:
		if *listen.WebSystemdSocket {
			return fmt.Errorf("--web.systemd-socket: %w; leave it out, or have systemd pass sockets", err)
		}
		return fmt.Errorf("--web.listen-address: %w; choose another", err)
	case <-ctx.Done():
	}
	stop() // a second signal ends the process at once
	logger.Info("shutting down")
	time.AfterFunc(scrapeGrace, endScrapes)
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close() // who has not taken its answer by now will not
	}
	return nil
}

// scrapeOnce prints everything but what is about the process itself, in one
// pass. The error says whether anything is not up.
func scrapeOnce(ctx context.Context, w io.Writer, set *collector.Set, own *prometheus.Registry) error {
	families, err := web.Everything(set.Patient(ctx), own).Gather()
	if err != nil {
		return err
	}
	down := 0
	for _, family := range families {
		switch prefix, _, _ := strings.Cut(family.GetName(), "_"); prefix {
		case "go", "process", "promhttp":
			continue
		}
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return err
		}
		for _, m := range family.Metric {
			if strings.HasSuffix(family.GetName(), "_up") && m.GetGauge().GetValue() == 0 {
				down++
			}
		}
	}
	if down > 0 {
		return fmt.Errorf("%d of the series whose name ends in _up are 0; the fetch_error series tell why", down)
	}
	return nil
}

// startDemo starts the simulated API and has the account watch it.
func startDemo(account *config.Account, logger log.Logger) *cohertest.Server {
	api := cohertest.New()
	user := cohertest.Demo(api, cohertest.DemoKey, time.Now())
	server := api.Start()
	account.BaseURL = server.URL
	account.HTTPClientConfig.Authorization = &promconfig.Authorization{Credentials: cohertest.DemoKey}
	for _, kind := range config.Kinds {
		if jobs := kind.Jobs(account); jobs != nil && len(jobs.IDs) == 0 {
			jobs.IDs = user.IDs[kind.Name]
		}
	}
	level.Info(logger).Log("msg", "simulated Cohere API", "url", server.URL)
	return server
}
