package node

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what does not change while the agent runs.
type machine struct {
	cpus      int
	memory    int64
	disk      int64
	hugepages map[string]int64

	machineID, systemUUID, bootID, kernel, osImage string
}

func readMachine(root string) (machine, error) {
	m := machine{cpus: runtime.NumCPU(), hugepages: map[string]int64{}}
	var err error
	if m.memory, err = meminfo("MemTotal"); err != nil {
		return m, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(existing(root), &st); err != nil {
		return m, fmt.Errorf("size of the disk: %w", err)
	}
	m.disk = int64(st.Blocks) * st.Bsize
	m.machineID, m.bootID = text("/etc/machine-id"), text("/proc/sys/kernel/random/boot_id")
	m.systemUUID = text("/sys/class/dmi/id/product_uuid")
	if m.systemUUID == "" {
		m.systemUUID = m.machineID
	}
	m.kernel, m.osImage = text("/proc/sys/kernel/osrelease"), osName()
	for kb, name := range map[string]string{"2048": "2Mi", "1048576": "1Gi"} {
		dir := "/sys/kernel/mm/hugepages/hugepages-" + kb + "kB"
		if _, err := os.Stat(dir); err == nil {
			size, _ := strconv.ParseInt(kb, 10, 64)
			count, _ := strconv.ParseInt(text(filepath.Join(dir, "nr_hugepages")), 10, 64)
			m.hugepages[name] = count * size << 10
		}
	}
	return m, nil
}

// existing is the nearest folder above path that is there.
func existing(path string) string {
	for path != "/" && path != "." {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}

func text(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func osName() string {
	for _, line := range strings.Split(text("/etc/os-release"), "\n") {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return "Linux"
}

// meminfo reads one line of /proc/meminfo in bytes.
func meminfo(key string) (int64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) >= 2 && f[0] == key+":" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in /proc/meminfo", key)
}

func availableMemory() (int64, error) { return meminfo("MemAvailable") }

// freeDisk answers how much of the space and of the inodes below root is free, in percent.
func freeDisk(root string) (space, inodes float64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(existing(root), &st); err != nil {
		return 0, 0, err
	}
	space, inodes = 100, 100
	if st.Blocks > 0 {
		space = 100 * float64(st.Bavail) / float64(st.Blocks)
	}
	if st.Files > 0 {
		inodes = 100 * float64(st.Ffree) / float64(st.Files)
	}
	return space, inodes, nil
}

// freePIDs answers how many process ids are left, and how many there are.
func freePIDs() (left, most int64, err error) {
	if most, err = strconv.ParseInt(text("/proc/sys/kernel/pid_max"), 10, 64); err != nil {
		return 0, 0, fmt.Errorf("read the most process ids: %w", err)
	}
	if threads, err := strconv.ParseInt(text("/proc/sys/kernel/threads-max"), 10, 64); err == nil {
		most = min(most, threads)
	}
	fields := strings.Fields(text("/proc/loadavg")) // "0.1 0.2 0.3 running/all last"
	if len(fields) < 4 {
		return 0, 0, fmt.Errorf("read /proc/loadavg: %q", fields)
	}
	_, all, _ := strings.Cut(fields[3], "/")
	used, err := strconv.ParseInt(all, 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("read /proc/loadavg: %w", err)
	}
	return most - used, most, nil
}
