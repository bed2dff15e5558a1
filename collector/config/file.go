package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	promconfig "github.com/prometheus/common/config"
	"go.yaml.in/yaml/v4"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// maxNameLength is where label values are cut, in characters.
const maxNameLength = 512

// LoadFile reads and checks a configuration file. An error is one line that
// names file, line and remedy, and repeats nothing that could be a secret.
func LoadFile(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &Config{FromFile: true}
	line, problem := c.read(text, filepath.Dir(path))
	if problem != "" {
		problem = strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(problem)
		return nil, fmt.Errorf("%s:%d: %s", path, line, problem)
	}
	return c, nil
}

// read reads and checks the text of a file in dir, and returns where a mistake
// is.
func (c *Config) read(text []byte, dir string) (line int, problem string) {
	var docs []yaml.Node
	if err := yaml.Load(text, &docs, yaml.WithAllDocuments()); err != nil {
		return explain(err, text, &yaml.Node{})
	}
	switch len(docs) {
	case 0:
		return 1, noAccounts
	case 1:
	default:
		return docs[1].Line, "a second document begins; put all accounts into the first"
	}
	root := docs[0].Content[0]
	tidy(root)
	if err := root.Load(c, yaml.WithKnownFields()); err != nil {
		return explain(err, text, root)
	}
	if key, err := c.check(dir); err != nil {
		return lineOf(root, key), err.Error()
	}
	return 0, ""
}

// String returns the configuration as YAML, with <secret> for every secret.
func (c *Config) String() string {
	text, err := yaml.Dump(c)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (a *Account) UnmarshalYAML(unmarshal func(any) error) error {
	*a = Default()
	return unmarshal(a.inFile())
}

// MarshalYAML implements yaml.Marshaler.
func (a Account) MarshalYAML() (any, error) { return a.inFile(), nil }

// Without UnmarshalYAML: HTTPClientConfig's own turns follow_redirects on.
type (
	plainAccount    Account
	plainHTTPClient promconfig.HTTPClientConfig
)

// inFile returns what the file has of an account.
func (a *Account) inFile() any {
	return &struct {
		Account          *plainAccount    `yaml:",inline"`
		HTTPClientConfig *plainHTTPClient `yaml:"http_client_config"`
	}{(*plainAccount)(a), (*plainHTTPClient)(&a.HTTPClientConfig)}
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (j *Jobs) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Jobs
	*j = DefaultJobs()
	if err := unmarshal((*plain)(j)); err != nil {
		return err
	}
	for i, entry := range j.IDs { // several IDs in one are left to Validate
		if ids := client.SplitIDs(entry); len(ids) == 1 {
			j.IDs[i] = ids[0]
		}
	}
	return nil
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Discover) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Discover
	*d = DefaultDiscover()
	return unmarshal((*plain)(d))
}

const noAccounts = "accounts: there are none; list at least one, with name, http_client_config and embed_jobs or batches"

// check looks at what was read from a file in dir. Next to a mistake it returns
// its key, from the root of the file.
func (c *Config) check(dir string) (key string, err error) {
	if len(c.Accounts) == 0 {
		return "accounts", errors.New(noAccounts)
	}
	names := map[string]bool{}
	for i := range c.Accounts {
		a := &c.Accounts[i]
		err := a.checkFile(dir)
		if err == nil && names[a.Name] {
			err = a.mistake("name", "%q is the name of another account; give each its own", a.Name)
		}
		if err != nil {
			key := fmt.Sprintf("accounts[%d]", i)
			if e, ok := errors.AsType[*settingError](err); ok {
				key += "." + e.key
			}
			return key, err
		}
		names[a.Name] = true
	}
	return "", nil
}

// checkFile checks an account from a file in dir, where relative paths begin.
func (a *Account) checkFile(dir string) error {
	switch {
	case a.Name == "":
		return errors.New("name: is missing; it becomes the label account")
	case !utf8.ValidString(a.Name):
		return a.mistake("name", "is not valid UTF-8, which a label has to be")
	case utf8.RuneCountInString(a.Name) > maxNameLength:
		return a.mistake("name", "is longer than %d characters", maxNameLength)
	}
	if err := a.Validate(); err != nil {
		return err
	}
	watched := false
	for _, kind := range Kinds {
		j := kind.Jobs(a)
		if j == nil {
			continue
		}
		watched = true
		if j.IDs == nil && len(j.IDFiles) == 0 && j.Discover == nil {
			return a.mistake(kind.Name, "nothing to watch; give it ids, id_files or discover, or ids: [] to leave all to /probe")
		}
		for i, pattern := range j.IDFiles {
			j.IDFiles[i] = filepath.Clean(promconfig.JoinDir(dir, pattern))
		}
	}
	if !watched {
		return errors.New("nothing to watch; give the account embed_jobs or batches")
	}
	return a.checkHTTP(dir)
}

// checkHTTP checks what authenticates requests and carries them.
func (a *Account) checkHTTP(dir string) error {
	const key = "http_client_config"
	c := &a.HTTPClientConfig
	if err := c.Validate(); err != nil {
		return a.mistake(key, "%w", err)
	}
	c.SetDirectory(dir)
	switch {
	case c.FollowRedirects:
		return a.mistake(key+".follow_redirects", "must be false: redirects would carry the key away")
	case c.Authorization == nil:
		return a.mistake(key+".authorization", "is missing, and nothing else gives the API its key; set it to {credentials_file: FILE}")
	case c.Authorization.CredentialsFile != "": // see KeyProblem
	case c.Authorization.Credentials == "":
		return a.mistake(key+".authorization", "holds no key; set credentials_file")
	default:
		if _, err := client.StaticKey(string(c.Authorization.Credentials))(); err != nil {
			return a.mistake(key+".authorization.credentials", "%w; it has to be the API key in one line", err)
		}
	}
	_, err := a.Transport(nil)
	if e, ok := errors.AsType[*fs.PathError](err); ok { // without the path: it could be a key
		what, _, _ := strings.Cut(err.Error(), ": unable to read file ")
		err = fmt.Errorf("%s: %w", what, e.Err)
	}
	if err != nil {
		return a.mistake(key, "%w", err)
	}
	return nil
}
