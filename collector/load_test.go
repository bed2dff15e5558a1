package collector_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/collector"
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

// good is a whole account, of six lines.
const good = head + "    job_ids: [a]\n"

// badFiles are files with a mistake, and the error after the file's name.
var badFiles = []struct{ name, text, want string }{
	{"empty", "", "1: accounts: there are none; list at least one, with name, http_client_config and job_ids"},
	{"no accounts", "\naccounts: []\n", "2: accounts: there are none; list at least one, with name, http_client_config and job_ids"},
	{"a text", "hello\n", "1: must be a mapping of keys to values"},
	{"accounts no list", "accounts: {name: search}\n", "1: accounts: must be a list"},
	{"account no mapping", "accounts:\n  - search\n", "2: accounts[0]: must be a mapping of keys to values"},
	{"syntax", good + "    fetch: [get\n", "7: not YAML: did not find expected ',' or ']'"},
	{"tab", good + "\tfetch: get\n", "7: not YAML: found character that cannot start any token"},
	{"control character", "\x00" + good, "1: not YAML: control characters are not allowed"},
	{"no UTF-8", good + "    fetch: \xff\n", "7: not YAML: invalid leading UTF-8 octet"},
	{"indentation", good + "    timeout: 5s\n   fetch: get\n" + good, "8: not YAML: did not find expected '-' indicator"},
	{"quote", good + "    fetch: \"get\n    timeout: 5s\n", "7: not YAML: found unexpected end of stream"},
	{"two colons", good + "    fetch: get: list\n", "7: not YAML: mapping values are not allowed in this context"},
	{"unknown anchor", good + "    fetch: *get\n", "7: not YAML: an alias (*) without an anchor (&) before it; text that begins with * needs quotes"},
	{"alias of itself", "accounts: &all\n  - <<: *all\n", "2: accounts[0].<<: must be a mapping of keys to values"},
	{"merges itself", "accounts:\n  - &a\n    <<: *a\n", "2: accounts[0].<<: must be a mapping of keys to values"},
	{"second document", good + "---\n" + good, "7: a second document begins; put all accounts into the first"},
	{"unknown key at the top", "account: []\n", "1: account: unknown key; known are accounts"},
	{"unknown key", good + "    refesh_interval: 5s\n", "7: accounts[0].refesh_interval: unknown key; known are name, http_client_config, job_ids, job_id_files, discover, base_url, client_name, fetch, timeout, max_concurrent_requests, requests_per_minute, refresh_interval, settled_interval, max_staleness"},
	{"unknown key of discover", good + "    discover:\n      max_job: 5\n", "8: accounts[0].discover.max_job: unknown key; known are max_age, name, max_jobs"},
	{"unknown key of HTTP", "accounts:\n  - name: a\n    http_client_config:\n      authorization:\n        credential_file: x\n", "5: accounts[0].http_client_config.authorization.credential_file: unknown key; known are type, credentials, credentials_file, credentials_ref"},
	{"unknown key of headers", "accounts:\n  - name: a\n    http_client_config:\n      http_headers:\n        X-Team: {value: a}\n", "5: accounts[0].http_client_config.http_headers.X-Team.value: unknown key; known are values, secrets, files"},
	{"duplicate key", good + "    name: research\n", "7: accounts[0].name: is in line 2 already"},
	{"duplicate header", "accounts:\n  - name: a\n    http_client_config:\n      http_headers:\n        X-Team: {}\n        X-Team: {}\n", "6: accounts[0].http_client_config.http_headers.X-Team: is in line 5 already"},
	{"list as key", good + "    [a, b]: c\n", "7: accounts[0].?: keys must be texts"},
	{"duplicate account", good + strings.TrimPrefix(good, "accounts:\n"), "7: accounts[1].name: \"search\" is the name of accounts[0]; give each its own"},
	{"no name", strings.Replace(good, "name: search", "fetch: get", 1), "2: accounts[0].name: is missing; it becomes the label account"},
	{"empty name", strings.Replace(good, "search", "''", 1), "2: accounts[0].name: is missing; it becomes the label account"},
	{"name no UTF-8", strings.Replace(good, "search", "!!binary /w==", 1), "2: accounts[0].name: is not valid UTF-8, which a label has to be"},
	{"long name", strings.Replace(good, "search", strings.Repeat("é", 513), 1), "2: accounts[0].name: is longer than 512 characters"},
	{"nothing to watch", head, "2: accounts[0]: nothing to watch; give it job_ids, job_id_files or discover"},
	{"nothing in the lists", head + "    job_ids: []\n    job_id_files:\n", "2: accounts[0]: nothing to watch; give it job_ids, job_id_files or discover"},
	{"no authorization", "accounts:\n  - name: a\n    discover:\n", "2: accounts[0].http_client_config.authorization: is missing, and nothing else gives the API its key; set it to {credentials_file: FILE}"},
	{"basic_auth", "accounts:\n  - name: a\n    discover:\n    http_client_config:\n      basic_auth: {username: a}\n", "4: accounts[0].http_client_config.authorization: is missing, and nothing else gives the API its key; set it to {credentials_file: FILE}"},
	{"no key", strings.Replace(good, "credentials_file: good.key", "type: Bearer", 1), "4: accounts[0].http_client_config.authorization: holds no key; set credentials_file"},
	{"both keys", strings.Replace(good, "good.key", "good.key\n        credentials: b", 1), "3: accounts[0].http_client_config: at most one of authorization credentials & credentials_file must be configured"},
	{"key of two lines", strings.Replace(good, "_file: good.key", `: "a\nb"`, 1), "5: accounts[0].http_client_config.authorization.credentials: holds several lines; it has to be the API key in one line"},
	{"missing key file", strings.Replace(good, "good.key", "no.key", 1), "5: accounts[0].http_client_config.authorization.credentials_file: no such file or directory; it names a file, beside this one if it is no whole path, that holds the API key in one line"},
	{"empty key file", strings.Replace(good, "good.key", "empty.key", 1), "5: accounts[0].http_client_config.authorization.credentials_file: DIR/empty.key is empty; it has to hold the API key in one line"},
	{"key file of two lines", strings.Replace(good, "good.key", "long.key", 1), "5: accounts[0].http_client_config.authorization.credentials_file: DIR/long.key holds several lines; it has to hold the API key in one line"},
	{"redirects", strings.Replace(good, "good.key", "good.key\n      follow_redirects: true", 1), "6: accounts[0].http_client_config.follow_redirects: must be false: redirects would carry the key away"},
	{"missing CA", strings.Replace(good, "good.key", "good.key\n      tls_config: {ca_file: no.pem}", 1), "3: accounts[0].http_client_config: unable to read CA cert: unable to read file DIR/no.pem: open DIR/no.pem: no such file or directory"},
	{"bad CA", strings.Replace(good, "good.key", "good.key\n      tls_config: {ca_file: ca.pem}", 1), "3: accounts[0].http_client_config: unable to use specified CA cert file DIR/ca.pem"},
	{"bad proxy", strings.Replace(good, "good.key", "good.key\n      proxy_url: http://user:"+fileKey+"@%zz/", 1), "6: accounts[0].http_client_config.proxy_url: must be a URL such as http://proxy:3128"},
	{"bad TLS version", strings.Replace(good, "good.key", "good.key\n      tls_config: {min_version: TLS9}", 1), "6: accounts[0].http_client_config.tls_config.min_version: must be TLS10, TLS11, TLS12 or TLS13"},
	{"forbidden header", strings.Replace(good, "good.key", "good.key\n      http_headers: {host: {values: [a]}}", 1), "3: accounts[0].http_client_config: setting header \"Host\" is not allowed"},
	{"bad ID", head + "    job_ids:\n      - a\n      - ''\n", "8: accounts[0].job_ids[1]: \"\" is not a job ID"},
	{"ID no UTF-8", head + "    job_ids: [!!binary /w==]\n", "6: accounts[0].job_ids[0]: job ID \"\\xff\" is not valid UTF-8"},
	{"IDs no list", head + "    job_ids: a\n", "6: accounts[0].job_ids: must be a list"},
	{"ID a list", head + "    job_ids: [[a]]\n", "6: accounts[0].job_ids[0]: must be a text"},
	{"bad pattern", head + "    job_id_files: ['jobs/[a.txt']\n", "6: accounts[0].job_id_files[0]: \"jobs/[a.txt\" is not a path or pattern; see https://pkg.go.dev/path/filepath#Match"},
	{"empty pattern", head + "    job_id_files: ['']\n", "6: accounts[0].job_id_files[0]: \"\" is not a path or pattern; see https://pkg.go.dev/path/filepath#Match"},
	{"bad regular expression", head + "    discover:\n      name: nightly-(\n", "7: accounts[0].discover.name: must be a regular expression (RE2); missing closing )"},
	{"bad max_age", head + "    discover: {max_age: 7}\n", "6: accounts[0].discover.max_age: must be a duration such as 30s, 5m or 7d"},
	{"no max_age", head + "    discover: {max_age: 0s}\n", "6: accounts[0].discover.max_age: must be longer than 0s"},
	{"max_jobs 0", head + "    discover: {max_jobs: 0}\n", "6: accounts[0].discover.max_jobs: must be at least 1"},
	{"max_jobs 1.5", head + "    discover: {max_jobs: 1.5}\n", "6: accounts[0].discover.max_jobs: must be a whole number"},
	{"bad base URL", good + "    base_url: api.cohere.com\n", "7: accounts[0].base_url: \"api.cohere.com\" is not of the form https://host or https://host/path"},
	{"key in the base URL", good + "    base_url: https://a:b@api.cohere.com\n", "7: accounts[0].base_url: must not hold a user name or password"},
	{"bad client name", good + "    client_name: \"a\\nb\"\n", "7: accounts[0].client_name: must not hold control characters; it is sent as a header"},
	{"bad fetch", good + "    fetch: all\n", "7: accounts[0].fetch: is \"all\"; it must be get or list"},
	{"bad timeout", good + "    timeout: 10 seconds\n", "7: accounts[0].timeout: must be a duration such as 30s, 5m or 7d"},
	{"no timeout", good + "    timeout: 0s\n", "7: accounts[0].timeout: must be longer than 0s"},
	{"negative duration", good + "    refresh_interval: -5s\n", "7: accounts[0].refresh_interval: must be a duration such as 30s, 5m or 7d"},
	{"duration a list", good + "    settled_interval: [1h]\n", "7: accounts[0].settled_interval: must be a duration such as 30s, 5m or 7d"},
	{"no unit", good + "    max_staleness: 300\n", "7: accounts[0].max_staleness: must be a duration such as 30s, 5m or 7d"},
	{"no concurrent requests", good + "    max_concurrent_requests: 0\n", "7: accounts[0].max_concurrent_requests: must be at least 1"},
	{"negative budget", good + "    requests_per_minute: -1\n", "7: accounts[0].requests_per_minute: must be between 0.000001 and 1000000, or 0 for no limit"},
	{"budget no number", good + "    requests_per_minute: .nan\n", "7: accounts[0].requests_per_minute: must be between 0.000001 and 1000000, or 0 for no limit"},
	{"budget a text", good + "    requests_per_minute: many\n", "7: accounts[0].requests_per_minute: must be a number"},
	{"bool a text", strings.Replace(good, "good.key", "good.key\n      enable_http2: maybe", 1), "6: accounts[0].http_client_config.enable_http2: must be true or false"},

	{"claim", strings.Replace(good, "good.key", "good.key\n      oauth2: {claims: {a: !!int x}}", 1), "6: accounts[0].http_client_config.oauth2.claims.a: must be what its tag (!) says"},

	// A key at a wrong place is not repeated.
	{"key for authorization", strings.Replace(good, "\n        credentials_file: good.key", " "+fileKey, 1), "4: accounts[0].http_client_config.authorization: must be a mapping of keys to values"},
	{"key for its file", strings.Replace(good, "good.key", fileKey, 1), "5: accounts[0].http_client_config.authorization.credentials_file: no such file or directory; it names a file, beside this one if it is no whole path, that holds the API key in one line"},
	{"key as key", strings.Replace(good, "credentials_file: good.key", fileKey+":", 1), "5: accounts[0].http_client_config.authorization.?: unknown key; known are type, credentials, credentials_file, credentials_ref"},
	{"key as list", strings.Replace(good, "_file: good.key", ": ["+fileKey+"]", 1), "5: accounts[0].http_client_config.authorization.credentials: must be a text"},
	{"key as alias", strings.Replace(good, "_file: good.key", ": *"+fileKey, 1), "5: not YAML: an alias (*) without an anchor (&) before it; text that begins with * needs quotes"},
	{"key as number", good + "    timeout: " + fileKey + "\n", "7: accounts[0].timeout: must be a duration such as 30s, 5m or 7d"},
}

func TestLoadBadFile(t *testing.T) {
	for _, tt := range badFiles {
		t.Run(tt.name, func(t *testing.T) {
			dir := configDir(t, tt.text)
			path := filepath.Join(dir, "config.yml")
			_, err := collector.LoadFile(path)
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
	_, err := collector.LoadFile("no.yml")
	if err == nil || err.Error() != "open no.yml: no such file or directory" {
		t.Error(err)
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
    job_ids: [a, b, a]
    job_id_files: [jobs/*.txt, /var/jobs.txt]
    discover: {max_age: 1d, name: nightly-.*, max_jobs: 7}
    base_url: https://example.com/cohere
    client_name: team
    fetch: get
    timeout: 5s
    max_concurrent_requests: 3
    requests_per_minute: 0.5
    refresh_interval: 55s
    settled_interval: 1h
    max_staleness: 15m
  - <<: *search
    name: other
    fetch: list
    discover:
  - name: defaults
    http_client_config: {authorization: {credentials: `+fileKey+`, type: Token}}
    discover:
  - name: bare
    http_client_config:
      bearer_token_file: good.key
      follow_redirects: false
      enable_http2: false
    job_ids: [5]
`)
	c, err := collector.LoadFile(filepath.Join(dir, "config.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if !c.FromFile {
		t.Error("not from a file")
	}

	discover := collector.DefaultDiscover()
	defaults := collector.DefaultAccountConfig()
	defaults.Name = "defaults"
	defaults.HTTPClientConfig = c.Accounts[2].HTTPClientConfig
	defaults.Discover = &discover
	if got := c.Accounts[2]; !reflect.DeepEqual(got, defaults) {
		t.Errorf("got %+v, want %+v", got, defaults)
	}
	if got := c.Accounts[2].HTTPClientConfig.Authorization.Credentials; got != fileKey {
		t.Errorf("key is %q", string(got))
	}
	for _, i := range []int{0, 3} {
		if got, want := c.Accounts[i].HTTPClientConfig.Authorization.CredentialsFile, filepath.Join(dir, "good.key"); got != want {
			t.Errorf("key file is %s, want %s", got, want)
		}
	}
	if got := time.Duration(c.Accounts[0].SettledInterval); got != time.Hour {
		t.Errorf("settled interval is %v", got)
	}
	want := strings.ReplaceAll(`accounts:
    - name: search
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
      job_ids:
        - a
        - b
        - a
      job_id_files:
        - DIR/jobs/*.txt
        - /var/jobs.txt
      discover:
        max_age: 1d
        name: nightly-.*
        max_jobs: 7
      base_url: https://example.com/cohere
      client_name: team
      fetch: get
      timeout: 5s
      max_concurrent_requests: 3
      requests_per_minute: 0.5
      refresh_interval: 55s
      settled_interval: 1h
      max_staleness: 15m
    - name: other
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
      job_ids:
        - a
        - b
        - a
      job_id_files:
        - DIR/jobs/*.txt
        - /var/jobs.txt
      discover:
        max_age: 1w
        name: .*
        max_jobs: 500
      base_url: https://example.com/cohere
      client_name: team
      fetch: list
      timeout: 5s
      max_concurrent_requests: 3
      requests_per_minute: 0.5
      refresh_interval: 55s
      settled_interval: 1h
      max_staleness: 15m
    - name: defaults
      http_client_config:
        authorization:
            type: Token
            credentials: <secret>
        follow_redirects: false
        enable_http2: true
      discover:
        max_age: 1w
        name: .*
        max_jobs: 500
      base_url: https://api.cohere.com
      client_name: cohere_exporter
      timeout: 10s
      max_concurrent_requests: 20
      requests_per_minute: 0
      refresh_interval: 0s
      settled_interval: 0s
      max_staleness: 5m
    - name: bare
      http_client_config:
        authorization:
            type: Bearer
            credentials_file: DIR/good.key
        follow_redirects: false
        enable_http2: false
      job_ids:
        - "5"
      base_url: https://api.cohere.com
      client_name: cohere_exporter
      timeout: 10s
      max_concurrent_requests: 20
      requests_per_minute: 0
      refresh_interval: 0s
      settled_interval: 0s
      max_staleness: 5m
`, "DIR", dir)
	if got := c.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// The reference in deploy loads, and names every key of ours.
func TestReference(t *testing.T) {
	data, err := os.ReadFile("../deploy/cohere_exporter.yml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	dir := configDir(t, text)
	for _, name := range []string{"search.key", "research.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fileKey), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := collector.LoadFile(filepath.Join(dir, "config.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Accounts[0].MaxStaleness; got != model.Duration(15*time.Minute) {
		t.Errorf("max_staleness is %v", got)
	}
	for _, v := range []any{collector.Config{}, collector.AccountConfig{}, collector.Discover{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if key != "-" && !regexp.MustCompile(`(?m)^[ -]*`+key+`:`).MatchString(text) {
				t.Errorf("%s is not in it", key)
			}
		}
	}
}
