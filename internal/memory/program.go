package memory

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ForgetProgram gives back the pages of the program file that this process has mapped, and
// tells how many bytes these were. They stay in the machine's cache of files, from where
// the next use of one maps it again (about a microsecond), but no longer count as the
// process' own, and are the first to go where memory is short. Starting touches most of a
// large program, running it a tenth.
//
// Mappings with a page that differs from the file are left alone (proc(5), smaps).
func ForgetProgram() (int64, error) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0, fmt.Errorf("read the mappings of this process: %w", err)
	}
	defer f.Close()
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return 0, fmt.Errorf("find the program file: %w", err)
	}
	mappings, err := programMappings(f, path)
	if err != nil {
		return 0, err
	}
	var forgotten int64
	var failed error
	for _, m := range mappings {
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); e != 0 {
			failed = errors.Join(failed, fmt.Errorf("give back the program's pages at %x: %w", m.start, e))
			continue
		}
		forgotten += m.resident
	}
	return forgotten, failed
}

type mapping struct {
	start, end uintptr
	resident   int64 // bytes
}

// programMappings are those of the file at path that nothing was ever written to.
func programMappings(smaps io.Reader, path string) ([]mapping, error) {
	var all []mapping
	var now mapping
	candidate := false
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		key, rest, _ := strings.Cut(lines.Text(), " ")
		if !strings.HasSuffix(key, ":") { // a mapping begins: its range, its permissions, ..., its file
			now = mapping{}
			_, err := fmt.Sscanf(key, "%x-%x", &now.start, &now.end)
			candidate = err == nil && strings.HasPrefix(rest, "r-") && strings.HasSuffix(rest, " "+path)
			continue
		}
		if !candidate {
			continue
		}
		var kilobytes int64
		if _, err := fmt.Sscanf(rest, "%d kB", &kilobytes); err != nil {
			continue
		}
		switch key {
		case "Rss:":
			now.resident = kilobytes << 10
		case "Anonymous:": // follows Rss
			if kilobytes == 0 {
				all = append(all, now)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the mappings of this process: %w", err)
	}
	return all, nil
}
