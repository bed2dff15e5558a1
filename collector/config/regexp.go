package config

import (
	"errors"
	"regexp"
	"regexp/syntax"
)

// Regexp is an anchored regular expression in RE2 syntax.
type Regexp struct {
	text string
	re   *regexp.Regexp
}

// NewRegexp compiles an expression that has to match whole names.
func NewRegexp(text string) (Regexp, error) {
	if _, err := regexp.Compile(text); err != nil { // by itself: a( must not be closed by what is added
		problem := "must be a regular expression (RE2)"
		if e, ok := errors.AsType[*syntax.Error](err); ok {
			problem += "; " + e.Code.String()
		}
		return Regexp{}, errors.New(problem)
	}
	re, err := regexp.Compile("^(?s:" + text + ")$")
	return Regexp{text, re}, err
}

// MustRegexp is NewRegexp for an expression that is known to be right.
func MustRegexp(text string) Regexp {
	re, err := NewRegexp(text)
	if err != nil {
		panic(err)
	}
	return re
}

// MatchString reports whether the expression matches all of s.
func (r Regexp) MatchString(s string) bool { return r.re.MatchString(s) }

// String returns the expression without its anchors.
func (r Regexp) String() string { return r.text }

// UnmarshalYAML implements yaml.Unmarshaler.
func (r *Regexp) UnmarshalYAML(unmarshal func(any) error) (err error) {
	var text string
	if err := unmarshal(&text); err != nil {
		return err
	}
	*r, err = NewRegexp(text)
	return err
}

// MarshalYAML implements yaml.Marshaler.
func (r Regexp) MarshalYAML() (any, error) { return r.text, nil }
