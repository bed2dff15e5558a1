package collector

import (
	"slices"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// events are lines of the log that are still to be written: nothing is logged
// under a lock, since a log may take its time.
type events []event

type event struct {
	level  func(log.Logger) log.Logger
	msg    string
	fields []any
	err    any // nil: none
}

func (es *events) debug(msg string, err any, fields ...any) {
	*es = append(*es, event{level.Debug, msg, fields, err})
}

func (es *events) info(msg string, fields ...any) {
	*es = append(*es, event{level.Info, msg, fields, nil})
}

func (es *events) warn(msg string, err any, fields ...any) {
	*es = append(*es, event{level.Warn, msg, fields, err})
}

// write writes the lines, with the fields of what they are about.
func (es events) write(logger log.Logger, about ...any) {
	for _, e := range es {
		line := slices.Concat([]any{"msg", e.msg}, about, e.fields)
		if e.err != nil {
			line = append(line, "err", e.err)
		}
		e.level(logger).Log(line...)
	}
}
