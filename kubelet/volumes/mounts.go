package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sys/unix"
)

// mountMemory mounts a tmpfs at path unless one is there, and tells whether it did. Pages are
// kept out of swap where the kernel can. size in bytes; 0: the kernel's default.
func mountMemory(path string, size int64) (mounted bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, fmt.Errorf("look for memory volume: %w", err)
	}
	if st.Type == unix.TMPFS_MAGIC {
		is, err := mountPoint(path)
		if err != nil || is {
			return false, err
		}
	}
	var options []string
	if size > 0 {
		options = append(options, "size="+strconv.FormatInt(size, 10))
	}
	err = unix.Mount("tmpfs", path, "tmpfs", 0, strings.Join(append(options, "noswap"), ","))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) { // before Linux 6.4, or in a user namespace
		err = unix.Mount("tmpfs", path, "tmpfs", 0, strings.Join(options, ","))
	}
	if err != nil {
		return false, fmt.Errorf("mount memory volume: %w", err)
	}
	return true, nil
}

// mountPoint tells whether something is mounted exactly at path.
func mountPoint(path string) (bool, error) {
	at, err := mountsBelow(path)
	return slices.Contains(at, path), err
}

// memorySize bounds a memory volume: its limit, else the memory of the pod's containers
// when all are limited, else the node's.
func memorySize(pod *corev1.Pod, e *corev1.EmptyDirVolumeSource, allocatable func() corev1.ResourceList) int64 {
	var size int64
	if allocatable != nil {
		memory := allocatable()[corev1.ResourceMemory]
		size = memory.Value()
	}
	var sum int64
	for i := range pod.Spec.Containers {
		limit := pod.Spec.Containers[i].Resources.Limits.Memory().Value()
		if limit == 0 {
			sum = 0
			break
		}
		sum += limit
	}
	if sum > 0 && (size == 0 || sum < size) {
		size = sum
	}
	if e.SizeLimit != nil && e.SizeLimit.Value() > 0 && (size == 0 || e.SizeLimit.Value() < size) {
		size = e.SizeLimit.Value()
	}
	return size
}

// mountsBelow lists what is mounted at or below path, newest first.
func mountsBelow(path string) ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return parseMounts(string(table), path), nil
}

// parseMounts reads the fifth field of each line of a mountinfo table.
func parseMounts(table, below string) []string {
	var out []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		at := unescape(fields[4])
		if at == below || strings.HasPrefix(at, below+"/") {
			out = append(out, at)
		}
	}
	slices.Reverse(out)
	return out
}

// unescape undoes the kernel's \ooo for blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// tearDown unmounts and removes what is in the pod's folder for volumes, and the pod's folder
// if nothing else is in it. It does not go into what it cannot unmount.
func (m *Manager) tearDown(ctx context.Context, uid types.UID) error {
	real, err := filepath.EvalSymlinks(m.cfg.Root) // the kernel's table has no links
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("resolve kubelet folder: %w", err)
	}
	pod := filepath.Join("pods", string(uid))
	folder := filepath.Join(real, pod)
	for _, kind := range []string{"volume-subpaths", "volumes"} {
		if err := unmountBelow(ctx, filepath.Join(folder, kind)); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(real)
	if err != nil {
		return fmt.Errorf("open kubelet folder: %w", err)
	}
	defer root.Close()
	for _, kind := range []string{"volume-subpaths", "volumes"} {
		if err := root.RemoveAll(filepath.Join(pod, kind)); err != nil {
			return fmt.Errorf("remove volumes: %w", err)
		}
	}
	if err := root.Remove(pod); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("remove pod folder: %w", err)
	}
	return nil
}

// unmountBelow unmounts everything below path, the last mounted first, and fails if something stays.
func unmountBelow(ctx context.Context, path string) error {
	at, err := mountsBelow(path)
	if err != nil {
		return err
	}
	for _, target := range at {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) { // a process that is still ending; the mount goes with it
			err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
	if len(at) == 0 {
		return nil
	}
	left, err := mountsBelow(path)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("unmount %s: still mounted", left[0])
	}
	return err
}
