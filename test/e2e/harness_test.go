// Package e2e holds the acceptance tests: the built binary, used as its users use it, on
// this machine, as root.
//
// The one idea: each test starts a cluster of its own under a random name in folders of
// its own, and nothing of it is left when the test ends; clusters that run already are
// left alone.
package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// root is the repository, as seen from this folder.
const root = "../.."

// patience bounds every single command.
const patience = 90 * time.Second

// site is one cluster under test.
type site struct {
	t          testing.TB
	name       string
	dir        string // data and configuration
	run        string
	kubeconfig string
	kubectls   map[string][]string // by name: how each kubectl is called
}

// binary is the program under test.
func binary(t testing.TB) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	path := os.Getenv("PROA_BIN")
	if path == "" {
		path = filepath.Join(root, "bin", "proa")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no program to test: %v (make build)", err)
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("needs runc")
	}
	return path
}

// newSite names a cluster and sees to it that it is gone at the end.
func newSite(t testing.TB) *site {
	t.Helper()
	bin := binary(t)
	raw := make([]byte, 2)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	id := hex.EncodeToString(raw)
	dir, err := os.MkdirTemp("", "proa-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, name: "e2e-" + id, dir: dir, run: "/run/proa-e2e-" + id}
	s.kubeconfig = filepath.Join(dir, "etc", s.name+".kubeconfig")
	s.kubectls = map[string][]string{"proa kubectl": {bin, "kubectl"}}
	if path, err := exec.LookPath("kubectl"); err == nil {
		s.kubectls["kubectl"] = []string{path}
	}
	t.Cleanup(s.end)
	return s
}

// up starts a cluster with one or more nodes; args are further flags of "proa up".
func up(t testing.TB, args ...string) *site {
	t.Helper()
	s := newSite(t)
	s.proa(append([]string{"up"}, args...)...)
	return s
}

// end shows the logs of a failed test and removes the cluster.
func (s *site) end() {
	if s.t.Failed() {
		s.dump()
	}
	if _, err := os.Stat(filepath.Join(s.dir, "data", s.name)); err == nil {
		if out, err := s.try("uninstall"); err != nil {
			s.t.Errorf("uninstall: %v\n%s", err, out)
		}
	}
	for _, dir := range []string{s.dir, s.run} {
		if err := os.RemoveAll(dir); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *site) dump() {
	if _, err := os.Stat(s.kubeconfig); err != nil {
		s.t.Log("the cluster is not there any more:", err)
		return
	}
	for _, state := range [][]string{{"get", "pods,nodes", "-A", "-o", "wide"}, {"get", "events", "-A", "--sort-by=.lastTimestamp"}} {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		out, err := s.command(ctx, s.kubectls["proa kubectl"], state...).CombinedOutput()
		cancel()
		s.t.Logf("%v (%v)\n%s", state, err, tail(string(out), 16))
	}
	logs, err := filepath.Glob(filepath.Join(s.dir, "data", s.name, "log", "*.log"))
	if err != nil {
		s.t.Log(err)
	}
	for _, path := range logs {
		data, err := os.ReadFile(path)
		s.t.Logf("%s (%v)\n%s", path, err, tail(string(data), 8))
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// roots are the flags that keep this cluster's files apart.
func (s *site) roots() []string {
	return []string{
		"--name=" + s.name, "--data-root=" + filepath.Join(s.dir, "data"),
		"--run-root=" + s.run, "--config-root=" + filepath.Join(s.dir, "etc"),
	}
}

// try runs proa on this cluster.
func (s *site) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(s.t), append(args, s.roots()...)...)
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// proa runs proa on this cluster and ends the test when it fails.
func (s *site) proa(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("proa %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// pid is that of a process of the cluster: "server" or a node's name.
func (s *site) pid(process string) int {
	s.t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.run, s.name, process+".pid"))
	if err != nil {
		s.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// command is a kubectl on this cluster.
func (s *site) command(ctx context.Context, how []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, how[0], append(how[1:len(how):len(how)], args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.kubeconfig)
	cmd.Dir = s.dir
	return cmd
}

// kubectl runs the built-in kubectl and ends the test when it fails.
func (s *site) kubectl(args ...string) string {
	s.t.Helper()
	return s.with(s.t, "proa kubectl").ok(args...)
}

// tool is one kubectl with what it is given beside its arguments.
type tool struct {
	s     *site
	t     testing.TB
	how   []string
	stdin string
	open  io.Reader // standard input that does not end, for commands that are ended by the test
	env   []string
}

func (s *site) with(t testing.TB, name string) *tool {
	return &tool{s: s, t: t, how: s.kubectls[name]}
}

// input gives standard input to the calls of the tool that is returned.
func (k *tool) input(text string) *tool {
	c := *k
	c.stdin = text
	return &c
}

// environment adds KEY=value to the calls of the tool that is returned.
func (k *tool) environment(env ...string) *tool {
	c := *k
	c.env = env
	return &c
}

// try returns standard output and error together, and what the command ended with.
func (k *tool) try(args ...string) (string, error) {
	return k.run((*exec.Cmd).CombinedOutput, args...)
}

// stdout returns standard output alone: kubectl logs beside it, now and then, what it makes of an empty frame.
func (k *tool) stdout(args ...string) string {
	k.t.Helper()
	out, err := k.run((*exec.Cmd).Output, args...)
	if err != nil {
		k.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (k *tool) run(how func(*exec.Cmd) ([]byte, error), args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := k.s.command(ctx, k.how, args...)
	cmd.Env = append(cmd.Env, k.env...)
	if k.stdin != "" {
		cmd.Stdin = strings.NewReader(k.stdin)
	}
	out, err := how(cmd)
	return string(out), err
}

// ok ends the test when the command fails.
func (k *tool) ok(args ...string) string {
	k.t.Helper()
	out, err := k.try(args...)
	if err != nil {
		k.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// says fails the test, and goes on, unless the command succeeds and prints every wanted text.
func (k *tool) says(args []string, wanted ...string) string {
	k.t.Helper()
	out, err := k.try(args...)
	if err != nil {
		k.t.Errorf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
		return out
	}
	contains(k.t, "kubectl "+strings.Join(args, " "), out, wanted...)
	return out
}

// refuses fails the test, and goes on, unless the command fails and prints every wanted text.
func (k *tool) refuses(args []string, wanted ...string) {
	k.t.Helper()
	out, err := k.try(args...)
	if err == nil {
		k.t.Errorf("kubectl %s: succeeded, should not\n%s", strings.Join(args, " "), out)
	}
	contains(k.t, "kubectl "+strings.Join(args, " "), out, wanted...)
}

func contains(t testing.TB, what, out string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !strings.Contains(out, w) {
			t.Errorf("%s: %q is not in the answer:\n%s", what, w, out)
		}
	}
}

// words splits a command line without quotes.
func words(line string) []string { return strings.Fields(line) }

// eventually asks until it is told true; what is the name of that for the error.
func eventually(t testing.TB, within time.Duration, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// demoArchive builds the demo's images, once for all tests.
var demoArchive = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("proa-e2e-demo-%d.tar", os.Getpid()))
	cmd := exec.Command("go", "run", "./demo/image", "-o", path)
	cmd.Dir = root
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build the demo's images: %w\n%s", err, out.String())
	}
	return path, nil
})

// loadDemo gives the demo's images to every node.
func (s *site) loadDemo() {
	s.t.Helper()
	path, err := demoArchive()
	if err != nil {
		s.t.Fatal(err)
	}
	s.proa("image", "load", path)
}

func TestMain(m *testing.M) {
	code := m.Run()
	// The archive is there only when a test asked for it.
	if err := os.RemoveAll(filepath.Join(os.TempDir(), fmt.Sprintf("proa-e2e-demo-%d.tar", os.Getpid()))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}
