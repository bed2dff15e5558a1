// Soak runs a built exporter for some time against the simulated API, under more
// load, changes and faults than anyone has, and judges all that it shows:
//
//	go build -o /tmp/cohere_exporter . && go run ./.ci/soak -for 20m /tmp/cohere_exporter
//
// Four scrapers ask for 50 scrapes a second of 500 jobs in five accounts, beside
// readers of the pages and probes. Meanwhile jobs progress, come and go, the
// configuration, keys and job files change, and the API is slow, broken, or
// refuses. Every exposition is held against the API's own record of jobs and
// requests (truth.go). It ends with a report, and status 1 if there are findings.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	duration := flag.Duration("for", 20*time.Second, "how long to run")
	most := flag.Int("findings", 20, "how many findings to print")
	seed := flag.Uint64("seed", 1, "of what is left to chance")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: soak [flags] BINARY")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	findings, err := soak(flag.Arg(0), *duration, *seed)
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
	if findings.print(os.Stdout, *most) {
		os.Exit(1)
	}
}

func soak(binary string, duration time.Duration, seed uint64) (*findings, error) {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	found := newFindings(time.Now())
	w, err := newWorld(dir, seed, found)
	if err != nil {
		return nil, err
	}
	defer w.close()
	exporter, err := start(binary, filepath.Join(dir, configFile), w.secret, found)
	if err != nil {
		return nil, err
	}
	defer exporter.kill()

	l := newLoad(w, exporter, found)
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(interrupted, duration)
	defer cancel()
	l.run(ctx)
	exporter.end()
	l.report(os.Stdout)
	return found, nil
}
