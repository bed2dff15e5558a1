package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

func FuzzLoad(f *testing.F) {
	f.Add(good)
	f.Add(strings.Replace(good, "_file: good.key", ": "+fileKey, 1))
	for _, tt := range badFiles {
		f.Add(tt.text)
	}
	path := filepath.Join(configDir(f, ""), "config.yml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.LoadFile(path)
		said := ""
		switch {
		case err == nil:
			said = c.String()
		case strings.Contains(err.Error(), "\n"):
			t.Errorf("more than a line: %v", err)
		case !strings.HasPrefix(err.Error(), path+":"):
			t.Errorf("no file: %v", err)
		default:
			said = err.Error()
		}
		var root yaml.Node
		if strings.Contains(said, fileKey) && (yaml.Unmarshal([]byte(text), &root) != nil || secret(&root, "")) {
			t.Errorf("tells the key: %s", said)
		}
	})
}

// secret reports whether the key is only where it is to be kept secret.
func secret(n *yaml.Node, key string) bool {
	if n.Kind == yaml.AliasNode {
		return !strings.Contains(n.Alias.Value, fileKey)
	}
	if n.Kind == yaml.ScalarNode {
		return key == "credentials" || !strings.Contains(n.Value, fileKey)
	}
	for i, item := range n.Content {
		key := ""
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			key = n.Content[i-1].Value
		}
		if !secret(item, key) {
			return false
		}
	}
	return true
}
