package server

import (
	"time"

	"github.com/proa-dev/proa/kubelet/usage"
)

// put writes a sample of a family, with labels beside the account's own.
type put func(value float64, more ...string)

// family is one metric of all accounts.
type family struct {
	name, kind, help string
	of               func(a *account, put put)
}

const (
	counts = "counter"
	levels = "gauge"
)

func level(name, help string, of func(*account) float64) family {
	return family{name, levels, help, func(a *account, put put) { put(of(a)) }}
}

func count(name, help string, of func(*account) float64) family {
	return family{name, counts, help, func(a *account, put put) { put(of(a)) }}
}

// quota is count for groups whose CPU time has a limit.
func quota(name, help string, of func(*account) float64) family {
	return family{name, counts, help, func(a *account, put put) {
		if a.Quota != 0 {
			put(of(a))
		}
	}}
}

func network(name, help string, of func(*usage.Interface) uint64) family {
	return family{"container_network_" + name, counts, help, func(a *account, put put) {
		for i := range a.interfaces {
			put(float64(of(&a.interfaces[i])), "interface", a.interfaces[i].Name)
		}
	}}
}

func disk(name, help string, of func(*usage.Device) uint64) family {
	return family{"container_fs_" + name, counts, help, func(a *account, put put) {
		for i := range a.IO {
			d := &a.IO[i]
			if of(d) > 0 {
				put(float64(of(d)), "device", a.disks[i])
			}
		}
	}}
}

func space(name, help string, of func(*account) *uint64) family {
	return family{"container_fs_" + name, levels, help, func(a *account, put put) {
		if a.fs != nil && of(a) != nil {
			put(float64(*of(a)), "device", a.device)
		}
	}}
}

func pressure(name, help string, of func(*account) *usage.Stall, full bool) family {
	return family{"container_pressure_" + name, counts, help, func(a *account, put put) {
		if s := of(a); s != nil && full {
			put(s.Full.Seconds())
		} else if s != nil {
			put(s.Some.Seconds())
		}
	}}
}

// known are the metrics that are told of every group, under the names and with the texts of cAdvisor.
var known = []family{
	count("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", func(a *account) float64 { return a.CPU.User.Seconds() }),
	count("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", func(a *account) float64 { return a.CPU.System.Seconds() }),
	{"container_cpu_usage_seconds_total", counts, "Cumulative cpu time consumed in seconds.", func(a *account, put put) { put(a.CPU.Total.Seconds(), "cpu", "total") }},
	quota("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", func(a *account) float64 { return float64(a.CPU.Periods) }),
	quota("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", func(a *account) float64 { return float64(a.CPU.Throttled) }),
	quota("container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", func(a *account) float64 { return a.CPU.ThrottledTime.Seconds() }),

	level("container_memory_cache", "Number of bytes of page cache memory.", func(a *account) float64 { return float64(a.Figures.Memory.Cache) }),
	level("container_memory_rss", "Size of RSS in bytes.", func(a *account) float64 { return float64(a.Figures.Memory.RSS) }),
	level("container_memory_kernel_usage", "Size of kernel memory allocated in bytes.", func(a *account) float64 { return float64(a.Figures.Memory.Kernel) }),
	level("container_memory_mapped_file", "Size of memory mapped files in bytes.", func(a *account) float64 { return float64(a.Figures.Memory.Mapped) }),
	level("container_memory_swap", "Container swap usage in bytes.", func(a *account) float64 { return float64(a.Figures.Memory.Swap) }),
	count("container_memory_failcnt", "Number of memory usage hits limits", func(a *account) float64 { return float64(a.Figures.Memory.LimitHits) }),
	level("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", func(a *account) float64 { return float64(a.Figures.Memory.Usage) }),
	level("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", func(a *account) float64 { return float64(a.Figures.Memory.Most) }),
	level("container_memory_working_set_bytes", "Current working set in bytes.", func(a *account) float64 { return float64(a.Figures.Memory.WorkingSet) }),
	level("container_memory_total_active_file_bytes", "Current total active file in bytes.", func(a *account) float64 { return float64(a.Figures.Memory.ActiveFile) }),
	level("container_memory_total_inactive_file_bytes", "Current total inactive file in bytes.", func(a *account) float64 { return float64(a.Figures.Memory.InactiveFile) }),
	{"container_memory_failures_total", counts, "Cumulative count of memory allocation failures.", func(a *account, put put) {
		put(float64(a.Figures.Memory.Faults), "failure_type", "pgfault", "scope", "hierarchy")
		put(float64(a.Figures.Memory.MajorFaults), "failure_type", "pgmajfault", "scope", "hierarchy")
	}},
	count("container_oom_events_total", "Count of out of memory events observed for the container", func(a *account) float64 { return float64(a.Figures.Memory.OOMKills) }),

	network("receive_bytes_total", "Cumulative count of bytes received", func(l *usage.Interface) uint64 { return l.RxBytes }),
	network("receive_packets_total", "Cumulative count of packets received", func(l *usage.Interface) uint64 { return l.RxPackets }),
	network("receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", func(l *usage.Interface) uint64 { return l.RxDropped }),
	network("receive_errors_total", "Cumulative count of errors encountered while receiving", func(l *usage.Interface) uint64 { return l.RxErrors }),
	network("transmit_bytes_total", "Cumulative count of bytes transmitted", func(l *usage.Interface) uint64 { return l.TxBytes }),
	network("transmit_packets_total", "Cumulative count of packets transmitted", func(l *usage.Interface) uint64 { return l.TxPackets }),
	network("transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", func(l *usage.Interface) uint64 { return l.TxDropped }),
	network("transmit_errors_total", "Cumulative count of errors encountered while transmitting", func(l *usage.Interface) uint64 { return l.TxErrors }),

	disk("reads_bytes_total", "Cumulative count of bytes read", func(d *usage.Device) uint64 { return d.ReadBytes }),
	disk("reads_total", "Cumulative count of reads completed", func(d *usage.Device) uint64 { return d.Reads }),
	disk("writes_bytes_total", "Cumulative count of bytes written", func(d *usage.Device) uint64 { return d.WriteBytes }),
	disk("writes_total", "Cumulative count of writes completed", func(d *usage.Device) uint64 { return d.Writes }),
	space("limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", func(a *account) *uint64 { return a.fs.CapacityBytes }),
	space("usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", func(a *account) *uint64 { return a.fs.UsedBytes }),
	space("inodes_total", "Number of Inodes", func(a *account) *uint64 { return a.fs.Inodes }),
	space("inodes_free", "Number of available Inodes", func(a *account) *uint64 { return a.fs.InodesFree }),

	level("container_processes", "Number of processes running inside the container.", func(a *account) float64 { return float64(a.Processes) }),
	level("container_threads", "Number of threads running inside the container", func(a *account) float64 { return float64(a.Figures.Threads) }),
	level("container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero", func(a *account) float64 { return float64(a.Limits.Threads) }),

	pressure("cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.", func(a *account) *usage.Stall { return a.CPUStall }, false),
	pressure("cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.", func(a *account) *usage.Stall { return a.CPUStall }, true),
	pressure("memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.", func(a *account) *usage.Stall { return a.MemoryStall }, false),
	pressure("memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.", func(a *account) *usage.Stall { return a.MemoryStall }, true),
	pressure("io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.", func(a *account) *usage.Stall { return a.IOStall }, false),
	pressure("io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.", func(a *account) *usage.Stall { return a.IOStall }, true),

	level("container_last_seen", "Last time a container was seen by the exporter", func(a *account) float64 { return float64(a.At.Unix()) }),
	level("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", func(a *account) float64 { return float64(a.begun.Unix()) }),
	level("container_spec_cpu_period", "CPU period of the container.", func(a *account) float64 { return float64(a.Period) }),
	{"container_spec_cpu_quota", levels, "CPU quota of the container.", func(a *account, put put) {
		if a.Quota != 0 {
			put(float64(a.Quota))
		}
	}},
	level("container_spec_cpu_shares", "CPU share of the container.", func(a *account) float64 { return float64(a.Shares) }),
	level("container_spec_memory_limit_bytes", "Memory limit for the container.", func(a *account) float64 { return float64(a.Limits.Memory) }),
	level("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", func(a *account) float64 { return float64(a.Limits.Swap) }),
	level("container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container.", func(a *account) float64 { return float64(a.Reserved) }),
}

func (t *metricsText) accounts(all []account) {
	for _, f := range known {
		begun := false
		for i := range all {
			a := &all[i]
			f.of(a, func(v float64, more ...string) {
				if !begun {
					t.family(f.name, f.kind, f.help)
					begun = true
				}
				l := a.labels
				if len(more) > 0 {
					l += "," + labels(more...)
				}
				t.sample(f.name, l, v, time.Time{})
			})
		}
	}
}

// machine tells what the node is made of.
func (t *metricsText) machine() {
	cpus, err := usage.ReadProcessors()
	m := table(readText("/proc/meminfo"))
	for _, g := range []struct {
		name, help string
		value      float64
	}{
		{"machine_cpu_physical_cores", "Number of physical CPU cores.", float64(cpus.Cores)},
		{"machine_cpu_cores", "Number of logical CPU cores.", float64(cpus.Logical)},
		{"machine_cpu_sockets", "Number of CPU sockets.", float64(cpus.Sockets)},
		{"machine_memory_bytes", "Amount of memory installed on the machine.", float64(m["MemTotal"])},
		{"machine_swap_bytes", "Amount of swap memory available on the machine.", float64(m["SwapTotal"])},
		{"machine_scrape_error", "1 if there was an error while getting machine metrics, 0 otherwise.", boolean(err != nil)},
	} {
		t.family(g.name, levels, g.help)
		t.sample(g.name, "", g.value, time.Time{})
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
