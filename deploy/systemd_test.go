package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unit returns the path of a copy of the unit whose binary exists.
func unit(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const installed = "/usr/local/bin/cohere_exporter "
	shipped := string(readFile(t, "systemd/cohere_exporter.service"))
	if !strings.Contains(shipped, "ExecStart="+installed) {
		t.Fatalf("the unit does not start %s", installed)
	}
	file := filepath.Join(t.TempDir(), "cohere_exporter.service")
	text := strings.ReplaceAll(shipped, installed, program+" ")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// An unknown key is only warned of, so any output is a failure.
func TestSystemdUnit(t *testing.T) {
	out, err := exec.Command(tool(t, "systemd-analyze"), "verify", "--man=no", unit(t)).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestSystemdExposure(t *testing.T) {
	out, err := exec.Command(tool(t, "systemd-analyze"),
		"security", "--offline=true", "--threshold=20", "--no-pager", unit(t)).CombinedOutput()
	if err != nil {
		t.Errorf("the unit's exposure is 2.0 or more: %v\n%s", err, out)
	}
}

// The unit and its environment file agree, and the flags are kind to Cohere's
// limits, the same as for docker compose, and accepted by the program.
func TestSystemdEnvironment(t *testing.T) {
	unit, env := string(readFile(t, "systemd/cohere_exporter.service")), string(readFile(t, "systemd/cohere_exporter.env"))
	if !strings.Contains(unit, " $COHERE_EXPORTER_FLAGS\n") {
		t.Error("the unit does not take its flags from the environment file")
	}
	if !strings.Contains(unit, "--cohere.api-key-file=${CREDENTIALS_DIRECTORY}/api-key ") || strings.Contains(env, "KEY") {
		t.Error("the key does not come as a credential")
	}
	if strings.Contains(unit, "\nProcSubset=") {
		t.Error("ProcSubset hides the process_* metrics")
	}

	const want = `COHERE_EXPORTER_FLAGS="--cohere.fetch=list --cohere.requests-per-minute=40 ` +
		`--cohere.refresh-interval=55s --cohere.settled-interval=1h"` + "\n"
	if !strings.Contains(env, want) || !strings.Contains(string(readFile(t, ".env.example")), want) {
		t.Fatalf("the flags are not %s", want)
	}
	folder := t.TempDir()
	exporter, key := filepath.Join(folder, "cohere_exporter"), filepath.Join(folder, "api-key")
	run(t, "go", "build", "-o", exporter, "..")
	write(t, key, "key")
	_, flags, _ := strings.Cut(want, "=")
	t.Setenv("COHERE_JOB_IDS", "ebd-1,ebd-2")
	run(t, exporter, append(strings.Fields(strings.Trim(flags, "\"\n")), "--cohere.api-key-file="+key, "--config.check")...)
}
