package flags

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"
)

// Duration is the value of a flag in Prometheus's format, which knows days.
func Duration(flag *kingpin.FlagClause) *model.Duration {
	var d model.Duration
	flag.SetValue(&d)
	return &d
}

// Parse parses the command line. Its errors name the flag.
func Parse(app *kingpin.Application, args []string) error {
	nameErrors(app)
	for _, arg := range args {
		name, value, given := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		flag := app.GetFlag(strings.TrimPrefix(name, "no-"))
		if given && flag != nil && flag.Model().IsBoolFlag() {
			return fmt.Errorf("--%s takes no value, not even %q; give it alone, or leave it out", name, value)
		}
	}
	_, err := app.Parse(args)
	return err
}

// nameErrors makes the errors of all flags name the flag.
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
	if _, ok := v.Value.(*model.Duration); ok {
		takes = "a duration such as 30s, 5m or 7d"
	} else if getter, ok := v.Value.(kingpin.Getter); ok {
		switch getter.Get().(type) {
		case int:
			takes = "a whole number"
			_, err = strconv.Atoi(s) // kingpin would cut 1.5 to 1
		case float64:
			takes = "a number"
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
