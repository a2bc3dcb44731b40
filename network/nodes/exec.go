package nodes

import (
	"fmt"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Exec starts cmd inside a node: in its network namespace, with a mount namespace whose
// /sys shows the node's links, and with the node's name as host name. Mounts made outside
// reach it, those made inside stay there. The caller waits for cmd. cmd must not ask for a
// death signal: the thread that starts it ends at once.
func Exec(n Node, cmd *exec.Cmd) error {
	ns, err := unix.Open(n.Netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", n.Netns, err)
	}
	defer unix.Close(ns)
	return onThread(func() error {
		if err := enter(ns, n.Name); err != nil {
			return fmt.Errorf("enter node %s: %w", n.Name, err)
		}
		return cmd.Start()
	})
}

// enter moves the thread into the node.
func enter(ns int, name string) error {
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("set network namespace: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("make mount namespace: %w", err)
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts inside: %w", err)
	}
	return remountSys()
}

// remountSys mounts a sysfs of the thread's network namespace and puts the cgroup mounts,
// which it would hide, back on top.
func remountSys() error {
	const cgroups = "/sys/fs/cgroup"
	tree, err := unix.OpenTree(unix.AT_FDCWD, cgroups, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("keep cgroups: %w", err)
	}
	defer unix.Close(tree)
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount sysfs: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, cgroups, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("put cgroups back: %w", err)
	}
	return nil
}
