package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Player plays transcripts with one version of a client.
type Player struct {
	Kubeconfig string            // of an administrator
	Namespace  string            // $NS; made before and deleted after, with "$NS-" what else is left
	Programs   map[string]string // name under which a command calls it -> path
	Env        []string          // more variables, NAME=value
	Update     bool              // write what came instead of comparing, where it differs
}

// A server without controllers, upstream's alone, makes no service account of its own.
const makeNamespace = `kubectl create namespace $NS && kubectl config set-context --current --namespace=$NS &&
	{ kubectl create serviceaccount default 2>/dev/null || true; }`

// What a transcript leaves that is in no namespace has $NS in its name.
const sweep = `kubectl get ns,nodes,csr,crd,clusterroles,clusterrolebindings,priorityclasses -o name | grep -F "$NS" | grep -vx namespace/$NS |
	xargs -r kubectl delete --wait=false`

const limit = 90 * time.Second // for one command

// Play runs every command of a transcript, as a test of its own, and compares.
func (p Player) Play(t *testing.T, file string) {
	steps, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	dir, env := p.prepare(t)
	changed := false
	for i := range steps {
		s := &steps[i]
		output, code := run(t, dir, env, s.Command)
		if code == s.Exit && s.Match(output, p.Namespace) {
			continue
		}
		if p.Update {
			s.Want, s.Exit, changed = Record(output, p.Namespace), code, true
			continue
		}
		t.Errorf("%s:%d: $ %s\nexit code %d, want %d; output:\n%s\nwant:\n%s", filepath.Base(file), s.Line, s.Command, code, s.Exit,
			output, strings.Join(s.Want, "\n"))
	}
	if changed {
		if err := Write(file, steps); err != nil {
			t.Fatal(err)
		}
	}
}

// prepare makes the folder that commands run in, and the namespace.
func (p Player) prepare(t *testing.T) (string, []string) {
	dir, home := t.TempDir(), t.TempDir()
	for name, path := range p.Programs {
		if err := os.Symlink(path, filepath.Join(home, name)); err != nil {
			t.Fatal(err)
		}
	}
	admin, err := os.ReadFile(p.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(home, "kubeconfig")
	if err := os.WriteFile(config, admin, 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "HOME="+home, "KUBECONFIG="+config, "NS="+p.Namespace, "PATH="+home+":"+os.Getenv("PATH"))
	env = append(env, p.Env...)
	if out, code := run(t, dir, env, makeNamespace); code != 0 {
		t.Fatalf("make namespace: %s", out)
	}
	t.Cleanup(func() {
		run(t, dir, env, "kubectl delete namespace $NS --wait=false; "+sweep)
	})
	return dir, env
}

// run gives both streams of a command, as they came, and its exit code.
func run(t *testing.T, dir string, env []string, command string) (string, int) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", command)
	var out bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = dir, env, &out, &out, time.Second
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		fmt.Fprintf(&out, "[%v]\n", err)
	}
	if ctx.Err() != nil {
		fmt.Fprintf(&out, "[took longer than %v]\n", limit)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}
