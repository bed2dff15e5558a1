package client

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxIDLength is the greatest length of a job ID in characters. Real ones have
// a few dozen.
const MaxIDLength = 512

// byteOrderMark is what some editors begin a file with.
const byteOrderMark = "\uFEFF"

// SplitIDs takes lists of job IDs apart: by commas and white space, and without
// byte order marks in front.
func SplitIDs(lists ...string) (ids []string) {
	for _, list := range lists {
		for _, id := range strings.FieldsFunc(list, separatesIDs) {
			if id = strings.Trim(id, byteOrderMark); id != "" {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func separatesIDs(r rune) bool { return r == ',' || unicode.IsSpace(r) }

// CheckID refuses what cannot be the ID of a job, or was damaged on its way
// here, and says what to write instead.
func CheckID(id string) error {
	switch {
	case plain(id) && len(id) <= MaxIDLength: // as nearly all are; this runs for every request
		return nil
	case id == "", id == ".", id == "..":
		return fmt.Errorf("%q is not a job ID", id)
	case !utf8.ValidString(id):
		return fmt.Errorf("job ID %q is not valid UTF-8", id)
	case utf8.RuneCountInString(id) > MaxIDLength:
		return fmt.Errorf("job ID %q... is longer than %d characters", strings.ToValidUTF8(id[:32], ""), MaxIDLength)
	case strings.ContainsFunc(id, separatesIDs):
		return fmt.Errorf("job ID %q holds a comma or white space; write one ID in each entry", id)
	}
	if what := damage(id); what != "" {
		return fmt.Errorf("job ID %q %s", id, what)
	}
	if jobURL.MatchString(id) {
		u, err := url.Parse(id)
		if err != nil || u.Path == "" {
			return errors.New("a URL is not a job ID; write the ID alone")
		}
		return fmt.Errorf("a URL is not a job ID; write its last part, %q", path.Base(u.Path))
	}
	return nil
}

// jobURL matches a URL, and the path of a job's.
var jobURL = regexp.MustCompile(`://|(^|/)v\d+/(embed-jobs|batches)/`)

// ParseBaseURL checks the address of an API, and says what to write instead. It
// strips white space around it, and slashes at its end.
func ParseBaseURL(s string) (*url.URL, error) {
	s = stripped(s)
	u, err := url.Parse(strings.TrimRight(s, "/"))
	inPath := err == nil && u.User == nil && u.Hostname() != "" && strings.Contains(u.EscapedPath(), "@")
	if strings.Contains(s, "@") && !inPath { // not to be repeated
		return nil, errors.New("must not hold a user name or password")
	}
	if what := damage(s); what != "" {
		return nil, fmt.Errorf("%q %s", s, what)
	}
	if err != nil {
		return nil, fmt.Errorf("%q is not a URL", s)
	}
	_, portErr := strconv.ParseUint(cmp.Or(u.Port(), "443"), 10, 16)
	switch {
	case u.Scheme != "http" && u.Scheme != "https", !hostName.MatchString(u.Hostname()),
		u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return nil, fmt.Errorf("%q is not of the form https://host or https://host/path", s)
	case portErr != nil:
		return nil, fmt.Errorf("%q holds a port above 65535", s)
	}
	if added := addedPath.FindString(u.EscapedPath()); added != "" {
		return nil, fmt.Errorf("%q holds %s, which every request adds; write %q", s, added, strings.TrimSuffix(u.String(), added))
	}
	return u, nil
}

// hostName matches a name, and an address with or without a zone: what else
// url.Parse takes could not be sent.
var hostName = regexp.MustCompile(`^([\pL\pM\pN._-]+|[0-9A-Fa-f:.]+(%[\w.-]+)?)$`)

// addedPath matches the part of an address that requests add to it.
var addedPath = regexp.MustCompile(`/v\d+(/(embed-jobs|batches)(/.*)?)?$`)

// stripped is a text without white space and byte order marks around it.
func stripped(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || string(r) == byteOrderMark })
}

// damage says what became of a text that was pasted or came through the
// environment, and what to write instead, or nothing. It does not repeat it.
func damage(s string) string {
	if plain(s) {
		return ""
	}
	if strings.Trim(s, quotes) != s {
		return "is in quotes; leave them out"
	}
	if unexpanded.MatchString(s) {
		return "holds a variable that nobody expanded; write its value"
	}
	if i := strings.IndexFunc(s, invisible); i >= 0 {
		r, _ := utf8.DecodeRuneInString(s[i:])
		return fmt.Sprintf("holds the invisible character %U; leave it out", r)
	}
	return ""
}

// plain reports whether a text has ASCII letters, digits, - and _, and nothing
// else.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != ""
}

// quotes are what docker --env-file keeps, and what word processors make of it.
const quotes = "\"'`“”‘’„«»"

// unexpanded matches ${NAME}, $(NAME) and {{NAME}}, and a text that is $NAME or
// %NAME%.
var unexpanded = regexp.MustCompile(`\$[{(]|\{\{|^\$[A-Za-z_]\w*$|^%[A-Za-z_]\w*%$`)

// invisible reports whether a character cannot be seen and is no white space.
func invisible(r rune) bool {
	return unicode.IsControl(r) && !unicode.IsSpace(r) || unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}
