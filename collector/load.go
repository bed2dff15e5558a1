package collector

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// LoadFile reads and checks a configuration file. An error is one line that
// names file, line and key, and says what to do.
func LoadFile(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	l := &loader{path: path, lines: map[string]int{}}
	root, err := l.parse(text)
	if err != nil {
		return nil, err
	}
	c := &Config{FromFile: true}
	if err := l.decode(root, "", reflect.ValueOf(c).Elem()); err != nil {
		return nil, err
	}
	if err := l.check(c); err != nil {
		return nil, err
	}
	return c, nil
}

// String returns the configuration as YAML, with <secret> for every secret.
func (c *Config) String() string {
	text, err := yaml.Marshal(c)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// loader reads one file. It goes through the YAML nodes by itself: they know
// their lines, which the decoder of the yaml package keeps to itself.
type loader struct {
	path  string
	lines map[string]int // of keys, such as accounts[0].name
}

// errorf returns an error at a key, or at the line where it would be.
func (l *loader) errorf(key, format string, args ...any) error {
	line := 1
	for k := key; k != ""; k = k[:max(strings.LastIndexAny(k, ".["), 0)] {
		if n, ok := l.lines[k]; ok {
			line = n
			break
		}
	}
	if key != "" {
		format = key + ": " + format
	}
	return l.errorAt(line, format, args...)
}

func (l *loader) errorAt(line int, format string, args ...any) error {
	text := fmt.Sprintf("%s:%d: ", l.path, line) + fmt.Sprintf(format, args...)
	return errors.New(strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(text))
}

// parse returns the one document of a file.
func (l *loader) parse(text []byte) (*yaml.Node, error) {
	docs, err := documents(text)
	switch {
	case err != nil:
		return nil, l.syntaxError(text, err)
	case len(docs) == 0:
		return &yaml.Node{}, nil // which is null
	case len(docs) > 1:
		return nil, l.errorAt(docs[1].Line, "a second document begins; put all accounts into the first")
	}
	return docs[0].Content[0], nil
}

func documents(text []byte) ([]yaml.Node, error) {
	var docs []yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc yaml.Node
		switch err := dec.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, err
		}
		docs = append(docs, doc)
	}
}

// syntaxError says what keeps text from being YAML, without repeating it. The
// line is the one without which there is no such error: the yaml package often
// names one before it, or none.
func (l *loader) syntaxError(text []byte, err error) error {
	lines := bytes.SplitAfter(text, []byte("\n"))
	line := 1 + sort.Search(len(lines)-1, func(n int) bool {
		_, e := documents(bytes.Join(lines[:n+1], nil))
		return e != nil && e.Error() == err.Error()
	})
	problem := regexp.MustCompile(`^yaml: (line \d+: )?`).ReplaceAllString(err.Error(), "")
	if strings.HasPrefix(problem, "unknown anchor") { // the name of which may be a secret
		problem = "an alias (*) without an anchor (&) before it; text that begins with * needs quotes"
	}
	return l.errorAt(line, "not YAML: %s", problem)
}

// decode fills out from n, the value of a key. The default stays where that is
// null.
func (l *loader) decode(n *yaml.Node, key string, out reflect.Value) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch v := out.Addr().Interface().(type) {
	case *AccountConfig:
		*v = DefaultAccountConfig()
	case *Discover:
		*v = DefaultDiscover()
	case *config.Headers:
		return l.decode(n, key, reflect.ValueOf(&v.Headers).Elem())
	}
	t := out.Type()
	names, fields := fieldsOf(out)
	switch {
	case t.Kind() == reflect.Pointer: // present, even if null
		out.Set(reflect.New(t.Elem()))
		return l.decode(n, key, out.Elem())
	case n.ShortTag() == "!!null":
		return nil
	case len(names) > 0:
		return l.mapping(n, key, func(name, key string, value *yaml.Node) error {
			field, ok := fields[name]
			if !ok {
				return l.errorf(key, "unknown key; known are %s", strings.Join(names, ", "))
			}
			return l.decode(value, key, field)
		})
	case t.Kind() == reflect.Map:
		out.Set(reflect.MakeMap(t))
		return l.mapping(n, key, func(name, key string, value *yaml.Node) error {
			element := reflect.New(t.Elem()).Elem()
			err := l.decode(value, key, element)
			out.SetMapIndex(reflect.ValueOf(name), element)
			return err
		})
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		out.Set(reflect.MakeSlice(t, len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			key := fmt.Sprintf("%s[%d]", key, i)
			l.lines[key] = item.Line
			if err := l.decode(item, key, out.Index(i)); err != nil {
				return err
			}
		}
		return nil
	}
	err := n.Decode(out.Addr().Interface())
	if t.Kind() == reflect.Int && n.ShortTag() != "!!int" { // 1.5 would be cut to 1
		err = errors.New("no whole number")
	}
	if err == nil {
		return nil
	}
	// The yaml package repeats the value, which may be a secret.
	text := "must be " + wanted(t)
	if e, ok := errors.AsType[*syntax.Error](err); ok {
		text += "; " + e.Code.String()
	}
	return l.errorf(key, "%s", text)
}

// fieldsOf returns the keys that a struct has in YAML, in their order, and
// where their values go.
func fieldsOf(out reflect.Value) (names []string, fields map[string]reflect.Value) {
	if out.Kind() != reflect.Struct {
		return nil, nil
	}
	fields = map[string]reflect.Value{}
	for _, f := range reflect.VisibleFields(out.Type()) {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			names = append(names, name)
			fields[name] = out.FieldByIndex(f.Index)
		}
	}
	return names, fields
}

// wanted says what a type is read from.
func wanted(t reflect.Type) string {
	switch reflect.Zero(t).Interface().(type) {
	case string, config.Secret:
		return "a text"
	case bool:
		return "true or false"
	case int:
		return "a whole number"
	case float64:
		return "a number"
	case model.Duration:
		return "a duration such as 30s, 5m or 7d"
	case Regexp:
		return "a regular expression (RE2)"
	case config.URL:
		return "a URL such as http://proxy:3128"
	case config.TLSVersion:
		return "TLS10, TLS11, TLS12 or TLS13"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "a list"
	case reflect.Interface:
		return "what its tag (!) says"
	}
	return "a mapping of keys to values"
}

// member is a key of a mapping, and its value.
type member struct{ key, value *yaml.Node }

// mapping calls each for every member of a mapping, with its name and its key
// from the root.
func (l *loader) mapping(n *yaml.Node, key string, each func(name, key string, value *yaml.Node) error) error {
	members, err := l.members(n, key, nil)
	if err != nil {
		return err
	}
	for _, m := range members {
		key := below(key, m.key)
		l.lines[key] = m.key.Line
		if err := each(m.key.Value, key, m.value); err != nil {
			return err
		}
	}
	return nil
}

// members returns what a mapping holds, and besides what it merges in (<<).
func (l *loader) members(n *yaml.Node, key string, within []*yaml.Node) ([]member, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode || slices.Contains(within, n) {
		return nil, l.errorf(key, "must be a mapping of keys to values")
	}
	within = append(within, n)
	var all, merged []member
	lines := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.ShortTag() == "!!merge" {
			sources := []*yaml.Node{v}
			if v.Kind == yaml.SequenceNode {
				sources = v.Content
			}
			for _, source := range sources {
				more, err := l.members(source, below(key, k), within)
				if err != nil {
					return nil, err
				}
				merged = append(merged, more...)
			}
			continue
		}
		if k.Kind != yaml.ScalarNode {
			return nil, l.errorAt(k.Line, "%s: keys must be texts", below(key, k))
		}
		if first := lines[k.Value]; first != 0 {
			return nil, l.errorAt(k.Line, "%s: is in line %d already", below(key, k), first)
		}
		lines[k.Value] = k.Line
		all = append(all, member{k, v})
	}
	for _, m := range merged {
		if lines[m.key.Value] == 0 {
			lines[m.key.Value] = m.key.Line
			all = append(all, m)
		}
	}
	return all, nil
}

// keyName is what a key looks like. Anything else could be a secret that was
// put at the wrong place.
var keyName = regexp.MustCompile(`^([A-Za-z0-9_-]{1,32}|<<)$`)

func below(key string, k *yaml.Node) string {
	name := k.Value
	if !keyName.MatchString(name) {
		name = "?"
	}
	if key == "" {
		return name
	}
	return key + "." + name
}

// check looks at what was read as a whole.
func (l *loader) check(c *Config) error {
	if len(c.Accounts) == 0 {
		return l.errorf("accounts", "there are none; list at least one, with name, http_client_config and job_ids")
	}
	named := map[string]int{}
	for i := range c.Accounts {
		a := &c.Accounts[i]
		key := fmt.Sprintf("accounts[%d]", i)
		if err := l.checkAccount(a, key); err != nil {
			return err
		}
		if first, twice := named[a.Name]; twice {
			return l.errorf(key+".name", "%q is the name of accounts[%d]; give each its own", a.Name, first)
		}
		named[a.Name] = i
	}
	return nil
}

func (l *loader) checkAccount(a *AccountConfig, key string) error {
	switch {
	case a.Name == "":
		return l.errorf(key+".name", "is missing; it becomes the label account")
	case !utf8.ValidString(a.Name):
		return l.errorf(key+".name", "is not valid UTF-8, which a label has to be")
	case utf8.RuneCountInString(a.Name) > maxLabelLength:
		return l.errorf(key+".name", "is longer than %d characters", maxLabelLength)
	case len(a.JobIDs) == 0 && len(a.JobIDFiles) == 0 && a.Discover == nil:
		return l.errorf(key, "nothing to watch; give it job_ids, job_id_files or discover")
	}
	for i, id := range a.JobIDs {
		if err := client.CheckID(id); err != nil {
			return l.errorf(fmt.Sprintf("%s.job_ids[%d]", key, i), "%v", err)
		}
	}
	for i, pattern := range a.JobIDFiles {
		if _, err := filepath.Match(pattern, ""); err != nil || pattern == "" {
			return l.errorf(fmt.Sprintf("%s.job_id_files[%d]", key, i), "%q is not a path or pattern; see https://pkg.go.dev/path/filepath#Match", pattern)
		}
		a.JobIDFiles[i] = filepath.Clean(config.JoinDir(filepath.Dir(l.path), pattern))
	}
	if err := a.Validate(); err != nil {
		setting, problem, _ := strings.Cut(err.Error(), " ")
		return l.errorf(key+"."+strings.TrimSuffix(setting, ":"), "%s", problem)
	}
	return l.checkHTTP(a, key+".http_client_config")
}

// checkHTTP checks what authorizes requests and carries them.
func (l *loader) checkHTTP(a *AccountConfig, key string) error {
	c := &a.HTTPClientConfig
	if err := c.Validate(); err != nil {
		return l.errorf(key, "%v", err)
	}
	c.SetDirectory(filepath.Dir(l.path))
	switch {
	case c.FollowRedirects:
		return l.errorf(key+".follow_redirects", "must be false: redirects would carry the key away")
	case c.Authorization == nil:
		return l.errorf(key+".authorization", "is missing, and nothing else gives the API its key; set it to {credentials_file: FILE}")
	case c.Authorization.CredentialsFile != "":
		_, err := client.KeyFile(c.Authorization.CredentialsFile)()
		if e, ok := errors.AsType[*fs.PathError](err); ok { // without the path: it could be the key
			return l.errorf(key+".authorization.credentials_file", "%v; it names a file, beside this one if it is no whole path, that holds the API key in one line", e.Err)
		}
		if err != nil {
			return l.errorf(key+".authorization.credentials_file", "%v; it has to hold the API key in one line", err)
		}
	case c.Authorization.Credentials != "":
		if _, err := client.StaticKey(string(c.Authorization.Credentials))(); err != nil {
			return l.errorf(key+".authorization.credentials", "%v; it has to be the API key in one line", err)
		}
	default:
		return l.errorf(key+".authorization", "holds no key; set credentials_file")
	}
	if _, err := a.httpClient(nil); err != nil {
		return l.errorf(key, "%v", err)
	}
	return nil
}
