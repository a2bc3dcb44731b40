package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/proa-dev/proa/host/snapshot"
)

// TestLeavesTheMachineAsItWas compares the machine before a cluster and after it is gone,
// ended as it should be or killed.
func TestLeavesTheMachineAsItWas(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*site)
	}{
		{"down", func(s *site) {
			begun := time.Now()
			s.proa("down")
			if took := time.Since(begun); took > 8*time.Second {
				s.t.Errorf("down took %s", took.Round(time.Millisecond))
			}
		}},
		{"down after kill -9", func(s *site) { s.kill("server"); s.proa("down") }},
		{"uninstall after kill -9 of all", func(s *site) {
			for _, file := range s.pidFiles() {
				s.kill(strings.TrimSuffix(filepath.Base(file), ".pid"))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			before := snapshot.Take()
			s.proa("up", "--nodes=2")
			s.loadDemo()
			s.twoPods()
			marks := s.marks()
			c.end(s)
			if strings.HasPrefix(c.name, "down") {
				s.same(before, marks, "file /run/proa-e2e") // of this test: its folder stays until uninstall
			}
			s.proa("uninstall")
			s.same(before, marks)
			for _, left := range []string{s.kubeconfig, filepath.Join(s.dir, "data"), filepath.Join(s.dir, "etc"), s.run} {
				if _, err := os.Stat(left); err == nil {
					t.Errorf("uninstall left %s", left)
				}
			}
		})
	}
}

// TestDownKeepsTheData goes down and up again.
func TestDownKeepsTheData(t *testing.T) {
	s := up(t)
	s.loadDemo()
	s.kubectl("create", "configmap", "kept", "--from-literal=a=b")
	s.twoPods()
	s.proa("down")
	s.proa("up")
	if got := s.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}"); got != "b" {
		t.Errorf("after down and up the configmap holds %q", got)
	}
	s.kubectl("rollout", "status", "deployment/two", "--timeout=60s")
	s.ready("app=two", 2)
	if out := s.proa("up"); !strings.Contains(out, "is up at") {
		t.Errorf("a second up: %s", out)
	}
}

// twoPods starts pods so that there is something to put back.
func (s *site) twoPods() {
	s.t.Helper()
	s.kubectl("create", "deployment", "two", "--image=proa.local/demo:v1", "--replicas=2", "--port=8080")
	s.kubectl("expose", "deployment", "two", "--port=80", "--target-port=8080", "--type=NodePort")
	s.kubectl("rollout", "status", "deployment/two", "--timeout=60s")
}

// ready waits until exactly count pods are ready and no other is there.
func (s *site) ready(selector string, count int) {
	s.t.Helper()
	want := strings.TrimSpace(strings.Repeat("True ", count))
	eventually(s.t, 45*time.Second, fmt.Sprintf("%d ready pods with %s", count, selector), func() bool {
		got := s.kubectl("get", "pods", "-A", "-l", selector, "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
		return got == want
	})
}

func (s *site) pidFiles() []string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.run, s.name, "*.pid"))
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}

// kill ends a process of the cluster the hard way and waits until it is gone.
func (s *site) kill(process string) {
	s.t.Helper()
	pid := s.pid(process)
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || exe != binary(s.t) {
		s.t.Fatalf("%s: process %d is %q: %v", process, pid, exe, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, 10*time.Second, "end of "+process, func() bool {
		_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		return err != nil
	})
}

// marks are what the names of this cluster's things on the machine have in them.
func (s *site) marks() *regexp.Regexp {
	return regexp.MustCompile(regexp.QuoteMeta(s.name) + "|" + regexp.QuoteMeta(s.dir))
}

// others are things that come and go on a machine where other clusters or tests run;
// pods' links are told apart from ours by nothing.
var others = regexp.MustCompile(`proa|veth|kubernetes\.io~|\bpr[0-9a-f]{12}\b|^. (listen|process) |^. file /(etc|var/log|tmp)|/run/user|/run/systemd`)

// A program that comes or goes meanwhile is ours if it is one that a cluster starts.
var (
	program = regexp.MustCompile(`^. process `)
	started = regexp.MustCompile(`proa|containerd|runc|pause|busybox|/web$`)
)

// alone says that no other cluster runs on this machine.
func (s *site) alone() bool {
	s.t.Helper()
	running, err := filepath.Glob("/run/proa*/*/*.pid")
	if err != nil {
		s.t.Fatal(err)
	}
	return !slices.ContainsFunc(running, func(path string) bool { return !strings.HasPrefix(path, s.run+"/") })
}

// same fails the test unless the machine is as it was: nothing of this cluster is left, and
// nothing else has changed but what others change.
func (s *site) same(before snapshot.Snapshot, marks *regexp.Regexp, ignore ...string) {
	s.t.Helper()
	alone := s.alone()
	var diff []string
	for range 20 { // the kernel takes down namespaces and cgroups a little later
		diff = slices.DeleteFunc(snapshot.Diff(before, snapshot.Take(), ignore...), func(line string) bool {
			if program.MatchString(line) && !started.MatchString(line) {
				return true
			}
			return !alone && !marks.MatchString(line) && others.MatchString(line)
		})
		diff = append(diff, s.processes(marks)...)
		if len(diff) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Errorf("the machine is not as it was:\n%s", strings.Join(diff, "\n"))
}

// processes are those that belong to this cluster.
func (s *site) processes(marks *regexp.Regexp) []string {
	s.t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		s.t.Fatal(err)
	}
	var found []string
	for _, path := range paths {
		command, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		groups, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
		if err != nil {
			continue
		}
		if marks.Match(command) || marks.Match(groups) {
			found = append(found, "+ process "+path+" "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return found
}
