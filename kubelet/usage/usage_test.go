package usage

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// group writes the files of a group as a kernel showed them.
func group(t *testing.T, files map[string]string) string {
	t.Helper()
	mount := t.TempDir()
	for name, text := range files {
		path := filepath.Join(mount, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return mount
}

func TestUnified(t *testing.T) {
	r := New(group(t, map[string]string{
		"cgroup.controllers":             "cpuset cpu io memory pids\n",
		"kubepods/p/cpu.stat":            "usage_usec 12018\nuser_usec 8012\nsystem_usec 4006\nnice_usec 0\ncore_sched.force_idle_usec 0\nnr_periods 40\nnr_throttled 7\nthrottled_usec 351234\nnr_bursts 0\nburst_usec 0\n",
		"kubepods/p/cpu.max":             "20000 100000\n",
		"kubepods/p/cpu.weight":          "4\n",
		"kubepods/p/cpu.pressure":        "some avg10=0.00 avg60=0.12 avg300=0.05 total=58761\nfull avg10=0.00 avg60=0.12 avg300=0.05 total=58000\n",
		"kubepods/p/memory.current":      "5246976\n",
		"kubepods/p/memory.peak":         "6291456\n",
		"kubepods/p/memory.max":          "67108864\n",
		"kubepods/p/memory.low":          "0\n",
		"kubepods/p/memory.swap.max":     "max\n",
		"kubepods/p/memory.swap.current": "4096\n",
		"kubepods/p/memory.stat":         "anon 139264\nfile 4640768\nkernel 401408\nkernel_stack 32768\nfile_mapped 2670592\ninactive_anon 0\ninactive_file 1835008\nactive_file 2805760\npgfault 3411\npgmajfault 21\n",
		"kubepods/p/memory.events":       "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n",
		"kubepods/p/io.stat":             "8:0 rbytes=4644864 wbytes=8192 rios=112 wios=2 dbytes=0 dios=0\n252:1 \n",
		"kubepods/p/pids.current":        "4\n", "kubepods/p/pids.max": "max\n", "kubepods/p/cgroup.procs": "71\n72\n",
	}))
	f, ok := r.All("/kubepods/p")
	f.At = time.Time{}
	us := func(n int) time.Duration { return time.Duration(n) * time.Microsecond }
	want := Figures{
		CPU:    CPU{us(12018), us(8012), us(4006), 40, 7, us(351234)},
		Memory: Memory{Usage: 5246976, WorkingSet: 3411968, RSS: 139264, Cache: 4640768, Mapped: 2670592, Swap: 4096, Kernel: 401408, ActiveFile: 2805760, InactiveFile: 1835008, Most: 6291456, LimitHits: 3, OOMKills: 1, Faults: 3411, MajorFaults: 21},
		IO:     []Device{{8, 0, 4644864, 8192, 112, 2}, {Major: 252, Minor: 1}}, Processes: 2, Threads: 4,
		CPUStall: &Stall{us(58761), us(58000)},
	}
	if !ok || !reflect.DeepEqual(f, want) {
		t.Errorf("%v\n got %+v\nwant %+v", ok, f, want)
	}
	if got, want := r.Limits("/kubepods/p"), (Limits{Shares: 80, Period: 100000, Quota: 20000, Memory: 67108864}); got != want {
		t.Errorf("limits %+v, want %+v", got, want)
	}
	if _, ok := r.All("/kubepods/gone"); ok {
		t.Error("a group that is not there has figures")
	}
	if pid, ok := r.Process("/kubepods/p"); !ok || pid != 71 {
		t.Errorf("process %d %v", pid, ok)
	}
	if got := r.Children("/kubepods"); !reflect.DeepEqual(got, []string{"p"}) {
		t.Errorf("children %q", got)
	}
}

func TestEach(t *testing.T) {
	r := New(group(t, map[string]string{
		"cpuacct/p/cpuacct.usage": "12018000\n", "cpuacct/p/cpuacct.usage_user": "8012000\n", "cpuacct/p/cpuacct.usage_sys": "4006000\n",
		"cpu/p/cpu.stat": "nr_periods 40\nnr_throttled 7\nthrottled_time 351234000\n", "cpu/p/cpu.shares": "102\n", "cpu/p/cpu.cfs_period_us": "100000\n", "cpu/p/cpu.cfs_quota_us": "-1\n",
		"memory/p/memory.usage_in_bytes": "5246976\n", "memory/p/memory.max_usage_in_bytes": "6291456\n", "memory/p/memory.failcnt": "3\n", "memory/p/memory.kmem.usage_in_bytes": "401408\n",
		"memory/p/memory.limit_in_bytes": "9223372036854771712\n", "memory/p/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
		"memory/p/memory.stat":                              "cache 1\nrss 2\ntotal_cache 4640768\ntotal_rss 139264\ntotal_mapped_file 2670592\ntotal_swap 0\ntotal_pgfault 3411\ntotal_pgmajfault 21\ntotal_inactive_file 1835008\ntotal_active_file 2805760\n",
		"memory/p/cgroup.procs":                             "71\n",
		"blkio/p/blkio.throttle.io_service_bytes_recursive": "8:0 Read 4644864\n8:0 Write 8192\n8:0 Sync 1\n8:0 Total 4653056\nTotal 4653056\n",
		"blkio/p/blkio.throttle.io_serviced_recursive":      "8:0 Read 112\n8:0 Write 2\nTotal 114\n",
		"pids/p/pids.current":                               "4\n", "pids/p/pids.max": "max\n",
	}))
	f, ok := r.All("p")
	f.At = time.Time{}
	us := func(n int) time.Duration { return time.Duration(n) * time.Microsecond }
	want := Figures{
		CPU:    CPU{us(12018), us(8012), us(4006), 40, 7, us(351234)},
		Memory: Memory{Usage: 5246976, WorkingSet: 3411968, RSS: 139264, Cache: 4640768, Mapped: 2670592, Kernel: 401408, ActiveFile: 2805760, InactiveFile: 1835008, Most: 6291456, LimitHits: 3, OOMKills: 1, Faults: 3411, MajorFaults: 21},
		IO:     []Device{{8, 0, 4644864, 8192, 112, 2}}, Processes: 1, Threads: 4,
	}
	if !ok || !reflect.DeepEqual(f, want) {
		t.Errorf("%v\n got %+v\nwant %+v", ok, f, want)
	}
	if got, want := r.Limits("p"), (Limits{Shares: 102, Period: 100000}); got != want {
		t.Errorf("limits %+v, want %+v", got, want)
	}
}

func TestMachine(t *testing.T) {
	got := interfaces("Inter-|   Receive |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n" +
		"    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n bad0: x\n")
	if want := []Interface{{"eth0", 1, 2, 3, 4, 5, 6, 7, 8}}; !reflect.DeepEqual(got, want) {
		t.Errorf("interfaces %+v", got)
	}
	cpu, err := machineCPU("cpu  100 20 30 4000 50 6 7 8 0 0\ncpu0 1 2 3\n")
	if want := (CPU{User: 1200 * time.Millisecond, System: 430 * time.Millisecond, Total: 1630 * time.Millisecond}); err != nil || cpu != want {
		t.Errorf("%+v %v", cpu, err)
	}
	if p := processors("processor\t: 0\nphysical id\t: 0\ncore id\t\t: 0\n\nprocessor\t: 1\nphysical id\t: 0\ncore id\t\t: 0\n"); p != (Processors{2, 1, 1}) {
		t.Errorf("%+v", p)
	}
	if p := processors("processor : 0\nprocessor : 1\n"); p != (Processors{2, 2, 1}) {
		t.Errorf("%+v", p)
	}
}

// What the kernel writes is read, whatever it is: no text makes a reader fall.
func FuzzTexts(f *testing.F) {
	f.Add("8:0 rbytes=1 wios=2\nsome total=3\ncpu 1 2 3 4 5 6 7 8\n eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\nusage_usec 5\n8:0 Read 1\nprocessor : 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		each(text, func(string, uint64) {})
		ioLine(text)
		interfaces(text)
		processors(text)
		limit(text)
		_, _ = machineCPU(text)
	})
}

// Figures of a group of this machine: whatever it has mounted.
func TestHere(t *testing.T) {
	r := New("")
	if r.unified {
		t.Skip("the root of cgroup v2 has no memory figures")
	}
	f, ok := r.All("/")
	if !ok {
		t.Skip("no control groups can be seen here")
	}
	if f.CPU.Total <= 0 || f.Memory.WorkingSet == 0 || f.Memory.Usage < f.Memory.WorkingSet {
		t.Errorf("%+v", f)
	}
}
