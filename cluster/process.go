package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/proa-dev/proa/internal/pidfd"
)

// lockFile of a process: held (flock) while it runs, holding its pid.
func (p *Place) lockFile(process string) string {
	return filepath.Join(p.RunDir(), process+".pid")
}

// A lock that somebody holds for the moment in which he looks whether the process runs is
// tried again after a pause, for so long at most.
const (
	lookerPause = time.Millisecond
	lookerMost  = 5 * time.Second
)

// claimProcess takes the lock of a process of this cluster; the error names who has it.
func claimProcess(p *Place, process string) (release func(), err error) {
	if err := os.MkdirAll(p.RunDir(), 0o711); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(p.lockFile(process), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	for begun := time.Now(); unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil; <-time.After(lookerPause) {
		if pid := runningPid(p, process); pid != 0 && hasOpen(pid, p.lockFile(process)) || time.Since(begun) > lookerMost {
			f.Close()
			return nil, fmt.Errorf("%s of cluster %q runs already (pid %d)", process, p.Name, pid)
		}
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return func() { f.Close() }, err
}

// runningPid is the pid of a running process of the cluster, 0 when it does not run.
func runningPid(p *Place, process string) int {
	f, err := os.Open(p.lockFile(process))
	if err != nil {
		return 0
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0 // nobody holds it
	}
	raw := make([]byte, 16)
	n, _ := f.Read(raw)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(raw[:n])))
	return pid
}

// hold holds a running process of the cluster, nil when it does not run. The number in the
// file is believed of a process that has the file open, no other.
func hold(p *Place, process string) (*pidfd.Process, error) {
	pid := runningPid(p, process)
	if pid == 0 {
		return nil, nil
	}
	held, err := pidfd.Open(pid)
	if err == nil && hasOpen(pid, p.lockFile(process)) {
		return held, nil
	}
	if err == nil {
		held.Close()
	}
	if runningPid(p, process) == 0 {
		return nil, nil // it has ended meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("hold %s (pid %d): %w", process, pid, err)
	}
	return nil, fmt.Errorf("%s of cluster %q runs, but process %d, which %s names, is another; try again when it has started", process, p.Name, pid, p.lockFile(process))
}

// hasOpen tells whether a process has a file open.
func hasOpen(pid int, path string) bool {
	want, err := os.Stat(path)
	if err != nil {
		return false
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		is, err := os.Stat(filepath.Join(dir, e.Name()))
		return err == nil && os.SameFile(want, is)
	})
}

// runningProcesses names the processes of the cluster that run.
func runningProcesses(p *Place) []string {
	files, _ := filepath.Glob(p.lockFile("*"))
	var names []string
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".pid")
		if runningPid(p, name) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// How long a process of the cluster has to end by itself, and when it is made to.
const (
	termGrace = 12 * time.Second
	killGrace = 5 * time.Second
)

// stopProcess asks a process of the cluster to end, and after termGrace makes it.
func stopProcess(ctx context.Context, p *Place, process string) error {
	held, err := hold(p, process)
	if err != nil || held == nil {
		return err
	}
	defer held.Close()
	if err := pidfd.End(ctx, []*pidfd.Process{held}, termGrace, killGrace); err != nil {
		return fmt.Errorf("stop %s (pid %d): %w", process, held.PID, err)
	}
	return nil
}

// startDetached starts a proa process that outlives this one, logging to a file.
func startDetached(p *Place, process string, start func(*exec.Cmd) error, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Dir(p.Log(process)), p.RunDir()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	log, err := os.OpenFile(p.Log(process), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	_ = os.Remove(p.Progress(process))
	return cmd, start(cmd)
}

// follow reports the steps of a starting process until it is ready, fails or ends.
func follow(ctx context.Context, p *Place, process string, cmd *exec.Cmd, report func(Step)) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	seen := 0
	for {
		steps := readSteps(p.Progress(process))
		for _, s := range steps[min(seen, len(steps)):] {
			if s.Failed {
				return fmt.Errorf("%s: %s\nits log: %s", process, s.Text, p.Log(process))
			}
			report(s)
			if s.Ready {
				return nil
			}
		}
		seen = len(steps)
		select {
		case err := <-ended:
			// Its last words may have come after the last look.
			for _, s := range readSteps(p.Progress(process)) {
				if s.Failed {
					return fmt.Errorf("%s: %s\nits log: %s", process, s.Text, p.Log(process))
				}
			}
			return fmt.Errorf("%s ended before it was ready (%v): %s\nits log: %s", process, err, lastLine(p.Log(process)), p.Log(process))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready in time; its log: %s", process, p.Log(process))
		case <-tick.C:
		}
	}
}

func readSteps(path string) []Step {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var steps []Step
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var s Step
		if json.Unmarshal(lines.Bytes(), &s) == nil {
			steps = append(steps, s)
		}
	}
	return steps
}

func lastLine(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return lines[len(lines)-1]
}
