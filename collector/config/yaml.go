package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// tidy makes a mapping of each kind and discover without a value, which the
// decoder takes for absent, and removes list entries without one, which it
// leaves out.
func tidy(n *yaml.Node) {
	null := func(n *yaml.Node) bool { return n.ShortTag() == "!!null" }
	if n.Kind == yaml.SequenceNode {
		n.Content = slices.DeleteFunc(n.Content, null)
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && null(child) && countsEmpty(n.Content[i-1].Value) {
			n.Content[i] = &yaml.Node{Kind: yaml.MappingNode, Line: child.Line}
		}
		tidy(child)
	}
}

// countsEmpty reports whether a key says something even without a value.
func countsEmpty(key string) bool {
	return key == "discover" || slices.ContainsFunc(Kinds, func(k Kind) bool { return k.Name == key })
}

// lineOf returns the line of what stands at a key such as accounts[0].name, or
// of the smallest mapping around it.
func lineOf(n *yaml.Node, key string) int {
	for _, name := range strings.FieldsFunc(key, func(r rune) bool { return strings.ContainsRune(".[]", r) }) {
		next := child(n, name)
		if next == nil {
			break
		}
		n = next
	}
	return n.Line
}

// child returns the value of a key, or the entry of a list with this index.
func child(n *yaml.Node, name string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.SequenceNode {
		if i, err := strconv.Atoi(name); err == nil {
			return n.Content[i]
		}
	}
	for i := 1; i < len(n.Content); i += 2 {
		if n.Kind == yaml.MappingNode && n.Content[i-1].Value == name {
			return n.Content[i]
		}
	}
	return nil
}

// keyAt returns the key whose value begins at a mark.
func keyAt(n *yaml.Node, at yaml.Mark) (key string) {
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && child.Line == at.Line && child.Column == at.Column {
			return n.Content[i-1].Value
		}
		key = cmp.Or(key, keyAt(child, at))
	}
	return key
}

// explain returns line and text of an error of the yaml package, which read the
// text to the nodes below root, as far as it came.
func explain(err error, text []byte, root *yaml.Node) (line int, problem string) {
	e, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		return 1, meaning(err.Error())
	}
	line = max(e.Mark.Line, 1)
	switch e.Stage {
	case yaml.ReaderStage: // knows no lines
		return 1 + bytes.Count(text[:min(e.Mark.Index, len(text))], []byte("\n")), "not YAML: " + e.Message
	case yaml.ScannerStage, yaml.ParserStage:
		problem := "not YAML: " + e.Message
		if begin := e.ContextMark.Line; begin > 0 && begin < line {
			problem += fmt.Sprintf(" (%s that begins in line %d)", e.ContextMsg, begin)
		}
		return line, problem
	}
	problem = meaning(e.Message)
	if key := keyAt(root, e.Mark); keyName.MatchString(key) {
		problem = key + ": " + problem
	}
	return line, problem
}

// keyName is what keys look like. Anything longer could be a secret at the wrong
// place.
var keyName = regexp.MustCompile(`^[\w-]{1,23}$`)

// meaning returns what is known to be safe of an error of the decoders: they
// repeat what was read, which may be a secret.
func meaning(message string) string {
	for _, known := range knownProblems {
		pattern := regexp.MustCompile(known.pattern)
		if at := pattern.FindStringSubmatchIndex(message); at != nil {
			return string(pattern.ExpandString(nil, known.text, message, at))
		}
	}
	return "not valid here"
}

var knownProblems = []struct{ pattern, text string }{
	{`^unknown anchor`, "an alias (*) without an anchor (&) before it; text that begins with * needs quotes"},
	{`contains itself$|cyclic merge alias$`, "an anchor (&) must not hold its own alias (*)"},
	{`map merge requires`, "<< takes a mapping, or a list of mappings"},
	{`excessive aliasing`, "too many aliases (*)"},
	{`^field ([\w-]{1,23}) not found`, "unknown key $1"},
	{`^field `, "unknown key"},
	{`^mapping key "([\w-]{1,23})" already defined at (line \d+)$`, "$1 is in $2 already"},
	{`already defined at (line \d+)$`, "this key is in $1 already"},
	{`cannot construct (?s:.*) as a !!\w+$`, "must be what its tag (!) says"},
	{`^cannot construct (?s:.*) into \[\]`, "must be a list"},
	{`^cannot construct (?s:.*) into int$`, "must be a whole number"},
	{`^cannot construct (?s:.*) into float64$`, "must be a number"},
	{`^cannot construct (?s:.*) into bool$`, "must be true or false"},
	{`^cannot construct (?s:.*) into string$`, "must be a string"},
	{`^cannot construct !!seq`, "must not be a list"},
	{`^cannot construct !!map`, "must not be a mapping"},
	{`^cannot construct `, "must be a mapping of keys to values"},
	{`^(not a valid|empty) duration|^unknown unit|^duration out of range`, "must be a duration such as 30s, 5m or 7d"},
	{`^unknown TLS version`, "must be TLS10, TLS11, TLS12 or TLS13"},
	{`^parse "`, "must be a URL such as http://proxy:3128"},
	{`^must be a regular expression.*`, "$0"},                               // of Regexp
	{`^((at most|exactly) one of|if \w+ is configured,) [a-z_&, ]+$`, "$0"}, // of prometheus/common
}
