package volumes

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

func fsGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// fsUser is the user of every container of the pod, if they all say the same.
func fsUser(pod *corev1.Pod) *int64 {
	var common *int64
	if sc := pod.Spec.SecurityContext; sc != nil {
		common = sc.RunAsUser
	}
	var user *int64
	check := func(sc *corev1.SecurityContext) bool {
		u := common
		if sc != nil && sc.RunAsUser != nil {
			u = sc.RunAsUser
		}
		if u == nil || user != nil && *user != *u {
			return false
		}
		user = u
		return true
	}
	for i := range pod.Spec.InitContainers {
		if !check(pod.Spec.InitContainers[i].SecurityContext) {
			return nil
		}
	}
	for i := range pod.Spec.Containers {
		if !check(pod.Spec.Containers[i].SecurityContext) {
			return nil
		}
	}
	return user
}

// own gives one file or folder to the group: the mask of mode bits is added, folders also pass
// their group on and can be entered. Symbolic links are not followed.
func own(root *os.Root, path string, group int64, mask fs.FileMode) error {
	info, err := root.Lstat(path)
	if err != nil {
		return fmt.Errorf("read owner of volume: %w", err)
	}
	if err := root.Lchown(path, -1, int(group)); err != nil {
		return fmt.Errorf("give volume to group %d: %w", group, err)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	mode := info.Mode().Perm() | info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) | mask
	if info.IsDir() {
		mode |= fs.ModeSetgid | 0o110
	}
	if err := root.Chmod(path, mode); err != nil {
		return fmt.Errorf("set mode of volume: %w", err)
	}
	return nil
}

// ownTree gives everything in a volume that outlives the pod to the pod's fsGroup; with the
// policy OnRootMismatch only when its top has not been given to it yet.
func (m *Manager) ownTree(pod *corev1.Pod, path string) error {
	group := fsGroup(pod)
	if group == nil {
		return nil
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return fmt.Errorf("open volume: %w", err)
	}
	defer root.Close()
	if p := pod.Spec.SecurityContext.FSGroupChangePolicy; p != nil && *p == corev1.FSGroupChangeOnRootMismatch {
		if info, err := root.Stat("."); err == nil && ownedBy(info, *group) {
			return nil
		}
	}
	return fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("give volume to group %d: %w", *group, err)
		}
		return own(root, name, *group, 0o660)
	})
}

// ownedBy tells whether the top of a volume is the group's already, with the mode that comes with it.
func ownedBy(info fs.FileInfo, group int64) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	const want = 0o660 | 0o110
	return ok && int64(st.Gid) == group && info.Mode()&fs.ModeSetgid != 0 && info.Mode().Perm()&want == want
}
