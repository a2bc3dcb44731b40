package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestDemo runs what a user sees first, on two nodes.
func TestDemo(t *testing.T) {
	s := up(t, "--nodes=2")
	s.loadDemo()
	manifests, err := filepath.Abs(filepath.Join(root, "demo", "manifests"))
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	s.kubectl("apply", "-f", manifests)
	s.rolledOut("web")
	s.rolledOut("client")
	t.Logf("applied to ready: %s", time.Since(begun).Round(time.Millisecond))
	for _, step := range []struct {
		name string
		do   func(*testing.T, *site)
	}{
		{"both nodes have pods", spread}, {"by address and by name", answers}, {"by the ports of the nodes", nodePorts},
		{"an update under load loses no request", updateUnderLoad},
		{"a deleted pod is replaced", replaced}, {"a killed process is started again", restarted},
		{"a program that fails is tried again and again", crashes}, {"jobs end", oneShot},
	} {
		t.Run(step.name, func(t *testing.T) {
			own := *s
			own.t = t
			step.do(t, &own)
		})
	}
}

func (s *site) rolledOut(name string) {
	s.t.Helper()
	s.kubectl("-n", "demo", "rollout", "status", "deployment/"+name, "--timeout=80s")
}

// value is what a jsonpath gives of an object in the demo's namespace.
func (s *site) value(path string, args ...string) string {
	s.t.Helper()
	return s.kubectl(append([]string{"-n", "demo", "get", "-o", "jsonpath=" + path}, args...)...)
}

func spread(t *testing.T, s *site) {
	nodes := map[string]bool{}
	for _, node := range strings.Fields(s.value("{.items[*].spec.nodeName}", "pods", "-l", "app=web")) {
		nodes[node] = true
	}
	if len(nodes) != 2 {
		t.Errorf("3 pods with a spread constraint are on %v", nodes)
	}
}

func answers(t *testing.T, s *site) {
	ip := s.value("{.spec.clusterIP}", "service", "web")
	pods := map[string]bool{}
	for range 60 {
		body, err := fetch("http://" + ip + "/")
		if err != nil {
			t.Fatal(err)
		}
		contains(t, "answer", body, "hello from v1", "greeting: hello, sailor", "file: this text comes from a mounted file", "secret: present")
		_, rest, _ := strings.Cut(body, "pod: ")
		pod, _, _ := strings.Cut(rest, "\n")
		pods[pod] = true
	}
	if len(pods) != 3 {
		t.Errorf("60 requests reached %d of 3 pods: %v", len(pods), pods)
	}
	for _, name := range []string{"web", "web.demo", "web.demo.svc.cluster.local"} {
		contains(t, name, s.kubectl("-n", "demo", "exec", "deployment/client", "--", "wget", "-q", "-O", "-", "http://"+name+"/"), "hello from v1")
	}
	contains(t, "nslookup", s.kubectl("-n", "demo", "exec", "deployment/client", "--", "nslookup", "kubernetes.default.svc.cluster.local"), "Address: 10.")
	eventually(t, 10*time.Second, "an answer in the client's log", func() bool {
		return strings.Contains(s.kubectl("-n", "demo", "logs", "deployment/client"), "hello from v1")
	})
	// Every pod answers by its own address, also that of the other node.
	for _, pod := range strings.Fields(s.value("{.items[*].status.podIP}", "pods", "-l", "app=web")) {
		if body, err := fetch("http://" + pod + ":8080/"); err != nil || !strings.Contains(body, "hello") {
			t.Errorf("pod %s from the machine: %v %s", pod, err, body)
		}
		contains(t, "pod "+pod+" from a pod", s.kubectl("-n", "demo", "exec", "deployment/client", "--", "wget", "-q", "-O", "-", "http://"+pod+":8080/"), "hello")
	}
}

// nodePorts asks both nodes from pods of both, often enough that each way through them is
// taken: also that of a node that sends a client back to the node it came from.
func nodePorts(t *testing.T, s *site) {
	s.kubectl("-n", "demo", "expose", "deployment/web", "--name=web-ports", "--type=NodePort", "--port=80", "--target-port=8080")
	port := s.value("{.spec.ports[0].nodePort}", "service", "web-ports")
	script := ""
	for _, node := range strings.Fields(s.kubectl("get", "nodes", "-o", "jsonpath={.items[*].status.addresses[?(@.type==\"InternalIP\")].address}")) {
		script += "for i in 1 2 3 4 5 6 7 8; do busybox timeout 3 wget -q -O - http://" + node + ":" + port + "/ | grep -q hello || echo no answer from " + node + "; done; "
	}
	for _, pod := range strings.Fields(s.value("{.items[*].metadata.name}", "pods", "-l", "app=web")) {
		eventually(t, 5*time.Second, "answers of both nodes' ports to "+pod, func() bool {
			return s.kubectl("-n", "demo", "exec", pod, "--", "/bin/sh", "-c", script) == ""
		})
	}
}

// load asks a page all the time and keeps what went wrong.
type load struct {
	stop  chan struct{}
	group sync.WaitGroup
	mu    sync.Mutex
	asked int
	wrong []string
}

func startLoad(url string, clients int) *load {
	l := &load{stop: make(chan struct{})}
	for range clients {
		l.group.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-l.stop:
					return
				case <-tick.C:
				}
				begun := time.Now()
				_, err := fetch(url)
				l.mu.Lock()
				l.asked++
				if err != nil {
					l.wrong = append(l.wrong, fmt.Sprintf("%s after %s: %v", begun.Format("15:04:05.000"), time.Since(begun).Round(time.Millisecond), err))
				}
				l.mu.Unlock()
			}
		})
	}
	return l
}

// end stops the load and says how many requests there were, and what went wrong.
func (l *load) end() (int, []string) {
	close(l.stop)
	l.group.Wait()
	return l.asked, l.wrong
}

func updateUnderLoad(t *testing.T, s *site) {
	url := "http://" + s.value("{.spec.clusterIP}", "service", "web") + "/"
	l := startLoad(url, 4)
	s.kubectl("-n", "demo", "set", "image", "deployment/web", "web=proa.local/demo:v2")
	s.rolledOut("web")
	if body, err := fetch(url); err != nil || !strings.Contains(body, "v2") {
		t.Errorf("after the update: %v %s", err, body)
	}
	s.kubectl("-n", "demo", "rollout", "undo", "deployment/web")
	s.rolledOut("web")
	s.settled(t) // those that leave may still be asked
	asked, wrong := l.end()
	if body, err := fetch(url); err != nil || !strings.Contains(body, "v1") {
		t.Errorf("after the rollback: %v %s", err, body)
	}
	t.Logf("%d requests, %d failed", asked, len(wrong))
	if len(wrong) > 0 {
		t.Errorf("%d of %d requests failed:\n%s", len(wrong), asked, strings.Join(wrong[:min(10, len(wrong))], "\n"))
	}
}

func replaced(t *testing.T, s *site) {
	s.settled(t)
	before := strings.Fields(s.value("{.items[*].metadata.name}", "pods", "-l", "app=web"))
	begun := time.Now()
	s.kubectl("-n", "demo", "delete", "pod", before[0], "--wait=false")
	eventually(t, 30*time.Second, "another ready pod", func() bool {
		count := 0
		for _, pod := range strings.Fields(s.value(`{range .items[*]}{.metadata.name}={.status.containerStatuses[0].ready} {end}`, "pods", "-l", "app=web")) {
			if name, ready, _ := strings.Cut(pod, "="); name != before[0] && ready == "true" {
				count++
			}
		}
		return count == 3
	})
	t.Logf("replaced after %s", time.Since(begun).Round(time.Millisecond))
}

// settled waits until the pods that leave are gone.
func (s *site) settled(t *testing.T) {
	t.Helper()
	eventually(t, 45*time.Second, "three web pods and no more", func() bool {
		return len(strings.Fields(s.value("{.items[*].metadata.name}", "pods", "-l", "app=web"))) == 3
	})
}

func restarted(t *testing.T, s *site) {
	s.settled(t)
	pod := strings.Fields(s.value("{.items[*].metadata.name}", "pods", "-l", "app=web"))[0]
	uid := strings.ReplaceAll(s.value("{.metadata.uid}", "pod", pod), "-", "")
	id := strings.TrimPrefix(s.value("{.status.containerStatuses[0].containerID}", "pod", pod), "containerd://")
	if id == "" {
		t.Fatalf("pod %s (%s) has no container id", pod, uid)
	}
	if err := syscall.Kill(processIn(t, id), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	eventually(t, 45*time.Second, "a second start", func() bool {
		return s.value("{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}", "pod", pod) == "1 true"
	})
	t.Logf("started again and ready after %s", time.Since(begun).Round(time.Millisecond))
	if got := s.value("{.status.containerStatuses[0].lastState.terminated.exitCode}", "pod", pod); got != "137" {
		t.Errorf("the last state's exit code is %q", got)
	}
	contains(t, "previous log", s.kubectl("-n", "demo", "logs", "--previous", pod), "web v1 listens")
}

// processIn finds a process of a container by its cgroup.
func processIn(t *testing.T, container string) int {
	t.Helper()
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range groups {
		data, err := os.ReadFile(path)
		var pid int
		if _, scan := fmt.Sscanf(path, "/proc/%d/cgroup", &pid); err == nil && scan == nil && strings.Contains(string(data), container) {
			return pid
		}
	}
	t.Fatalf("no process is in the cgroup of container %s", container)
	return 0
}

func crashes(t *testing.T, s *site) {
	s.kubectl("-n", "demo", "run", "broken", "--image=proa.local/demo:v1", "--command", "--", "/bin/false")
	seen := map[string]bool{}
	eventually(t, 60*time.Second, "CrashLoopBackOff", func() bool {
		out := s.kubectl("-n", "demo", "get", "pod", "broken", "--no-headers")
		for _, state := range []string{"Error", "CrashLoopBackOff"} {
			seen[state] = seen[state] || strings.Contains(out, state)
		}
		return seen["CrashLoopBackOff"]
	})
	contains(t, "describe", s.kubectl("-n", "demo", "describe", "pod", "broken"), "BackOff", "Back-off restarting failed container", "Exit Code:    1")
	s.kubectl("-n", "demo", "run", "absent", "--image=proa.local/nosuch:v9")
	eventually(t, 30*time.Second, "an image that is missing", func() bool {
		out := s.kubectl("-n", "demo", "get", "pod", "absent", "--no-headers")
		return strings.Contains(out, "ErrImagePull") || strings.Contains(out, "ImagePullBackOff")
	})
	s.kubectl("-n", "demo", "delete", "pod", "broken", "absent", "--now")
}

func oneShot(t *testing.T, s *site) {
	out := s.kubectl("-n", "demo", "run", "once", "--image=proa.local/demo:v1", "--restart=Never", "--rm", "-i", "--command", "--", "/bin/echo", "done here")
	contains(t, "run --rm -i", out, "done here")
	s.kubectl("-n", "demo", "create", "job", "sum", "--image=proa.local/demo:v1", "--", "/bin/true")
	s.kubectl("-n", "demo", "wait", "--for=condition=Complete", "job/sum", "--timeout=30s")
}
