package series_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/cohere-exporter/cohere_exporter/collector/series"
)

func TestLabel(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"empty", "", ""},
		{"as long as it may be", strings.Repeat("a", 512), strings.Repeat("a", 512)},
		{"too long", strings.Repeat("a", 513), strings.Repeat("a", 512)},
		{"characters, not bytes", strings.Repeat("ü", 512), strings.Repeat("ü", 512)},
		{"cut between characters", strings.Repeat("ü", 513), strings.Repeat("ü", 512)},
		{"no UTF-8", "a\xffb", "a\uFFFDb"},
		{"a run of that", "a\xff\xfe\xc3b", "a\uFFFDb"},
		{"no UTF-8 at the end of what fits", strings.Repeat("ü", 511) + "\xff\xffb", strings.Repeat("ü", 511) + "\uFFFD"},
		{"control characters", "a\n\"b\"\x00", "a\n\"b\"\x00"},
	} {
		if got := series.Label(c.value); got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// written returns a gauge as it is sent.
func written(t *testing.T, g series.Gauge) *dto.Metric {
	t.Helper()
	var m dto.Metric
	if err := g.Write(&m); err != nil {
		t.Fatal(err)
	}
	return &m
}

// text returns the labels and the value of a gauge.
func text(t *testing.T, g series.Gauge) string {
	t.Helper()
	return written(t, g).String()
}

func family(own ...string) *series.Family {
	return series.NewFamily("cohere_family", "Help.", []string{"job_id"}, own)
}

// Labels are sorted by name, as the registry has them, whatever their order was
// and whoever they belong to.
func TestGauge(t *testing.T) {
	base := series.Labels(nil).With("job_id", "a").With("account", "search")
	for _, c := range []struct {
		own, values []string
		value       float64
		want        string
	}{
		{nil, nil, 0, `label:{name:"account" value:"search"} label:{name:"job_id" value:"a"} gauge:{value:0}`},
		{nil, nil, 1, `label:{name:"account" value:"search"} label:{name:"job_id" value:"a"} gauge:{value:1}`},
		{[]string{"status"}, []string{"failed"}, -1.5, `label:{name:"account" value:"search"} label:{name:"job_id" value:"a"} label:{name:"status" value:"failed"} gauge:{value:-1.5}`},
		{[]string{"z", "b"}, []string{"1", "2\xff"}, 1e9, `label:{name:"account" value:"search"} label:{name:"b" value:"2` + "\uFFFD" + `"} label:{name:"job_id" value:"a"} label:{name:"z" value:"1"} gauge:{value:1e+09}`},
	} {
		g := family(c.own...).Gauge(base, c.value, c.values...)
		if got := strings.ReplaceAll(text(t, g), "  ", " "); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// Gauges of one job share the labels of the job, those of one family the values
// that it has for all, and a gauge those of the one that it follows.
func TestSharing(t *testing.T) {
	base := series.Labels(nil).With("job_id", "a")
	f, other := family("status"), family("status")
	f.Share([]string{"failed", "complete"})
	failed, complete, unknown := f.Gauge(base, 1, "failed"), f.Gauge(base, 0, "complete"), f.Gauge(base, 0, "unknown")
	ofOther := f.Gauge(series.Labels(nil).With("job_id", "b"), 1, "failed")
	pair := func(g series.Gauge, i int) *dto.LabelPair { return written(t, g).Label[i] }
	if pair(failed, 0) != pair(complete, 0) || pair(failed, 0) != pair(unknown, 0) {
		t.Error("the job's label is there more than once")
	}
	if pair(failed, 1) != pair(ofOther, 1) {
		t.Error("the status of two jobs is there twice")
	}

	build := func(before []series.Gauge, status string, value float64) []series.Gauge {
		b := series.NewBuilder(base, before)
		b.Family = f
		b.Add(value, status)
		b.Family = other
		b.Add(value, status)
		return b.Gauges()
	}
	first := build(nil, "unknown", 1)
	before := text(t, first[0])
	same, changed := build(first, "unknown", 2), build(first, "other", 2)
	for i := range first {
		if &written(t, first[i]).Label[0] != &written(t, same[i]).Label[0] {
			t.Errorf("gauge %d has labels of its own, although they are those that it had", i)
		}
		for _, g := range []series.Gauge{same[i], changed[i]} {
			if v := written(t, g).GetGauge().GetValue(); v != 2 {
				t.Errorf("gauge %d is %v", i, v)
			}
		}
		if got := pair(changed[i], 1).GetValue(); got != "other" {
			t.Errorf("gauge %d is %s", i, got)
		}
	}
	if got := text(t, first[0]); got != before { // a scrape may still be sending it
		t.Errorf("the gauge before was changed to %s", got)
	}
}

// What labels are extended by is not seen by others that were extended.
func TestLabelsDoNotChange(t *testing.T) {
	base := series.Labels(nil).With("account", "search")
	a := base.With("job_id", "a")
	gauge := family("status").Gauge(a, 1, "failed")
	before := text(t, gauge)
	b := base.With("job_id", "b")
	family("status").Gauge(a, 1, "complete")
	if len(base) != 1 || a[1].GetValue() != "a" || b[1].GetValue() != "b" || text(t, gauge) != before {
		t.Errorf("%v, %v, %v, %s", base, a, b, text(t, gauge))
	}
}

// A registry takes the gauges for what their family says.
func TestRegistry(t *testing.T) {
	f := family("status")
	b := series.NewBuilder(series.Labels(nil).With("job_id", "a"), nil)
	b.Family = f
	b.Add(1, "failed")
	b.Add(0, "complete")
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(collector{f, b.Gauges()})
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%v, %v", families, err)
	}
	const want = `name:"cohere_family" help:"Help." type:GAUGE` +
		` metric:{label:{name:"job_id" value:"a"} label:{name:"status" value:"complete"} gauge:{value:0}}` +
		` metric:{label:{name:"job_id" value:"a"} label:{name:"status" value:"failed"} gauge:{value:1}}`
	if got := strings.ReplaceAll(families[0].String(), "  ", " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

type collector struct {
	family *series.Family
	gauges []series.Gauge
}

func (c collector) Describe(ch chan<- *prometheus.Desc) { ch <- c.family.Desc() }

func (c collector) Collect(ch chan<- prometheus.Metric) {
	for i := range c.gauges {
		ch <- &c.gauges[i]
	}
}

func TestValues(t *testing.T) {
	if series.Bool(true) != 1 || series.Bool(false) != 0 {
		t.Error("booleans")
	}
	for _, c := range []struct {
		time time.Time
		want float64
	}{
		{time.Unix(0, 0), 0},
		{time.Unix(1700000000, 123456789), 1700000000.123},
		{time.Unix(-1, 500e6), -.5},
	} {
		if got := series.Seconds(c.time); got != c.want {
			t.Errorf("%v is %v", c.time, got)
		}
	}
}
