// Package pidfd holds processes, so that a number which has come to mean another process is
// never signalled.
//
// The one idea: a number is believed only while a descriptor of the process is held: open
// first, then look again whether this is the process that was meant, then signal through the
// descriptor. Started tells processes of one number apart across restarts of the holder.
//
// Used by host, cluster, runtime and kubelet/cgroups.
package pidfd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a process that is held.
type Process struct {
	PID int // its number, for messages
	FD  int // pidfd: readable when the process has ended
}

// Open holds the process that has this number now; errors are the kernel's, unix.ESRCH when
// there is none.
func Open(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, err
	}
	return &Process{pid, fd}, nil
}

// Signal sends a signal; a process that has ended is no error.
func (p *Process) Signal(s unix.Signal) error {
	if err := unix.PidfdSendSignal(p.FD, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// Close lets go of the process.
func (p *Process) Close() {
	if err := unix.Close(p.FD); err != nil {
		return // nothing else can be done with a descriptor
	}
}

// Members holds those processes that look names both before and after they are held: the
// number of one that ended in between may be a stranger's. The caller closes them.
func Members(look func() []int) []*Process {
	var held []*Process
	for _, pid := range look() {
		if p, err := Open(pid); err == nil { // else it has ended
			held = append(held, p)
		}
	}
	if len(held) == 0 {
		return nil
	}
	still := look()
	return slices.DeleteFunc(held, func(p *Process) bool {
		if slices.Contains(still, p.PID) {
			return false
		}
		p.Close()
		return true
	})
}

// InGroup are the numbers of the processes in a cgroup's folder; those that cannot be named from
// here, and the one that all others descend from, are left out.
func InGroup(dir string) []int {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// End ends the processes: SIGTERM, then SIGKILL after term, and waits for them, after that no
// longer than kill.
func End(ctx context.Context, list []*Process, term, kill time.Duration) error {
	left := len(list)
	for _, step := range []struct {
		signal unix.Signal
		grace  time.Duration
	}{{unix.SIGTERM, term}, {unix.SIGKILL, kill}} {
		for _, p := range list {
			if err := p.Signal(step.signal); err != nil {
				return err
			}
		}
		var err error
		if left, err = Wait(ctx, list, step.grace); err != nil || left == 0 {
			return err
		}
	}
	return fmt.Errorf("%d of %d processes do not end", left, len(list))
}

// Wait waits until all processes have ended or d is over, and says how many have not.
func Wait(ctx context.Context, list []*Process, d time.Duration) (left int, err error) {
	deadline := time.Now().Add(d)
	running := slices.Clone(list)
	for len(running) > 0 && time.Now().Before(deadline) {
		if err := ctx.Err(); err != nil {
			return len(running), err
		}
		fds := make([]unix.PollFd, len(running))
		for i, p := range running {
			fds[i] = unix.PollFd{Fd: int32(p.FD), Events: unix.POLLIN}
		}
		if _, err := unix.Poll(fds, 100); err != nil && !errors.Is(err, unix.EINTR) {
			return len(running), fmt.Errorf("wait for processes: %w", err)
		}
		still := running[:0]
		for i, p := range running {
			if fds[i].Revents == 0 {
				still = append(still, p)
			}
		}
		running = still
	}
	return len(running), nil
}

// Started is when a process began, in the kernel's ticks since the machine did.
func Started(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return started(stat)
}

// started reads the 22nd field of /proc/PID/stat. The second, the program's name, may hold
// blanks and brackets.
func started(stat []byte) (uint64, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("start of a process: %d fields after its name", len(fields))
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}
