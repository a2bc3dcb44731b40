package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// rateWindow is the least time over which the use of CPUs is averaged.
const rateWindow = time.Second

// cpuRates turns counters of CPU time into use, from one request to the next: nothing is
// measured while nobody asks.
type cpuRates struct {
	mu   sync.Mutex
	last map[string]rate
}

type rate struct {
	at    time.Time
	seen  time.Time
	total uint64
	nanos *uint64 // per second; nil: not known yet
}

func newCPURates() *cpuRates { return &cpuRates{last: map[string]rate{}} }

// of answers the use by key in nanocores; total is its CPU time in nanoseconds at that time.
func (c *cpuRates) of(key string, total uint64, at time.Time) *uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, known := c.last[key]
	now := rate{at: at, seen: time.Now(), total: total}
	if known {
		span := at.Sub(was.at)
		switch {
		case span < rateWindow:
			now = was
			now.seen = time.Now()
		case total >= was.total:
			nanos := uint64(float64(total-was.total) / span.Seconds())
			now.nanos = &nanos
		}
	}
	c.last[key] = now
	return now.nanos
}

// forgotten is after what time what nobody told of any more is forgotten.
const forgotten = 10 * time.Minute

func (c *cpuRates) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, r := range c.last {
		if time.Since(r.seen) > forgotten {
			delete(c.last, key)
		}
	}
}

// value reads an optional figure of the runtime.
func value(v *runtimeapi.UInt64Value) *uint64 {
	if v == nil {
		return nil
	}
	return &v.Value
}

func (c *cpuRates) cpu(key string, u *runtimeapi.CpuUsage) *stats.CPUStats {
	if u == nil || u.UsageCoreNanoSeconds == nil {
		return nil
	}
	at := time.Unix(0, u.Timestamp)
	total := u.UsageCoreNanoSeconds.Value
	return &stats.CPUStats{Time: metav1.NewTime(at), UsageCoreNanoSeconds: &total, UsageNanoCores: c.of(key, total, at)}
}

func memory(m *runtimeapi.MemoryUsage) *stats.MemoryStats {
	if m == nil {
		return nil
	}
	free := value(m.AvailableBytes)
	if free != nil && *free == 0 {
		free = nil // the runtime's way to tell that there is no limit
	}
	return &stats.MemoryStats{Time: metav1.NewTime(time.Unix(0, m.Timestamp)), AvailableBytes: free, UsageBytes: value(m.UsageBytes),
		WorkingSetBytes: value(m.WorkingSetBytes), RSSBytes: value(m.RssBytes), PageFaults: value(m.PageFaults), MajorPageFaults: value(m.MajorPageFaults)}
}

// nodeCPU is the CPU time that the machine has spent at work.
func (c *cpuRates) nodeCPU() (*stats.CPUStats, error) {
	line, _, _ := strings.Cut(readText("/proc/stat"), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return nil, fmt.Errorf("read /proc/stat: %.80q", line)
	}
	const tick = uint64(time.Second) / 100 // USER_HZ of every architecture that is supported
	var total uint64
	for i, f := range fields[1:9] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read /proc/stat: %w", err)
		}
		if i != 3 && i != 4 && i != 7 {
			total += n * tick
		}
	}
	now := time.Now()
	return &stats.CPUStats{Time: metav1.NewTime(now), UsageCoreNanoSeconds: &total, UsageNanoCores: c.of("", total, now)}, nil
}

func readText(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return "" // what is not there has no figures
	}
	return string(data)
}

// table reads "name: value" lines such as those of /proc/meminfo, in bytes where they say kB.
func table(text string) map[string]uint64 {
	out := map[string]uint64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if n, err := strconv.ParseUint(f[1], 10, 64); err == nil {
			if len(f) > 2 && f[2] == "kB" {
				n <<= 10
			}
			out[strings.TrimSuffix(f[0], ":")] = n
		}
	}
	return out
}

// nodeMemory: what is in use and cannot be taken back without harm is the working set.
func nodeMemory() (*stats.MemoryStats, *stats.SwapStats) {
	now := metav1.Now()
	m, events := table(readText("/proc/meminfo")), table(readText("/proc/vmstat"))
	used, set, rss := m["MemTotal"]-m["MemFree"], m["MemTotal"]-m["MemAvailable"], m["AnonPages"]
	free, faults, major := m["MemAvailable"], events["pgfault"], events["pgmajfault"]
	swapFree, swapUsed := m["SwapFree"], m["SwapTotal"]-m["SwapFree"]
	return &stats.MemoryStats{Time: now, AvailableBytes: &free, UsageBytes: &used, WorkingSetBytes: &set, RSSBytes: &rss, PageFaults: &faults, MajorPageFaults: &major},
		&stats.SwapStats{Time: now, SwapAvailableBytes: &swapFree, SwapUsageBytes: &swapUsed}
}

// nodeNetwork is the interface of the default route.
func nodeNetwork() *stats.NetworkStats {
	name := ""
	for line := range strings.Lines(readText("/proc/net/route")) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "00000000" {
			name = f[0]
			break
		}
	}
	if name == "" || name != filepath.Base(name) {
		return nil
	}
	read := func(counter string) *uint64 {
		n, err := strconv.ParseUint(strings.TrimSpace(readText(filepath.Join("/sys/class/net", name, "statistics", counter))), 10, 64)
		if err != nil {
			return nil
		}
		return &n
	}
	one := stats.InterfaceStats{Name: name, RxBytes: read("rx_bytes"), RxErrors: read("rx_errors"), TxBytes: read("tx_bytes"), TxErrors: read("tx_errors")}
	return &stats.NetworkStats{Time: metav1.Now(), InterfaceStats: one, Interfaces: []stats.InterfaceStats{one}}
}

// filesystem is the disk below path; used overrides what is used of it.
func filesystem(path string, used, inodesUsed *uint64) *stats.FsStats {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil
	}
	block := uint64(st.Bsize)
	free, size, inodes, inodesFree := st.Bavail*block, st.Blocks*block, st.Files, st.Ffree
	if used == nil {
		all, taken := (st.Blocks-st.Bfree)*block, st.Files-st.Ffree
		used, inodesUsed = &all, &taken
	}
	return &stats.FsStats{Time: metav1.Now(), AvailableBytes: &free, CapacityBytes: &size, UsedBytes: used,
		Inodes: &inodes, InodesFree: &inodesFree, InodesUsed: inodesUsed}
}

// imageFilesystem is where the runtime keeps images.
func (s *Server) imageFilesystem(ctx context.Context) *stats.FsStats {
	if s.cfg.Images == nil {
		return nil
	}
	got, err := s.cfg.Images.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	if err != nil || len(got.ImageFilesystems) == 0 {
		return nil
	}
	fs := got.ImageFilesystems[0]
	return filesystem(fs.GetFsId().GetMountpoint(), value(fs.UsedBytes), value(fs.InodesUsed))
}
