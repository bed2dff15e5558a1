package web

import (
	"cmp"
	"strings"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector"
)

type (
	jobRow struct {
		Class, Mark, Status, Was string
		Account, Kind, Name, ID  string
		Link                     string // to it alone
		Model, In, Out           string
		Running                  bool
		Created, Fetched         *moment
		Old                      bool
		Records                  *recordsCell
		Troubles                 []trouble
		Details                  []detail
	}
	recordsCell struct {
		Successful, Rest string
		Bar              []segment
	}
	trouble struct{ Class, What, Do string }
	detail  struct {
		Name, Text string
		Time       *moment
		Wide       bool
	}
)

func newJobRow(r *row, now time.Time) jobRow {
	d := r.Describe()
	s := states[r.state]
	v := jobRow{
		Class: s.class, Mark: s.mark, Status: spaced(r.Status),
		Account: short(r.account, maxCell), Kind: singular(r.resource.Name),
		Name: short(cmp.Or(r.Name, r.ID), maxCell), ID: short(r.ID, maxText),
		Model: short(d.Model, maxCell), In: optional(d.InputTokens), Out: optional(d.OutputTokens),
		Running: r.Status != "" && !r.Settled && !r.Created.IsZero(),
		Created: ago(r.Created, now), Fetched: ago(r.Fetched, now), Old: r.Stale,
		Records: newRecordsCell(d.Records, r.Settled),
	}
	if r.Probed {
		v.Kind += ", probed"
	}
	switch {
	case r.state == unfetched:
		v.Was, v.Status = v.Status, s.words
	case r.state == waiting:
		v.Status = s.words
	case r.state == done && strings.HasPrefix(r.Status, "cancel"):
		v.Class, v.Mark = "off", "–"
	}
	if v.Running {
		v.Created.Words = duration(now.Sub(r.Created))
	}
	v.addTroubles(r, &d)
	v.addDetails(r, &d, now)
	return v
}

// singular is the name of one of a kind.
func singular(resource string) string {
	if one, ok := strings.CutSuffix(resource, "ches"); ok {
		return one + "ch"
	}
	return spaced(strings.TrimSuffix(resource, "s"))
}

func newRecordsCell(r *collector.Records, settled bool) *recordsCell {
	if r == nil || r.All.Value <= 0 {
		return nil
	}
	all, successful, failed := r.All.Value, r.Successful.Value, r.Failed.Value
	parts := []part{{"good", successful}, {"bad", failed}}
	rest, what := all-successful-failed, " to come"
	if settled {
		what = " missing"
		parts = append(parts, part{"warn", rest})
	}
	var others []string
	if failed > 0 {
		others = append(others, number(failed)+" failed")
	}
	if rest > 0 {
		others = append(others, number(rest)+what)
	}
	return &recordsCell{
		Successful: number(successful) + " of " + number(all) + " successful",
		Rest:       strings.Join(others, ", "),
		Bar:        bar(all, parts...),
	}
}

// addTroubles says what is wrong, and what to do.
func (v *jobRow) addTroubles(r *row, d *collector.Description) {
	add := func(class, what, do string) { v.Troubles = append(v.Troubles, trouble{class, what, do}) }
	switch reason := short(d.Reason, maxText); {
	case r.state == failed && reason != "":
		add("bad", "The job failed, says the API:", reason)
	case r.state == failed:
		add("bad", "The job failed.", d.IfFailed)
	case reason != "":
		add("", "The API says:", reason)
	}
	if r.Error != "" {
		a := adviceOn(r.Error)
		add("warn", a.What, a.Do)
	}
}

// addDetails says everything that is known.
func (v *jobRow) addDetails(r *row, d *collector.Description, now time.Time) {
	text := func(name, value string) {
		if value != "" {
			v.Details = append(v.Details, detail{Name: name, Text: short(value, maxText), Wide: len(value) > 60})
		}
	}
	at := func(name string, t time.Time) {
		if m := ago(t, now); m != nil {
			v.Details = append(v.Details, detail{Name: name, Time: m})
		}
	}
	text("Name", r.Name)
	text("Status", spaced(r.Status))
	at("Status changed, as seen here", r.Changed)
	at("Created", r.Created)
	at("Values fetched", r.Fetched)
	for _, m := range d.More {
		switch value := m.Value.(type) {
		case string:
			text(m.Name, value)
		case float64:
			text(m.Name, number(value))
		case time.Time:
			at(m.Name, value)
		}
	}
	if v.Records != nil {
		text("Records", strings.TrimSuffix(v.Records.Successful+", "+v.Records.Rest, ", "))
	}
	for _, warning := range d.Warnings {
		v.Details = append(v.Details, detail{Name: "Warning", Text: short(warning, maxText), Wide: true})
	}
	if len(v.Details) == 0 {
		text("Known", "nothing yet")
	}
}
