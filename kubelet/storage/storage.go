// Package storage judges what a pod keeps on its node's disk by the limits that it declares.
//
// The one idea: everything a pod can make grow counts, wherever the node keeps it: the
// layers that containers write, their logs, emptyDir volumes, and /etc/hosts.
//
// Used by kubelet, which measures and evicts.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// Use is what a pod keeps on disk, in bytes.
type Use struct {
	Volumes    map[string]int64 // of emptyDir volumes, by name
	Containers map[string]int64 // layers and logs, by container
	Other      int64            // what the node made for the pod and the pod can write
}

func (u *Use) total() int64 {
	sum := u.Other
	for _, n := range u.Volumes {
		sum += n
	}
	for _, n := range u.Containers {
		sum += n
	}
	return sum
}

// OnDisk tells whether a volume is an emptyDir on the node's disk.
func OnDisk(v *corev1.Volume) bool {
	return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault
}

// Limited tells whether a pod declares any limit, so that it has to be measured.
func Limited(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; OnDisk(v) && v.EmptyDir.SizeLimit != nil {
			return true
		}
	}
	_, limited := resource.PodLimits(pod, resource.PodResourcesOptions{})[corev1.ResourceEphemeralStorage]
	return limited
}

// Exceeded says which limit a pod has outgrown, in Kubernetes' words; empty: none.
func Exceeded(pod *corev1.Pod, u *Use) string {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !OnDisk(v) || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		if limit := v.EmptyDir.SizeLimit; u.Volumes[v.Name] > limit.Value() {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit.String())
		}
	}
	if limit, ok := resource.PodLimits(pod, resource.PodResourcesOptions{})[corev1.ResourceEphemeralStorage]; ok && u.total() > limit.Value() {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		if limit, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]; ok && u.Containers[c.Name] > limit.Value() {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
		}
	}
	return ""
}

// maxEntries bounds a measurement; a pod that has more files has other limits to fear.
const maxEntries = 1_000_000

var errMany = errors.New("too many files")

// Measure gives the bytes that a folder takes on its disk, folders of other filesystems in it
// apart. Nothing in it can lead out of it, and what goes while it is measured counts nothing.
func Measure(ctx context.Context, dir string) (int64, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("measure: %w", err)
	}
	defer root.Close()
	m := measurement{ctx: ctx, links: map[uint64]bool{}}
	err = fs.WalkDir(root.FS(), ".", m.visit)
	if errors.Is(err, errMany) {
		err = nil // what was seen is at least there
	}
	return m.bytes, err
}

type measurement struct {
	ctx     context.Context
	bytes   int64
	entries int
	device  uint64
	links   map[uint64]bool // inodes of files with several names
}

const blockSize = 512 // of Stat_t.Blocks, whatever the filesystem's is

func (m *measurement) visit(_ string, e fs.DirEntry, err error) error {
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	info, err := e.Info()
	if err != nil {
		return nil // gone
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if m.entries++; m.entries > maxEntries {
		return errMany
	}
	if m.entries == 1 {
		m.device = st.Dev
	} else if st.Dev != m.device {
		if e.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	if !e.IsDir() && st.Nlink > 1 {
		if m.links[st.Ino] {
			return nil
		}
		m.links[st.Ino] = true
	}
	m.bytes += st.Blocks * blockSize
	return m.ctx.Err()
}
