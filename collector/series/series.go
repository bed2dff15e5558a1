// Package series makes immutable gauges that share their labels.
//
// A [Gauge] is kept for as long as its value holds and sent at every scrape.
// Unlike a const metric it shares its labels with others of the same job, and
// nothing is made when it is sent: less than half of the CPU time and of the
// memory of kept const metrics.
package series

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// MaxLabelLength is the greatest length of a label value, in characters.
const MaxLabelLength = 512

// Label returns a label value that may be sent: valid UTF-8, and not too long.
func Label(value string) string {
	value = strings.ToValidUTF8(value, "\uFFFD")
	if len(value) <= MaxLabelLength || utf8.RuneCountInString(value) <= MaxLabelLength {
		return value
	}
	return string([]rune(value)[:MaxLabelLength])
}

// Labels are labels of one or more gauges, sorted by name.
type Labels []*dto.LabelPair

// With returns the labels and one more.
func (ls Labels) With(name, value string) Labels {
	return ls.and([]string{name}, []string{value}, nil)
}

// and adds labels; those in shared are not made anew.
func (ls Labels) and(names, values []string, shared map[string]*dto.LabelPair) Labels {
	all := append(make(Labels, 0, len(ls)+len(names)), ls...)
	for i, name := range names {
		pair := shared[values[i]]
		if pair == nil {
			pair = newPair(name, values[i])
		}
		all = append(all, pair)
	}
	slices.SortFunc(all, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return all
}

// newPair keeps name and value beside the pair: the registry reads both for
// every series.
func newPair(name, value string) *dto.LabelPair {
	p := struct {
		pair        dto.LabelPair
		name, value string
	}{name: name, value: Label(value)}
	p.pair.Name, p.pair.Value = &p.name, &p.value
	return &p.pair
}

// Family is all gauges of one name.
type Family struct {
	desc   *prometheus.Desc
	labels []string                  // besides those that several families share
	shared map[string]*dto.LabelPair // by value
}

// NewFamily returns a family whose gauges have the labels of base, which they
// share with others, and labels of their own.
func NewFamily(name, help string, base, own []string) *Family {
	return &Family{desc: prometheus.NewDesc(name, help, slices.Concat(base, own), nil), labels: own}
}

// Share makes gauges whose own label has one of these values share it.
func (f *Family) Share(values []string) {
	f.shared = make(map[string]*dto.LabelPair, len(values))
	for _, value := range values {
		f.shared[value] = newPair(f.labels[0], value)
	}
}

// Desc describes the family.
func (f *Family) Desc() *prometheus.Desc { return f.desc }

// Gauge returns a gauge with the values of its own labels.
func (f *Family) Gauge(base Labels, value float64, own ...string) Gauge {
	if len(own) > 0 {
		base = base.and(f.labels, own, f.shared)
	}
	return Gauge{f.desc, base, newValue(value)}
}

// Gauge is an immutable series.
type Gauge struct {
	desc   *prometheus.Desc
	labels Labels
	value  *dto.Gauge
}

// Desc implements prometheus.Metric.
func (g *Gauge) Desc() *prometheus.Desc { return g.desc }

// Write implements prometheus.Metric.
func (g *Gauge) Write(out *dto.Metric) error {
	out.Label, out.Gauge = g.labels, g.value
	return nil
}

// zero and one are what most gauges are.
var zero, one = &dto.Gauge{Value: new(0.0)}, &dto.Gauge{Value: new(1.0)}

func newValue(value float64) *dto.Gauge {
	switch value {
	case 0:
		return zero
	case 1:
		return one
	}
	v := struct { // in one piece
		gauge dto.Gauge
		value float64
	}{value: value}
	v.gauge.Value = &v.value
	return &v.gauge
}

// Builder makes the gauges of one job.
type Builder struct {
	Family *Family // of what is added next

	base   Labels
	before []Gauge // that it had until now, whose labels are used again
	gauges []Gauge
}

// NewBuilder returns a builder of gauges with the labels of base. Where a gauge
// has the same labels as the one before had, they share them.
func NewBuilder(base Labels, before []Gauge) *Builder {
	return &Builder{base: base, before: before, gauges: make([]Gauge, 0, max(len(before), 20))}
}

// Add adds a gauge with the values of its own labels.
func (b *Builder) Add(value float64, own ...string) {
	f := b.Family
	if i := len(b.gauges); len(own) > 0 && i < len(b.before) && b.before[i].is(f, own) {
		b.gauges = append(b.gauges, Gauge{f.desc, b.before[i].labels, newValue(value)})
		return
	}
	b.gauges = append(b.gauges, f.Gauge(b.base, value, own...))
}

// is reports whether the gauge is of a family and has these own labels.
func (g *Gauge) is(f *Family, own []string) bool {
	if g.desc != f.desc {
		return false
	}
	for i, name := range f.labels {
		for _, pair := range g.labels {
			if *pair.Name == name && *pair.Value != own[i] {
				return false
			}
		}
	}
	return true
}

// Gauges returns what was added.
func (b *Builder) Gauges() []Gauge { return b.gauges }

// Bool is the value of a yes or no.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Seconds is the value of a time: Unix time in seconds, to the millisecond.
func Seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }
