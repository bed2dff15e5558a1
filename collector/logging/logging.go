// Package logging writes the log: every line in one shape, whoever it comes
// from, through a queue that nobody waits for.
package logging

import (
	"context"
	"io"
	stdlog "log"
	"log/slog"
	"slices"
	"strings"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// New returns the logger that writes lines of this level and above to w, in
// the format logfmt or json. In each line time (UTC), level and msg come
// first, and err last.
func New(w io.Writer, lowest, format string) log.Logger {
	logger := log.NewLogfmtLogger(w)
	if format == "json" {
		logger = log.NewJSONLogger(w)
	}
	return level.NewFilter(shaped{logger}, level.Allow(level.ParseDefault(lowest, level.InfoValue())))
}

type shaped struct{ next log.Logger }

func (s shaped) Log(keyvals ...any) error {
	line := []any{"time", log.DefaultTimestampUTC()}
	var msg, fields, err []any
	for pair := range slices.Chunk(keyvals, 2) {
		switch pair[0] {
		case level.Key():
			line = append(line, pair...)
		case "msg":
			msg = append(msg, pair...)
		case "err":
			err = append(err, pair...)
		default:
			fields = append(fields, pair...)
		}
	}
	return s.next.Log(slices.Concat(line, msg, fields, err)...)
}

// Capture sends what libraries print by themselves to the logger. net/http has
// no other way to say some things, and quotes what it has received: maybe the
// API key, and maybe only half of it, so that it could not be recognized. Such
// a line becomes a warning that ends before its first quotation mark.
func Capture(logger log.Logger) {
	slog.SetDefault(slog.New(Handler(logger))) // sets the standard logger's output too
	stdlog.SetFlags(0)
	stdlog.SetOutput(printed{logger})
}

type printed struct{ logger log.Logger }

func (p printed) Write(text []byte) (int, error) {
	msg, _, _ := strings.Cut(string(text), `"`)
	return len(text), level.Warn(p.logger).Log("msg", strings.TrimSpace(msg))
}

// Handler returns the handler for libraries that log by slog. The logger
// decides which levels are written.
func Handler(logger log.Logger) slog.Handler { return handler{logger: logger} }

type handler struct {
	logger log.Logger
	group  string // what the names of fields begin with
}

// Enabled implements slog.Handler.
func (h handler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h handler) Handle(_ context.Context, r slog.Record) error {
	keyvals := []any{level.Key(), levelValue(r.Level), "msg", r.Message}
	r.Attrs(func(a slog.Attr) bool {
		keyvals = appendAttr(keyvals, h.group, a)
		return true
	})
	return h.logger.Log(keyvals...)
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var keyvals []any
	for _, a := range attrs {
		keyvals = appendAttr(keyvals, h.group, a)
	}
	h.logger = log.With(h.logger, keyvals...)
	return h
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.group += name + "."
	}
	return h
}

func appendAttr(keyvals []any, group string, a slog.Attr) []any {
	value := a.Value.Resolve()
	if value.Kind() != slog.KindGroup {
		return append(keyvals, group+a.Key, value.Any())
	}
	if a.Key != "" {
		group += a.Key + "."
	}
	for _, member := range value.Group() {
		keyvals = appendAttr(keyvals, group, member)
	}
	return keyvals
}

func levelValue(l slog.Level) level.Value {
	switch {
	case l >= slog.LevelError:
		return level.ErrorValue()
	case l >= slog.LevelWarn:
		return level.WarnValue()
	case l >= slog.LevelInfo:
		return level.InfoValue()
	}
	return level.DebugValue()
}
