package deploy_test

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The image is built from the Dockerfile as it is, but for two things: small
// stand-ins are its base images, and Go and its caches are the machine's own.
// Then it runs as its own user, with a read-only root and no capability, and
// serves the demonstration.
func TestImage(t *testing.T) {
	b := newBuilder(t)

	t.Run("config", func(t *testing.T) {
		c := b.inspect(t, b.image(t, runtime.GOARCH)).Config
		if c.User != "65532:65532" {
			t.Errorf("user %q, want 65532:65532", c.User)
		}
		if _, ok := c.ExposedPorts["10110/tcp"]; !ok || len(c.ExposedPorts) != 1 {
			t.Errorf("exposed ports %v, want 10110/tcp", c.ExposedPorts)
		}
		for label, want := range map[string]string{
			"title":    "cohere_exporter",
			"licenses": "Apache-2.0",
			"version":  "1.2.3",
			"revision": "abcdef",
			"created":  "2026-01-02T03:04:05Z",
		} {
			if got := c.Labels["org.opencontainers.image."+label]; got != want {
				t.Errorf("label %s is %q, want %q", label, got, want)
			}
		}
	})

	t.Run("files", func(t *testing.T) {
		root := b.mount(t, b.image(t, runtime.GOARCH))
		for name, want := range map[string]string{
			"etc/ssl/certs/ca-certificates.crt": "/etc/ssl/certs/ca-certificates.crt",
			"LICENSE":                           "../LICENSE",
		} {
			if !bytes.Equal(readFile(t, filepath.Join(root, name)), readFile(t, want)) {
				t.Errorf("/%s is not %s", name, want)
			}
		}
		if _, err := os.Stat(filepath.Join(root, "src")); err == nil {
			t.Error("the source is in the image")
		}
	})

	t.Run("run", func(t *testing.T) { b.run(t, b.image(t, runtime.GOARCH)) })

	for arch, want := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			if got := b.inspect(t, b.image(t, arch)).Architecture; got != arch {
				t.Errorf("the image is for %s, want %s", got, arch)
			}
			root := b.mount(t, b.image(t, arch))
			program, err := elf.Open(filepath.Join(root, "bin/cohere_exporter"))
			if err != nil {
				t.Fatal(err)
			}
			defer program.Close()
			if program.Machine != want {
				t.Errorf("the program is for %v, want %v", program.Machine, want)
			}
			for _, segment := range program.Progs {
				if segment.Type == elf.PT_INTERP {
					t.Error("the program is not static")
				}
			}
		})
	}
}

type builder struct {
	buildah string
	flags   []string
	goEnv   map[string]string
	dir     string
	images  map[string]string // architecture → image
}

// newBuilder makes the stand-ins for the base images: a shell and certificates
// for the one, nothing at all for the other.
func newBuilder(t *testing.T) *builder {
	t.Helper()
	if testing.Short() {
		t.Skip("an image takes a while to build")
	}
	buildah, busybox, _ := tool(t, "buildah"), tool(t, "busybox"), tool(t, "runc")
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root can build and run an image without a container engine")
		}
		t.Skip("only root can build and run an image without a container engine")
	}

	b := &builder{buildah: buildah, dir: t.TempDir(), images: map[string]string{}}
	b.flags = []string{
		"--storage-driver", "vfs", "--root", filepath.Join(b.dir, "storage"), "--runroot", filepath.Join(b.dir, "run"),
	}
	t.Cleanup(func() { b.do(t, "rm", "--all") })
	output, err := exec.Command(tool(t, "go"), "env", "-json", "GOROOT", "GOMODCACHE", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(output, &b.goEnv); err != nil {
		t.Fatal(err)
	}
	download := exec.Command("go", "mod", "download") // so that the build needs no network
	download.Dir = ".."
	if output, err := download.CombinedOutput(); err != nil {
		t.Fatalf("go mod download: %v\n%s", err, output)
	}

	b.write(t, "builder/bin/busybox", readFile(t, busybox), 0o755)
	if err := os.Symlink("busybox", filepath.Join(b.dir, "builder/bin/sh")); err != nil {
		t.Fatal(err)
	}
	b.write(t, "builder/etc/ssl/certs/ca-certificates.crt", readFile(t, "/etc/ssl/certs/ca-certificates.crt"), 0o644)
	b.write(t, "builder/tmp/.keep", nil, 0o644)
	b.write(t, "builder/Dockerfile",
		[]byte("FROM scratch\nCOPY . /\nENV PATH=/usr/local/go/bin:/bin\n"), 0o644)
	b.do(t, "build", "--tag", "localhost/builder", filepath.Join(b.dir, "builder"))
	b.write(t, "runtime/etc/passwd", []byte("nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"), 0o644)
	b.write(t, "runtime/Dockerfile", []byte("FROM scratch\nCOPY etc /etc\nUSER 65532\n"), 0o644)
	b.do(t, "build", "--tag", "localhost/runtime", filepath.Join(b.dir, "runtime"))

	mount := regexp.MustCompile(`--mount=type=cache,\S+ `)
	b.write(t, "Dockerfile", mount.ReplaceAll(readFile(t, "../Dockerfile"), nil), 0o644)
	return b
}

// image returns the image for an architecture, built once.
func (b *builder) image(t *testing.T, arch string) string {
	t.Helper()
	if image, ok := b.images[arch]; ok {
		return image
	}
	base := "localhost/runtime"
	if arch != runtime.GOARCH {
		base = "scratch" // which is there for every platform
	}
	image := "localhost/cohere_exporter:" + arch
	b.do(t, "build", "--platform=linux/"+arch, "--tag", image, "--file", filepath.Join(b.dir, "Dockerfile"),
		"--build-arg", "BUILDER_IMAGE=localhost/builder", "--build-arg", "RUNTIME_IMAGE="+base,
		"--build-arg", "BUILDPLATFORM=linux/"+runtime.GOARCH, // which older versions of buildah do not set
		"--build-arg", "VERSION=1.2.3", "--build-arg", "REVISION=abcdef", "--build-arg", "BRANCH=main",
		"--build-arg", "BUILD_DATE=2026-01-02T03:04:05Z",
		"--volume", b.goEnv["GOROOT"]+":/usr/local/go:ro",
		"--volume", b.goEnv["GOMODCACHE"]+":/cache/mod", "--volume", b.goEnv["GOCACHE"]+":/cache/build", "..")
	b.images[arch] = image
	return image
}

type ociImage struct {
	Architecture string
	Config       struct {
		User         string
		ExposedPorts map[string]any
		Entrypoint   []string
		Labels       map[string]string
	}
}

func (b *builder) inspect(t *testing.T, image string) ociImage {
	t.Helper()
	var inspected struct{ OCIv1 ociImage }
	if err := json.Unmarshal([]byte(b.do(t, "inspect", "--type", "image", image)), &inspected); err != nil {
		t.Fatal(err)
	}
	return inspected.OCIv1
}

// mount returns the folder with the image's files.
func (b *builder) mount(t *testing.T, image string) string {
	t.Helper()
	container := strings.TrimSpace(b.do(t, "from", "--pull-never", image))
	return strings.TrimSpace(b.do(t, "mount", container))
}

// run starts the image's program the way that the Kubernetes manifests do.
func (b *builder) run(t *testing.T, image string) {
	c := b.inspect(t, image).Config
	user, group, _ := strings.Cut(c.User, ":")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()

	spec := map[string]any{
		"ociVersion": "1.0.2",
		"process": map[string]any{
			"args":            append(c.Entrypoint, "--demo", "--web.listen-address="+address),
			"cwd":             "/",
			"user":            map[string]int{"uid": atoi(t, user), "gid": atoi(t, group)},
			"capabilities":    map[string]any{},
			"noNewPrivileges": true,
		},
		"root": map[string]any{"path": b.mount(t, image), "readonly": true},
		"mounts": []map[string]any{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755"}},
		},
		"linux": map[string]any{"namespaces": []map[string]string{{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}}},
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, "bundle/config.json", text, 0o644)

	id, pidFile := fmt.Sprintf("cohere_exporter-%d", os.Getpid()), filepath.Join(b.dir, "pid")
	runc := func(args ...string) *exec.Cmd {
		return exec.Command("runc", append([]string{"--root", filepath.Join(b.dir, "runc")}, args...)...)
	}
	var output bytes.Buffer
	program := runc("run", "--bundle", filepath.Join(b.dir, "bundle"), "--pid-file", pidFile, id)
	program.Stdout, program.Stderr = &output, &output
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- program.Wait() }()
	t.Cleanup(func() { _ = runc("delete", "--force", id).Run() })

	metrics := ""
	for deadline := time.Now().Add(30 * time.Second); metrics == ""; time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("the program ended: %v\n%s", err, &output)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("no answer within 30 s")
		}
		if response, err := http.Get("http://" + address + "/metrics"); err == nil {
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != http.StatusOK {
				t.Fatalf("%s, %v", response.Status, err)
			}
			metrics = string(body)
		}
	}
	for _, want := range []string{
		"\ncohere_embed_job_status{", "\nprocess_open_fds ", `version="1.2.3"`, `revision="abcdef"`, `branch="main"`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", strings.TrimSpace(want))
		}
	}

	proc := filepath.Join("/proc", string(readFile(t, pidFile)))
	status := string(readFile(t, proc+"/status"))
	for _, want := range []string{
		"Uid:\t65532\t65532\t65532\t65532\n", "Gid:\t65532\t65532\t65532\t65532\n", "NoNewPrivs:\t1\n",
		"CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n",
	} {
		if !strings.Contains(status, want) {
			t.Errorf("the process has not %s", strings.TrimSpace(want))
		}
	}
	if mounts := string(readFile(t, proc+"/mountinfo")); !regexp.MustCompile(`(?m)^\d+ \d+ \S+ \S+ / ro[, ]`).MatchString(mounts) {
		t.Errorf("the root is not read-only:\n%s", mounts)
	}

	if err := runc("kill", id, "TERM").Run(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("after SIGTERM: %v\n%s", err, &output)
		}
	case <-time.After(10 * time.Second):
		t.Error("still there 10 s after SIGTERM")
	}
}

func (b *builder) do(t *testing.T, args ...string) string {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.Command(b.buildah, append(b.flags[:len(b.flags):len(b.flags)], args...)...)
	cmd.Env = append(os.Environ(), "BUILDAH_ISOLATION=chroot")
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("buildah %s: %v\n%s%s", args[0], err, output, &stderr)
	}
	return string(output)
}

func (b *builder) write(t *testing.T, name string, content []byte, mode os.FileMode) {
	t.Helper()
	name = filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, mode); err != nil {
		t.Fatal(err)
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
