package kubelet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/podspec"
)

const hostsPath = "/etc/hosts"

// mounts are what a container sees of the node: its volumes, /etc/hosts and its
// termination log, whose place on the node is answered too.
func (w *worker) mounts(s *starting, env []*runtimeapi.KeyValue) ([]*runtimeapi.Mount, string, error) {
	if len(s.Container.VolumeDevices) > 0 {
		return nil, "", errors.New("raw block volumes are not supported on this node")
	}
	var out []*runtimeapi.Mount
	taken := map[string]bool{}
	for i := range s.Container.VolumeMounts {
		m := &s.Container.VolumeMounts[i]
		made, err := w.volumeMount(s, i, m, env)
		if err != nil {
			return nil, "", err
		}
		taken[filepath.Clean(m.MountPath)] = true
		out = append(out, made)
	}
	if !taken[hostsPath] {
		file, err := w.hostsFile(s)
		if err != nil {
			return nil, "", err
		}
		out = append(out, &runtimeapi.Mount{ContainerPath: hostsPath, HostPath: file, SelinuxRelabel: true})
	}
	file := ""
	if path := s.Container.TerminationMessagePath; path != "" {
		var err error
		if file, err = w.terminationFile(s); err != nil {
			return nil, "", err
		}
		out = append(out, &runtimeapi.Mount{ContainerPath: path, HostPath: file, SelinuxRelabel: true})
	}
	return out, file, nil
}

// ownHosts is the file that the pod's containers see as /etc/hosts.
func (w *worker) ownHosts() string { return filepath.Join(w.dir(), "etc-hosts") }

func (w *worker) hostsFile(s *starting) (string, error) {
	file := w.ownHosts()
	var node []byte
	if s.pod.Spec.HostNetwork {
		var err error
		if node, err = os.ReadFile(hostsPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("read the node's hosts file: %w", err)
		}
	}
	content := podspec.Hosts(s.pod, s.ips, w.k.cfg.ClusterDomain, w.k.cfg.NodeName, node)
	if err := os.WriteFile(file, content, 0o644); err != nil {
		return "", fmt.Errorf("write hosts file: %w", err)
	}
	return file, nil
}

func (w *worker) volumeMount(s *starting, index int, m *corev1.VolumeMount, env []*runtimeapi.KeyValue) (*runtimeapi.Mount, error) {
	if made, err := w.imageMount(s.pod, m, env); made != nil || err != nil {
		return made, err
	}
	w.mu.Lock()
	source, ok := w.volumes[m.Name]
	w.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("cannot find volume %q to mount into container %q", m.Name, s.Container.Name)
	}
	sub, err := podspec.SubPath(m, env)
	if err != nil {
		return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, s.Container.Name, err)
	}
	if sub != "" {
		if source, err = w.bindSubPath(s, index, m, source, sub); err != nil {
			return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, s.Container.Name, err)
		}
	}
	recursive, err := recursiveReadOnly(s, m)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.Mount{ContainerPath: target(m), HostPath: source, Readonly: m.ReadOnly, Propagation: podspec.Propagation(m),
		RecursiveReadOnly: recursive, SelinuxRelabel: true}, nil
}

// target is where a mount appears in the container.
func target(m *corev1.VolumeMount) string {
	if filepath.IsAbs(m.MountPath) {
		return m.MountPath
	}
	return filepath.Join("/", m.MountPath)
}

// recursiveReadOnly tells whether everything below a mount is to be read-only too, and refuses
// what the runtime cannot do.
func recursiveReadOnly(s *starting, m *corev1.VolumeMount) (bool, error) {
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return false, nil
	}
	can := s.features.RecursiveReadOnlyMounts
	if can != nil && *can {
		return true, nil
	}
	if *m.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled {
		return false, fmt.Errorf("failed to resolve recursive read-only mode: volume %q requested recursive read-only mode, but it is not supported by the runtime", m.Name)
	}
	return false, nil
}

// bindSubPath resolves a path inside a volume, where a container may have left symlinks, so
// that it cannot lead out of it, and binds what was opened to a place of ours.
func (w *worker) bindSubPath(s *starting, index int, m *corev1.VolumeMount, volume, sub string) (string, error) {
	if filepath.IsAbs(sub) || strings.Contains("/"+sub+"/", "/../") {
		return "", fmt.Errorf("subPath %q: must be relative and without ..", sub)
	}
	dir, err := unix.Open(volume, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open volume: %w", err)
	}
	defer unix.Close(dir)
	fd, err := openIn(dir, sub)
	if errors.Is(err, unix.ENOENT) {
		if err = makeIn(volume, sub); err == nil {
			fd, err = openIn(dir, sub)
		}
	}
	if err != nil {
		return "", fmt.Errorf("open %q in the volume: %w", sub, err)
	}
	defer unix.Close(fd)
	target := filepath.Join(w.dir(), "volume-subpaths", m.Name, s.Container.Name, strconv.Itoa(index))
	return target, bind(fd, target)
}

func openIn(dir int, path string) (int, error) {
	return unix.Openat2(dir, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
}

func makeIn(volume, sub string) error {
	root, err := os.OpenRoot(volume)
	if err != nil {
		return err
	}
	defer root.Close()
	return root.MkdirAll(sub, 0o750)
}

// bind mounts an opened file or folder at target, in place of what an earlier run left there.
func bind(fd int, target string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount the earlier sub path: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := os.Mkdir(target, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	} else {
		f, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind sub path: %w", err)
	}
	return nil
}

// dropSubPaths unmounts everything that was bound below a pod's folder.
func dropSubPaths(dir string) error {
	root := filepath.Join(dir, "volume-subpaths")
	var all error
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || strings.Count(rel, "/") < 2 {
			return err
		}
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			all = errors.Join(all, fmt.Errorf("unmount %s: %w", path, err))
		}
		if e.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(all, err)
}
