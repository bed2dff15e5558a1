package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	promconfig "github.com/prometheus/common/config"

	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

const fileKey = "Vw3kQ9xT7rLm2ZbYc8NfHs5JdPg4Ua6EoRi1KtXq"

// configDir returns a directory with key files, and config.yml of the text.
func configDir(t testing.TB, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{
		"config.yml": text,
		"good.key":   fileKey + "\n",
		"empty.key":  " \n",
		"long.key":   fileKey + "\n" + fileKey + "\n",
		"ca.pem":     "no certificate",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// head is an account without anything to watch, of five lines.
const head = `accounts:
  - name: search
    http_client_config:
      authorization:
        credentials_file: good.key
`

// jobs is an account that watches nothing, of six lines.
const jobs = head + "    embed_jobs:\n"

// good is a whole account, of seven lines.
const good = head + "    embed_jobs:\n      ids: [a]\n"

// badFiles are files with a mistake, and the error after the name of the file.
var badFiles = []struct{ name, text, want string }{
	{"empty", "", "1: accounts: there are none; list at least one, with name, http_client_config and embed_jobs or batches"},
	{"no accounts", "\naccounts: []\n", "2: accounts: there are none; list at least one, with name, http_client_config and embed_jobs or batches"},
	{"a comment only", "# accounts:\n", "1: accounts: there are none; list at least one, with name, http_client_config and embed_jobs or batches"},
	{"null", "~\n", "1: accounts: there are none; list at least one, with name, http_client_config and embed_jobs or batches"},
	{"a text", "hello\n", "1: must be a mapping of keys to values"},
	{"accounts no list", "accounts: {name: search}\n", "1: accounts: must be a list"},
	{"account no mapping", "accounts:\n  - search\n", "2: must be a mapping of keys to values"},
	{"syntax", good + "      fetch: [get\n", "9: not YAML: did not find expected ',' or ']' (while parsing a flow sequence that begins in line 8)"},
	{"tab", good + "\tfetch: get\n", "8: not YAML: found character that cannot start any token"},
	{"control character", "\x00" + good, "1: not YAML: control characters are not allowed (value: 0)"},
	{"no UTF-8", good + "      fetch: \xff\n", "8: not YAML: invalid leading UTF-8 octet (value: 255)"},
	{"indentation", good + "    timeout: 5s\n   fetch: get\n" + good, "9: not YAML: did not find expected '-' indicator (while parsing a block collection that begins in line 2)"},
	{"quote", good + "      fetch: \"get\n    timeout: 5s\n", "10: not YAML: found unexpected end of stream (while scanning a quoted scalar that begins in line 8)"},
	{"two colons", good + "      fetch: get: list\n", "8: not YAML: mapping values are not allowed in this context"},
	{"unknown anchor", good + "      fetch: *get\n", "8: an alias (*) without an anchor (&) before it; text that begins with * needs quotes"},
	{"alias of itself", "accounts: &all\n  - <<: *all\n", "2: << takes a mapping, or a list of mappings"},
	{"merges itself", "accounts:\n  - &a\n    <<: *a\n", "2: an anchor (&) must not hold its own alias (*)"},
	{"merge of a text", "accounts:\n  - <<: search\n", "2: << takes a mapping, or a list of mappings"},
	{"second document", good + "---\n" + good, "8: a second document begins; put all accounts into the first"},
	{"unknown key at the top", "account: []\n", "1: unknown key account"},
	{"unknown key", good + "      refesh_interval: 5s\n", "8: unknown key refesh_interval"},
	{"unknown key of discover", good + "      discover:\n      max_job: 5\n", "9: unknown key max_job"},
	{"unknown key of HTTP", "accounts:\n  - name: a\n    http_client_config:\n      authorization:\n        credential_file: x\n", "5: authorization: unknown key credential_file"},
	{"unknown key of headers", "accounts:\n  - name: a\n    http_client_config:\n      http_headers:\n        X-Team: {value: a}\n", "5: unknown key value"},
	{"duplicate key", good + "    name: research\n", "8: name is in line 2 already"},
	{"duplicate field in another spelling", good + "      !!binary aWRz: [a]\n", "8: unknown key"},
	{"duplicate header", "accounts:\n  - name: a\n    http_client_config:\n      http_headers:\n        X-Team: {}\n        X-Team: {}\n", "6: X-Team is in line 5 already"},
	{"list as key", good + "    [a, b]: c\n", "8: must be a string"},
	{"duplicate account", good + strings.TrimPrefix(good, "accounts:\n"), "8: name: \"search\" is the name of another account; give each its own"},
	{"no name", strings.Replace(good, "name: search", "timeout: 5s", 1), "2: name: is missing; it becomes the label account"},
	{"empty name", strings.Replace(good, "search", "''", 1), "2: name: is missing; it becomes the label account"},
	{"name no UTF-8", strings.Replace(good, "search", "!!binary /w==", 1), "2: name: is not valid UTF-8, which a label has to be"},
	{"long name", strings.Replace(good, "search", strings.Repeat("é", 513), 1), "2: name: is longer than 512 characters"},
	{"nothing to watch", head, "2: nothing to watch; give the account embed_jobs or batches"},
	{"nothing below the kind", jobs, "6: embed_jobs: nothing to watch; give it ids, id_files or discover, or ids: [] to leave all to /probe"},
	{"nothing in the lists", jobs + "      ids:\n      id_files: []\n", "7: embed_jobs: nothing to watch; give it ids, id_files or discover, or ids: [] to leave all to /probe"},
	{"no authorization", "accounts:\n  - name: a\n    embed_jobs: {discover: }\n", "2: http_client_config.authorization: is missing, and nothing else gives the API its key; set it to {credentials_file: FILE}"},
	{"basic_auth", "accounts:\n  - name: a\n    embed_jobs: {discover: }\n    http_client_config:\n      basic_auth: {username: a}\n", "5: http_client_config.authorization: is missing, and nothing else gives the API its key; set it to {credentials_file: FILE}"},
	{"no key", strings.Replace(good, "credentials_file: good.key", "type: Bearer", 1), "5: http_client_config.authorization: holds no key; set credentials_file"},
	{"both keys", strings.Replace(good, "good.key", "good.key\n        credentials: b", 1), "4: http_client_config: at most one of authorization credentials & credentials_file must be configured"},
	{"key with its scheme", strings.Replace(good, "_file: good.key", ": Bearer "+fileKey, 1), "5: http_client_config.authorization.credentials: begins with \"Bearer \"; leave that out; it has to be the API key in one line"},
	{"key in quotes", strings.Replace(good, "_file: good.key", ": '\""+fileKey+"\"'", 1), "5: http_client_config.authorization.credentials: is in quotes; leave them out; it has to be the API key in one line"},
	{"key not expanded", strings.Replace(good, "_file: good.key", ": ${CO_API_KEY}", 1), "5: http_client_config.authorization.credentials: holds a variable that nobody expanded; write its value; it has to be the API key in one line"},
	{"key of two lines", strings.Replace(good, "_file: good.key", `: "a\nb"`, 1), "5: http_client_config.authorization.credentials: holds several lines; it has to be the API key in one line"},
	{"redirects", strings.Replace(good, "good.key", "good.key\n      follow_redirects: true", 1), "6: http_client_config.follow_redirects: must be false: redirects would carry the key away"},
	{"missing CA", strings.Replace(good, "good.key", "good.key\n      tls_config: {ca_file: no.pem}", 1), "4: http_client_config: unable to read CA cert: no such file or directory"},
	{"bad CA", strings.Replace(good, "good.key", "good.key\n      tls_config: {ca_file: ca.pem}", 1), "4: http_client_config: unable to use specified CA cert file DIR/ca.pem"},
	{"bad proxy", strings.Replace(good, "good.key", "good.key\n      proxy_url: http://user:"+fileKey+"@%zz/", 1), "6: proxy_url: must be a URL such as http://proxy:3128"},
	{"bad TLS version", strings.Replace(good, "good.key", "good.key\n      tls_config: {min_version: TLS9}", 1), "6: min_version: must be TLS10, TLS11, TLS12 or TLS13"},
	{"forbidden header", strings.Replace(good, "good.key", "good.key\n      http_headers: {host: {values: [a]}}", 1), "4: http_client_config: setting header \"Host\" is not allowed"},
	{"certificate without its key", strings.Replace(good, "good.key", "good.key\n      tls_config: {cert: a}", 1), "6: tls_config: exactly one of key or key_file must be configured when a client certificate is configured"},
	{"proxy header without a proxy", strings.Replace(good, "good.key", "good.key\n      proxy_connect_header: {X-Proxy: [a]}", 1), "4: http_client_config: if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured"},
	{"bad ID", jobs + "      ids:\n        - a\n        - ''\n", "9: embed_jobs.ids[1]: \"\" is not a job ID"},
	{"ID no UTF-8", jobs + "      ids: [!!binary /w==]\n", "7: embed_jobs.ids[0]: job ID \"\\xff\" is not valid UTF-8"},
	{"IDs no list", jobs + "      ids: a\n", "7: ids: must be a list"},
	{"IDs in one entry", jobs + "      ids: ['a, b']\n", "7: embed_jobs.ids[0]: job ID \"a, b\" holds a comma or white space; write one ID in each entry"},
	{"IDs below each other in one entry", jobs + "      ids:\n        - a\n          b\n", "8: embed_jobs.ids[0]: job ID \"a b\" holds a comma or white space; write one ID in each entry"},
	{"ID in quotes", jobs + "      ids: [\"'a'\"]\n", "7: embed_jobs.ids[0]: job ID \"'a'\" is in quotes; leave them out"},
	{"ID not expanded", jobs + "      ids:\n        - a\n        - ${JOB_ID}\n", "9: embed_jobs.ids[1]: job ID \"${JOB_ID}\" holds a variable that nobody expanded; write its value"},
	{"ID with an invisible character", jobs + "      ids: [\"a\\u200b\"]\n", "7: embed_jobs.ids[0]: job ID \"a\\u200b\" holds the invisible character U+200B; leave it out"},
	{"ID a URL", jobs + "      ids: ['https://api.cohere.com/v1/embed-jobs/a']\n", "7: embed_jobs.ids[0]: a URL is not a job ID; write its last part, \"a\""},
	{"ID a list", jobs + "      ids: [[a]]\n", "7: must be a string"},
	{"bad pattern", jobs + "      id_files: ['jobs/[a.txt']\n", "7: embed_jobs.id_files[0]: \"jobs/[a.txt\" is not a path or pattern; see https://pkg.go.dev/path/filepath#Match"},
	{"empty pattern", jobs + "      id_files: ['']\n", "7: embed_jobs.id_files[0]: \"\" is not a path or pattern; see https://pkg.go.dev/path/filepath#Match"},
	{"bad regular expression", jobs + "      discover:\n        name: nightly-(\n", "8: name: must be a regular expression (RE2); missing closing )"},
	{"bad max_age", jobs + "      discover: {max_age: 7}\n", "7: max_age: must be a duration such as 30s, 5m or 7d"},
	{"no max_age", jobs + "      discover: {max_age: 0s}\n", "7: embed_jobs.discover.max_age: must be longer than 0s"},
	{"max_jobs 0", jobs + "      discover: {max_jobs: 0}\n", "7: embed_jobs.discover.max_jobs: must be at least 1"},
	{"max_jobs 1.5", jobs + "      discover: {max_jobs: 1.5}\n", "7: max_jobs: must be a whole number"},
	{"bad base URL", good + "    base_url: api.cohere.com\n", "8: base_url: \"api.cohere.com\" is not of the form https://host or https://host/path"},
	{"base URL with a version", good + "    base_url: https://api.cohere.com/v1\n", "8: base_url: \"https://api.cohere.com/v1\" holds /v1, which every request adds; write \"https://api.cohere.com\""},
	{"key in the base URL", good + "    base_url: https://a:b@api.cohere.com\n", "8: base_url: must not hold a user name or password"},
	{"bad client name", good + "    client_name: \"a\\nb\"\n", "8: client_name: must not hold control characters; it is sent as a header"},
	{"bad fetch", good + "      fetch: all\n", "8: embed_jobs.fetch: must be get or list, not \"all\""},
	{"bad timeout", good + "    timeout: 10 seconds\n", "8: timeout: must be a duration such as 30s, 5m or 7d"},
	{"no timeout", good + "    timeout: 0s\n", "8: timeout: must be longer than 0s"},
	{"negative duration", good + "      refresh_interval: -5s\n", "8: refresh_interval: must be a duration such as 30s, 5m or 7d"},
	{"duration a list", good + "      settled_interval: [1h]\n", "8: settled_interval: must be a string"},
	{"no unit", good + "      max_staleness: 300\n", "8: max_staleness: must be a duration such as 30s, 5m or 7d"},
	{"no concurrent requests", good + "      max_concurrent_requests: 0\n", "8: embed_jobs.max_concurrent_requests: must be at least 1"},
	{"negative budget", good + "      requests_per_minute: -1\n", "8: embed_jobs.requests_per_minute: must be between 0.000001 and 1000000, or 0 for no limit"},
	{"budget no number", good + "      requests_per_minute: .nan\n", "8: embed_jobs.requests_per_minute: must be between 0.000001 and 1000000, or 0 for no limit"},
	{"budget a text", good + "      requests_per_minute: many\n", "8: requests_per_minute: must be a number"},
	{"bool a text", strings.Replace(good, "good.key", "good.key\n      enable_http2: maybe", 1), "6: enable_http2: must be true or false"},

	{"setting of jobs at the account", good + "    fetch: list\n", "8: unknown key fetch"},
	{"claim", strings.Replace(good, "good.key", "good.key\n      oauth2: {claims: {a: !!int x}}", 1), "6: oauth2: must be what its tag (!) says"},

	// A key at a wrong place is not repeated.
	{"key for authorization", strings.Replace(good, "\n        credentials_file: good.key", " "+fileKey, 1), "4: authorization: must be a mapping of keys to values"},
	{"key as key", strings.Replace(good, "credentials_file: good.key", fileKey+":", 1), "5: authorization: unknown key"},
	{"key as list", strings.Replace(good, "_file: good.key", ": ["+fileKey+"]", 1), "5: credentials: must not be a list"},
	{"key as alias", strings.Replace(good, "_file: good.key", ": *"+fileKey, 1), "5: an alias (*) without an anchor (&) before it; text that begins with * needs quotes"},
	{"key as TLS version", strings.Replace(good, "good.key", "good.key\n      tls_config: {min_version: "+fileKey+"}", 1), "6: min_version: must be TLS10, TLS11, TLS12 or TLS13"},
	{"key as TLS key", strings.Replace(good, "good.key", "good.key\n      tls_config: {cert: a, key: "+fileKey+"}", 1), "4: http_client_config: unable to use specified client cert (inline) & key (inline): tls: failed to find any PEM data in certificate input"},
	{"key for a TLS key file", strings.Replace(good, "good.key", "good.key\n      tls_config: {cert: a, key_file: "+fileKey+"}", 1), "4: http_client_config: unable to read specified client key: no such file or directory"},
	{"key for a CA", strings.Replace(good, "good.key", "good.key\n      tls_config: {ca_file: "+fileKey+"}", 1), "4: http_client_config: unable to read CA cert: no such file or directory"},
	{"key as tag", good + "      max_concurrent_requests: !" + fileKey + " 3\n", "8: max_concurrent_requests: must be a whole number"},
	{"key as integer", good + "      max_concurrent_requests: " + fileKey + "\n", "8: max_concurrent_requests: must be a whole number"},
	{"key as key twice", strings.Replace(good, "credentials_file: good.key", fileKey+": a\n        "+fileKey+": a", 1), "6: this key is in line 5 already"},
	{"key as anchor", "accounts: &" + fileKey + "\n  - *" + fileKey + "\n", "1: accounts: must not be a list"},
	{"key as regular expression", jobs + "      discover: {name: " + fileKey + "(}\n", "7: name: must be a regular expression (RE2); missing closing )"},
	{"key as number", good + "    timeout: " + fileKey + "\n", "8: timeout: must be a duration such as 30s, 5m or 7d"},
}

func TestLoadBadFile(t *testing.T) {
	for _, tt := range badFiles {
		t.Run(tt.name, func(t *testing.T) {
			dir := configDir(t, tt.text)
			path := filepath.Join(dir, "config.yml")
			_, err := config.LoadFile(path)
			if err == nil {
				t.Fatal("no error")
			}
			want := path + ":" + strings.ReplaceAll(tt.want, "DIR", dir)
			if err.Error() != want {
				t.Errorf("got  %v\nwant %v", err, want)
			}
		})
	}
}

func TestLoadMissingFile(t *testing.T) {
	_, err := config.LoadFile("no.yml")
	if err == nil || err.Error() != "open no.yml: no such file or directory" {
		t.Error(err)
	}
}

// Mappings that merge each other twice double with each line.
func TestLoadNestedMerges(t *testing.T) {
	var text strings.Builder
	text.WriteString("accounts:\n  - &a0 {name: search}\n")
	for i := range 60 {
		fmt.Fprintf(&text, "  - &a%d {<<: [*a%d, *a%d]}\n", i+1, i, i)
	}
	path := filepath.Join(configDir(t, text.String()), "config.yml")
	_, err := config.LoadFile(path)
	if want := path + ":10: too many aliases (*)"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestLoadGoodFile(t *testing.T) {
	dir := configDir(t, `accounts:
  - &search
    name: search
    http_client_config:
      authorization: {credentials_file: good.key}
      proxy_url: http://user:`+fileKey+`@proxy:3128
      proxy_connect_header: {X-Proxy: [`+fileKey+`]}
      http_headers:
        X-Team: {values: [a], secrets: [`+fileKey+`]}
    base_url: https://example.com/cohere
    client_name: team
    timeout: 5s
    embed_jobs: &jobs
      ids: [a, "b\n", a]
      id_files: [jobs/*.txt, /var/jobs.txt]
      discover: {max_age: 1d, name: nightly-.*, max_jobs: 7}
      fetch: get
      max_concurrent_requests: 3
      requests_per_minute: 0.5
      refresh_interval: 55s
      settled_interval: 1h
      max_staleness: 15m
  - <<: *search
    name: other
    embed_jobs:
      <<: *jobs
      fetch: list
      discover:
  - name: defaults
    http_client_config: {authorization: {credentials: `+fileKey+`, type: Token}}
    embed_jobs:
      discover:
  - name: bare
    http_client_config:
      bearer_token_file: missing.key # no key is no mistake of the file
      follow_redirects: false
      enable_http2: false
    timeout:
    embed_jobs:
      ids: [5, ]
    batches: {ids: []} # only probed
`)
	c, err := config.LoadFile(filepath.Join(dir, "config.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if !c.FromFile {
		t.Error("not from a file")
	}

	discover := config.DefaultDiscover()
	jobs := config.DefaultJobs()
	jobs.Discover = &discover
	defaults := config.Default()
	defaults.Name = "defaults"
	defaults.HTTPClientConfig.Authorization = &promconfig.Authorization{Type: "Token", Credentials: fileKey}
	defaults.EmbedJobs = &jobs
	if got := c.Accounts[2]; !reflect.DeepEqual(got, defaults) {
		t.Errorf("got %+v, want %+v", got, defaults)
	}
	want := strings.ReplaceAll(`accounts:
- name: search
  base_url: https://example.com/cohere
  client_name: team
  timeout: 5s
  embed_jobs:
    ids:
    - a
    - b
    - a
    id_files:
    - DIR/jobs/*.txt
    - /var/jobs.txt
    discover:
      max_age: 1d
      name: nightly-.*
      max_jobs: 7
    fetch: get
    max_concurrent_requests: 3
    requests_per_minute: 0.5
    refresh_interval: 55s
    settled_interval: 1h
    max_staleness: 15m
  http_client_config:
    authorization:
      type: Bearer
      credentials_file: DIR/good.key
    follow_redirects: false
    enable_http2: true
    proxy_url: http://user:xxxxx@proxy:3128
    proxy_connect_header:
      X-Proxy:
      - <secret>
    http_headers:
      X-Team:
        values:
        - a
        secrets:
        - <secret>
- name: other
  base_url: https://example.com/cohere
  client_name: team
  timeout: 5s
  embed_jobs:
    ids:
    - a
    - b
    - a
    id_files:
    - DIR/jobs/*.txt
    - /var/jobs.txt
    discover:
      max_age: 1w
      name: .*
      max_jobs: 500
    fetch: list
    max_concurrent_requests: 3
    requests_per_minute: 0.5
    refresh_interval: 55s
    settled_interval: 1h
    max_staleness: 15m
  http_client_config:
    authorization:
      type: Bearer
      credentials_file: DIR/good.key
    follow_redirects: false
    enable_http2: true
    proxy_url: http://user:xxxxx@proxy:3128
    proxy_connect_header:
      X-Proxy:
      - <secret>
    http_headers:
      X-Team:
        values:
        - a
        secrets:
        - <secret>
- name: defaults
  base_url: https://api.cohere.com
  client_name: cohere_exporter
  timeout: 10s
  embed_jobs:
    discover:
      max_age: 1w
      name: .*
      max_jobs: 500
    max_concurrent_requests: 20
    requests_per_minute: 40
    refresh_interval: 0s
    settled_interval: 0s
    max_staleness: 5m
  http_client_config:
    authorization:
      type: Token
      credentials: <secret>
    follow_redirects: false
    enable_http2: true
- name: bare
  base_url: https://api.cohere.com
  client_name: cohere_exporter
  timeout: 10s
  embed_jobs:
    ids:
    - '5'
    max_concurrent_requests: 20
    requests_per_minute: 40
    refresh_interval: 0s
    settled_interval: 0s
    max_staleness: 5m
  batches:
    max_concurrent_requests: 20
    requests_per_minute: 40
    refresh_interval: 0s
    settled_interval: 0s
    max_staleness: 5m
  http_client_config:
    authorization:
      type: Bearer
      credentials_file: DIR/missing.key
    follow_redirects: false
    enable_http2: false
`, "DIR", dir)
	if got := c.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// The README's file loads, and names every key of ours.
func TestReference(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), "\n```yaml\naccounts:\n")
	if !found {
		t.Fatal("README has no configuration file")
	}
	text, _, _ = strings.Cut("accounts:\n"+text, "```")
	c, err := config.LoadFile(filepath.Join(configDir(t, text), "config.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Duration(c.Accounts[0].EmbedJobs.MaxStaleness); got != 15*time.Minute {
		t.Errorf("max_staleness is %v", got)
	}
	if c.Accounts[1].EmbedJobs.Discover == nil {
		t.Error("discover without a value does not count")
	}
	for _, v := range []any{config.Config{}, config.Account{}, config.Jobs{}, config.Discover{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if key != "-" && !regexp.MustCompile(`(^|[\s{])`+key+`:`).MatchString(text) {
				t.Errorf("%s is not in it", key)
			}
		}
	}
}
