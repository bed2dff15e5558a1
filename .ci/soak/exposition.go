package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// sample is a series and its value.
type sample struct {
	name   string
	labels map[string]string
	value  float64

	task task   // of a job's series
	text string // without the labels that name the job
}

// exposition is what a scrape or probe was answered.
type exposition struct {
	jobs   map[task]*shown
	others []*sample // but for the exporter's own
	own    map[string]float64
}

// shown is what an exposition says of a job.
type shown struct {
	up          *float64
	reasons     []string
	lastSuccess *float64
	status      string   // what is 1
	values      []string // all that the API said, sorted
}

// parser parses expositions, of which most lines are as they were before.
type parser struct{ lines map[string]*sample }

func newParser() *parser { return &parser{map[string]*sample{}} }

// keptLines bounds the parser's memory.
const keptLines = 500_000

func (p *parser) parse(text []byte) (*exposition, error) {
	if len(p.lines) > keptLines {
		clear(p.lines)
	}
	if len(text) == 0 || text[len(text)-1] != '\n' {
		return nil, errors.New("does not end in a newline")
	}
	e := &exposition{jobs: map[task]*shown{}, own: map[string]float64{}}
	for line := range bytes.Lines(text) {
		line = line[:len(line)-1]
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		s := p.lines[string(line)]
		if s == nil {
			var err error
			if s, err = parseLine(string(line)); err != nil {
				return nil, fmt.Errorf("%w: %q", err, line)
			}
			p.lines[string(line)] = s
		}
		e.add(s)
	}
	for _, j := range e.jobs {
		slices.Sort(j.values)
	}
	return e, nil
}

func (e *exposition) add(s *sample) {
	switch {
	case s.task.id == "" && s.labels["account"] != "":
		e.others = append(e.others, s)
		return
	case s.task.id == "":
		if len(s.labels) == 0 {
			e.own[s.name] = s.value
		}
		return
	}
	j := e.jobs[s.task]
	if j == nil {
		j = &shown{values: make([]string, 0, 40)}
		e.jobs[s.task] = j
	}
	_, kind, _ := strings.Cut(s.name, "cohere_")
	switch strings.TrimPrefix(strings.TrimPrefix(kind, "embed_job_"), "batch_") {
	case "up":
		j.up = &s.value
	case "fetch_error":
		j.reasons = append(j.reasons, s.labels["reason"])
	case "last_success_timestamp_seconds":
		j.lastSuccess = &s.value
	case "status_changed_timestamp_seconds":
	case "status":
		if s.value == 1 {
			j.status = s.labels["status"]
		}
		fallthrough
	default:
		j.values = append(j.values, s.text)
	}
}

// parseLine parses a line such as
//
//	cohere_embed_job_status{account="a",job_id="ebd-1",status="failed"} 1
func parseLine(line string) (*sample, error) {
	i := strings.IndexAny(line, "{ ")
	if i <= 0 {
		return nil, errors.New("no series")
	}
	s := &sample{name: line[:i], labels: map[string]string{}}
	rest := line[i:]
	if rest[0] == '{' {
		var err error
		if rest, err = s.parseLabels(rest[1:]); err != nil {
			return nil, err
		}
	}
	text, ok := strings.CutPrefix(rest, " ")
	value, err := strconv.ParseFloat(text, 64)
	if !ok || err != nil {
		return nil, errors.New("no value")
	}
	s.value = value
	for label, resource := range idLabels {
		if id := s.labels[label]; id != "" {
			s.task = task{s.labels["account"], resource, id}
		}
	}
	s.text = series(s.name, s.labels, s.value)
	return s, nil
}

func (s *sample) parseLabels(rest string) (after string, err error) {
	for {
		if after, ok := strings.CutPrefix(rest, "}"); ok {
			return after, nil
		}
		name, value, ok := strings.Cut(rest, `="`)
		if !ok {
			return "", errors.New("no label")
		}
		end := 0
		for end < len(value) && value[end] != '"' {
			if value[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(value) {
			return "", errors.New("a label without end")
		}
		if _, twice := s.labels[name]; twice {
			return "", errors.New("a label twice")
		}
		s.labels[name] = unescape.Replace(value[:end])
		rest = strings.TrimPrefix(value[end+1:], ",")
	}
}

var unescape = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\"`, `"`)
