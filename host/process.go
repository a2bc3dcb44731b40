package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/proa-dev/proa/internal/pidfd"
)

const (
	termGrace = 5 * time.Second  // from SIGTERM to SIGKILL
	killGrace = 10 * time.Second // from SIGKILL to giving up
)

// undoProcess ends the processes whose executable is at or below prefix; never ourselves.
func undoProcess(ctx context.Context, prefix string) (string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return "", err
	}
	var found []*pidfd.Process
	defer func() { release(found) }()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !runs(pid, prefix) {
			continue
		}
		p, err := pidfd.Open(pid)
		if err != nil {
			continue // it has ended
		}
		found = append(found, p)
		if !runs(pid, prefix) { // the number was reused between the two looks
			release(found[len(found)-1:])
			found = found[:len(found)-1]
		}
	}
	if len(found) == 0 {
		return "", nil
	}
	return fmt.Sprintf("ended %d processes of %s", len(found), prefix), pidfd.End(ctx, found, termGrace, killGrace)
}

func runs(pid int, prefix string) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	exe = strings.TrimSuffix(exe, " (deleted)")
	return err == nil && (exe == prefix || strings.HasPrefix(exe, prefix+"/"))
}

func release(list []*pidfd.Process) {
	for _, p := range list {
		p.Close()
	}
}

// undoCgroup kills what runs in the group, in every hierarchy, and removes it with its children.
func undoCgroup(ctx context.Context, name string) (string, error) {
	all, err := mounts()
	if err != nil {
		return "", err
	}
	var roots []string
	for _, m := range all {
		if m.fstype != "cgroup" && m.fstype != "cgroup2" {
			continue
		}
		if dir := filepath.Join(m.point, name); isDir(dir) {
			roots = append(roots, dir)
		}
	}
	if len(roots) == 0 {
		return "", nil
	}
	deadline := time.Now().Add(killGrace)
	for {
		count, err := killGroups(ctx, roots)
		if err != nil {
			return "", err
		}
		if count == 0 {
			break
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("%d processes in it do not end", count)
		}
	}
	for _, root := range roots {
		if err := removeGroup(ctx, root, deadline); err != nil {
			return "", err
		}
	}
	removeEmptyParents(roots)
	return "removed cgroup " + name, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// killGroups kills every process in the groups, waits for the ends, and says how many there
// were. Frozen groups are thawed, or SIGKILL would wait.
func killGroups(ctx context.Context, roots []string) (int, error) {
	found := pidfd.Members(func() []int { return others(roots) })
	defer func() { release(found) }()
	for _, dir := range groups(roots) {
		for file, text := range map[string]string{"cgroup.kill": "1", "freezer.state": "THAWED", "cgroup.freeze": "0"} {
			if err := writeExisting(filepath.Join(dir, file), text); err != nil {
				return len(found), err
			}
		}
	}
	for _, p := range found {
		if err := p.Signal(unix.SIGKILL); err != nil {
			return len(found), err
		}
	}
	_, err := pidfd.Wait(ctx, found, killGrace)
	return len(found), err
}

// others are the processes in the groups, without this one.
func others(roots []string) []int {
	var all []int
	for _, dir := range groups(roots) {
		all = append(all, pidfd.InGroup(dir)...)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(pid int) bool { return pid == os.Getpid() })
}

// writeExisting writes to a control file when the hierarchy has it.
func writeExisting(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		err = nil // the group is being removed
	}
	return errors.Join(err, f.Close())
}

// groups lists the groups and all below them, children before parents.
func groups(roots []string) []string {
	var list []string
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				list = append(list, path)
			}
			return nil // a group that vanished meanwhile needs no care
		})
		if err != nil {
			return list
		}
	}
	slices.Reverse(list)
	return list
}

// removeStep is how long the kernel gets to let go of a group whose processes have ended.
const removeStep = 10 * time.Millisecond

func removeGroup(ctx context.Context, root string, deadline time.Time) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var err error
		for _, dir := range groups([]string{root}) {
			if e := unix.Rmdir(dir); e != nil && !errors.Is(e, unix.ENOENT) {
				err = fmt.Errorf("remove %s: %w", dir, e)
			}
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
		timer.Reset(removeStep)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// removeEmptyParents removes the groups above ours, up to "/proa", that hold nothing any
// more: "/proa/default" after its last node's, and "/proa" after the last cluster's.
func removeEmptyParents(roots []string) {
	for _, root := range roots {
		for dir := filepath.Dir(root); strings.Contains(dir+"/", "/proa/"); dir = filepath.Dir(dir) {
			if unix.Rmdir(dir) != nil {
				break // in use by another cluster or node
			}
		}
	}
}
