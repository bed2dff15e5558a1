package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// units are the forms in which the exporter runs under systemd: the unit, and
// the unit with what it is given for several accounts.
var units = map[string][]string{
	"one account":      {"systemd/cohere_exporter.service"},
	"several accounts": {"systemd/cohere_exporter.service", "systemd/accounts.conf"},
}

// unit returns the path of a unit whose binary exists. What is added to a unit
// is read as if it stood at its end.
func unit(t *testing.T, files []string) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const installed = "/usr/local/bin/cohere_exporter "
	var text string
	for _, file := range files {
		shipped := string(readFile(t, file))
		if !strings.Contains(shipped, "ExecStart="+installed) {
			t.Fatalf("%s does not start %s", file, installed)
		}
		text += strings.ReplaceAll(shipped, installed, program+" ")
	}
	file := filepath.Join(t.TempDir(), "cohere_exporter.service")
	write(t, file, text)
	return file
}

// An unknown key is only warned of, so any output is a failure.
func TestSystemdUnit(t *testing.T) {
	for name, files := range units {
		out, err := exec.Command(tool(t, "systemd-analyze"), "verify", "--man=no", unit(t, files)).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: systemd-analyze verify: %v\n%s", name, err, out)
		}
	}
}

func TestSystemdExposure(t *testing.T) {
	for name, files := range units {
		out, err := exec.Command(tool(t, "systemd-analyze"),
			"security", "--offline=true", "--threshold=20", "--no-pager", unit(t, files)).CombinedOutput()
		if err != nil {
			t.Errorf("%s: the unit's exposure is 2.0 or more: %v\n%s", name, err, out)
		}
	}
}

// systemd takes an end by SIGPIPE, as when the journal restarts, for a clean
// one, after which it starts nothing unless told to.
func TestSystemdRestarts(t *testing.T) {
	if unit := string(readFile(t, "systemd/cohere_exporter.service")); !strings.Contains(unit, "\nRestart=always\n") {
		t.Error("the unit is not always restarted")
	}
}

// The configuration for several accounts names the keys as systemd does, and
// the program accepts it.
func TestSystemdAccounts(t *testing.T) {
	const credentials = "/run/credentials/cohere_exporter.service/"
	config := string(readFile(t, "systemd/accounts.yml"))
	keys := regexp.MustCompile(credentials+`(\S+?)\}`).FindAllStringSubmatch(config, -1)
	if len(keys) < 2 {
		t.Fatalf("%d keys in\n%s", len(keys), config)
	}
	dir := t.TempDir()
	for _, key := range keys {
		if !strings.HasPrefix(key[1], "keys_") {
			t.Errorf("%s is no file of LoadCredential=keys:...", key[1])
		}
		write(t, filepath.Join(dir, key[1]), "key")
	}
	exporter, file := filepath.Join(dir, "cohere_exporter"), filepath.Join(dir, "cohere_exporter.yml")
	run(t, "go", "build", "-o", exporter, "..")
	write(t, file, strings.ReplaceAll(config, credentials, dir+"/"))
	plan := run(t, exporter, "--config.file="+file, "--config.check")
	if !strings.Contains(plan, "\nembed jobs ") || !strings.Contains(plan, "\nbatches ") || strings.Contains(plan, "warning") {
		t.Errorf("the plan is\n%s", plan)
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
	for _, variable := range []string{"COHERE_JOB_IDS=ebd-1,ebd-2", "COHERE_BATCH_IDS=2f6c0f0a", "COHERE_DISCOVER=embed-jobs,batches"} {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.Contains(env, name+"=") {
			t.Errorf("the environment file does not tell of %s", name)
		}
		t.Setenv(name, value)
	}
	plan := run(t, exporter, append(strings.Fields(strings.Trim(flags, "\"\n")), "--cohere.api-key-file="+key, "--config.check")...)
	for _, want := range []string{"embed jobs         502, up to 500", "batches            501, up to 500"} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan has no line %q:\n%s", want, plan)
		}
	}
}
