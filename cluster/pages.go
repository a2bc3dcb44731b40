package cluster

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A start runs through much of the program once. Its pages stay mapped, and the kernel counts
// them to the process until it is short of memory.

// mapping is one of the process's, as /proc/self/smaps tells of it.
type mapping struct {
	from, to  uintptr
	access    string // "r-xp"
	file      string
	anonymous bool // some of it is not the file's any more
}

// unmapProgram takes the pages of the program's own file out of the process. They stay in
// the machine's cache: what is needed is back at the cost of a soft fault for 64 KB.
func unmapProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program's file: %w", err)
	}
	all, err := mappings("/proc/self/smaps")
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.file != program || m.anonymous || m.access != "r-xp" && m.access != "r--p" {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("unmap the program: %w", errno)
		}
	}
	return nil
}

func mappings(path string) ([]mapping, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the mappings: %w", err)
	}
	defer f.Close()
	var out []mapping
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if m, ok := parseMapping(lines.Text()); ok {
			out = append(out, m)
		} else if size, ok := strings.CutPrefix(lines.Text(), "Anonymous:"); ok && len(out) > 0 {
			out[len(out)-1].anonymous = strings.TrimSpace(size) != "0 kB"
		}
	}
	return out, lines.Err()
}

// parseMapping reads "00400000-0241d000 r-xp 00000000 fe:00 393474    /usr/bin/proa".
func parseMapping(line string) (mapping, bool) {
	from, rest, ok := strings.Cut(line, "-")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 5 {
		return mapping{}, false
	}
	a, errA := strconv.ParseUint(from, 16, strconv.IntSize)
	b, errB := strconv.ParseUint(fields[0], 16, strconv.IntSize)
	m := mapping{from: uintptr(a), to: uintptr(b), access: fields[1], file: strings.Join(fields[5:], " ")}
	return m, errA == nil && errB == nil && a < b
}
