// Package runtime tests the embedded container runtime for real: a containerd child, pods
// from images made here, in folders and a cgroup of the test's own. Needs root and runc.
package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/runtime"
	"github.com/proa-dev/proa/runtime/daemon"
	"github.com/proa-dev/proa/runtime/helpers"
	"github.com/proa-dev/proa/runtime/images"
)

// asDaemon, set, makes the test binary the runtime's child process.
const asDaemon = "PROA_TEST_CONTAINERD"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		if err := daemon.Main(context.Background(), os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// node is one runtime with what it needs to be cleaned up.
type node struct {
	cfg     runtime.Config
	rt      *runtime.Runtime
	journal *host.Journal
	cancel  context.CancelFunc
	done    chan error
	mark    func(step int) // called after the sandbox, the container's creation and its start
}

func newNode(t testing.TB) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := helpers.Bytes(helpers.Shim); errors.Is(err, helpers.ErrNotBuilt) {
		t.Skip(err)
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("needs runc")
	}
	dir, err := os.MkdirTemp("", "proart")
	if err != nil {
		t.Fatal(err)
	}
	id := strconv.Itoa(os.Getpid())
	state := "/run/proatest" + id
	for _, d := range []string{"cni", "h"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	journal, err := host.Open(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asDaemon, "1")
	n := &node{journal: journal, cfg: runtime.Config{
		Name: "test", Root: filepath.Join(dir, "root"), State: state, CgroupRoot: "/proatest" + id,
		CNIConfDir: filepath.Join(dir, "cni"), HelpersDir: filepath.Join(dir, "h"),
		Self: []string{"/proc/self/exe"}, Host: journal,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n.cfg.Self = []string{self}
	t.Cleanup(func() { n.cleanup(t, dir) })
	return n
}

type testWriter struct{ testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func (n *node) start(t testing.TB) {
	t.Helper()
	rt, err := runtime.New(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.rt, n.cancel, n.done = rt, cancel, make(chan error, 1)
	go func() { n.done <- rt.Run(ctx) }()
	select {
	case <-rt.Ready():
	case err := <-n.done:
		t.Fatalf("runtime ended: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("runtime not ready in 30 s")
	}
}

// leave ends the supervision and leaves the runtime running, as a killed proa would.
func (n *node) leave(t testing.TB) {
	t.Helper()
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.cancel = nil
	if err := <-n.done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func (n *node) cleanup(t testing.TB, dir string) {
	n.leave(t)
	if log, err := os.ReadFile(filepath.Join(n.cfg.Root, "containerd.log")); err == nil && len(log) > 0 {
		t.Logf("containerd.log:\n%s", log)
	}
	report := func(line string) { t.Log("undo:", line) }
	if err := n.journal.Undo(context.Background(), host.ScopeUninstall, report); err != nil {
		t.Errorf("undo: %v", err)
	}
	for _, path := range []string{n.cfg.Root, n.cfg.State, n.cfg.HelpersDir} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind: %v", path, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

// load imports the pause image and a busybox image.
func (n *node) load(t testing.TB) *images.Store {
	t.Helper()
	store, err := images.New(n.rt.Conn())
	if err != nil {
		t.Fatal(err)
	}
	program, err := helpers.Bytes(helpers.Pause)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := store.EnsurePause(t.Context(), program); err != nil {
		t.Fatal(err)
	}
	t.Logf("pause image imported in %s", time.Since(begun))
	begun = time.Now()
	if err := store.EnsurePause(t.Context(), program); err != nil {
		t.Fatal(err)
	}
	t.Logf("pause image found in %s", time.Since(begun))
	names, err := store.Import(t.Context(), bytes.NewReader(busybox(t)))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(names, []string{busyboxRef}) {
		t.Fatalf("imported %q", names)
	}
	return store
}

const busyboxRef = "proa.local/busybox:test"

func busybox(t testing.TB) []byte {
	t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs busybox-static")
	}
	var buf bytes.Buffer
	err = images.Build(&buf, images.Spec{Ref: busyboxRef, Files: []images.File{
		{Path: "bin/busybox", Data: program, Mode: 0o755}, {Path: "bin/sh", Link: "busybox"}, {Path: "tmp", Dir: true, Mode: 0o1777},
	}, Env: []string{"PATH=/bin"}})
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// pod starts a sandbox on the machine's network and one container that sleeps.
func (n *node) pod(t testing.TB, name string) (sandbox, container string) {
	t.Helper()
	mark := func(int) {}
	if n.mark != nil {
		mark = n.mark
	}
	cri := runtimeapi.NewRuntimeServiceClient(n.rt.Conn())
	ctx := t.Context()
	config := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name},
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: n.cfg.CgroupRoot + "/kubepods/" + name,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE, Pid: runtimeapi.NamespaceMode_CONTAINER},
			},
		},
	}
	s, err := cri.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	mark(0)
	c, err := cri.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: s.PodSandboxId, SandboxConfig: config,
		Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "main"},
			Image:    &runtimeapi.ImageSpec{Image: busyboxRef},
			Command:  []string{"/bin/busybox", "sleep", "3600"},
			Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
				NamespaceOptions: config.Linux.SecurityContext.NamespaceOptions,
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	mark(1)
	if _, err := cri.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: c.ContainerId}); err != nil {
		t.Fatal(err)
	}
	mark(2)
	return s.PodSandboxId, c.ContainerId
}

func (n *node) remove(t testing.TB, sandbox string) {
	t.Helper()
	cri := runtimeapi.NewRuntimeServiceClient(n.rt.Conn())
	if _, err := cri.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Fatal(err)
	}
	if _, err := cri.RemovePodSandbox(t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Fatal(err)
	}
}

func rss(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "VmRSS:") {
			return strings.Join(strings.Fields(line)[1:], " ")
		}
	}
	return "none"
}

func (n *node) pid(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.cfg.State, "containerd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	number, _, _ := strings.Cut(string(text), " ") // the rest says when it began
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestPodLife walks the whole way: start, import, pod, adoption by a second supervisor,
// death and restart of the runtime under a running container, removal, undo.
func TestPodLife(t *testing.T) {
	n := newNode(t)
	begun := time.Now()
	n.start(t)
	t.Logf("New to CRI ready: %s, RSS %s", time.Since(begun), rss(n.pid(t)))
	n.load(t)
	var sandboxes, containers []string
	for i := range 5 {
		begun = time.Now()
		s, c := n.pod(t, fmt.Sprintf("pod%d", i))
		t.Logf("pod %d: %s", i, time.Since(begun))
		sandboxes, containers = append(sandboxes, s), append(containers, c)
	}
	t.Logf("runtime RSS with 5 pods: %s (%s); shims: %s", rss(n.pid(t)), anon(n.pid(t)), strings.Join(shims(n.cfg.HelpersDir), ", "))

	first := n.pid(t)
	n.leave(t)
	n.start(t)
	if n.pid(t) != first {
		t.Errorf("the running runtime was not adopted: pid %d, then %d", first, n.pid(t))
	}
	if p, err := os.FindProcess(first); err != nil || p.Kill() != nil {
		t.Fatal("kill runtime", err)
	}
	n.expectRunning(t, containers, first)

	n.leave(t)
	n.cfg.Self = append(n.cfg.Self, "--log-level=error")
	n.cfg.HostsDir = filepath.Join(n.cfg.Root, "other")
	n.start(t)
	n.expectRunning(t, containers, 0)
	n.refusesGarbage(t)
	if list, err := store2(t, n).List(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("images: %v %v", list, err)
	}
	for i, s := range sandboxes[:3] {
		begun = time.Now()
		n.remove(t, s)
		t.Logf("remove pod %d: %s", i, time.Since(begun))
	}
}

// refusesGarbage imports archives that are none or are cut short.
func (n *node) refusesGarbage(t *testing.T) {
	t.Helper()
	good := busybox(t)
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"empty":      {nil, images.ErrNotArchive},
		"text":       {[]byte("hello"), images.ErrNotArchive},
		"cut layer":  {good[:len(good)/2], images.ErrInterrupted},
		"no image":   {append([]byte(nil), good[512+len(good)/512*512-1024:]...), images.ErrNotArchive},
		"cut header": {good[:700], images.ErrInterrupted},
	} {
		if names, err := store2(t, n).Import(t.Context(), bytes.NewReader(c.data)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, names, err, c.want)
		}
	}
}

func store2(t testing.TB, n *node) *images.Store {
	t.Helper()
	s, err := images.New(n.rt.Conn())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// expectRunning waits until the runtime, with another pid than old, says that all containers run.
func (n *node) expectRunning(t testing.TB, containers []string, old int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	begun := time.Now()
	for n.pid(t) == old && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := runtime.Answers(ctx, n.rt.Conn()); err != nil {
		t.Fatal(err)
	}
	t.Logf("runtime back after %s", time.Since(begun))
	cri := runtimeapi.NewRuntimeServiceClient(n.rt.Conn())
	for _, id := range containers {
		status, err := cri.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
		if err != nil || status.Status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
			t.Errorf("container %s: %v %v", id, status.GetStatus().GetState(), err)
		}
	}
}

// shims gives the memory of each process that runs a helper.
func shims(prefix string) []string {
	var list []string
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe")); err == nil && strings.HasPrefix(exe, prefix) {
			list = append(list, rss(pid))
		}
	}
	return list
}

// BenchmarkPodStart measures sandbox, container and start together, and the removal.
func BenchmarkPodStart(b *testing.B) {
	n := newNode(b)
	n.start(b)
	n.load(b)
	var times []time.Duration
	var last time.Time
	var steps [3]time.Duration
	n.mark = func(step int) { steps[step], last = steps[step]+time.Since(last), time.Now() }
	for i := 0; b.Loop(); i++ {
		begun := time.Now()
		last = begun
		s, _ := n.pod(b, fmt.Sprintf("bench%d", i))
		times = append(times, time.Since(begun))
		b.StopTimer()
		n.remove(b, s)
		b.StartTimer()
	}
	for i, name := range []string{"ms/sandbox", "ms/create", "ms/start"} {
		b.ReportMetric(float64(steps[i].Microseconds())/1000/float64(len(times)), name)
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "ms/p50")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "ms/p99")
}

// anon is the part of a process's memory that is not pages of its program file.
func anon(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "RssAnon:") {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return "none"
}
