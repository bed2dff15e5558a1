package collector

import (
	"context"
	"errors"
	"os"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// Reloader has a Set follow its configuration file. Reloads run one after the
// other in a goroutine of their own, since files may be slow.
type Reloader struct {
	file     string
	set      *Set
	logger   log.Logger
	requests chan chan<- error

	successful prometheus.Gauge
	success    prometheus.Gauge
}

// NewReloader returns the Reloader of a Set that was made from file, or from no
// file if that is "".
func NewReloader(file string, set *Set, reg prometheus.Registerer, logger log.Logger) *Reloader {
	r := &Reloader{
		file:     file,
		set:      set,
		logger:   logger,
		requests: make(chan chan<- error),
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cohere_exporter_config_last_reload_successful",
			Help: "1 if the last attempt to load the configuration worked, else 0.",
		}),
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cohere_exporter_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration was last loaded, in Unix time.",
		}),
	}
	reg.MustRegister(r.successful, r.success)
	r.succeeded()
	return r
}

// Run makes the reloads that are asked for, by Reload or a signal, until ctx
// ends.
func (r *Reloader) Run(ctx context.Context, hangup <-chan os.Signal) {
	for {
		select {
		case <-hangup:
			_ = r.reload() //nolint:contextcheck // accounts outlive their reload; it logs what goes wrong
		case done := <-r.requests:
			done <- r.reload() //nolint:contextcheck // as above
		case <-ctx.Done():
			return
		}
	}
}

// Reload has Run read the file anew, and waits for that until ctx ends. If the
// file is bad nothing changes, and the error, which is logged, says why.
func (r *Reloader) Reload(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case r.requests <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Reloader) reload() error {
	if r.file == "" {
		err := errors.New("there is no --config.file to reload")
		level.Warn(r.logger).Log("msg", "nothing to reload", "err", err)
		return err
	}
	cfg, err := config.LoadFile(r.file)
	if err == nil {
		err = r.set.Apply(cfg)
	}
	if err != nil {
		r.successful.Set(0)
		level.Error(r.logger).Log("msg", "reloading the configuration failed; the old one stays", "err", err)
		return err
	}
	r.succeeded()
	level.Info(r.logger).Log("msg", "configuration reloaded", "file", r.file)
	return nil
}

func (r *Reloader) succeeded() {
	r.successful.Set(1)
	r.success.SetToCurrentTime()
}
