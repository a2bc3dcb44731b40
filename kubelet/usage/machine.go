package usage

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Interface is what went through a network interface.
type Interface struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Interfaces are those that a process sees, without the loopback.
func Interfaces(pid int) ([]Interface, error) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "net/dev"))
	if err != nil {
		return nil, fmt.Errorf("read network counters: %w", err)
	}
	return interfaces(string(raw)), nil
}

// interfaces reads lines such as "  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0".
func interfaces(text string) []Interface {
	var out []Interface
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(f) < 16 {
			continue
		}
		var n [16]uint64
		for i := range n {
			var err error
			if n[i], err = strconv.ParseUint(f[i], 10, 64); err != nil {
				ok = false
			}
		}
		if ok {
			out = append(out, Interface{name, n[0], n[1], n[2], n[3], n[8], n[9], n[10], n[11]})
		}
	}
	return out
}

// Disk is the name of a block device, such as /dev/sda; "" when there is none of that number.
func Disk(major, minor uint64) string {
	raw, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/uevent", major, minor))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(raw)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			return "/dev/" + name
		}
	}
	return ""
}

// Processors are those of the machine.
type Processors struct{ Logical, Cores, Sockets int }

// ReadProcessors counts those that are switched on.
func ReadProcessors() (Processors, error) {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return Processors{}, fmt.Errorf("count processors: %w", err)
	}
	return processors(string(raw)), nil
}

func processors(text string) Processors {
	var p Processors
	cores, sockets := map[string]bool{}, map[string]bool{}
	socket := ""
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "processor":
			p.Logical++
		case "physical id":
			socket = value
			sockets[socket] = true
		case "core id":
			cores[socket+"/"+value] = true
		}
	}
	p.Cores, p.Sockets = len(cores), len(sockets)
	if p.Cores == 0 { // not every architecture tells
		p.Cores = p.Logical
	}
	p.Sockets = max(p.Sockets, 1)
	return p
}

// MachineCPU is the time that the machine's processors have spent at work.
func MachineCPU() (CPU, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return CPU{}, fmt.Errorf("read CPU time: %w", err)
	}
	return machineCPU(string(raw))
}

func machineCPU(text string) (CPU, error) {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return CPU{}, fmt.Errorf("read CPU time: unexpected line %.80q", line)
	}
	const tick = time.Second / 100 // USER_HZ of every architecture that is supported
	var n [8]time.Duration         // user nice system idle iowait irq softirq steal
	for i := range n {
		ticks, err := strconv.ParseInt(f[i+1], 10, 64)
		if err != nil {
			return CPU{}, fmt.Errorf("read CPU time: %w", err)
		}
		n[i] = time.Duration(ticks) * tick
	}
	c := CPU{User: n[0] + n[1], System: n[2] + n[5] + n[6]}
	c.Total = c.User + c.System
	return c, nil
}
