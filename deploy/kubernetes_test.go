package deploy_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the files that are made from others")

const (
	kubernetesBase     = "kubernetes/base"
	kubernetesScaleOut = "kubernetes/overlays/scale-out"
)

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
		RunAsUser      int                   `yaml:"runAsUser"`
		SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	Containers []container
	Volumes    []struct {
		Projected struct {
			Sources []struct {
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
	Args            []string
	Env             []any
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
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

func TestKubernetesSecurity(t *testing.T) {
	for _, folder := range []string{kubernetesBase, kubernetesScaleOut} {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			for _, d := range built(t, folder).deployments {
				t.Run(d.Metadata.Name, func(t *testing.T) { checkSecurity(t, d.Spec.Template.Spec) })
			}
		})
	}
}

func checkSecurity(t *testing.T, p pod) {
	rules := map[string]bool{
		"no service-account token": p.AutomountServiceAccountToken != nil && !*p.AutomountServiceAccountToken,
		"no namespace of the host": !p.HostNetwork && !p.HostPID && !p.HostIPC,
		"not root":                 p.SecurityContext.RunAsNonRoot && p.SecurityContext.RunAsUser != 0,
		"seccomp RuntimeDefault":   p.SecurityContext.SeccompProfile.Type == "RuntimeDefault",
		"one container":            len(p.Containers) == 1,
	}
	for _, v := range p.Volumes {
		rules["projected volumes only"] = len(v.Projected.Sources) > 0 && len(v.Other) == 1 // its name
	}
	for _, c := range p.Containers {
		s := c.SecurityContext
		rules["no privilege escalation"] = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation && !s.Privileged
		rules["read-only root"] = s.ReadOnlyRootFilesystem
		rules["no capabilities"] = slices.Equal(s.Capabilities.Drop, []string{"ALL"}) && len(s.Capabilities.Add) == 0
		rules["probes"] = c.LivenessProbe.HTTPGet.Path == "/-/healthy" && c.ReadinessProbe.HTTPGet.Path == "/-/ready"
		rules["resources"] = c.Resources.Requests["cpu"] != "" && c.Resources.Requests["memory"] != "" &&
			c.Resources.Limits["memory"] != ""
		rules["no key in the environment"] = len(c.Env) == 0
	}
	for rule, ok := range rules {
		if !ok {
			t.Errorf("violated: %s", rule)
		}
	}
}

// A key that two processes ask with has its budget twice, or half of it each.
func TestEachKeyIsAskedByOneExporter(t *testing.T) {
	for _, folder := range []string{kubernetesBase, kubernetesScaleOut} {
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
	if a.Fetch != "list" || a.RequestsPerMinute != 40 || a.RefreshInterval != "55s" || a.SettledInterval != "1h" {
		t.Errorf("account %s is unkind to Cohere's limits: %+v", a.Name, a)
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
				if !strings.Contains(plan, a.Name) {
					t.Errorf("%s: the plan has no account %s:\n%s", file, a.Name, plan)
				}
			}
			if strings.Contains(plan, "warn") {
				t.Errorf("%s:\n%s", file, plan)
			}
		}
	}
}

// Every exporter is one target, by the job label that the rules know.
func TestKubernetesTargets(t *testing.T) {
	var prometheus struct {
		ScrapeConfigs []struct {
			JobName string `yaml:"job_name"`
		} `yaml:"scrape_configs"`
	}
	unmarshal(t, "prometheus/prometheus.yml", &prometheus)
	isJob := func(name string) bool {
		for _, c := range prometheus.ScrapeConfigs {
			if c.JobName == name {
				return true
			}
		}
		return false
	}

	for _, folder := range []string{kubernetesBase, kubernetesScaleOut} {
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
					if job := s.Metadata.Labels[objects.monitor.Spec.JobLabel]; !isJob(job) {
						t.Errorf("Service %s is scraped as job %q, which prometheus.yml does not know", s.Metadata.Name, job)
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
			Endpoints []struct{ Interval string }
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
	cmd.Dir, cmd.Stderr = "../.ci/kustomize", &stderr
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
