package usage

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func (r *Reader) briefEach(path string, f *Figures) bool {
	raw, err := os.ReadFile(filepath.Join(r.mount, "cpuacct", path, "cpuacct.usage"))
	if err != nil {
		return false
	}
	f.CPU.Total = time.Duration(limit(string(raw)))
	dir, m := filepath.Join(r.mount, "memory", path), &f.Memory
	m.Usage = r.number(dir, "memory.usage_in_bytes")
	each(r.text(filepath.Join(dir, "memory.stat")), func(name string, n uint64) {
		// Those of the group with all below it.
		switch name {
		case "total_cache":
			m.Cache = n
		case "total_rss":
			m.RSS = n
		case "total_mapped_file":
			m.Mapped = n
		case "total_swap":
			m.Swap = n
		case "total_inactive_file":
			m.InactiveFile = n
		case "total_active_file":
			m.ActiveFile = n
		case "total_pgfault":
			m.Faults = n
		case "total_pgmajfault":
			m.MajorFaults = n
		}
	})
	workingSet(m)
	return true
}

func (r *Reader) moreEach(path string, f *Figures) {
	account := filepath.Join(r.mount, "cpuacct", path)
	f.CPU.User = time.Duration(r.number(account, "cpuacct.usage_user"))
	f.CPU.System = time.Duration(r.number(account, "cpuacct.usage_sys"))
	each(r.text(filepath.Join(r.mount, "cpu", path, "cpu.stat")), func(name string, n uint64) {
		switch name {
		case "nr_periods":
			f.CPU.Periods = n
		case "nr_throttled":
			f.CPU.Throttled = n
		case "throttled_time":
			f.CPU.ThrottledTime = time.Duration(n)
		}
	})
	dir := filepath.Join(r.mount, "memory", path)
	f.Memory.Most = r.number(dir, "memory.max_usage_in_bytes")
	f.Memory.LimitHits = r.number(dir, "memory.failcnt")
	f.Memory.Kernel = r.number(dir, "memory.kmem.usage_in_bytes")
	each(r.text(filepath.Join(dir, "memory.oom_control")), func(name string, n uint64) {
		if name == "oom_kill" {
			f.Memory.OOMKills = n
		}
	})
	f.IO = r.throttled(filepath.Join(r.mount, "blkio", path))
	f.Processes, f.Threads = r.processes(path), r.number(r.mount, "pids", path, "pids.current")
}

// throttled reads what went through the throttling layer, which is all that went to disks.
func (r *Reader) throttled(dir string) []Device {
	var out []Device
	add := func(file string, put func(d *Device, write bool, n uint64)) {
		text := r.text(filepath.Join(dir, file+"_recursive"))
		if text == "" {
			text = r.text(filepath.Join(dir, file))
		}
		for line := range strings.Lines(text) { // "8:0 Read 4096"
			f := strings.Fields(line)
			if len(f) != 3 || f[1] != "Read" && f[1] != "Write" {
				continue
			}
			major, minor, ok := numbers(f[0])
			n, err := strconv.ParseUint(f[2], 10, 64)
			if ok && err == nil {
				put(device(&out, major, minor), f[1] == "Write", n)
			}
		}
	}
	add("blkio.throttle.io_service_bytes", func(d *Device, write bool, n uint64) {
		if write {
			d.WriteBytes = n
		} else {
			d.ReadBytes = n
		}
	})
	add("blkio.throttle.io_serviced", func(d *Device, write bool, n uint64) {
		if write {
			d.Writes = n
		} else {
			d.Reads = n
		}
	})
	return out
}

// numbers reads "8:0".
func numbers(text string) (major, minor uint64, ok bool) {
	a, b, found := strings.Cut(text, ":")
	major, errA := strconv.ParseUint(a, 10, 32)
	minor, errB := strconv.ParseUint(b, 10, 32)
	return major, minor, found && errA == nil && errB == nil
}

// device finds or adds one in a short list.
func device(list *[]Device, major, minor uint64) *Device {
	for i := range *list {
		if d := &(*list)[i]; d.Major == major && d.Minor == minor {
			return d
		}
	}
	*list = append(*list, Device{Major: major, Minor: minor})
	return &(*list)[len(*list)-1]
}

func (r *Reader) limitsEach(path string) (l Limits) {
	cpu := filepath.Join(r.mount, "cpu", path)
	l.Shares, l.Period = r.number(cpu, "cpu.shares"), r.number(cpu, "cpu.cfs_period_us")
	if n, err := strconv.ParseInt(strings.TrimSpace(r.text(filepath.Join(cpu, "cpu.cfs_quota_us"))), 10, 64); err == nil && n > 0 {
		l.Quota = n
	}
	memory := filepath.Join(r.mount, "memory", path)
	l.Memory, l.Reserved = r.number(memory, "memory.limit_in_bytes"), r.number(memory, "memory.soft_limit_in_bytes")
	l.Swap, l.Threads = r.number(memory, "memory.memsw.limit_in_bytes"), r.number(r.mount, "pids", path, "pids.max")
	return l
}
