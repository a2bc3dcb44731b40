package usage

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func (r *Reader) briefUnified(path string, f *Figures) bool {
	dir := filepath.Join(r.mount, path)
	raw, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return false
	}
	each(string(raw), func(name string, n uint64) {
		d := time.Duration(n) * time.Microsecond
		switch name {
		case "usage_usec":
			f.CPU.Total = d
		case "user_usec":
			f.CPU.User = d
		case "system_usec":
			f.CPU.System = d
		case "nr_periods":
			f.CPU.Periods = n
		case "nr_throttled":
			f.CPU.Throttled = n
		case "throttled_usec":
			f.CPU.ThrottledTime = d
		}
	})
	m := &f.Memory
	m.Usage = r.number(dir, "memory.current")
	each(r.text(filepath.Join(dir, "memory.stat")), func(name string, n uint64) {
		switch name {
		case "anon":
			m.RSS = n
		case "file":
			m.Cache = n
		case "file_mapped":
			m.Mapped = n
		case "kernel":
			m.Kernel = n
		case "inactive_file":
			m.InactiveFile = n
		case "active_file":
			m.ActiveFile = n
		case "pgfault":
			m.Faults = n
		case "pgmajfault":
			m.MajorFaults = n
		}
	})
	m.Swap = r.number(dir, "memory.swap.current")
	workingSet(m)
	return true
}

func (r *Reader) moreUnified(path string, f *Figures) {
	dir := filepath.Join(r.mount, path)
	f.Memory.Most = r.number(dir, "memory.peak")
	each(r.text(filepath.Join(dir, "memory.events")), func(name string, n uint64) {
		switch name {
		case "max":
			f.Memory.LimitHits = n
		case "oom_kill":
			f.Memory.OOMKills = n
		}
	})
	for line := range strings.Lines(r.text(filepath.Join(dir, "io.stat"))) { // "8:0 rbytes=1 wbytes=2 rios=3 ..."
		if d, ok := ioLine(line); ok {
			f.IO = append(f.IO, d)
		}
	}
	f.Processes, f.Threads = r.processes(path), r.number(dir, "pids.current")
	f.CPUStall, f.MemoryStall, f.IOStall = r.stall(dir, "cpu"), r.stall(dir, "memory"), r.stall(dir, "io")
}

func ioLine(line string) (d Device, ok bool) {
	f := strings.Fields(line)
	if len(f) == 0 {
		return d, false
	}
	if d.Major, d.Minor, ok = numbers(f[0]); !ok {
		return d, false
	}
	for _, pair := range f[1:] {
		name, value, _ := strings.Cut(pair, "=")
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "rbytes":
			d.ReadBytes = n
		case "wbytes":
			d.WriteBytes = n
		case "rios":
			d.Reads = n
		case "wios":
			d.Writes = n
		}
	}
	return d, true
}

// stall reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=12", and the same of "full".
func (r *Reader) stall(dir, of string) *Stall {
	text := r.text(filepath.Join(dir, of+".pressure"))
	if text == "" {
		return nil
	}
	out := &Stall{}
	for line := range strings.Lines(text) {
		_, total, ok := strings.Cut(line, "total=")
		n, err := strconv.ParseInt(strings.TrimSpace(total), 10, 64)
		if !ok || err != nil {
			continue
		}
		if d := time.Duration(n) * time.Microsecond; strings.HasPrefix(line, "some ") {
			out.Some = d
		} else if strings.HasPrefix(line, "full ") {
			out.Full = d
		}
	}
	return out
}

func (r *Reader) limitsUnified(path string) (l Limits) {
	dir := filepath.Join(r.mount, path)
	if weight := r.number(dir, "cpu.weight"); weight > 0 {
		l.Shares = 2 + (weight-1)*262142/9999 // the scale of cgroup v1, in which specs are told
	}
	if f := strings.Fields(r.text(filepath.Join(dir, "cpu.max"))); len(f) == 2 { // "max 100000"
		l.Period = limit(f[1])
		l.Quota = int64(limit(f[0]))
	}
	l.Memory, l.Reserved = r.number(dir, "memory.max"), r.number(dir, "memory.low")
	l.Swap, l.Threads = r.number(dir, "memory.swap.max"), r.number(dir, "pids.max")
	return l
}

// Limits reads those of a group.
func (r *Reader) Limits(path string) Limits {
	if r.unified {
		return r.limitsUnified(path)
	}
	return r.limitsEach(path)
}
