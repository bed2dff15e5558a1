// Package manifests_test reads what is in deploy/ as strictly as those who get
// it, so that a misspelt field is an error.
//
// Run it with -count=1, as go test does not see a change outside its module.
package manifests_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const deploy = "../../deploy"

// load reads the compose file as it is for a user who has these lines in .env.
func load(t *testing.T, env ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(deploy, "docker-compose.yml")},
		cli.WithWorkingDirectory(deploy), cli.WithEnv(env), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func service(t *testing.T, project *types.Project, name string) types.ServiceConfig {
	t.Helper()
	s, err := project.GetService(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestComposeDemoWithoutEnv(t *testing.T) {
	exporter := service(t, load(t), "exporter")
	if got := []string(exporter.Command); !slices.Equal(got, []string{"--demo"}) {
		t.Errorf("without an .env the exporter runs with %q, want --demo", got)
	}
	for name, value := range exporter.Environment {
		if value != nil {
			t.Errorf("without an .env the exporter has %s=%q in its environment", name, *value)
		}
	}
}

func TestComposeRealWithEnv(t *testing.T) {
	example, err := os.ReadFile(filepath.Join(deploy, ".env.example"))
	if err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer("CO_API_KEY=", "CO_API_KEY=key", "COHERE_JOB_IDS=", "COHERE_JOB_IDS=ebd-1,ebd-2",
		"#COHERE_BATCH_IDS=", "COHERE_BATCH_IDS=2f6c0f0a", "#COHERE_DISCOVER=", "COHERE_DISCOVER=").Replace(string(example))
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte(filled), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := cli.NewProjectOptions([]string{filepath.Join(deploy, "docker-compose.yml")},
		cli.WithEnvFiles(file), cli.WithDotEnv)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}

	exporter := service(t, project, "exporter")
	for _, flag := range []string{
		"--cohere.fetch=list", "--cohere.requests-per-minute=40",
		"--cohere.refresh-interval=55s", "--cohere.settled-interval=1h",
	} {
		if !slices.Contains(exporter.Command, flag) {
			t.Errorf("with .env.example the exporter runs with %q, without %s", exporter.Command, flag)
		}
	}
	for name, want := range map[string]string{
		"CO_API_KEY": "key", "COHERE_JOB_IDS": "ebd-1,ebd-2",
		"COHERE_BATCH_IDS": "2f6c0f0a", "COHERE_DISCOVER": "embed-jobs,batches",
	} {
		if got := exporter.Environment[name]; got == nil || *got != want {
			t.Errorf("%s is %v in the exporter, want %q", name, got, want)
		}
	}
}

func TestComposeServices(t *testing.T) {
	project := load(t)
	pinned := regexp.MustCompile(`^docker\.io/[a-z/]+:v?\d+\.\d+\.\d+$`)
	for _, s := range project.Services {
		if s.Build == nil && !pinned.MatchString(s.Image) {
			t.Errorf("%s: image %s is not pinned", s.Name, s.Image)
		}
		if s.HealthCheck == nil && s.Name != "exporter" {
			t.Errorf("%s has no health check", s.Name)
		}
		// A network that is another container's is lost with it, and Docker starts no container in any order after a reboot.
		if s.NetworkMode != "" {
			t.Errorf("%s is on the network of %s", s.Name, s.NetworkMode)
		}
		if s.Restart != types.RestartPolicyUnlessStopped {
			t.Errorf("%s is not restarted", s.Name)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open to other machines", s.Name, port.Published)
			}
		}
		for _, volume := range s.Volumes {
			if volume.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(volume.Source); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
			if !volume.ReadOnly {
				t.Errorf("%s can write to %s", s.Name, volume.Source)
			}
		}
	}

	exporter := service(t, project, "exporter")
	if !exporter.ReadOnly || !slices.Equal(exporter.CapDrop, []string{"ALL"}) ||
		!slices.Equal(exporter.SecurityOpt, []string{"no-new-privileges:true"}) {
		t.Error("the exporter is not confined")
	}
}

// What the files name is a service, and the links of a notification lead to
// where it is published.
func TestComposeAddresses(t *testing.T) {
	project := load(t)
	address := regexp.MustCompile(`(?m)^\s*(?:url: http://|- targets: \[')([^:]+):(\d+)`)
	for _, file := range []string{"prometheus/compose.yml", "grafana/provisioning/datasources/prometheus.yml"} {
		content, err := os.ReadFile(filepath.Join(deploy, file))
		if err != nil {
			t.Fatal(err)
		}
		found := address.FindAllStringSubmatch(string(content), -1)
		if len(found) == 0 {
			t.Errorf("%s has no address", file)
		}
		for _, a := range found {
			if s := service(t, project, a[1]); !slices.ContainsFunc(s.Ports, func(p types.ServicePortConfig) bool { return p.Published == a[2] }) {
				t.Errorf("%s: nothing answers at %s:%s", file, a[1], a[2])
			}
		}
	}
	for name, port := range map[string]string{"prometheus": "9090", "alertmanager": "9093"} {
		if want := "--web.external-url=http://localhost:" + port; !slices.Contains(service(t, project, name).Command, want) {
			t.Errorf("%s does not run with %s", name, want)
		}
	}
	if !slices.Contains(service(t, project, "prometheus").Command, "--config.file=/etc/prometheus/compose.yml") {
		t.Error("Prometheus does not run with the names of the services")
	}
}
