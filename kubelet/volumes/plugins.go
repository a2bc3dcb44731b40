package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// errPermanent marks what no retry can mend.
type errPermanent struct{ error }

func (e errPermanent) Unwrap() error { return e.error }

// IsPermanent tells whether mounting again cannot help.
func IsPermanent(err error) bool {
	var p errPermanent
	return errors.As(err, &p)
}

// ReadOnly tells whether containers get the volume read-only whatever their mounts say:
// its content is the API's.
func ReadOnly(v *corev1.Volume) bool { return live(v) }

// live tells whether the volume's content follows API objects.
func live(v *corev1.Volume) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.Projected != nil || v.DownwardAPI != nil
}

// pluginOf is the name of the folder of the volume's kind, escaped as upstream's.
func pluginOf(v *corev1.Volume) string {
	switch {
	case v.EmptyDir != nil:
		return "kubernetes.io~empty-dir"
	case v.ConfigMap != nil:
		return "kubernetes.io~configmap"
	case v.Secret != nil:
		return "kubernetes.io~secret"
	case v.Projected != nil:
		return "kubernetes.io~projected"
	case v.DownwardAPI != nil:
		return "kubernetes.io~downward-api"
	}
	return ""
}

// setUp makes one volume, or brings it up to date, and returns its path.
func (m *Manager) setUp(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (string, error) {
	if err := safeElement(v.Name); err != nil {
		return "", errPermanent{fmt.Errorf("volume name: %w", err)}
	}
	switch {
	case v.HostPath != nil:
		return hostPath(v.HostPath)
	case v.PersistentVolumeClaim != nil:
		return m.claim(ctx, pod, v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		return m.claim(ctx, pod, pod.Name+"-"+v.Name)
	case pluginOf(v) == "":
		return "", errPermanent{fmt.Errorf("%s volumes are not supported yet", kindOf(v))}
	}
	dir := filepath.Join("pods", string(pod.UID), "volumes", pluginOf(v), v.Name)
	if v.EmptyDir != nil {
		return m.emptyDir(pod, v, dir)
	}
	files, err := m.collect(ctx, pod, v)
	if err != nil {
		return "", err
	}
	root, err := m.openRoot()
	if err != nil {
		return "", err
	}
	defer root.Close()
	fresh, err := makeDir(root, dir, 0o777)
	if err != nil {
		return "", err
	}
	path := filepath.Join(m.cfg.Root, dir)
	if v.DownwardAPI == nil && v.ConfigMap == nil { // what holds secrets stays in memory
		mounted, err := mountMemory(path, 0)
		if err != nil {
			return "", err
		}
		fresh = fresh || mounted
	}
	target, err := root.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("open volume folder: %w", err)
	}
	defer target.Close()
	if fresh {
		if err := target.Chmod(".", 0o777); err != nil {
			return "", fmt.Errorf("set mode of volume folder: %w", err)
		}
	}
	group := fsGroup(pod)
	if group != nil {
		if err := own(target, ".", *group, 0o440); err != nil {
			return "", err
		}
	}
	return path, writeAtomic(target, files, group)
}

// emptyDir makes the pod's own scratch folder, on disk or in memory.
func (m *Manager) emptyDir(pod *corev1.Pod, v *corev1.Volume, dir string) (string, error) {
	medium := v.EmptyDir.Medium
	if medium != corev1.StorageMediumDefault && medium != corev1.StorageMediumMemory {
		return "", errPermanent{fmt.Errorf("storage medium %q is not supported yet; supported are \"\" and \"Memory\"", medium)}
	}
	root, err := m.openRoot()
	if err != nil {
		return "", err
	}
	defer root.Close()
	fresh, err := makeDir(root, dir, 0o777)
	if err != nil {
		return "", err
	}
	path := filepath.Join(m.cfg.Root, dir)
	if medium == corev1.StorageMediumMemory {
		mounted, err := mountMemory(path, memorySize(pod, v.EmptyDir, m.cfg.Allocatable))
		if err != nil {
			return "", err
		}
		fresh = fresh || mounted
	}
	if !fresh {
		return path, nil // it may have the pod's data and modes
	}
	target, err := root.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("open volume folder: %w", err)
	}
	defer target.Close()
	if err := target.Chmod(".", 0o777); err != nil {
		return "", fmt.Errorf("set mode of volume folder: %w", err)
	}
	if group := fsGroup(pod); group != nil {
		return path, own(target, ".", *group, 0o660)
	}
	return path, nil
}

// openRoot opens the manager's folder; paths below it cannot lead out of it.
func (m *Manager) openRoot() (*os.Root, error) {
	if err := os.MkdirAll(m.cfg.Root, 0o750); err != nil {
		return nil, fmt.Errorf("make kubelet folder: %w", err)
	}
	root, err := os.OpenRoot(m.cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("open kubelet folder: %w", err)
	}
	return root, nil
}

// makeDir makes dir and its parents (0750) and tells whether it was not there.
func makeDir(root *os.Root, dir string, mode os.FileMode) (fresh bool, err error) {
	if err := root.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return false, fmt.Errorf("make pod folder: %w", err)
	}
	err = root.Mkdir(dir, mode)
	if errors.Is(err, os.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make volume folder: %w", err)
	}
	return true, nil
}

// kindOf names a kind of volume that has no plugin here.
func kindOf(v *corev1.Volume) string {
	switch {
	case v.CSI != nil:
		return "csi"
	case v.NFS != nil:
		return "nfs"
	case v.ISCSI != nil:
		return "iscsi"
	case v.Image != nil:
		return "image"
	case v.GitRepo != nil:
		return "gitRepo"
	case v.FC != nil:
		return "fc"
	case v.CephFS != nil:
		return "cephfs"
	case v.FlexVolume != nil:
		return "flexVolume"
	}
	return "such"
}
