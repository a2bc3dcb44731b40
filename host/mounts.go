package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one line of mountinfo, as far as we need it.
type mount struct{ point, fstype, options string }

func mounts() ([]mount, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return parseMounts(string(data)), nil
}

// parseMounts reads mountinfo: "36 35 98:0 /root /point opts [optional]... - type source superopts".
func parseMounts(text string) []mount {
	var list []mount
	for line := range strings.Lines(text) {
		before, after, found := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		left, right := strings.Split(before, " "), strings.Split(after, " ")
		if !found || len(left) < 6 || len(right) < 3 {
			continue
		}
		list = append(list, mount{point: unescape(left[4]), fstype: right[0], options: right[2]})
	}
	return list
}

// unescape undoes the kernel's octal escapes of blanks and backslashes in paths.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// mountsBelow returns mount points at or below dir, newest first.
func mountsBelow(dir string) ([]string, error) {
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	var list []string
	for _, m := range slices.Backward(all) {
		if m.point == dir || strings.HasPrefix(m.point, dir+"/") {
			list = append(list, m.point)
		}
	}
	return list, nil
}

// maxStacked bounds how often one point may be mounted over before we give up.
const maxStacked = 32

// undoMounts unmounts everything at or below dir; what is busy is detached.
func undoMounts(dir string) (string, error) {
	count := 0
	for range maxStacked {
		points, err := mountsBelow(dir)
		if err != nil {
			return "", err
		}
		if len(points) == 0 {
			break
		}
		for _, p := range points {
			if err := unix.Unmount(p, unix.UMOUNT_NOFOLLOW); errors.Is(err, unix.EBUSY) {
				err = unix.Unmount(p, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
				if err != nil {
					return "", fmt.Errorf("unmount %s: %w", p, err)
				}
			} else if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
				return "", fmt.Errorf("unmount %s: %w", p, err)
			}
			count++
		}
	}
	if points, err := mountsBelow(dir); err != nil || len(points) > 0 {
		return "", errors.Join(err, fmt.Errorf("%d mounts remain below %s", len(points), dir))
	}
	if count == 0 {
		return "", nil
	}
	return fmt.Sprintf("unmounted %d mounts below %s", count, dir), nil
}

// undoNetns unmounts and removes named network namespaces.
func undoNetns(name string) (string, error) {
	paths := []string{name}
	if prefix, all := strings.CutSuffix(name, "*"); all {
		entries, err := os.ReadDir(filepath.Dir(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		paths = nil
		for _, e := range entries {
			if path := filepath.Join(filepath.Dir(name), e.Name()); strings.HasPrefix(path, prefix) {
				paths = append(paths, path)
			}
		}
	}
	count := 0
	for _, path := range paths {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := undoMounts(path); err != nil {
			return "", err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		count++
	}
	if count == 0 {
		return "", nil
	}
	return fmt.Sprintf("removed %d network namespaces %s", count, name), nil
}
