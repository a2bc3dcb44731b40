// Package usage reads what control groups and the machine have used: CPU time, memory, disks,
// network, processes.
//
// The one idea: all figures are counters and levels that the kernel keeps anyway, so they are
// read from its files when somebody asks, without the container runtime and without anything
// that runs meanwhile. cgroup v2, v1 and hybrids of both; a file that is not there is a figure
// that is zero.
//
// The kubelet's server alone calls it.
package usage

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// CPU time of a group since it was made.
type CPU struct {
	Total, User, System time.Duration
	Periods, Throttled  uint64 // periods of the quota, and those in which it was used up
	ThrottledTime       time.Duration
}

// Memory of a group, in bytes.
type Memory struct {
	Usage, WorkingSet, RSS, Cache, Mapped, Swap, Kernel uint64
	ActiveFile, InactiveFile, Most                      uint64 // Most: the highest Usage
	LimitHits, OOMKills                                 uint64 // counts
	Faults, MajorFaults                                 uint64 // counts
}

// Device is what a group did with a disk.
type Device struct {
	Major, Minor          uint64
	ReadBytes, WriteBytes uint64
	Reads, Writes         uint64
}

// Stall is how long work was held up for want of something: some of it, or all.
type Stall struct{ Some, Full time.Duration }

// Limits are those of a group; 0: none.
type Limits struct {
	Shares, Period         uint64 // Period in microseconds
	Quota                  int64  // microseconds in each period
	Memory, Reserved, Swap uint64 // bytes
	Threads                uint64
}

// Figures are those of one group.
type Figures struct {
	At        time.Time
	CPU       CPU
	Memory    Memory
	IO        []Device
	Processes int
	Threads   uint64
	// Since the group was made; nil: the kernel does not count them.
	CPUStall, MemoryStall, IOStall *Stall
}

// Reader reads groups.
type Reader struct {
	mount   string
	unified bool
}

// New finds out what is mounted at mount; "" is /sys/fs/cgroup.
func New(mount string) *Reader {
	if mount == "" {
		mount = "/sys/fs/cgroup"
	}
	_, err := os.Stat(filepath.Join(mount, "cgroup.controllers"))
	return &Reader{mount: mount, unified: err == nil}
}

// Brief reads the CPU time and memory of a group, named by its path below the mount; false
// if there is none.
func (r *Reader) Brief(path string) (f Figures, ok bool) {
	f.At = time.Now()
	if r.unified {
		ok = r.briefUnified(path, &f)
	} else {
		ok = r.briefEach(path, &f)
	}
	return f, ok
}

// All reads everything of a group.
func (r *Reader) All(path string) (f Figures, ok bool) {
	if f, ok = r.Brief(path); !ok {
		return f, false
	}
	if r.unified {
		r.moreUnified(path, &f)
	} else {
		r.moreEach(path, &f)
	}
	return f, true
}

// Exists says whether there is such a group.
func (r *Reader) Exists(path string) bool {
	_, err := os.Stat(r.first(path))
	return err == nil
}

// first is the group's folder in the hierarchy that is asked about processes and times.
func (r *Reader) first(path string) string {
	if r.unified {
		return filepath.Join(r.mount, path)
	}
	return filepath.Join(r.mount, "memory", path)
}

// Children are the names of the groups directly below one.
func (r *Reader) Children(path string) []string {
	entries, err := os.ReadDir(r.first(path))
	if err != nil {
		return nil // it is gone, and has none
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out
}

// Process is one of a group's processes; false if it has none.
func (r *Reader) Process(path string) (int, bool) {
	line, _, _ := strings.Cut(r.text(filepath.Join(r.first(path), "cgroup.procs")), "\n")
	pid, err := strconv.Atoi(line)
	return pid, err == nil && pid > 0
}

// text is a file's content, "" when it is not there.
func (r *Reader) text(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return "" // the group went away, or this kernel has no such file
	}
	return string(data)
}

func (r *Reader) number(parts ...string) uint64 {
	return limit(r.text(filepath.Join(parts...)))
}

// limit reads one number; "max", and what cgroup v1 writes for it, is 0.
func limit(text string) uint64 {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil || n >= unlimited {
		return 0
	}
	return n
}

// unlimited: nothing has so much memory; the kernel writes the greatest number of pages.
const unlimited = 1 << 62

// each calls do with each "name number" line.
func each(text string, do func(name string, n uint64)) {
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, " ")
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64); err == nil {
			do(name, n)
		}
	}
}

func workingSet(m *Memory) {
	if m.Usage > m.InactiveFile {
		m.WorkingSet = m.Usage - m.InactiveFile
	}
}

func (r *Reader) processes(path string) int {
	return strings.Count(r.text(filepath.Join(r.first(path), "cgroup.procs")), "\n")
}
