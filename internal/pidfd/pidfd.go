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
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

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
