package deploy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"io"
	"math"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the files that are made from others")

const (
	kubernetesBase     = "kubernetes/base"
	kubernetesScaleOut = "kubernetes/overlays/scale-out"
	kubernetesSecured  = "kubernetes/overlays/secured"
)

// exporters are the folders that deploy some.
var exporters = []string{kubernetesBase, kubernetesScaleOut, kubernetesSecured}

// prometheusRule turns rule files into a PrometheusRule, comments included.
func prometheusRule(t *testing.T, files ...string) []byte {
	t.Helper()
	var rule bytes.Buffer
	rule.WriteString(`# Made from deploy/prometheus/{alerts,recording}.yml; after a change there:
#   go test ./deploy -run KubernetesRules -update
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: cohere-exporter
  labels:
    app.kubernetes.io/name: cohere_exporter
spec:
  groups:
`)
	for _, file := range files {
		_, groups, ok := strings.Cut("\n"+string(readFile(t, file)), "\ngroups:\n")
		if !ok {
			t.Fatalf("%s has no groups", file)
		}
		for line := range strings.Lines(groups) {
			if strings.TrimSpace(line) != "" {
				rule.WriteString("  ")
			}
			rule.WriteString(line)
		}
	}
	return rule.Bytes()
}

// The rules that the Prometheus Operator loads are those that promtool tests.
func TestKubernetesRules(t *testing.T) {
	sources := []string{"prometheus/alerts.yml", "prometheus/recording.yml"}
	const file = kubernetesBase + "/monitoring/prometheusrule.yaml"
	if *update {
		if err := os.WriteFile(file, prometheusRule(t, sources...), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	type rules struct {
		Groups []any `yaml:"groups"`
	}
	var want rules
	for _, source := range sources {
		var r rules
		unmarshal(t, source, &r)
		want.Groups = append(want.Groups, r.Groups...)
	}
	var got struct {
		Spec rules `yaml:"spec"`
	}
	unmarshal(t, file, &got)
	if len(want.Groups) == 0 || !reflect.DeepEqual(got.Spec, want) {
		t.Errorf("%s differs from %s: run go test ./deploy -run KubernetesRules -update", file, strings.Join(sources, " and "))
	}
}

// A deployment holds what the policy below speaks of.
type deployment struct {
	Metadata metadata
	Spec     struct {
		Replicas int
		Strategy struct{ Type string }
		Template struct {
			Metadata metadata
			Spec     pod
		}
	}
}

type metadata struct {
	Name      string
	Namespace string
	Labels    map[string]string
}

type pod struct {
	AutomountServiceAccountToken *bool `yaml:"automountServiceAccountToken"`
	HostNetwork                  bool  `yaml:"hostNetwork"`
	HostPID                      bool  `yaml:"hostPID"`
	HostIPC                      bool  `yaml:"hostIPC"`
	SecurityContext              struct {
		RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
		SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
		IDs            map[string]any        `yaml:",inline"`
	} `yaml:"securityContext"`
	Containers []container
	Volumes    []struct {
		Projected struct {
			DefaultMode int `yaml:"defaultMode"`
			Sources     []struct {
				ConfigMap struct{ Name string } `yaml:"configMap"`
				Secret    struct {
					Name  string
					Items []struct{ Path string }
				}
			}
		}
		Other map[string]any `yaml:",inline"`
	}
}

type container struct {
	Image           string
	Args            []string
	Env             []struct{ Name, Value string }
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Privileged               bool
		Capabilities             struct{ Add, Drop []string }
	} `yaml:"securityContext"`
	LivenessProbe  probe `yaml:"livenessProbe"`
	ReadinessProbe probe `yaml:"readinessProbe"`
	Resources      struct{ Requests, Limits map[string]string }
}

type probe struct {
	HTTPGet   struct{ Path, Port string } `yaml:"httpGet"`
	TCPSocket struct{ Port string }       `yaml:"tcpSocket"`
}

func TestKubernetesSecurity(t *testing.T) {
	for _, folder := range exporters {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			for _, d := range built(t, folder).deployments {
				t.Run(d.Metadata.Name, func(t *testing.T) { checkSecurity(t, d.Spec.Template.Spec, folder == kubernetesSecured) })
			}
		})
	}
}

func checkSecurity(t *testing.T, p pod, password bool) {
	rules := map[string]bool{
		"no service-account token": p.AutomountServiceAccountToken != nil && !*p.AutomountServiceAccountToken,
		"no namespace of the host": !p.HostNetwork && !p.HostPID && !p.HostIPC,
		"not root":                 p.SecurityContext.RunAsNonRoot,
		"no fixed user or group":   len(p.SecurityContext.IDs) == 0, // OpenShift's restricted policy gives its own
		"seccomp RuntimeDefault":   p.SecurityContext.SeccompProfile.Type == "RuntimeDefault",
		"one container":            len(p.Containers) == 1,
	}
	for _, v := range p.Volumes {
		rules["projected volumes only"] = len(v.Projected.Sources) > 0 && len(v.Other) == 1 // its name
		rules["files that any user may read"] = v.Projected.DefaultMode == 0o444
	}
	for _, c := range p.Containers {
		s := c.SecurityContext
		rules["no privilege escalation"] = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation && !s.Privileged
		rules["read-only root"] = s.ReadOnlyRootFilesystem
		rules["no capabilities"] = slices.Equal(s.Capabilities.Drop, []string{"ALL"}) && len(s.Capabilities.Add) == 0
		if password {
			rules["probes"] = c.LivenessProbe.TCPSocket.Port == "http" && c.ReadinessProbe.TCPSocket.Port == "http" &&
				c.LivenessProbe.HTTPGet.Path == "" && c.ReadinessProbe.HTTPGet.Path == ""
		} else {
			rules["probes"] = c.LivenessProbe.HTTPGet.Path == "/-/healthy" && c.ReadinessProbe.HTTPGet.Path == "/-/ready"
		}
		rules["resources"] = c.Resources.Requests["cpu"] != "" && c.Resources.Requests["memory"] != "" &&
			c.Resources.Limits["memory"] != ""
		limit, memory := mebibytes(c.Resources.Limits["memory"], "Mi"), 0.0
		if len(c.Env) == 1 && c.Env[0].Name == "GOMEMLIMIT" { // and no key
			memory = mebibytes(c.Env[0].Value, "MiB")
		}
		rules["GOMEMLIMIT, alone, and nine tenths of the limit"] = math.Abs(memory/limit-0.9) < 0.01
		rules["an image that somebody has to fill in"] = c.Image == "REGISTRY/cohere_exporter:VERSION"
	}
	for rule, ok := range rules {
		if !ok {
			t.Errorf("violated: %s", rule)
		}
	}
}

func mebibytes(size, unit string) float64 {
	n, _ := strconv.ParseFloat(strings.TrimSuffix(size, unit), 64)
	return n
}

// With TLS and basic auth the exporter is started with what the ServiceMonitor
// scrapes it with, and both of the Secrets that the comment creates.
func TestKubernetesSecured(t *testing.T) {
	o := built(t, kubernetesSecured)
	pod := o.deployments[0].Spec.Template.Spec
	if args := strings.Join(pod.Containers[0].Args, " "); !strings.Contains(args, "--web.config.file=/etc/cohere_exporter_web/web.yml") {
		t.Errorf("the exporter runs with %s", args)
	}
	e := o.monitor.Spec.Endpoints[0]
	if e.Scheme != "https" || e.TLSConfig.CA.Secret.Key == "" || e.BasicAuth.Username.Key == "" || e.BasicAuth.Password.Key == "" {
		t.Errorf("the ServiceMonitor scrapes with %+v", e)
	}
	comment := string(readFile(t, kubernetesSecured+"/kustomization.yaml"))
	for _, name := range []string{
		pod.Volumes[1].Projected.Sources[0].Secret.Name,
		e.TLSConfig.CA.Secret.Name, e.BasicAuth.Username.Name, e.BasicAuth.Password.Name,
	} {
		if !strings.Contains(comment, "kubectl create secret generic "+name+" ") {
			t.Errorf("nobody creates the Secret %q", name)
		}
	}

	// The exporter accepts the example, once there are a hash and a certificate.
	dir := t.TempDir()
	exporter := filepath.Join(dir, "cohere_exporter")
	run(t, "go", "build", "-o", exporter, "..")
	copyFile(t, kubernetesSecured+"/web.example.yml", dir+"/web.yml", `HASH`, "$$2a$$04$$gNL/XvqyUrAl2uFZLzaXNuc9rHH8DDRchO0d0k.mOdH1nUuEMI65S")
	certificate, key := newCertificate(t, "cohere-exporter")
	write(t, dir+"/tls.crt", certificate)
	write(t, dir+"/tls.key", key)
	address := start(t, exporter, nil, "--demo", "--web.listen-address=127.0.0.1:0", "--web.config.file="+dir+"/web.yml").listening(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(certificate))
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: e.TLSConfig.ServerName}}}
	for path, want := range map[string]int{"/-/healthy": http.StatusUnauthorized, "/metrics": http.StatusOK} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want == http.StatusOK {
			req.SetBasicAuth("prometheus", "correct horse")
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
}

// newCertificate makes a certificate for a host, and its key, as PEM.
func newCertificate(t *testing.T, host string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// The label by which Prometheus selects is set once, and reaches both.
func TestKubernetesSelectionLabel(t *testing.T) {
	var k struct {
		Labels []struct{ Pairs map[string]string }
	}
	unmarshal(t, kubernetesBase+"/monitoring/kustomization.yaml", &k)
	for _, folder := range exporters {
		o := built(t, folder)
		if !matches(k.Labels[0].Pairs, o.monitor.Metadata.Labels) || !matches(k.Labels[0].Pairs, o.rule.Metadata.Labels) {
			t.Errorf("%s: %v does not select %v and %v", folder, k.Labels[0].Pairs, o.monitor.Metadata.Labels, o.rule.Metadata.Labels)
		}
	}
}

// A route, and an inhibition, as Alertmanager has them.
type (
	route struct {
		Matchers       []string `yaml:"matchers"`
		Receiver       string   `yaml:"receiver"`
		GroupBy        []string `yaml:"group_by"`
		GroupWait      string   `yaml:"group_wait"`
		GroupInterval  string   `yaml:"group_interval"`
		RepeatInterval string   `yaml:"repeat_interval"`
		Routes         []route  `yaml:"routes"`
	}
	inhibition struct {
		Source []string `yaml:"source_matchers"`
		Target []string `yaml:"target_matchers"`
		Equal  []string `yaml:"equal"`
	}
)

// The operator's form of the Alertmanager configuration says the same.
func TestAlertmanagerConfigOfKubernetes(t *testing.T) {
	var want struct {
		Route        route        `yaml:"route"`
		InhibitRules []inhibition `yaml:"inhibit_rules"`
	}
	unmarshal(t, alertmanagerFile, &want)

	text := string(readFile(t, "kubernetes/alertmanager/alertmanagerconfig.yaml"))
	text = regexp.MustCompile(`\{name: (\w+), matchType: "(=~?)", value: (.+)\}`).ReplaceAllString(text, `'$1$2"$3"'`)
	for camel, snake := range map[string]string{
		"groupBy": "group_by", "groupWait": "group_wait", "groupInterval": "group_interval", "repeatInterval": "repeat_interval",
		"inhibitRules": "inhibit_rules", "sourceMatch": "source_matchers", "targetMatch": "target_matchers",
	} {
		text = strings.ReplaceAll(text, camel+":", snake+":")
	}
	got := want
	got.Route, got.InhibitRules = route{}, nil
	var config struct{ Spec any }
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	spec, err := yaml.Marshal(config.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(spec, &got); err != nil {
		t.Fatal(err)
	}
	if len(want.InhibitRules) == 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("the operator's form is\n%+v\nand Alertmanager's\n%+v", got, want)
	}
}

// A key that two processes ask with has its budget twice, or half of it each.
func TestEachKeyIsAskedByOneExporter(t *testing.T) {
	for _, folder := range exporters {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			objects := built(t, folder)
			accounts, secrets := map[string]string{}, map[string]string{}
			for _, d := range objects.deployments {
				name := d.Metadata.Name
				if d.Spec.Replicas != 1 || d.Spec.Strategy.Type != "Recreate" {
					t.Errorf("%s may run twice", name)
				}
				var config accountsFile
				keys := map[string]bool{}
				for _, source := range d.Spec.Template.Spec.Volumes[0].Projected.Sources {
					if text, ok := objects.configs[source.ConfigMap.Name]; ok {
						strictly(t, []byte(text), &config)
					}
					for _, item := range source.Secret.Items {
						keys[item.Path] = true
					}
					if secret := source.Secret.Name; secret != "" {
						if other, ok := secrets[secret]; ok {
							t.Errorf("%s and %s mount the same Secret %s", other, name, secret)
						}
						secrets[secret] = name
					}
				}
				if len(config.Accounts) == 0 {
					t.Errorf("%s has no accounts", name)
				}
				for _, a := range config.Accounts {
					a.checkKind(t)
					if other, ok := accounts[a.Name]; ok {
						t.Errorf("account %s is in %s and in %s", a.Name, other, name)
					}
					accounts[a.Name] = name
					key := a.HTTPClientConfig.Authorization.CredentialsFile
					if !keys[key] {
						t.Errorf("%s: the key of account %s is not mounted, or another account's too", name, a.Name)
					}
					delete(keys, key)
				}
				for key := range keys {
					t.Errorf("%s mounts %s, which is no account's", name, key)
				}
			}
		})
	}
}

// An accountsFile is the contract's configuration file, as far as it is used here.
type accountsFile struct {
	Accounts []account
}

type account struct {
	Name             string
	HTTPClientConfig struct {
		Authorization struct {
			CredentialsFile string `yaml:"credentials_file"`
		}
	} `yaml:"http_client_config"`
	EmbedJobs accountJobs `yaml:"embed_jobs"`
	Batches   accountJobs
}

type accountJobs struct {
	Discover struct {
		MaxAge  string `yaml:"max_age"`
		MaxJobs int    `yaml:"max_jobs"`
	}
	Fetch             string
	RequestsPerMinute float64 `yaml:"requests_per_minute"`
	RefreshInterval   string  `yaml:"refresh_interval"`
	SettledInterval   string  `yaml:"settled_interval"`
	MaxStaleness      string  `yaml:"max_staleness"`
}

// checkKind holds an account against what is kind to Cohere's limits.
func (a account) checkKind(t *testing.T) {
	t.Helper()
	for _, j := range []accountJobs{a.EmbedJobs, a.Batches} {
		if j.Fetch != "list" || j.RequestsPerMinute != 40 || j.RefreshInterval != "55s" || j.SettledInterval != "1h" {
			t.Errorf("account %s is unkind to Cohere's limits: %+v", a.Name, j)
		}
	}
}

// The program itself accepts the configurations, and would serve no value that
// is older than they allow.
func TestKubernetesConfigurations(t *testing.T) {
	exporter := filepath.Join(t.TempDir(), "cohere_exporter")
	run(t, "go", "build", "-o", exporter, "..")
	for _, pattern := range []string{kubernetesBase + "/exporter/config.yml", kubernetesScaleOut + "/*/config.yml"} {
		for _, file := range glob(t, pattern) {
			var config accountsFile
			readYAML(t, file, &config)
			folder := t.TempDir()
			if err := os.Mkdir(filepath.Join(folder, "keys"), 0o700); err != nil {
				t.Fatal(err)
			}
			copyFile(t, file, filepath.Join(folder, "config.yml"))
			for _, a := range config.Accounts {
				write(t, filepath.Join(folder, a.HTTPClientConfig.Authorization.CredentialsFile), "key")
			}
			plan := run(t, exporter, "--config.file="+filepath.Join(folder, "config.yml"), "--config.check")
			for _, a := range config.Accounts {
				if strings.Count(plan, " "+a.Name+"\n") != 2 {
					t.Errorf("%s: the plan has not both kinds of account %s:\n%s", file, a.Name, plan)
				}
			}
			if strings.Contains(plan, "warn") {
				t.Errorf("%s:\n%s", file, plan)
			}
		}
	}
}

// Every exporter is one target.
func TestKubernetesTargets(t *testing.T) {
	for _, folder := range exporters {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			objects := built(t, folder)
			if len(objects.services) != len(objects.deployments) {
				t.Errorf("%d Services for %d Deployments", len(objects.services), len(objects.deployments))
			}
			for _, d := range objects.deployments {
				labels, targets := d.Spec.Template.Metadata.Labels, 0
				for _, s := range objects.services {
					if !matches(s.Spec.Selector, labels) {
						continue
					}
					targets++
					if !matches(objects.monitor.Spec.Selector.MatchLabels, s.Metadata.Labels) {
						t.Errorf("Service %s is not monitored", s.Metadata.Name)
					}
					if job := s.Metadata.Labels[objects.monitor.Spec.JobLabel]; job != "cohere_exporter" {
						t.Errorf("Service %s is scraped as job %q", s.Metadata.Name, job)
					}
				}
				if targets != 1 {
					t.Errorf("%s is in %d Services, want 1", d.Metadata.Name, targets)
				}
				if !matches(objects.policy.Spec.PodSelector.MatchLabels, labels) {
					t.Errorf("%s is outside the NetworkPolicy", d.Metadata.Name)
				}
			}
			for _, from := range objects.policy.Spec.Ingress {
				for _, peer := range from.From {
					want := map[string]string{"app.kubernetes.io/name": "prometheus"}
					if got := peer.PodSelector.MatchLabels; !reflect.DeepEqual(got, want) {
						t.Errorf("the NetworkPolicy lets %v in, want %v", got, want)
					}
				}
			}
			for _, e := range objects.monitor.Spec.Endpoints {
				if e.Interval != "60s" {
					t.Errorf("scraped every %s, want 60s", e.Interval)
				}
			}
		})
	}
}

// A pair of Prometheus servers scrapes every shard.
func TestScaleOutPrometheus(t *testing.T) {
	objects := built(t, kubernetesScaleOut)
	if n := len(objects.deployments); n < 2 {
		t.Errorf("%d exporters are no scale-out", n)
	}
	p := objects.prometheus.Spec
	if p.Replicas < 2 {
		t.Errorf("%d Prometheus servers, want a pair", p.Replicas)
	}
	if !matches(p.ServiceMonitorSelector.MatchLabels, objects.monitor.Metadata.Labels) {
		t.Error("Prometheus does not select the ServiceMonitor")
	}
	if !matches(p.RuleSelector.MatchLabels, objects.rule.Metadata.Labels) {
		t.Error("Prometheus does not select the PrometheusRule")
	}
	for _, s := range objects.binding.Subjects {
		if s.Name != p.ServiceAccountName || s.Namespace == "" {
			t.Errorf("the role is bound to %+v, not to Prometheus", s)
		}
	}
}

type service struct {
	Metadata metadata
	Spec     struct{ Selector map[string]string }
}

type selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

// matches reports whether a selector, which is not empty, selects the labels.
func matches(selector, labels map[string]string) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return len(selector) > 0
}

type endpoint struct {
	Interval  string
	Scheme    string
	TLSConfig struct {
		CA         struct{ Secret secretKey }
		ServerName string `yaml:"serverName"`
	} `yaml:"tlsConfig"`
	BasicAuth struct{ Username, Password secretKey } `yaml:"basicAuth"`
}

type secretKey struct{ Name, Key string }

type objects struct {
	configs     map[string]string // ConfigMap name → config.yml
	deployments []deployment
	services    []service
	policy      struct {
		Spec struct {
			PodSelector selector `yaml:"podSelector"`
			Ingress     []struct {
				From []struct {
					PodSelector selector `yaml:"podSelector"`
				}
			}
		}
	}
	monitor struct {
		Metadata metadata
		Spec     struct {
			JobLabel  string `yaml:"jobLabel"`
			Selector  selector
			Endpoints []endpoint
		}
	}
	rule       struct{ Metadata metadata }
	prometheus struct {
		Spec struct {
			Replicas               int
			ServiceAccountName     string   `yaml:"serviceAccountName"`
			ServiceMonitorSelector selector `yaml:"serviceMonitorSelector"`
			RuleSelector           selector `yaml:"ruleSelector"`
		}
	}
	binding struct {
		Subjects []struct{ Name, Namespace string }
	}
}

// built returns what kustomize makes of a folder.
func built(t *testing.T, folder string) objects {
	t.Helper()
	// So that go test knows what kustomize reads, and a cached result is not an old one.
	if err := filepath.WalkDir("kubernetes", func(_ string, _ os.DirEntry, err error) error { return err }); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd := exec.Command(kustomize(t), "build", folder)
	cmd.Stderr = &stderr
	documents, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}

	o := objects{configs: map[string]string{}}
	decoder := yaml.NewDecoder(bytes.NewReader(documents))
	for {
		var document yaml.Node
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return o
		} else if err != nil {
			t.Fatal(err)
		}
		into := func(v any) {
			if err := document.Decode(v); err != nil {
				t.Fatal(err)
			}
		}
		var kind struct{ Kind string }
		into(&kind)
		switch kind.Kind {
		case "ConfigMap":
			var c struct {
				Metadata metadata
				Data     map[string]string
			}
			into(&c)
			o.configs[c.Metadata.Name] = c.Data["config.yml"]
		case "Deployment":
			o.deployments = append(o.deployments, deployment{})
			into(&o.deployments[len(o.deployments)-1])
		case "Service":
			o.services = append(o.services, service{})
			into(&o.services[len(o.services)-1])
		case "NetworkPolicy":
			into(&o.policy)
		case "ServiceMonitor":
			into(&o.monitor)
		case "PrometheusRule":
			into(&o.rule)
		case "Prometheus":
			into(&o.prometheus)
		case "RoleBinding":
			into(&o.binding)
		}
	}
}

// kustomize returns the path of kustomize, built at its first use.
func kustomize(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("kustomize takes minutes to build from cold caches")
	}
	var stderr strings.Builder
	cmd := exec.Command(tool(t, "go"), "tool", "-n", "kustomize")
	cmd.Dir, cmd.Stderr = "../.ci/manifests", &stderr
	path, err := cmd.Output()
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("kustomize is needed: %v: %s", err, &stderr)
	}
	if err != nil {
		t.Skipf("kustomize cannot be built: %v: %s", err, &stderr)
	}
	return strings.TrimSpace(string(path))
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// unmarshal reads a YAML file.
func unmarshal(t *testing.T, name string, v any) {
	t.Helper()
	if err := yaml.Unmarshal(readFile(t, name), v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}
