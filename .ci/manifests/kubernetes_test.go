package manifests_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringalpha "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const manifests = deploy + "/kubernetes"

// strict decodes YAML documents into the types of Kubernetes and of the
// Prometheus Operator.
func strict(t *testing.T) runtime.Decoder {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		apps.AddToScheme, core.AddToScheme, networking.AddToScheme, rbac.AddToScheme,
		monitoring.AddToScheme, monitoringalpha.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
}

// decode returns how many objects of each kind there are.
func decode(t *testing.T, documents []byte) map[string]int {
	t.Helper()
	decoder, kinds := strict(t), map[string]int{}
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(documents)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return kinds
		}
		if err != nil {
			t.Fatal(err)
		}
		_, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Errorf("%v in\n%s", err, document)
			continue
		}
		kinds[kind.Kind]++
	}
}

// Every object that kustomize builds is one of its Go type.
func TestKubernetesObjects(t *testing.T) {
	for folder, want := range map[string]map[string]int{
		"base": {
			"Deployment": 1, "Service": 1, "ConfigMap": 1, "NetworkPolicy": 1,
			"ServiceMonitor": 1, "PrometheusRule": 1,
		},
		"overlays/secured": {
			"Deployment": 1, "Service": 1, "ConfigMap": 1, "NetworkPolicy": 1,
			"ServiceMonitor": 1, "PrometheusRule": 1,
		},
		"alertmanager": {"AlertmanagerConfig": 1},
		"overlays/scale-out": {
			"Deployment": 2, "Service": 2, "ConfigMap": 2, "NetworkPolicy": 1,
			"ServiceMonitor": 1, "PrometheusRule": 1,
			"Prometheus": 1, "ServiceAccount": 1, "Role": 1, "RoleBinding": 1,
		},
	} {
		t.Run(folder, func(t *testing.T) {
			kustomize := exec.Command("go", "tool", "kustomize", "build", filepath.Join(manifests, folder))
			kustomize.Stderr = os.Stderr
			built, err := kustomize.Output()
			if err != nil {
				t.Fatal(err)
			}
			got := decode(t, built)
			for kind := range got {
				if _, ok := want[kind]; !ok {
					t.Errorf("%s: not expected", kind)
				}
			}
			for kind, n := range want {
				if got[kind] != n {
					t.Errorf("%s: %d, want %d", kind, got[kind], n)
				}
			}
		})
	}
}

func TestKubernetesExamples(t *testing.T) {
	example, err := os.ReadFile(filepath.Join(manifests, "base/exporter/secret.example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if got := decode(t, example); got["Secret"] != 1 {
		t.Errorf("secret.example.yaml has %v, want a Secret", got)
	}
}

func TestKubernetesStrict(t *testing.T) {
	_, _, err := strict(t).Decode([]byte("apiVersion: v1\nkind: Service\nspec: {prots: []}\n"), nil, nil)
	if !runtime.IsStrictDecodingError(err) {
		t.Errorf("a misspelt field was answered with %v", err)
	}
}
