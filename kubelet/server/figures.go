package server

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// value reads an optional figure of the runtime.
func value(v *runtimeapi.UInt64Value) *uint64 {
	if v == nil {
		return nil
	}
	return &v.Value
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
