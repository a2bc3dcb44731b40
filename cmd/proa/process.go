package main

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// processStart is when this process was started, as the kernel knows it; exec and the
// work before main count.
func processStart() time.Time {
	now := time.Now()
	raw, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return now
	}
	// The start time in clock ticks (100/s) after boot is the 20th field after the name.
	_, rest, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return now
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	var boot unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return now
	}
	age := time.Duration(boot.Nano()) - time.Duration(ticks)*10*time.Millisecond
	return now.Add(-age)
}
