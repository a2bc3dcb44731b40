package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// quickMoves is the option of the cgroup file system that lets a process enter a group
// without waiting for all processors of the machine: 0.2 instead of 10 to 20 ms each time,
// several times for each container. It costs a little at each fork.
const quickMoves = "favordynmods"

// QuickMoves switches that option on, if it is not on already. A kernel before 6.0 does not
// know it.
func QuickMoves(r Recorder) error {
	m, err := unified()
	if err != nil || m == nil || slices.Contains(m.flags(), quickMoves) {
		return err
	}
	if err := r.Record(Change{Kind: MountOption, Name: m.point, Before: quickMoves}); err != nil {
		return err
	}
	return m.reconfigure(append(m.flags(), quickMoves))
}

// undoMountOption switches off an option that we switched on.
func undoMountOption(c Change) (string, error) {
	m, err := unified()
	if err != nil || m == nil || m.point != c.Name || c.Before != quickMoves || !slices.Contains(m.flags(), quickMoves) {
		return "", err
	}
	if err := m.reconfigure(slices.DeleteFunc(m.flags(), func(f string) bool { return f == quickMoves })); err != nil {
		return "", err
	}
	return "switched " + quickMoves + " of " + m.point + " off", nil
}

// unified is where the cgroup v2 hierarchy is mounted; nil: nowhere.
func unified() (*mount, error) {
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].fstype == "cgroup2" && strings.HasPrefix(all[i].point, "/sys/fs/cgroup") {
			return &all[i], nil
		}
	}
	return nil, nil
}

// flags are the options of the file system itself, but for whether it can be written.
func (m *mount) flags() []string {
	return slices.DeleteFunc(strings.Split(m.options, ","), func(f string) bool { return f == "rw" || f == "ro" || f == "" })
}

// reconfigure gives the file system these flags and no others.
func (m *mount) reconfigure(flags []string) (err error) {
	fd, err := unix.Fspick(unix.AT_FDCWD, m.point, unix.FSPICK_CLOEXEC)
	if err != nil {
		return fmt.Errorf("reconfigure %s: %w", m.point, err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	for _, f := range flags {
		if err := unix.FsconfigSetFlag(fd, f); err != nil {
			return fmt.Errorf("set %s of %s: %w", f, m.point, err)
		}
	}
	if err := unix.FsconfigReconfigure(fd); err != nil {
		return fmt.Errorf("reconfigure %s: %w", m.point, err)
	}
	return nil
}
